"""Tags of words: tables of texts, the hand-tagged sample, and texts with automatic segments."""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vietst.errors import VietstError
from vietst.evaluation.word_language import WordTag, read_word_tags, tag_words
from vietst.text import normalize_for_scoring

GOLD = Path(__file__).parent / "gold" / "word_languages.tsv"
ODD_WORDS = "Hoà K-pop 3.5 c++ don't “a” -- %, İ \u0301 e\u0323"
SEGMENTED = Path(__file__).parents[3] / "shared" / "data" / "cs_text"


def as_text(text: str, **arguments: object) -> str:
    return " ".join(f"{word}/{tag}" for word, tag in tag_words(text, **arguments))


@pytest.mark.parametrize(
    ("tagged", "text"),
    [
        # words that both languages have: their neighbours decide
        ("file/en an/vi toàn/vi", "file an toàn"),
        ("for/en an/en hour/en nhé/vi", "for an hour nhé"),
        ("em/vi in/vi tài/vi liệu/vi", "em in tài liệu"),
        ("log/en in/en rồi/vi", "log in rồi"),
        ("in/en the/en end/en thì/vi vậy/vi", "in the end thì vậy"),
        ("do/vi trời/vi mưa/vi to/vi", "do trời mưa to"),
        ("deadline/en do/vi khách/vi đặt/vi", "deadline do khách đặt"),
        ("to/en be/en honest/en thì/vi khó/vi", "to be honest thì khó"),
        ("canh/vi me/vi này/vi ngon/vi", "canh me này ngon"),
        ("let/en me/en know/en nhé/vi", "let me know nhé"),
        ("ban/vi công/vi đẹp/vi", "ban công đẹp"),
        ("so/vi với/vi version/en cũ/vi", "so với version cũ"),
        ("ai/vi approve/en vậy/vi", "Ai approve vậy?"),
        ("học/vi online/en cả/vi ngày/vi", "học online cả ngày"),
        ("the/en bay/en area/en", "the bay area"),
        # where they do not, it is said
        ("file/en to/ambiguous quá/vi", "file to quá"),
        ("check/en can/ambiguous nha/vi", "check can nha"),
        # spelling
        ("bị/vi hot/en quá/vi", "bị hot quá"),
        ("kich/vi hoạt/vi nó/vi", "kich hoạt nó"),  # kích
        ("mấy/vi linter/en này/vi", "mấy linter này"),
        ("gửi/vi résumé/en đi/vi", "gửi résumé đi"),
        ("don't/en trust/en him/en nha/vi", "don't trust him nha"),
        ("cái/vi mom/en này/vi", "cái mom này"),  # in Vietnamese lists only as an English word
        # names
        ("anh/vi tuấn/name ở/vi hà/name nội/name", "Anh Tuấn ở Hà Nội"),
        ("anh/vi tuấn/vi ở/vi hà/name nội/name", "anh tuấn ở hà nội"),
        ("em/vi cao/vi bằng/vi anh/vi", "em cao bằng anh"),
        ("lên/vi cao/name bằng/name chơi/vi", "lên Cao Bằng chơi"),
        ("bạn/vi an/name rất/vi an/vi toàn/vi", "Bạn An rất an toàn"),
        ("lên/vi facebook/name xem/vi", "lên facebook xem"),
        ("hỏi/vi stack/name overflow/name đi/vi", "Hỏi Stack Overflow đi"),
        ("thứ/vi hai/vi học/vi tiếng/vi anh/vi", "thứ Hai học tiếng Anh"),
        ("viết/vi c++/name với/vi c#/name", "Viết C++ với C#"),
        ("chị/vi đọc/vi bộ/vi nhớ/vi của/vi máy/vi", "chị đọc Bộ Nhớ Của Máy"),  # a heading
        ("bấm/vi delete/en nhé/vi", 'bấm "Delete" nhé'),
        ("nguyễn/name văn/name hùng/name nói/vi vậy/vi", "Nguyễn Văn Hùng nói vậy"),
        ("xong/vi rồi/vi mình/vi về/vi", "Xong rồi. Mình về"),
        ("hướng/vi dẫn/vi sử/vi dụng/vi", "Hướng Dẫn Sử Dụng"),
        ("đọc/vi thêm/vi tương/vi tác/vi dữ/vi liệu/vi mới/vi nha/vi", "đọc Thêm Tương Tác Dữ Liệu Mới nha"),
        ("hỏi/vi taylor/name về/vi panel/en", "hỏi Taylor về Panel"),
        ("nút/vi next/en đó/vi", "nút Next đó"),
        # figures, signs, letters, code
        ("lúc/vi 9/number giờ/vi giảm/vi 50/number %/other", "lúc 9 giờ giảm 50%"),
        ("mê/vi k/en pop/en lắm/vi", "mê K-pop lắm"),
        ("áo/vi size/en m/other", "áo size M"),
        ("gọi/vi usestate/other đi/vi", "gọi useState đi"),
        ("cái/vi mp3/other này/vi", "cái mp3 này"),
        # acronyms, and capitals that are none
        ("ai/vi cũng/vi dùng/vi ai/en", "ai cũng dùng AI"),
        ("trường/vi thpt/vi này/vi có/vi ui/en", "trường THPT này có UI"),
        ("an/vi toàn/vi là/vi trên/vi hết/vi nha/vi", "AN TOÀN LÀ TRÊN HẾT NHA"),
        ("", " … "),
    ],
)
def test_tags_of_texts(tagged: str, text: str) -> None:
    assert as_text(text) == tagged
    assert as_text(unicodedata.normalize("NFD", text)) == tagged


