"""Word errors of what a model heard, those at the clip's edges told from those inside.

A cut that came too late or too early leaves words out at an edge, or lets a neighbour's words in there; a
wrong transcript differs everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vietst.text import normalize_for_scoring


@dataclass(frozen=True)
class EdgeErrors:
    """In words, but for the two rates, which are shares of the transcript's words."""

    wer: float
    inserted_start: int
    inserted_end: int
    deleted_start: int
    deleted_end: int
    inner_wer: float
    """Of the words that are left without those of the edges; 0 where none is left."""


def edge_errors(transcript: str, recognized: str) -> EdgeErrors | None:
    """Compares two texts as they are scored; None where the transcript has no word.

    The edges are what stands before the first and behind the last word that both have; without such a word
    there are none. A word that was heard as another one is an error inside, wherever it stands.
    """
    reference, hypothesis = (normalize_for_scoring(text).split() for text in (transcript, recognized))
    if not reference:
        return None
    columns = _columns(reference, hypothesis)
    num_errors = sum(kind != "equal" for kind in columns)
    equal = [position for position, kind in enumerate(columns) if kind == "equal"]
    first, last = columns[: equal[0]] if equal else [], columns[equal[-1] + 1 :] if equal else []
    inserted = first.count("insert"), last.count("insert")
    deleted = first.count("delete"), last.count("delete")
    num_left = len(reference) - sum(deleted)
    return EdgeErrors(
        wer=num_errors / len(reference),
        inserted_start=inserted[0],
        inserted_end=inserted[1],
        deleted_start=deleted[0],
        deleted_end=deleted[1],
        inner_wer=(num_errors - sum(inserted) - sum(deleted)) / num_left if num_left else 0.0,
    )


def _columns(reference: Sequence[str], hypothesis: Sequence[str]) -> list[str]:
    """The kind of each column of jiwer's alignment: equal, substitute, insert or delete."""
    import jiwer

    alignment = jiwer.process_words([" ".join(reference)], [" ".join(hypothesis)]).alignments[0]
    return [
        chunk.type
        for chunk in alignment
        for _ in range(max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx))
    ]
