"""How fast a transcript would have to be spoken, and whether its speaker speaks so.

In Vietnamese a word between spaces is a syllable. English words are counted by their groups of vowel letters
without a silent final e (the rule of thumb of readability measures), letters of words without a vowel one by
one, and figures as they are read out in Vietnamese, where n of them take about 2 n − 1 syllables.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from vietst.evaluation.word_language import TaggedWord, WordTag

_VOWEL_GROUPS: Final = re.compile(r"[aeiouyăâêôơưàáảãạ]+")
_SILENT_END: Final = re.compile(r"(?<=[^aeiouyl])e$|(?<=[aeiouy]l)e$|(?<=[^dtaeiou])ed$|(?<=[^cgszx])es$")
_DIGITS: Final = re.compile(r"\d+")

MIN_GROUP_ROWS: Final = 8
"""Fewer rows do not say what is usual for a speaker; then the channel, the video, or all rows are asked."""
_MIN_RELATIVE_SPREAD: Final = 0.05
"""Of the median: where nearly all rows are alike, a slightly different one is no outlier."""
_MAD_OF_NORMAL: Final = 1.4826


def count_syllables(words: Sequence[TaggedWord]) -> int:
    """Syllables of a transcript, from `tag_words`."""
    return sum(_syllables_of(word, tag) for word, tag in words)


def _syllables_of(word: str, tag: WordTag) -> int:
    if tag is WordTag.NUMBER or word[0].isdigit():
        return sum(2 * len(digits) - 1 for digits in _DIGITS.findall(word))
    return 1 if tag is WordTag.VIETNAMESE else _english_syllables(word)


@lru_cache(maxsize=65536)
def _english_syllables(word: str) -> int:
    groups = _VOWEL_GROUPS.findall(_SILENT_END.sub("", word))
    if groups:
        return len(groups)
    # Also "&", "%" and other signs that are read aloud.
    return 1 if _VOWEL_GROUPS.search(word) else len(word)


def robust_z(values: np.ndarray, groupings: Sequence[np.ndarray]) -> np.ndarray:
    """Distances from the median of the row's group in robust standard deviations (1.4826 × MAD).

    The modified z-score of Iglewicz and Hoaglin 1993 (theirs is limited to 3.5 by habit).

    Args:
        values: float [num_rows], NaN where nothing was measured.
        groupings: int [num_rows] each, the number of a row's group, −1: none; the first grouping in which
            the group has `MIN_GROUP_ROWS` measured rows counts. All rows are the last resort.

    Returns:
        float [num_rows], NaN where there is no value.
    """
    scores = np.full(len(values), np.nan)
    is_measured = np.isfinite(values)
    is_open = is_measured.copy()
    for groups in groupings:
        for rows in _rows_of_groups(groups, is_measured):
            if len(rows) >= MIN_GROUP_ROWS:
                mine = rows[is_open[rows]]
                scores[mine] = _distances(values[mine], values[rows])
                is_open[mine] = False
    scores[is_open] = _distances(values[is_open], values[is_measured])
    return scores


def _rows_of_groups(groups: np.ndarray, is_measured: np.ndarray) -> list[np.ndarray]:
    rows = np.flatnonzero(is_measured & (groups >= 0))
    rows = rows[np.argsort(groups[rows], kind="stable")]
    return np.split(rows, np.flatnonzero(np.diff(groups[rows])) + 1) if len(rows) else []


def _distances(values: np.ndarray, of_group: np.ndarray) -> np.ndarray:
    if len(values) == 0:
        return values
    median = float(np.median(of_group))
    spread = _MAD_OF_NORMAL * float(np.median(np.abs(of_group - median)))
    return np.asarray((values - median) / max(spread, _MIN_RELATIVE_SPREAD * abs(median), 1e-6))