@settings(max_examples=300)
@given(st.text(max_size=40) | st.lists(st.sampled_from(ODD_WORDS.split(" "))).map(" ".join))
@example("Node.js--thậm\u200b chí 1 , 000 C ++ \x1c ﬁle")
def test_words_are_those_that_error_rates_count(text: str) -> None:
    assert [word for word, _ in tag_words(text)] == normalize_for_scoring(text).split()


def test_a_users_words_win_and_inform_their_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_text("# ours\nban\ten\n\nchốt đơn\tvi\n".replace("chốt đơn", "Vin"), encoding="utf-8")
    tags = read_word_tags(path)
    assert tags == {"ban": WordTag.ENGLISH, "vin": WordTag.VIETNAMESE}
    assert as_text("nick bị ban rồi") == "nick/en bị/vi ban/vi rồi/vi"
    assert as_text("nick bị ban rồi", user_tags=tags) == "nick/en bị/vi ban/en rồi/vi"
    assert as_text("run", user_tags={}) == "run/ambiguous"
    assert as_text("ban run", user_tags=tags) == "ban/en run/en"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("ban en\n", "line 1"),
        ("ban\tenglish\n", "line 1"),
        ("ban\tambiguous\n", "line 1"),
        ("vi\tvi\nHồ Chí Minh\tname\n", "line 2"),
        ("…\tother\n", "line 1"),
        ("ban\ten\nBan\tvi\n", "line 2"),
    ],
)
def test_lists_that_cannot_be_read_are_refused(tmp_path: Path, content: str, found: str) -> None:
    path = tmp_path / "words.tsv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(VietstError, match=found):
        read_word_tags(path)
    with pytest.raises(VietstError, match="absent"):
        read_word_tags(tmp_path / "absent.tsv")


# --- against tags that were not made by the tagger ----------------------------------------------------------


def f1_scores(pairs: Iterable[tuple[str, str]]) -> dict[str, float]:
    """F1 of each tag from (gold, tagged), leaving out what either calls ambiguous."""
    right: Counter[str] = Counter()
    gold_total: Counter[str] = Counter()
    tagged_total: Counter[str] = Counter()
    for gold, tagged in pairs:
        if "ambiguous" not in (gold, tagged):
            gold_total[gold] += 1
            tagged_total[tagged] += 1
            right[gold] += gold == tagged
    return {tag: 2 * right[tag] / (gold_total[tag] + tagged_total[tag]) for tag in gold_total}


def gold_pairs(half: str, *, lower_case: bool = False) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for line in GOLD.read_text(encoding="utf-8").splitlines()[1:]:
        _, of_half, _, transcript, tagged_words = line.split("\t")
        if of_half == half:
            gold = [tagged.rsplit("/", 1) for tagged in tagged_words.split()]
            words = tag_words(normalize_for_scoring(transcript) if lower_case else transcript)
            assert [word for word, _ in words] == [word for word, _ in gold]
            pairs += [(tag, str(found)) for (_, tag), (_, found) in zip(gold, words, strict=True)]
    return pairs


@pytest.mark.parametrize("half", ["development", "test"])
def test_f1_on_the_hand_tagged_sample(half: str) -> None:
    pairs = gold_pairs(half)
    scores = f1_scores(pairs)
    assert scores["vi"] >= 0.98
    assert scores["en"] >= 0.95
    assert scores["name"] >= 0.9
    assert sum(tagged == "ambiguous" for _, tagged in pairs) / len(pairs) < 0.01


@pytest.mark.parametrize("half", ["development", "test"])
def test_f1_on_the_hand_tagged_sample_without_case_and_punctuation(half: str) -> None:
    """Names that no list holds are then taken for words of their language."""
    scores = f1_scores(pair for pair in gold_pairs(half, lower_case=True) if pair[0] != "name")
    assert scores["vi"] >= 0.98
    assert scores["en"] >= 0.95


def test_the_sample_is_large_enough() -> None:
    lines = GOLD.read_text(encoding="utf-8").splitlines()[1:]
    assert len(lines) >= 300
    assert len({line.split("\t")[0] for line in lines}) == len(lines)


@pytest.mark.skipif(not SEGMENTED.is_dir(), reason="needs the shared sample texts with automatic segments")
def test_agreement_with_automatic_segments() -> None:
    """Sentences outside the hand-tagged sample. The segments call names English, and miss English words that
    are joined to others by a hyphen or dash."""
    tagged_by_hand = {line.split("\t")[0] for line in GOLD.read_text(encoding="utf-8").splitlines()}
    pairs: list[tuple[str, str]] = []
    for name in ("code_switched_vi_en.jsonl", "monolingual_vi_with_en.jsonl"):
        for line in (SEGMENTED / name).read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if record["id"] not in tagged_by_hand:
                segments = [
                    tag for tag, text in record["segments"] for _ in normalize_for_scoring(text).split()
                ]
                tags = [tag for _, tag in tag_words(record["transcript"])]
                pairs += zip(segments, map(str, tags), strict=True)
    scores = f1_scores(pair for pair in pairs if pair[1] in ("vi", "en"))
    assert len(pairs) > 20_000
    assert scores["vi"] > 0.995
    assert scores["en"] > 0.98
