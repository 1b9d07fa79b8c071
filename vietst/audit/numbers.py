"""The numbers in a text, in figures or in Vietnamese or English words, and those that another text lacks."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from vietst.text import normalize_for_scoring

_VIETNAMESE_DIGITS: Final = {
    "không": 0, "một": 1, "mốt": 1, "hai": 2, "ba": 3, "bốn": 4, "tư": 4, "năm": 5, "lăm": 5, "nhăm": 5,
    "sáu": 6, "bảy": 7, "bẩy": 7, "tám": 8, "chín": 9,
}  # fmt: skip
_VIETNAMESE_TENS: Final = frozenset({"mươi", "chục"})
_VIETNAMESE_SCALES: Final = {
    "trăm": 100, "nghìn": 1000, "ngàn": 1000, "triệu": 10**6, "tỷ": 10**9, "tỉ": 10**9,
}  # fmt: skip
_UNITS_AFTER_TENS: Final = frozenset({"mốt", "tư", "lăm", "nhăm"})
"""With them the word for ten may be left out: hai lăm is 25."""
_ZERO_TENS: Final = frozenset({"lẻ", "linh"})
_ENGLISH_SMALL: Final = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
    "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_ENGLISH_SCALES: Final = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}

_WORDS_OF_OTHER_MEANING: Final = frozenset({"không", "một", "mốt", "ba", "tư", "năm"})
"""Not, a, newest, father, private, year: alone they prove no number, but may be one that the other has."""

_GROUPED: Final = re.compile(r"\d{1,3}(?:[.,]\d{3})+")
"""1.000 and 1,000 are both a thousand; 3.5 and 3,5 are not whole, and compared as they are written."""
_FIGURES: Final = re.compile(r"\d+(?:[.,]\d+)*")


def num_mismatches(transcript: str, translation: str) -> int | None:
    """How many numbers of either text the other does not have; None where neither has any."""
    sure_here, possible_here = _numbers(transcript)
    sure_there, possible_there = _numbers(translation)
    if not sure_here and not sure_there:
        return None
    missing = (sure_here - possible_there) + (sure_there - possible_here)
    return missing.total()


def _numbers(text: str) -> tuple[Counter[str], Counter[str]]:
    """The numbers that a text certainly holds, and all that it may hold."""
    sure: Counter[str] = Counter()
    possible: Counter[str] = Counter()
    for words, number in _runs(normalize_for_scoring(text).split()):
        possible[number] += 1
        if len(words) > 1 or words[0] not in _WORDS_OF_OTHER_MEANING:
            sure[number] += 1
    return sure, possible


def _runs(words: Sequence[str]) -> Iterator[tuple[Sequence[str], str]]:
    """Each number in order: the words that it is written with, and its figures."""
    start = 0
    while start < len(words):
        figures = _FIGURES.search(words[start])
        end = start
        if figures is None:
            while end < len(words) and _continues(words, start, end):
                end += 1
        if figures is not None:
            yield words[start : start + 1], _in_one_form(figures[0])
        elif end > start:
            yield words[start:end], str(_value(words[start:end]))
        start = max(end, start + 1)


def _in_one_form(figures: str) -> str:
    if _GROUPED.fullmatch(figures):
        return re.sub(r"[.,]", "", figures)
    whole, _, fraction = figures.replace(",", ".").partition(".")
    return f"{int(whole)}.{fraction}" if fraction else str(int(whole))


def _continues(words: Sequence[str], start: int, position: int) -> bool:
    """Whether the word at a position belongs to the number that begins at `start`."""
    word = words[position]
    is_first = position == start
    if word in _VIETNAMESE_DIGITS:
        # "hai ba" are two numbers; a digit follows a unit ("hai mươi ba", "một trăm lẻ ba").
        return is_first or words[position - 1] not in _VIETNAMESE_DIGITS or word in _UNITS_AFTER_TENS
    if word in _ENGLISH_SMALL:
        return is_first or words[position - 1] in _ENGLISH_SCALES or _makes_tens(words[position - 1], word)
    if word == "mười":
        return is_first or words[position - 1] in _VIETNAMESE_SCALES
    is_unit = word in _VIETNAMESE_TENS or word in _VIETNAMESE_SCALES or word in _ZERO_TENS
    return not is_first and (is_unit or word in _ENGLISH_SCALES)


def _makes_tens(tens: str, word: str) -> bool:
    return _ENGLISH_SMALL.get(tens, 0) >= 20 and _ENGLISH_SMALL[word] < 10


def _value(words: Sequence[str]) -> int:
    """Of the words of one number. "hai trăm năm" is 205 here, whatever it may mean in a price."""
    total = below_thousand = digit = 0
    for word in words:
        if word in _VIETNAMESE_DIGITS:
            is_short = word in _UNITS_AFTER_TENS and digit < 10
            below_thousand += 10 * digit if is_short else digit
            digit = _VIETNAMESE_DIGITS[word]
        elif word in _ENGLISH_SMALL:
            below_thousand, digit = below_thousand + digit, _ENGLISH_SMALL[word]
        elif word == "mười":
            below_thousand, digit = below_thousand + digit, 10
        elif word in _VIETNAMESE_TENS:
            digit = 10 * max(digit, 1)
        elif word not in _ZERO_TENS:
            scale = _VIETNAMESE_SCALES.get(word) or _ENGLISH_SCALES[word]
            if scale == 100:
                below_thousand, digit = below_thousand + 100 * max(digit, 1), 0
            else:
                total, below_thousand, digit = total + scale * max(below_thousand + digit, 1), 0, 0
    return total + below_thousand + digit
