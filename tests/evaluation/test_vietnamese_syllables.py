"""The closed grammar of Vietnamese syllables: what can be one, and what each is made of."""

import unicodedata

import pytest
import wordfreq

from vietst.evaluation.vietnamese_syllables import parse_syllable, parse_toneless, split_tone
from vietst.text import normalize_for_scoring


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("tiếng", ("t", "iêng", "sắc")),
        ("việt", ("v", "iêt", "nặng")),
        ("nghĩa", ("ngh", "ia", "ngã")),
        ("ăn", ("", "ăn", "ngang")),
        ("yếu", ("", "yêu", "sắc")),
        ("kỹ", ("k", "y", "ngã")),
        ("quốc", ("qu", "ôc", "sắc")),
        ("quyển", ("qu", "yên", "hỏi")),
        ("gì", ("gi", "", "huyền")),
        ("gìn", ("gi", "n", "huyền")),
        ("giếng", ("gi", "êng", "sắc")),
        ("giống", ("gi", "ông", "sắc")),
        ("khuỷu", ("kh", "uyu", "hỏi")),
        ("hòa", ("h", "oa", "huyền")),
        ("hoà", ("h", "oa", "huyền")),
        ("thuở", ("th", "uơ", "hỏi")),
        ("đ", None),
        ("nge", None),  # nghe
        ("ka", None),  # ca
        ("ce", None),  # ke
        ("hot", None),  # hót, họt: a stop has one of two tones
        ("hòt", None),
        ("bèếp", None),  # two tones
        ("file", None),
        ("team", None),
        ("web", None),
        ("khôngg", None),
        ("quung", None),
        ("", None),
    ],
)
def test_parts_of_syllables(word: str, parts: tuple[str, str, str] | None) -> None:
    syllable = parse_syllable(word)
    assert (syllable and (syllable.onset, syllable.rhyme, syllable.tone)) == parts


def test_words_that_english_shares_are_possible_syllables() -> None:
    assert all(parse_syllable(word) for word in ("an", "ban", "do", "in", "me", "run", "to"))


@pytest.mark.parametrize(
    ("letters", "is_syllable"), [("kich", True), ("khong", True), ("duoc", False), ("fix", False)]
)
def test_toneless_letters(letters: str, is_syllable: bool) -> None:
    assert (parse_toneless(letters) is not None) == is_syllable


def test_tones_are_split_off_and_marks_of_quality_stay() -> None:
    assert split_tone("tiếng") == ("tiêng", "sắc")
    assert split_tone("đường") == ("đương", "huyền")
    assert split_tone("đi") == ("đi", "ngang")
    assert split_tone(unicodedata.normalize("NFD", "mẹ")) == ("me", "nặng")
    assert split_tone("mẹ́") is None


def test_the_table_holds_what_the_frequency_list_holds() -> None:
    """Nearly all words with Vietnamese letters in wordfreq's list parse; the rest are names and slips."""
    listed = [
        normalize_for_scoring(word)
        for word in wordfreq.get_frequency_dict("vi")
        if word.isalpha() and not word.isascii()
    ]
    possible = [word for word in listed if parse_syllable(word)]
    assert len(listed) > 4000
    assert len(possible) / len(listed) > 0.97


def test_few_frequent_english_words_are_possible_syllables() -> None:
    frequent = [word for word in wordfreq.top_n_list("en", 2000) if word.isalpha() and len(word) > 1]
    assert sum(parse_syllable(word) is not None for word in frequent) / len(frequent) < 0.05
