"""Text rules as tables of pairs, and the laws that hold for any text."""

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vietst.text import NORMALIZER_ID, clean_text, lower_without_punctuation, normalize_for_scoring

CLEANED = [
    # the guide's own examples
    ("[cười] Xin chào", "Xin chào"),
    ("**Hello**", "Hello"),
    ("*italics*", "italics"),
    ("Hello  world", "Hello world"),
    # tags
    ("[laughter] okay [music]", "okay"),
    ("Mình họp [vỗ tay] lúc ba giờ", "Mình họp lúc ba giờ"),
    ("chào[cười]bạn", "chào bạn"),
    ("Xin chào [cười], mọi người [music] [vỗ tay].", "Xin chào, mọi người."),
    ("[a [b] c] xong", "xong"),
    ("[music]", ""),
    ("còn mở [ở đây", "còn mở [ở đây"),
    ("deadline (hạn chót) là mai", "deadline (hạn chót) là mai"),
    # emphasis
    ("rất **quan trọng**, nhé", "rất quan trọng, nhé"),
    ("***cả hai*** và **một *trong* hai**", "cả hai và một trong hai"),
    ("__đậm__ và _nghiêng_", "đậm và nghiêng"),
    ("(**_lồng nhau_**)", "(lồng nhau)"),
    ('"*Hi*" – **Nam**: chào', '"Hi" – Nam: chào'),
    # signs that mean something else
    ("C++ và C# chạy 5*3 = 15", "C++ và C# chạy 5*3 = 15"),
    ("2*3*4, x**2 + y**2, 2 * 3 * 4", "2*3*4, x**2 + y**2, 2 * 3 * 4"),
    ("khách sạn 5*, 4* và 3*", "khách sạn 5*, 4* và 3*"),
    ("snake_case_name và __init__ và *args, **kwargs", "snake_case_name và __init__ và *args, **kwargs"),
    ("f**k, *.py và *.js", "f**k, *.py và *.js"),
    ("gửi an_binh_1@mail.com nhé", "gửi an_binh_1@mail.com nhé"),
    ("https://a.vn/_x_/y?z=_1_&q=*a*", "https://a.vn/_x_/y?z=_1_&q=*a*"),
    # white space and invisible characters
    ("\ufeffXin\u00a0chào\u2009các\u3000bạn\t\r\nnhé \n", "Xin chào các bạn nhé"),
    ("dead\u200bline so\u00adft x\u2060in\u200e", "deadline soft xin"),
    ("a\x00b\x07c\x1fd", "abc d"),
    ("tie\u0302\u0301ng Vie\u0323\u0302t", "tiếng Việt"),
    ("e\u200b\u0302", "ê"),
    ("", ""),
    (" \u00a0\u200b ", ""),
]


@pytest.mark.parametrize(("text", "expected"), CLEANED)
def test_clean_text_gives(text: str, expected: str) -> None:
    assert clean_text(text) == expected


NORMALIZED = [
    # case, punctuation, white space
    ("Xin chào, CÁC BẠN!", "xin chào các bạn"),
    ("“Deadline” – là… (thứ Sáu)?", "deadline là thứ sáu"),
    ("e-mail check_in node.js", "e mail check in node js"),
    ("Được rồi ❤️ 👍🏽 ạ", "được rồi ạ"),
    # apostrophes
    ("Don't don’t DON`T", "don't don't don't"),
    ("'quoted' developers' rock 'n' roll", "quoted developers rock n roll"),
    # figures
    ("3.5 và 3,5 và 1.000.000", "3.5 và 3,5 và 1.000.000"),
    ("24/7, 9:30, năm 2024.", "24 7 9 30 năm 2024"),
    ("tăng 50% hay 50 %", "tăng 50 % hay 50 %"),
    ("$5 5€ 5₫", "$ 5 5 € 5 ₫"),
    ("2+2=4", "2 + 2 = 4"),
    ("R&D an@b.com", "r & d an @ b com"),
    # names with signs
    ("C++, C#, F#. Google+!", "c++ c# f# google+"),
    ("C++17 C#8 notepad++", "c++ 17 c# 8 notepad++"),
    ("#hashtag bug#12 số #1", "hashtag bug 12 số 1"),
    # tone placement
    ("hoà hoá hoả hoã hoạ", "hòa hóa hỏa hõa họa"),
    ("khoè khoé khoẻ khoẽ khoẹ", "khòe khóe khỏe khõe khọe"),
    ("thuỳ thuý thuỷ thuỹ thuỵ uỷ", "thùy thúy thủy thũy thụy ủy"),
    ("nghoé oà xoá NGOẠ", "nghóe òa xóa ngọa"),
    ("quý quỳ quỹ qúy qúa quá", "quý quỳ quỹ quý quá quá"),
    ("giá già gìn múa mùa mía nghĩa", "giá già gìn múa mùa mía nghĩa"),
    ("hoàn xoài ngoáy thuyền khuỷu quyết huế", "hoàn xoài ngoáy thuyền khuỷu quyết huế"),
    ("café canoé Zoé", "café canoé zoé"),
    # the letter Đ in its look-alikes
    ("Ðây là Đây", "đây là đây"),
    ("", ""),
    ("?!…", ""),
]


@pytest.mark.parametrize(("text", "expected"), NORMALIZED)
def test_normalize_for_scoring_gives(text: str, expected: str) -> None:
    assert normalize_for_scoring(text) == expected


