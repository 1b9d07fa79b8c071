"""What kind of error a wrong or missing word is, as a Vietnamese reader would name it.

A kind belongs to a reference word that the alignment calls substituted or deleted. Kinds exclude each other,
so that their counts add up to the substitutions and deletions.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from vietst.evaluation.transliteration import MAX_SYLLABLES, is_transliteration
from vietst.evaluation.vietnamese_syllables import parse_syllable, split_tone
from vietst.evaluation.word_language import TaggedWord, WordTag


class ErrorKind(StrEnum):
    TONE = "tone"
    """A Vietnamese word or name with its letters and another tone: má, mà."""
    LETTER = "letter"
    """A Vietnamese word with its tone, but other marks on its letters: cơm, côm; được, dược."""
    TONE_AND_LETTER = "tone_and_letter"
    """A Vietnamese word of which only the plain letters are right: được, duoc."""
    TRANSLITERATED = "transliterated"
    """An English word or foreign name spelt by its sound in Vietnamese syllables: meeting, mít tinh."""
    TRANSLATED = "translated"
    """An English word or foreign name replaced by words of the reference translation: deadline, hạn chót."""
    VIETNAMESE_WORD = "vietnamese_word"
    """Replaced by a Vietnamese word, and none of the above."""
    ENGLISH_WORD = "english_word"
    """Replaced by an English word."""
    OTHER_WORD = "other_word"
    """Replaced by a name, a number, a sign or an ambiguous word."""
    MISSING = "missing"
    """Nothing stands for it."""


_WINDOW_WORDS: Final = 4
"""How far from its place in the alignment the Vietnamese words for an English one are looked for."""


@dataclass(frozen=True)
class Hypothesis:
    """What a hypothesis offers for the words of one reference.

    Attributes:
        words: of the hypothesis, tagged.
        translated_words: words of the reference translation that the reference transcript does not have.
    """

    words: Sequence[TaggedWord]
    translated_words: frozenset[str]


def error_kind(
    reference: TaggedWord, hypothesis: Hypothesis, position: int, block: range, *, is_missing: bool
) -> ErrorKind:
    """The kind of the error on one reference word.

    Args:
        position: of the hypothesis word that the alignment sets against it; where `is_missing`, of the word
            before which it is missing.
        block: positions of the hypothesis words between the nearest correct words.
    """
    is_foreign = _is_foreign(reference)
    if is_foreign:
        near = range(max(block.start, position - _WINDOW_WORDS), min(block.stop, position + _WINDOW_WORDS))
        if _is_transliterated(reference.word, hypothesis.words, near):
            return ErrorKind.TRANSLITERATED
        if is_translated(hypothesis, near):
            return ErrorKind.TRANSLATED
    if is_missing:
        return ErrorKind.MISSING
    written = hypothesis.words[position]
    if not is_foreign and (kind := spelling_error_kind(reference.word, written.word)):
        return kind
    return _KIND_OF_TAG.get(written.tag, ErrorKind.OTHER_WORD)


def _is_foreign(reference: TaggedWord) -> bool:
    """English words, and names that are not spelt as Vietnamese syllables."""
    is_name = reference.tag is WordTag.NAME
    return reference.tag is WordTag.ENGLISH or (is_name and parse_syllable(reference.word) is None)


_KIND_OF_TAG: Final = {
    WordTag.VIETNAMESE: ErrorKind.VIETNAMESE_WORD,
    WordTag.ENGLISH: ErrorKind.ENGLISH_WORD,
}


def spelling_error_kind(reference: str, written: str) -> ErrorKind | None:
    """`TONE`, `LETTER` or `TONE_AND_LETTER` for two different words of the same plain letters; else None."""
    toned, written_toned = split_tone(reference), split_tone(written)
    if toned is None or written_toned is None or plain_letters(toned[0]) != plain_letters(written_toned[0]):
        return None
    if toned[0] == written_toned[0]:
        return ErrorKind.TONE
    return ErrorKind.LETTER if toned[1] == written_toned[1] else ErrorKind.TONE_AND_LETTER


def plain_letters(word: str) -> str:
    """A lower-case word without any marks on its letters, đ as d."""
    return "".join(
        character for character in unicodedata.normalize("NFD", word) if not unicodedata.combining(character)
    ).replace("đ", "d")


def _is_transliterated(word: str, written: Sequence[TaggedWord], near: range) -> bool:
    return any(
        is_transliteration(word, [written[index].word for index in span]) for span in _spans(written, near)
    )


def _spans(written: Sequence[TaggedWord], near: range) -> Iterator[range]:
    """All runs of up to `MAX_SYLLABLES` words that could be Vietnamese syllables."""
    for start in near:
        for stop in range(start + 1, min(start + MAX_SYLLABLES, near.stop) + 1):
            if written[stop - 1].tag is WordTag.ENGLISH:
                break
            yield range(start, stop)


def is_translated(hypothesis: Hypothesis, near: range) -> bool:
    return any(
        hypothesis.words[index].tag is WordTag.VIETNAMESE
        and hypothesis.words[index].word in hypothesis.translated_words
        for index in near
    )
