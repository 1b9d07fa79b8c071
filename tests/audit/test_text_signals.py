"""What transcripts and translations say about each other: tables of texts."""

import numpy as np
import pytest

from vietst.audit.edge_errors import EdgeErrors, edge_errors
from vietst.audit.numbers import num_mismatches
from vietst.audit.speaking_rate import MIN_GROUP_ROWS, count_syllables, robust_z
from vietst.audit.text_signals import measure_texts
from vietst.evaluation.word_language import tag_words


@pytest.mark.parametrize(
    ("transcript", "translation", "num"),
    [
        ("em có 25 file", "em có hai mươi lăm tệp", 0),
        ("em có hai mươi lăm file", "em có 25 tệp", 0),
        ("em có hai mươi lăm file", "em có hai lăm tệp", 0),
        ("em có 25 file", "em có 26 tệp", 2),
        ("em có 25 file", "em có nhiều tệp", 1),
        ("budget là 1.000 đô", "ngân sách là một nghìn đô", 0),
        ("budget là 1,000 đô", "ngân sách là 1000 đô", 0),
        ("lên version 3.5 rồi", "lên phiên bản 3,5 rồi", 0),
        ("hai trăm lẻ năm user", "205 người dùng", 0),
        ("hai triệu ba trăm nghìn user", "2.300.000 người dùng", 0),
        ("mười lăm phút", "15 phút", 0),
        ("năm mươi phần trăm", "50%", 0),
        ("meeting lúc ten giờ", "họp lúc mười giờ", 0),
        ("twenty five người", "25 người", 0),
        ("two hundred user", "200 người dùng", 0),
        ("học được ba tháng", "học được 3 tháng", 0),
        ("học được ba tháng", "học được bốn tháng", 1),
        ("năm nay mình không deploy", "năm nay mình không triển khai", None),
        ("ba mình và một người bạn", "bố mình cùng bạn", None),
        ("mình fix bug", "mình sửa lỗi", None),
        ("gọi hai ba lần", "gọi hai ba lần", 0),
        ("trả 2,5 triệu", "trả hai triệu rưỡi", 0),
        ("2.5 million user", "2.500.000 người dùng", 0),
        ("a hundred twenty one user", "121 người dùng", 0),
        ("one thousand five hundred", "1500", 0),
        ("mình chọn one trong hai", "mình chọn một trong hai", 0),
        ("năm hai không hai bốn", "năm 2024", 0),
        ("twenty twenty four", "hai nghìn không trăm hai mươi tư", 0),
        ("deadline 20/11", "hạn chót hai mươi tháng mười một", 0),
        ("hai mươi năm", "20 năm", 0),
        ("hai mươi năm", "25", 2),
        ("3.5 điểm", "3.6 điểm", 2),
        ("3 tháng", "mấy tháng", 1),
        ("gọi 0912345678", "gọi không chín một hai ba bốn năm sáu bảy tám", 0),
        ("gọi 0912345678", "gọi 0912345687", 2),
        ("mạng 5g", "mạng 4g", 2),
    ],
)
def test_numbers_are_compared_in_figures_and_words(transcript, translation, num) -> None:
    assert num_mismatches(transcript, translation) == num
    assert num_mismatches(translation, transcript) == num


@pytest.mark.parametrize(
    ("text", "num"),
    [
        ("mình đi làm", 3),
        ("mình fix cái deadline này", 6),
        ("code", 1),
        ("file", 1),
        ("table", 2),
        ("the meeting", 3),
        ("updated feature", 5),
        ("deployed", 2),
        ("html", 4),
        ("25 người", 4),
        ("", 0),
    ],
)
def test_syllables(text, num) -> None:
    assert count_syllables(tag_words(text)) == num


def test_a_rate_is_compared_within_the_group_that_is_large_enough() -> None:
    slow, fast = np.linspace(2.9, 3.1, MIN_GROUP_ROWS), np.linspace(5.9, 6.1, MIN_GROUP_ROWS)
    values = np.concatenate([slow, fast, [6.0, np.nan, 9.0]])
    speakers = np.array([0] * MIN_GROUP_ROWS + [1] * MIN_GROUP_ROWS + [0, 0, 2])
    channels = np.array([-1] * (2 * MIN_GROUP_ROWS + 3))
    scores = robust_z(values, (speakers, channels))
    assert np.abs(scores[: 2 * MIN_GROUP_ROWS]).max() < 2
    assert scores[-3] > 10, "fast for this speaker, though not for others"
    assert np.isnan(scores[-2])
    assert scores[-1] > 1, "of a speaker with one row, compared with all"


