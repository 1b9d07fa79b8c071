"""What else may be set equal before error rates are counted: numbers however they are read, and loanwords
however they are spelt.

`vietst.text.normalize_for_scoring` leaves both alone: a system that writes "25" for "hai mươi lăm" writes
something else. How much of an error rate is only that is told by a second one, on texts where these
conventions are out of the way. Each option has a version, and the id of a normalizer names all that it does.
Alignments, and all that is told from them, stay on `normalize_for_scoring`.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Final

from vietst.evaluation.figures import write_out_figures, write_out_signs
from vietst.evaluation.number_words import DIGITS, read_out_alike
from vietst.text import NORMALIZER_ID, normalize_for_scoring

NUMBERS_ID: Final = "numbers-4"
"""Names the rules of `figures` and `number_words`; changes whenever one of them does."""

_NUMBER_WORDS: Final = frozenset({*DIGITS, "mười", "mươi", "mốt", "lăm"})
_MAX_PASSES: Final = 8
"""What a pass brings side by side may be one number or one word for the next. Real texts take one pass."""


@dataclass(frozen=True)
class ScoringNormalizer:
    """`normalize_for_scoring`, and what is asked for besides. Idempotent, as that is."""

    numbers: bool = False
    """Numbers in figures and in any Vietnamese reading become the same words: 25, hai lăm → hai mươi lăm;
    50 % → năm mươi phần trăm; 20/11 → hai mươi tháng mười một; 9:30, chín giờ rưỡi → chín giờ ba mươi;
    9/10 điểm → chín trên mười điểm; 5km, năm kilomet → năm ki lô mét; 5km/h → năm ki lô mét trên giờ."""

    loanwords: bool = False
    """Spellings by sound that `loanwords.txt` lists become the English word: phây búc → facebook."""

    @property
    def id(self) -> str:
        """Of all rules together: vietst-1+numbers-4+loanwords-1."""
        options = (NUMBERS_ID, self.numbers), (loanwords_id(), self.loanwords)
        return "+".join((NORMALIZER_ID, *(name for name, is_asked_for in options if is_asked_for)))

    def __call__(self, text: str) -> str:
        """Words with single spaces between."""
        text = unicodedata.normalize("NFC", text)
        for _ in range(_MAX_PASSES):
            before, text = text, self._once(text)
            if text == before:
                break
        return text

    def _once(self, text: str) -> str:
        words = normalize_for_scoring(write_out_signs(text) if self.numbers else text).split()
        if self.loanwords:
            words = _with_loanwords(words)
        if not self.numbers:
            return " ".join(words)
        text = " ".join(read_out_alike(write_out_figures(words)))
        text = _UNITS.sub(lambda found: f"{found[1]} {_UNIT_READINGS[found[2]]}", text)
        text = _OF_SPEEDS.sub(lambda found: _UNIT_READINGS[found[1]], text)
        return _MINUTES.sub(r"\1", _FIRST_DAYS.sub("", text))


_UNIT_READINGS: Final = {
    **dict.fromkeys(("km", "kilomet", "kilômét", "kí lô mét"), "ki lô mét"),
    **dict.fromkeys(("kg", "kilogam", "kilôgam", "kilogram", "kí lô gam"), "ki lô gam"),
    **dict.fromkeys(("cm", "centimet", "xentimét", "cen ti mét"), "xen ti mét"),
    **dict.fromkeys(("mm", "milimet", "milimét"), "mi li mét"),
}
"""Elsewhere than behind a number they may be other things: KM is also khuyến mãi, a sale."""
_UNITS: Final = re.compile(
    rf"\b({'|'.join(sorted(_NUMBER_WORDS | {'trăm', 'nghìn', 'triệu'}))}) ({'|'.join(_UNIT_READINGS)})\b"
)
_OF_SPEEDS: Final = re.compile(rf"\b({'|'.join(_UNIT_READINGS)})(?= trên (?:giờ|phút|giây)\b)")
"""mấy km/h: units without a number too."""
_MINUTES: Final = re.compile(rf"(\bgiờ(?: (?:{'|'.join(sorted(_NUMBER_WORDS))})){{1,3}}) phút\b")
"""chín giờ ba mươi phút: 9:30, which says no minutes."""
_FIRST_DAYS: Final = re.compile(rf"\b(?:mùng|mồng) (?=(?:{'|'.join((*DIGITS[1:], 'mười'))}) tháng\b)")
"""mùng hai tháng chín: 2/9, which says nothing of the month's first ten days."""


# --- loanwords --------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _lines() -> list[str]:
    text = files("vietst.evaluation").joinpath("loanwords.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line]


def loanwords_id() -> str:
    """The version of the list, from its first line."""
    return _lines()[0].removeprefix("# ").partition(":")[0]


@lru_cache(maxsize=1)
def _spellings() -> dict[str, list[tuple[tuple[str, ...], str]]]:
    """First word → the spellings that begin with it, longest first, and what they spell."""
    result: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for line in _lines():
        if not line.startswith("#"):
            word, _, spellings = line.partition(":")
            for spelling in spellings.split(","):
                parts = tuple(normalize_for_scoring(spelling).split())
                result.setdefault(parts[0], []).append((parts, word))
    for of_one in result.values():
        of_one.sort(key=lambda entry: -len(entry[0]))
    return result


@lru_cache(maxsize=1)
def listed_loanwords() -> frozenset[str]:
    """The English words of the list."""
    return frozenset(word for of_one in _spellings().values() for _, word in of_one)


def loanwords_in(words: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Of each listed spelling by sound: its first word, the position after its last, what it spells."""
    spellings, position = _spellings(), 0
    while position < len(words):
        for parts, word in spellings.get(words[position], ()):
            end = position + len(parts)
            if tuple(words[position:end]) == parts:
                yield position, end, word
                position = end
                break
        else:
            position += 1


def _with_loanwords(words: Sequence[str]) -> list[str]:
    result, done = [], 0
    for start, end, word in loanwords_in(words):
        result += [*words[done:start], word]
        done = end
    return [*result, *words[done:]]
