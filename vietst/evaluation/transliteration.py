"""Whether Vietnamese syllables spell an English word by its sound: "mít tinh" for "meeting".

A model that writes "phây búc" for "facebook" has heard the word and spelt it in the wrong language, which
is another fault than writing a wrong word. No list of such spellings is complete, so they are told by rule:
the letters of the English word and the sounds of the Vietnamese syllables are aligned by weighted edit
distance. The weights say how Vietnamese takes over English words, as any loan or shop sign shows: final
consonants are dropped or become stops (deadline → đét lai), clusters are broken up by a vowel (stress → sờ
trét), voiced and voiceless are confused, r after vowels is silent, l becomes a glide or n. Vowels weigh
little, since English letters hardly tell them.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from vietst.evaluation.vietnamese_syllables import split_tone, word_set
from vietst.evaluation.word_evidence import evidence_of

# Set on pairs that no test holds. Frequent syllables must be more similar: they are more likely to be there
# for their own sake, and some words always sound alike ("đi làm" and "deadline").
_SIMILAR_FROM: Final = 0.74
_MORE_PER_LOG10: Final = 0.05
_FREQUENT_LOG10: Final = 3.5

MAX_SYLLABLES: Final = 6


def is_transliteration(word: str, syllables: Sequence[str]) -> bool:
    """Whether lower-case Vietnamese `syllables` are a spelling of the English `word` by its sound.

    False where any of them is not spelt as a Vietnamese syllable, or where they are the word itself.
    """
    if not 1 <= len(syllables) <= MAX_SYLLABLES or "".join(syllables) == word:
        return False
    frequency = sum(evidence_of(syllable).vietnamese for syllable in syllables) / len(syllables)
    needed = _SIMILAR_FROM + _MORE_PER_LOG10 * max(0.0, frequency - _FREQUENT_LOG10)
    return transliteration_similarity(word, tuple(syllables)) >= needed


@lru_cache(maxsize=16384)
def transliteration_similarity(word: str, syllables: tuple[str, ...]) -> float:
    """1 − weighted edit distance / number of sounds in the longer of the two, not below 0; from 0 to 1."""
    letters = _letters_of_word(word)
    by_syllable = [_sounds_of_syllable(syllable) for syllable in syllables]
    if not letters or not by_syllable or not all(by_syllable):
        return 0.0
    sounds = [sound for of_one in by_syllable for sound in of_one]
    return max(0.0, 1 - _distance(letters, sounds) / max(len(letters), len(sounds)))


class _Sound(NamedTuple):
    """A sound of a Vietnamese syllable: a letter group of the tables below, and its part of the syllable."""

    symbol: str
    part: str  # onset, medial, vowel, glide or coda


class _Letters(NamedTuple):
    """A letter group of an English word.

    Attributes:
        exact: the Vietnamese sounds that stand for it.
        is_vowel: of the vowel letters.
        silent_cost: of having no sound in Vietnamese.
    """

    exact: frozenset[str]
    is_vowel: bool
    silent_cost: float


# --- Vietnamese -------------------------------------------------------------------------------------------

_ONSET_SOUNDS: Final = {"c": "k", "qu": "k", "gi": "d", "gh": "g", "ngh": "ng"}
_CODA_SOUNDS: Final = {"c": "k", "ch": "k"}
"""What is written in several ways; the others stand for themselves."""

_SYLLABLE: Final = re.compile(
    r"(?P<onset>ngh|ch|gh|gi(?=[aăâeêoôơuư])|kh|ng|nh|ph|qu|th|tr|[bcdđghklmnprstvx]?)"
    r"(?P<second>(?<=[bcdgkp])[lr])?"  # crô, blốc: no Vietnamese onsets, and yet written
    r"(?!ea|ee|ei|ou)(?P<vowels>[aăâeêioôơuưy]{1,3})"  # those are English
    r"(?P<coda>ch|ng|nh|[cmnpt])?"
)


@lru_cache(maxsize=65536)
def _sounds_of_syllable(word: str) -> tuple[_Sound, ...]:
    """The sounds of a word that is made as a Vietnamese syllable is, though perhaps against the rules of
    spelling (gêm, uép); empty for others."""
    toned = split_tone(word)
    syllable = _SYLLABLE.fullmatch(toned[0]) if toned else None
    if syllable is None:
        return ()
    sounds = []
    onset, vowels, coda = syllable["onset"], syllable["vowels"].replace("y", "i"), syllable["coda"]
    if onset:
        sounds.append(_Sound(_ONSET_SOUNDS.get(onset, onset), "onset"))
    if syllable["second"]:
        sounds.append(_Sound(syllable["second"], "onset"))
    if onset == "qu" or (len(vowels) > 1 and vowels[0] in "ou" and vowels[1] in "aăâeêơi" and vowels != "oi"):
        sounds.append(_Sound("w", "medial"))
        vowels = vowels if onset == "qu" else vowels[1:]
    sounds.append(_Sound(vowels[0], "vowel"))
    if len(vowels) > 1 and vowels[-1] in "iou":
        sounds.append(_Sound("y" if vowels[-1] == "i" else "w", "glide"))
    if coda:
        sounds.append(_Sound(_CODA_SOUNDS.get(coda, coda), "coda"))
    return tuple(sounds)


# --- English ----------------------------------------------------------------------------------------------

_VOWEL_LETTERS: Final = {
    "a": "a ă e ê ơ o ô â", "e": "e ê i ơ â", "i": "i a ê ơ", "o": "o ô a u ơ ă", "u": "u ă â a ơ i",
    "y": "i a",
    "ai": "ê e â ă a", "au": "o ô", "aw": "o ô", "ay": "ê e â ă a", "ea": "i ê e", "eau": "u ô", "ee": "i",
    "ei": "i ê â", "eu": "u i", "ew": "u i", "ey": "i ê â", "ie": "i a ê", "igh": "a", "io": "i ô ơ",
    "oa": "ô o", "oi": "o ô", "oo": "u", "ou": "a u ă ô ơ", "ow": "a ô o", "oy": "o ô", "ue": "u i",
    "ui": "u i",
}  # fmt: skip
"""Letters → the Vietnamese vowels that are written for them."""

_CONSONANT_LETTERS: Final = {
    "b": "b p", "c": "k", "d": "đ t", "f": "ph", "g": "g k", "h": "h", "j": "d ch", "k": "k kh", "l": "l w n",
    "m": "m", "n": "n ng nh", "p": "p b", "q": "k", "r": "r", "s": "s x t", "t": "t", "v": "v w p",
    "w": "w v", "z": "d x t s",
    "ch": "ch k s t tr x", "ck": "k", "dge": "d ch t", "gh": "g ph", "ng": "ng nh n", "ph": "ph",
    "sch": "s x", "sh": "s x", "sion": "s x d", "tch": "ch t k", "th": "th t đ d", "tion": "s x",
    "tr": "tr ch", "wh": "w",
}  # fmt: skip

_GROUPS: Final = re.compile("|".join(sorted([*_VOWEL_LETTERS, *_CONSONANT_LETTERS], key=len, reverse=True)))
_SOFT_BEFORE: Final = ("e", "i", "y")


@lru_cache(maxsize=65536)
def _letters_of_word(word: str) -> tuple[_Letters, ...]:
    word = re.sub(r"([^aeiou])\1", r"\1", word.replace("'", ""))  # doubled consonants
    word = re.sub(r"^(?:k(?=n)|w(?=r)|p(?=s))", "", word).replace("x", "ks").replace("qu", "kw")
    groups = _GROUPS.findall(word)
    result = []
    for index, group in enumerate(groups):
        following = groups[index + 1] if index + 1 < len(groups) else ""
        result += _letters(group, following, is_first=index == 0)
    return tuple(result)


def _letters(group: str, following: str, *, is_first: bool) -> list[_Letters]:
    if group in ("tion", "sion"):
        return [
            _Letters(word_set(_CONSONANT_LETTERS[group]), False, _SILENT_ONSET),
            _Letters(word_set("ơ â ư ô"), True, _SILENT_VOWEL),
            _Letters(word_set("n ng"), False, _SILENT_CODA),
        ]
    if group == "y" and is_first:
        return [_Letters(frozenset({"d", "i"}), False, _SILENT_VOWEL)]
    if group in _VOWEL_LETTERS:
        is_final_e = group == "e" and not following and not is_first
        return [_Letters(word_set(_VOWEL_LETTERS[group]), True, _SILENT_E if is_final_e else _SILENT_VOWEL)]
    sounds = set(_CONSONANT_LETTERS[group].split())
    if group == "c" and following.startswith(_SOFT_BEFORE):
        sounds = {"x", "s", "t"}
    if group == "g" and following.startswith(_SOFT_BEFORE):
        sounds |= {"d", "ch"}
    before_vowel = following in _VOWEL_LETTERS
    if before_vowel and following != "e":
        cost = _SILENT_ONSET
    else:
        cost = _SILENT_LIQUID if group in ("r", "l") else _SILENT_CODA
    return [_Letters(frozenset(sounds), False, cost)]


# --- alignment --------------------------------------------------------------------------------------------

_SILENT_E: Final = 0.05
_SILENT_LIQUID: Final = 0.1
_SILENT_CODA: Final = 0.4
_SILENT_VOWEL: Final = 0.6
_SILENT_ONSET: Final = 1.0
_ADDED: Final = {"onset": 1.0, "medial": 0.2, "vowel": 0.6, "glide": 0.05, "coda": 0.5}
_ADDED_BREAKING_A_CLUSTER: Final = 0.15
_OTHER_VOWEL: Final = 0.4
_NEAR_CONSONANT: Final = 0.5
_OTHER_CONSONANT: Final = 1.8
_VOWEL_FOR_CONSONANT: Final = 1.5

_NEAR: Final = (
    word_set("p b ph v"), word_set("t th đ d"), word_set("k kh g h"),
    word_set("s x ch tr d"), word_set("m n ng nh"), word_set("l r n"),
    word_set("p t k"),
)  # fmt: skip


def _distance(letters: Sequence[_Letters], sounds: Sequence[_Sound]) -> float:
    row = [0.0]
    for sound in sounds:
        row.append(row[-1] + _added_cost(sound))
    for group in letters:
        previous, row = row, [row[0] + group.silent_cost]
        for index, sound in enumerate(sounds, start=1):
            row.append(
                min(
                    previous[index - 1] + _substitution_cost(group, sound),
                    previous[index] + group.silent_cost,
                    row[index - 1] + _added_cost(sound),
                )
            )
    return row[-1]


def _added_cost(sound: _Sound) -> float:
    breaks_cluster = sound.part == "vowel" and sound.symbol in ("ơ", "ư", "i")
    return _ADDED_BREAKING_A_CLUSTER if breaks_cluster else _ADDED[sound.part]


def _substitution_cost(group: _Letters, sound: _Sound) -> float:
    if group.is_vowel != (sound.part == "vowel"):
        return 0.0 if sound.symbol in group.exact else _VOWEL_FOR_CONSONANT
    if sound.symbol in group.exact:
        return 0.0
    if group.is_vowel:
        return _OTHER_VOWEL
    if any(sound.symbol in near and not group.exact.isdisjoint(near) for near in _NEAR):
        return _NEAR_CONSONANT
    return _OTHER_CONSONANT
