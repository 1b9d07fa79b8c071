"""Single utterances word by word, for people to read: what was said, what was written, what is wrong.

The alignment is jiwer's and the kinds of errors are those of `code_switching`, which counts them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from vietst.evaluation.code_switching import EDITS, edits_of
from vietst.evaluation.error_kinds import ErrorKind, Hypothesis, error_kind
from vietst.evaluation.word_language import WordTag, tag_words
from vietst.text import normalize_for_scoring

EXTRA: Final = "extra"
"""The error of an inserted word."""
DIFFERENT: Final = "different"
"""The error of a substituted word in a translation."""


class AlignedWord(NamedTuple):
    """One column of an alignment."""

    reference: str
    """Empty beside an inserted word."""
    written: str
    """Empty where the word is missing."""
    tag: str
    """A `WordTag`: of the reference word, of an inserted word its own; "" in translations."""
    error: str
    """Empty where the word is right; else an `ErrorKind`, `EXTRA` or `DIFFERENT`."""


def align_transcript(
    reference: str, hypothesis: str, translation: str = "", user_tags: Mapping[str, WordTag] | None = None
) -> list[AlignedWord]:
    """Align a transcript with its reference, in the words of `normalize_for_scoring`.

    Args:
        translation: the Vietnamese reference translation, which tells what English words were translated to.
        user_tags: from `word_language.read_word_tags`.
    """
    words, written = tag_words(reference, user_tags), tag_words(hypothesis, user_tags)
    translated = frozenset(normalize_for_scoring(translation).split()) - {word for word, _ in words}
    whole = Hypothesis(written, translated)
    aligned = []
    for column in _columns([word for word, _ in words], [word for word, _ in written]):
        if column.edit == "insertions":
            aligned.append(AlignedWord("", *written[column.position], EXTRA))
            continue
        word = words[column.reference_position]
        is_missing = column.edit == "deletions"
        error = (
            error_kind(word, whole, column.position, column.block, is_missing=is_missing).value
            if column.edit
            else ""
        )
        shown = "" if is_missing else written[column.position].word
        aligned.append(AlignedWord(word.word, shown, word.tag, error))
    return aligned


def align_translation(reference: str, hypothesis: str) -> list[AlignedWord]:
    """As `align_transcript`, without languages and kinds: words are different, missing or extra."""
    words, written = (normalize_for_scoring(text).split() for text in (reference, hypothesis))
    errors = {
        "": "",
        "substitutions": DIFFERENT,
        "deletions": ErrorKind.MISSING.value,
        "insertions": EXTRA,
    }
    return [
        AlignedWord(
            "" if column.edit == "insertions" else words[column.reference_position],
            "" if column.edit == "deletions" else written[column.position],
            "",
            errors[column.edit],
        )
        for column in _columns(words, written)
    ]


class _Column(NamedTuple):
    edit: str
    """One of `EDITS`, or "" for equal words."""
    reference_position: int
    position: int
    block: range
    """As in `error_kind`."""


def _columns(words: Sequence[str], written: Sequence[str]) -> Iterator[_Column]:
    """Equal words and edits in order."""
    import jiwer

    alignment = jiwer.process_words([" ".join(words)], [" ".join(written)]).alignments[0]
    next_word, next_written = 0, 0
    nothing = range(0)
    for edit, reference_position, position, block in edits_of(alignment):
        while next_word < reference_position and next_written < position:
            yield _Column("", next_word, next_written, nothing)
            next_word, next_written = next_word + 1, next_written + 1
        yield _Column(EDITS[edit], reference_position, position, block)
        next_word += EDITS[edit] != "insertions"
        next_written += EDITS[edit] != "deletions"
    for reference_position, position in zip(
        range(next_word, len(words)), range(next_written, len(written)), strict=True
    ):
        yield _Column("", reference_position, position, nothing)
