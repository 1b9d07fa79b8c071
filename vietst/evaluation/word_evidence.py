"""How likely a word is in Vietnamese and in English, seen alone: spelling and frequency.

Frequencies are those of `wordfreq` (Speer, 2022): log10 of the occurrences in a billion words ("Zipf
frequency"), from subtitles, encyclopedias, news and the web. Both of its lists hold words of the other
language; what English leaves in the Vietnamese list is taken out again here.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from vietst.evaluation.vietnamese_syllables import parse_syllable, parse_toneless, split_tone, word_set

# English text makes up some 0.6 % of what the Vietnamese list was counted on: "the", "of", "and", "is" and
# other words that Vietnamese does not have stand 2.2 below their English frequency there.
_ENGLISH_IN_VIETNAMESE_LOG10: Final = -2.2

# log10 per billion of words that no list holds.
_UNSEEN_SYLLABLE: Final = 2.0  # spelt as Vietnamese is; its list holds 10,600 words, compounds among them
_MISSPELT_SYLLABLE: Final = 1.5  # Vietnamese letters, an impossible combination: typing errors, dialect
_TONELESS_SYLLABLE: Final = 1.5  # "kich" for "kích"
_UNSEEN_IN_VIETNAMESE: Final = 0.0
_UNSEEN_IN_ENGLISH: Final = 2.0  # no list holds them all: linter, codebases
_NEVER: Final = -6.0

_VIETNAMESE_LETTERS: Final = frozenset("ăâđêôơư")


@dataclass(frozen=True)
class Evidence:
    """log10 of a word's frequency per billion words of each language."""

    vietnamese: float
    english: float


@lru_cache(maxsize=65536)
def evidence_of(word: str) -> Evidence:
    """Evidence from a word of letters, in the form of `normalize_for_scoring`.

    A Vietnamese syllable has a frequency in both languages. Any other word can be English, and Vietnamese
    only as a misspelling; with letters or tone marks that English lacks it is Vietnamese unless English
    lists it (résumé).
    """
    in_vietnamese, in_english = _zipf(word, "vi"), _zipf(word, "en")
    if parse_syllable(word) is not None:
        vietnamese = max(_without_english(in_vietnamese, in_english), _UNSEEN_SYLLABLE)
        return Evidence(vietnamese, in_english or _NEVER)
    if word.isascii():
        toneless = parse_toneless(word) is not None
        return Evidence(
            _TONELESS_SYLLABLE if toneless else _UNSEEN_IN_VIETNAMESE, max(in_english, _UNSEEN_IN_ENGLISH)
        )
    toned = split_tone(word)
    if toned is None:  # two tone marks, as in "résumé"
        return Evidence(_UNSEEN_IN_VIETNAMESE, max(in_english, _UNSEEN_IN_ENGLISH))
    is_english = in_english and _VIETNAMESE_LETTERS.isdisjoint(toned[0])
    return Evidence(max(in_vietnamese, _MISSPELT_SYLLABLE), in_english if is_english else _NEVER)


def _without_english(in_vietnamese: float, in_english: float) -> float:
    rest = 10**in_vietnamese - 10 ** (in_english + _ENGLISH_IN_VIETNAMESE_LOG10)
    return math.log10(rest) if rest > 1 else 0.0


def _zipf(word: str, language: str) -> float:
    """0 where the list does not hold the word."""
    return _log10_frequencies(language).get(word, 0.0)


@lru_cache(maxsize=2)
def _log10_frequencies(language: str) -> dict[str, float]:
    # Not wordfreq.zipf_frequency: it cuts a word that it does not hold into parts and answers for these.
    import wordfreq

    return {
        word: math.log10(frequency) + 9
        for word, frequency in wordfreq.get_frequency_dict(language, wordlist="best").items()
    }


def english_log10_frequency(word: str) -> float:
    """log10 per billion words of English, 0 where `wordfreq` lists no such word."""
    return _zipf(word, "en")


FUNCTION_WORDS: Final = word_set("""
    a an the this that these those my your his her its our their some any no every each either neither
    i you he she it we they me him us them who whom whose which what
    am is are was were be been being have has had do does did will would shall should can could may might must
    in on at by for from of off out over to up upon with without within into onto about above after against
    along among around as before behind below beneath beside between beyond down during near through toward
    under until via than then so and but or nor yet if because although though while when where why how not
    """)
"""English words of the closed classes: determiners, pronouns, auxiliaries, prepositions, conjunctions."""

PARTICLES: Final = word_set("in on off out over up down around through me him her us them you it not so")
"""Function words that may end an English span: "log in", "set up", "trust me"."""