DIFFERENT = [
    ("má", "mà"),
    ("ma", "má"),
    ("lý", "lí"),
    ("dường", "đường"),
    ("50%", "50"),
    ("1.000", "1,000"),
    ("we're", "were"),
    ("c++", "c"),
    ("hai", "2"),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_a_listener_can_tell_apart_stays_apart(one: str, other: str) -> None:
    assert normalize_for_scoring(one) != normalize_for_scoring(other)


WITHOUT_CASE_AND_PUNCTUATION = [
    ("Mình sẽ Fix cái Bug này, trước DEADLINE!", "mình sẽ fix cái bug này trước deadline"),
    ("“Được rồi” – chị nói… (cười)?", "được rồi chị nói cười"),
    # tones and their places stay
    ("Hoà, hòa, HOÀ; Kĩ và Kỹ", "hoà hòa hoà kĩ và kỹ"),
    ("Ðây là ĐƯỜNG", "đây là đường"),
    # figures, times, dates, what is read aloud
    ("Tăng 50%, tức 3,5 điểm.", "tăng 50% tức 3,5 điểm"),
    ("1.000.000 đồng; 9:30, ngày 20/11/2024.", "1.000.000 đồng 9:30 ngày 20/11/2024"),
    ("20–30 người", "20-30 người"),
    ("R&D, an@b.vn; $5, 2+2=4", "r&d an@b.vn $5 2+2=4"),
    # inside words
    ("E-mail, check‑in, COVID-19", "e-mail check-in covid-19"),
    ("phây-búc - Facebook", "phây-búc facebook"),
    ("Don’t, 'quoted', rock 'n' roll", "don't quoted rock n roll"),
    ("Node.js, TP.HCM. U.S.A.", "node.js tp.hcm u.s.a"),
    ("xong.Rồi,nhé và/hoặc snake_case", "xong rồi nhé và hoặc snake case"),
    ("C++, C#, #hashtag", "c++ c# hashtag"),
    ("Vui quá ❤️ 👍🏽 :) 30°C", "vui quá 30°c"),
    ("?!…", ""),
    ("Trời -5°C, −10 ° F (-3)!", "trời -5°c -10 ° f 3"),
]


@pytest.mark.parametrize(("text", "expected"), WITHOUT_CASE_AND_PUNCTUATION)
def test_lower_without_punctuation_gives(text: str, expected: str) -> None:
    assert lower_without_punctuation(text) == expected


def test_the_rules_have_a_name() -> None:
    assert NORMALIZER_ID == "vietst-1"


# Text that is dense in what the rules look at, beside text of any kind.
PIECES = [
    *"[]*_#+'’.,%&@=-−°/() \u00a0\u200b\u0301\u0323\ufe0f\n",
    *("a", "B", "c", "1", "23", "Đ", "Ð", "hoà", "thuý", "qúy", "ế", "İ", "ΑΣ", "oe", "uy", "g", "o", "à"),
    *("[cười]", "**đậm**", "_x_", "__init__", "C++", "C#", "❤️", "ß", "ﬁ", "½", "đ"),
]
texts = st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join))


@given(texts)
@example("****a****")
@example("[[x]*]*y*")
def test_clean_text_is_idempotent(text: str) -> None:
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned


@given(texts)
@example("C+++")
@example("a'́b#")
def test_normalize_for_scoring_is_idempotent(text: str) -> None:
    normalized = normalize_for_scoring(text)
    assert normalize_for_scoring(normalized) == normalized


@given(texts)
@example("a_c#")
@example("x.-Y.Z")
def test_lower_without_punctuation_is_idempotent_and_changes_no_normalized_score(text: str) -> None:
    plain = lower_without_punctuation(text)
    assert lower_without_punctuation(plain) == plain
    assert normalize_for_scoring(plain) == normalize_for_scoring(text)


@given(texts)
def test_composed_and_decomposed_text_give_the_same(text: str) -> None:
    for rule in (clean_text, lower_without_punctuation, normalize_for_scoring):
        assert rule(unicodedata.normalize("NFD", text)) == rule(unicodedata.normalize("NFC", text))


@given(texts)
def test_results_are_composed_single_spaced_and_encodable(text: str) -> None:
    for rule in (clean_text, lower_without_punctuation, normalize_for_scoring):
        result = rule(text)
        assert unicodedata.is_normalized("NFC", result)
        assert result == " ".join(result.split())
        result.encode("utf-8")


@given(texts)
def test_cleaning_first_never_changes_the_score_of_text_without_tags(text: str) -> None:
    text = text.replace("[", "").replace("]", "").replace("*", "").replace("_", "")
    assert normalize_for_scoring(clean_text(text)) == normalize_for_scoring(text)


def test_long_and_hostile_text_takes_linear_time() -> None:
    """Processor time, compared with itself on a slow machine too; quadratic rules take 64 times as long."""

    def cpu_s(length: int) -> float:
        texts = [(part * length)[:length] for part in ("[", " ", "*a", "_", "'", "** ")]
        started = time.process_time()
        for text in texts:
            for rule in (clean_text, lower_without_punctuation, normalize_for_scoring):
                rule(f"{text}x")
        return time.process_time() - started

    assert min(cpu_s(160_000) for _ in range(3)) < 25 * min(cpu_s(20_000) for _ in range(3))
