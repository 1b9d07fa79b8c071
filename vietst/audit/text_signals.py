"""What a transcript and its translation say about each other."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vietst.audit.numbers import num_mismatches
from vietst.audit.speaking_rate import count_syllables
from vietst.evaluation.alarms import NOT_LATIN
from vietst.evaluation.vietnamese_syllables import parse_syllable
from vietst.evaluation.word_evidence import evidence_of
from vietst.evaluation.word_language import TaggedWord, WordTag, tag_words

_MAX_FOREIGN_LETTERS: Final = 0.2
"""Share of the letters; a name may be written in another script."""
_MIN_JUDGED_WORDS: Final = 3
"""Fewer say nothing of a text's language."""
_UNLISTED_LOG10: Final = 2.0
"""Frequency per billion that `word_evidence` gives to English words which no list holds."""


@dataclass(frozen=True)
class TextFacts:
    """What `measure_texts` finds; but for `num_syllables`, the names are those of the signals."""

    num_syllables: int
    length_ratio: float | None
    copy: float | None
    shared_words: float | None
    wrong_language: str
    untranslated_english: float | None
    number_mismatch: float | None


def measure_texts(transcript: str, translation: str) -> TextFacts:
    """Compares the texts of a row; of one without a translation only the transcript is looked at."""
    said, told = tag_words(transcript), tag_words(translation)
    english = [word for word, tag in said if tag is WordTag.ENGLISH]
    vietnamese = [word for word, tag in said if tag is WordTag.VIETNAMESE]
    wrong = [
        name
        for name, is_wrong in (
            ("transcript", _is_foreign(transcript, said)),
            ("translation", _is_foreign(translation, told) or _is_english(told)),
        )
        if is_wrong
    ]
    mismatch = num_mismatches(transcript, translation) if told else None
    return TextFacts(
        num_syllables=count_syllables(said),
        length_ratio=len(told) / len(said) if said and told else None,
        # Without English the translation of a Vietnamese sentence is the sentence itself.
        copy=_share_equal(said, told) if english and told else None,
        shared_words=_share_found(vietnamese, told) if vietnamese and told else None,
        wrong_language="both" if len(wrong) == 2 else "".join(wrong),
        untranslated_english=_share_found(english, told) if english and told else None,
        number_mismatch=None if mismatch is None else float(mismatch),
    )


def _share_found(words: Sequence[str], told: Sequence[TaggedWord]) -> float:
    """Share of the words that stand in the other text, as often as they stand there."""
    there = Counter(word for word, _ in told)
    return (Counter(words) & there).total() / len(words)


def _share_equal(said: Sequence[TaggedWord], told: Sequence[TaggedWord]) -> float:
    """Share of the longer text's words that both have."""
    here, there = (Counter(word for word, _ in words) for words in (said, told))
    return (here & there).total() / max(len(said), len(told))


def _is_foreign(text: str, words: Sequence[TaggedWord]) -> bool:
    """Another script, or mostly words that are neither Vietnamese nor in a list of English ones."""
    num_letters = sum(character.isalpha() for character in text)
    if len(NOT_LATIN.findall(text)) > _MAX_FOREIGN_LETTERS * max(num_letters, 1):
        return True
    judged = [word for word, tag in words if tag in (WordTag.VIETNAMESE, WordTag.ENGLISH, WordTag.AMBIGUOUS)]
    num_unknown = sum(
        parse_syllable(word) is None and evidence_of(word).english <= _UNLISTED_LOG10 for word in judged
    )
    return len(judged) >= _MIN_JUDGED_WORDS and num_unknown > len(judged) / 2


def _is_english(words: Sequence[TaggedWord]) -> bool:
    """A translation into Vietnamese keeps some English words, but not mostly such."""
    tags = [tag for _, tag in words]
    num_english = tags.count(WordTag.ENGLISH)
    return num_english >= _MIN_JUDGED_WORDS and num_english > 2 * tags.count(WordTag.VIETNAMESE)