def test_rows_that_are_all_alike_make_no_outlier_of_a_slightly_other_one() -> None:
    values = np.array([4.0] * 20 + [4.1, 8.0])
    scores = robust_z(values, (np.zeros(22, np.int64),))
    assert abs(scores[-2]) < 1
    assert scores[-1] > 10


def test_a_copied_transcript_is_told_by_its_english() -> None:
    text = "mình fix cái bug này trước deadline"
    good = measure_texts(text, "mình sửa cái lỗi này trước hạn chót")
    copied = measure_texts(text, text)
    assert (copied.copy, copied.untranslated_english, copied.shared_words) == (1, 1, 1)
    assert good.copy < 0.7
    assert (good.untranslated_english, good.shared_words) == (0, 1)
    assert good.length_ratio == pytest.approx(8 / 7)


def test_a_vietnamese_sentence_is_its_own_translation() -> None:
    facts = measure_texts("hôm nay trời đẹp quá", "hôm nay trời đẹp quá")
    assert (facts.copy, facts.untranslated_english) == (None, None)


def test_the_translation_of_another_row_shares_few_words() -> None:
    facts = measure_texts(
        "hình như sếp quên share document mất rồi", "chị Lan vừa mới học thiết kế được hai tuần"
    )
    assert facts.shared_words < 0.3


def test_without_a_translation_only_the_transcript_is_looked_at() -> None:
    facts = measure_texts("mình fix bug 5 lần", "")
    assert (facts.length_ratio, facts.copy, facts.shared_words, facts.number_mismatch) == (None,) * 4
    assert facts.num_syllables == 5
    assert facts.wrong_language == ""


@pytest.mark.parametrize(
    ("transcript", "translation", "wrong"),
    [
        ("mình fix bug này", "mình sửa lỗi này", ""),
        ("let us fix this bug before the deadline", "hãy sửa lỗi này trước hạn chót", ""),
        ("mình fix bug này", "i will fix this bug before friday", "translation"),
        ("이 버그를 고치겠습니다", "mình sửa lỗi này", "transcript"),
        ("今天天气很好", "今天天气很好", "both"),
        ("исправим эту ошибку", "i will fix this bug", "both"),
        ("przepraszam bardzo dziękuję wszystkim", "xin lỗi và cảm ơn mọi người", "transcript"),
        ("gặp anh 佐藤 lúc ba giờ nhé", "gặp anh 佐藤 lúc ba giờ nhé", ""),
        ("ok", "ok", ""),
    ],
)
def test_wrong_languages(transcript, translation, wrong) -> None:
    assert measure_texts(transcript, translation).wrong_language == wrong


@pytest.mark.parametrize(
    ("recognized", "errors"),
    [
        ("một hai ba bốn", EdgeErrors(0, 0, 0, 0, 0, 0)),
        ("Một, hai ba bốn!", EdgeErrors(0, 0, 0, 0, 0, 0)),
        ("ba bốn", EdgeErrors(0.5, 0, 0, 2, 0, 0)),
        ("một hai", EdgeErrors(0.5, 0, 0, 0, 2, 0)),
        ("chín mười một hai ba bốn", EdgeErrors(0.5, 2, 0, 0, 0, 0)),
        ("hai ba bốn tám", EdgeErrors(0.5, 0, 1, 1, 0, 0)),
        ("một hai xa ba bốn", EdgeErrors(0.25, 0, 0, 0, 0, 0.25)),
        ("một ba bốn", EdgeErrors(0.25, 0, 0, 0, 0, 0.25)),
        ("xa hai ba bốn", EdgeErrors(0.25, 0, 0, 0, 0, 0.25)),
        ("", EdgeErrors(1, 0, 0, 0, 0, 1)),
        ("hoa nở rồi", EdgeErrors(1, 0, 0, 0, 0, 1)),
    ],
)
def test_errors_at_the_edges_are_told_from_those_inside(recognized, errors) -> None:
    assert edge_errors("một hai ba bốn", recognized) == errors


def test_a_transcript_without_words_is_not_compared() -> None:
    assert edge_errors("…", "một hai") is None
