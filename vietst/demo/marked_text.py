"""Which stretches of a text are English."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from vietst.evaluation.word_language import TaggedWord, WordTag
from vietst.text import normalize_for_scoring

_PUNCTUATION: Final = "\"'“”‘’«»()[]{}.,;:!?…–—"


class Stretch(NamedTuple):
    text: str
    is_english: bool


def stretches(text: str, words: Sequence[TaggedWord]) -> list[Stretch]:
    """Cut a text where its language changes. English words that follow each other are one stretch.

    All stretches together are the text with single spaces.

    Args:
        words: of `tag_words(text)`: in lower case, without the punctuation that stands in the text.
    """
    found: list[Stretch] = []
    plain = ""
    for is_english, run in groupby(_pieces(text, words), key=lambda piece: piece[1]):
        of_run = " ".join(piece for piece, _ in run)
        space = " " if plain or found else ""
        if not is_english:
            plain += space + of_run
            continue
        core = of_run.strip(_PUNCTUATION)
        before, _, after = of_run.partition(core)
        if plain or space or before:
            found.append(Stretch(plain + space + before, is_english=False))
        found.append(Stretch(core, is_english=True))
        plain = after
    return [*found, Stretch(plain, is_english=False)] if plain else found


def _pieces(text: str, words: Sequence[TaggedWord]) -> Iterator[tuple[str, bool]]:
    """What stands between spaces, with whether it is or holds an English word."""
    position = 0
    for piece in text.split():
        num_words = len(normalize_for_scoring(piece).split())
        tags = [word.tag for word in words[position : position + num_words]]
        position += num_words
        yield piece, WordTag.ENGLISH in tags
