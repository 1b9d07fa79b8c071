"""The numbers in a text, in figures or in Vietnamese or English words, and those that another text lacks.

Both texts are brought to one Vietnamese reading (`evaluation.number_words`) and compared by its words.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from vietst.evaluation.figures import write_out_figures, write_out_signs
from vietst.evaluation.number_words import DIGITS, POINT, read_out_alike, spoken_numbers
from vietst.text import normalize_for_scoring

_ENGLISH_SMALL: Final = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
    "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_ENGLISH_SCALES: Final = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_SCALE_IN_VIETNAMESE: Final = {"hundred": "trăm", "thousand": "nghìn", "million": "triệu", "billion": "tỷ"}
_ENGLISH_ONE: Final = ("one", "a")
"""They begin a number only before a scale."""
_CENTURIES: Final = ("nineteen", "twenty")
"""Years are read in two parts: twenty twenty four."""

_WORDS_OF_OTHER_MEANING: Final = frozenset({"không", "một", "ba", "năm"})
"""Not, a, father, year: alone they prove no number, but may be one that the other has."""
_MIN_ROW: Final = 4
"""Digits in a row that are one number: of a telephone."""


def num_mismatches(transcript: str, translation: str) -> int | None:
    """How many numbers of either text the other does not have; None where neither has any."""
    sure_here, possible_here = _numbers(transcript)
    sure_there, possible_there = _numbers(translation)
    if not sure_here and not sure_there:
        return None
    missing = (sure_here - possible_there) + (sure_there - possible_here)
    return missing.total()


def _numbers(text: str) -> tuple[Counter[str], Counter[str]]:
    """The numbers that a text certainly holds, and all that it may hold: their readings."""
    words = list(_english_in_figures(normalize_for_scoring(write_out_signs(text)).split()))
    possible = Counter(_readings(read_out_alike(write_out_figures(words))))
    in_figures = Counter(DIGITS[int(word)] for word in words if len(word) == 1 and word.isdecimal())
    sure = possible.copy()
    for reading in _WORDS_OF_OTHER_MEANING:
        sure[reading] = min(possible[reading], in_figures[reading])
    return +sure, possible


def _readings(words: Sequence[str]) -> Iterator[str]:
    """Each number in order; of a word that holds figures (u23, 4k, 1.2.3) the word."""
    yield from (word for word in words if any(map(str.isdecimal, word)))
    done = 0
    for start, end, _ in spoken_numbers(words):
        if start < done:
            continue
        row = _end_of_digits(words, start)
        if row - start >= _MIN_ROW:
            end = row
        if end < len(words) and words[end] == POINT:
            end = _end_of_digits(words, end + 1)
        yield " ".join(words[start:end])
        done = end


def _end_of_digits(words: Sequence[str], position: int) -> int:
    while position < len(words) and words[position] in DIGITS:
        position += 1
    return position


def _english_in_figures(words: Sequence[str]) -> Iterator[str]:
    """Words with English numbers in figures, and English scales behind other numbers in Vietnamese."""
    position = 0
    while position < len(words):
        end = _end_of_english(words, position)
        if end > position:
            yield str(_english_value(words[position:end]))
        else:
            yield _SCALE_IN_VIETNAMESE.get(words[position], words[position])
        position = max(end, position + 1)


def _end_of_english(words: Sequence[str], start: int) -> int:
    """Behind the last word of the English number that begins there, if one does."""
    if words[start] in _ENGLISH_ONE:
        begins = _word(words, start + 1) in _ENGLISH_SCALES
    else:
        begins = words[start] in _ENGLISH_SMALL
    if not begins:
        return start
    end = start + 1
    while _goes_on(words[end - 1], _word(words, end), is_second=end == start + 1):
        end += 1
    return end


def _goes_on(previous: str, word: str, *, is_second: bool) -> bool:
    if word in _ENGLISH_SCALES or previous in _ENGLISH_SCALES:
        return word in _ENGLISH_SCALES or word in _ENGLISH_SMALL
    value, before = _ENGLISH_SMALL.get(word, 0), _ENGLISH_SMALL.get(previous, 0)
    is_unit_after_tens = before >= 20 and 0 < value < 10
    return is_unit_after_tens or (is_second and previous in _CENTURIES and value >= 10)


def _english_value(words: Sequence[str]) -> int:
    total = below_thousand = 0
    for previous, word in zip(("", *words), words, strict=False):
        if scale := _ENGLISH_SCALES.get(word):
            below_thousand = max(below_thousand, 1) * scale
            if scale > 100:
                total, below_thousand = total + below_thousand, 0
        else:
            value = _ENGLISH_SMALL.get(word, 0)
            is_year = previous in _CENTURIES and value >= 10
            below_thousand = (100 * below_thousand if is_year else below_thousand) + value
    return total + below_thousand


def _word(words: Sequence[str], position: int) -> str:
    return words[position] if position < len(words) else ""
