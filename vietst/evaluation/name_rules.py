"""Proper names in Vietnamese–English text: from a list of well-known ones, and from capital letters.

Transcripts without case have only the list. Where there is case, a capital inside a sentence marks a name,
unless it stands for something else that is capitalised: the beginning of a quotation, a heading, an
English term that writers like to capitalise ("Hook").
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from importlib.resources import files
from typing import Final

from vietst.evaluation.vietnamese_syllables import parse_syllable, word_set
from vietst.evaluation.word_evidence import FUNCTION_WORDS, english_log10_frequency, evidence_of
from vietst.text import normalize_for_scoring


class Case(Enum):
    LOWER = auto()
    """No capital, or nothing that could be one."""
    CAPITALIZED = auto()
    """Hook"""
    CAPITALS = auto()
    """HTML: two letters or more"""
    MIXED = auto()
    """GitHub, useState"""


@dataclass(frozen=True)
class WrittenWord:
    """A word as `normalize_for_scoring` writes it, and what its writing in the text tells.

    Attributes:
        opens: it begins a sentence, a quotation or a bracket, where a capital means nothing.
        camel: it begins in lower case and goes on with a capital (useState).
        joined: it is written together with its neighbour in the text (e-mail, K-pop).
    """

    text: str
    case: Case
    opens: bool
    camel: bool
    joined: bool


_SURNAMES: Final = word_set(
    "nguyễn trần lê phạm hoàng huỳnh phan vũ võ đặng bùi đỗ hồ ngô dương lý đinh trịnh trương lương"
)
_BEFORE_A_CAPITAL_WITHOUT_NAME: Final = word_set("thứ tháng tiếng người")
"""thứ Hai, tháng Giêng, tiếng Anh, người Việt: weekdays, months, languages, peoples."""

_NEVER_IN_NAMES: Final = word_set(
    "và của một các những cho là không trong với để như này đó khi bạn tôi được bị vì nên ở từ đến"
)
"""Where one of them has a capital among others, the whole is a heading."""

_LONGEST_NAME_WORDS: Final = 4
"""Longer runs of capitals are headings; few persons' names have more syllables."""

_INFLECTIONS: Final = ("s", "es", "ed", "d", "ing", "er", "ly")
# "hook" is 5 times as frequent as "hooks", "john" 35 times as "johns", "google" 200 times as "googles".
_INFLECTED_BELOW_LOG10: Final = 1.3
_FREQUENT_LOG10: Final = 5.0
_COMMON_LOG10: Final = 5.6
"""Words above it are ordinary whatever their inflections; the names that reach it are in the list."""


def mark_names(words: Sequence[WrittenWord], *, case_informs: bool) -> list[bool]:
    """Which words of a sentence belong to proper names.

    Args:
        case_informs: capitals tell something: the text is neither all lower case nor all capitals.
    """
    capitalized = [case_informs and word.case is not Case.LOWER for word in words]
    names = [False] * len(words)
    for start, end in _listed_spans(words, capitalized):
        names[start:end] = [True] * (end - start)
    may_name = [
        capital and (not word.opens or word.text in _SURNAMES)
        for word, capital in zip(words, capitalized, strict=True)
    ]
    for start, end in _runs(may_name):
        is_heading = any(word.text in _NEVER_IN_NAMES for word in words[start:end])
        if end - start <= _LONGEST_NAME_WORDS and not is_heading:
            for index in range(start, end):
                names[index] = names[index] or _is_name_by_case(words, index, end)
    return names


def _listed_spans(words: Sequence[WrittenWord], capitalized: Sequence[bool]) -> Iterable[tuple[int, int]]:
    names = _listed_names()
    index = 0
    while index < len(words):
        for spelling, needs_capital in names.get(words[index].text, ()):
            end = index + len(spelling)
            if tuple(word.text for word in words[index:end]) == spelling and (
                not needs_capital or all(capitalized[index:end])
            ):
                yield index, end
                index = end
                break
        else:
            index += 1


@lru_cache(maxsize=1)
def _listed_names() -> dict[str, list[tuple[tuple[str, ...], bool]]]:
    """First word → the names that begin with it, longest first, and whether they need their capitals."""
    result: dict[str, list[tuple[tuple[str, ...], bool]]] = {}
    for line in files("vietst.evaluation").joinpath("names.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            spelling = tuple(normalize_for_scoring(line).split())
            result.setdefault(spelling[0], []).append((spelling, line != line.lower()))
    for spellings in result.values():
        spellings.sort(key=lambda entry: -len(entry[0]))
    return result


def _runs(flags: Sequence[bool]) -> Iterable[tuple[int, int]]:
    start = None
    for index, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = index
        elif not flag and start is not None:
            yield start, index
            start = None


def _is_name_by_case(words: Sequence[WrittenWord], index: int, end: int) -> bool:
    word = words[index]
    if word.case is not Case.CAPITALIZED or len(word.text) == 1:
        return word.case is Case.MIXED and not word.camel
    if word.opens:  # a surname, by what was let into the run
        return index + 1 < end and not words[index + 1].opens
    if _is_rather_vietnamese(word.text):
        return _BEFORE_A_CAPITAL_WITHOUT_NAME.isdisjoint({word.text, words[index - 1].text})
    return not is_ordinary_english(word.text)


def _is_rather_vietnamese(word: str) -> bool:
    if parse_syllable(word) is None:
        return False
    evidence = evidence_of(word)
    # No one writes the article "an" with a capital inside a sentence; An is a person.
    is_also_function_word = word in FUNCTION_WORDS and evidence.vietnamese >= _FREQUENT_LOG10
    return evidence.vietnamese >= evidence.english or is_also_function_word


@lru_cache(maxsize=65536)
def is_ordinary_english(word: str) -> bool:
    """Whether an English word is used as other than a name: it is a function word, very frequent, or
    inflected, or an inflection, as names hardly are."""
    frequency = english_log10_frequency(word)
    if word in FUNCTION_WORDS or frequency >= _COMMON_LOG10:
        return True
    inflected = max(
        english_log10_frequency(stem + ending) for stem in _stems(word) for ending in _INFLECTIONS
    )
    base = max((english_log10_frequency(stem) for stem in _bases(word)), default=0.0)
    return frequency > 0 and max(inflected, base) >= frequency - _INFLECTED_BELOW_LOG10


def _stems(word: str) -> tuple[str, ...]:
    shortened = word[:-1] + "i" if word.endswith("y") else word.removesuffix("e")
    return (word, shortened, word + word[-1])  # galler(ies), stat(ing), runn(ing)


def _bases(word: str) -> list[str]:
    return [
        base
        for ending in ("s", "es", "ed", "ing", "ings")
        if word.endswith(ending) and len(word) > len(ending) + 2
        for base in (word.removesuffix(ending), word.removesuffix(ending) + "e")
    ]
