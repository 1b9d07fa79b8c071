"""Which of two languages each word of a sentence belongs to, given its neighbours.

A hidden Markov model with three states: Vietnamese; English; and an English span that so far is one function
word. The third state carries what is known about insertions: grammatical words of the embedded
language hardly ever stand alone, since the matrix language supplies them (Myers-Scotton, *Duelling
Languages*, 1993). "to" and "in" between Vietnamese words are therefore Vietnamese (large, to print), however
frequent they are in English, while in "to be honest" and "in case" they open an English span. For the same
reason a span hardly ever ends with a function word, particles aside ("log in", but "file in" + noun).
"""

from functools import lru_cache
from typing import Final, NamedTuple

from vietst.evaluation.word_evidence import FUNCTION_WORDS, PARTICLES

# Chances per word, set by hand from what code-switched Vietnamese looks like: an English span about every ten
# words, of one or two words. The tags hardly depend on them, since frequencies differ by powers of ten: three
# times any of them, or a third, changes F1 on the hand-tagged development sentences by less than 0.002.
_ENTER: Final = 0.1
_ENTER_BY_FUNCTION_WORD: Final = 0.02
_STAY: Final = 0.5
_END_AFTER_PARTICLE: Final = 0.3
_END_AFTER_FUNCTION_WORD: Final = 0.02
_FUNCTION_WORD_ALONE: Final = 0.005

_VIETNAMESE, _ENGLISH, _OPENED = range(3)


class Candidate(NamedTuple):
    """A word and how likely it is in each language, on any scale common to both."""

    word: str
    vietnamese: float
    english: float


@lru_cache(maxsize=16384)
def english_probabilities(words: tuple[Candidate, ...]) -> tuple[float, ...]:
    """Posterior probability of English for each word of a sequence (forward–backward algorithm).

    The text is taken to be Vietnamese before the first and after the last word.
    """
    forward: list[tuple[float, float, float]] = []
    state = (1.0, 0.0, 0.0)
    previous = ""
    for candidate in words:
        state = _advance(state, previous, candidate)
        forward.append(state)
        previous = candidate.word
    later = _retreat((1.0, 0.0, 0.0), previous, Candidate("", vietnamese=1.0, english=0.0))
    result: list[float] = []
    for index in range(len(words) - 1, -1, -1):
        now = forward[index]
        in_vietnamese = now[_VIETNAMESE] * later[_VIETNAMESE]
        in_english = now[_ENGLISH] * later[_ENGLISH] + now[_OPENED] * later[_OPENED]
        result.append(in_english / (in_vietnamese + in_english))
        later = _retreat(later, words[index - 1].word if index else "", words[index])
    return tuple(result[::-1])


def _advance(
    state: tuple[float, float, float], previous: str, candidate: Candidate
) -> tuple[float, float, float]:
    """Chances of the three states after a word, from those before it; scaled to a sum of 1."""
    in_vietnamese, in_english, in_opened = state
    enter_english, enter_opened = _entering(candidate.word)
    vietnamese = candidate.vietnamese * (
        in_vietnamese * (1 - _ENTER)
        + in_english * (1 - _STAY) * _ending(previous, alone=False)
        + in_opened * (1 - _STAY) * _ending(previous, alone=True)
    )
    english = candidate.english * (in_vietnamese * enter_english + (in_english + in_opened) * _STAY)
    opened = candidate.english * in_vietnamese * enter_opened
    total = vietnamese + english + opened
    return vietnamese / total, english / total, opened / total


def _retreat(
    later: tuple[float, float, float], previous: str, candidate: Candidate
) -> tuple[float, float, float]:
    """The other direction: chances of a word and all after it, for each state before it."""
    vietnamese = candidate.vietnamese * later[_VIETNAMESE]
    english = candidate.english * later[_ENGLISH]
    opened = candidate.english * later[_OPENED]
    enter_english, enter_opened = _entering(candidate.word)
    leave = (1 - _STAY) * vietnamese
    before = (
        (1 - _ENTER) * vietnamese + enter_english * english + enter_opened * opened,
        leave * _ending(previous, alone=False) + _STAY * english,
        leave * _ending(previous, alone=True) + _STAY * english,
    )
    total = sum(before)
    return before[0] / total, before[1] / total, before[2] / total


def _entering(word: str) -> tuple[float, float]:
    return (0.0, _ENTER_BY_FUNCTION_WORD) if word in FUNCTION_WORDS else (_ENTER, 0.0)


def _ending(last_word: str, *, alone: bool) -> float:
    """The discount on an English span that ends with this word."""
    if alone:
        return _FUNCTION_WORD_ALONE
    if last_word in PARTICLES:
        return _END_AFTER_PARTICLE
    return _END_AFTER_FUNCTION_WORD if last_word in FUNCTION_WORDS else 1.0
