"""The rows that the audit's page plays: texts aligned with what was heard, audio, and the row that goes with
them where there is one."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from vietst.audit.clauses import AuditedRow, Row
from vietst.data.audio_pieces import locator_or_path
from vietst.evaluation.alignments import EXTRA, AlignedWord, align_transcript
from vietst.evaluation.error_kinds import ErrorKind

Link = Callable[[str], tuple[str, str]]
"""From the locator of audio to a URL, or to the reason why there is none."""


def shown_row(kept: AuditedRow, signals: Sequence[str], link: Link) -> dict[str, Any]:
    """A row as the page's script reads it.

    Args:
        signals: names of the columns of `signals.tsv` that are shown as they are, in order.
    """
    row, texts = kept.row, kept.texts
    audio_url, why_no_audio = link(locator_or_path(texts))
    return {
        "id": row["id"],
        "number": kept.number,
        "video": texts.get("video_id", ""),
        "speaker": texts.get("speaker_id", ""),
        "start_s": texts.get("start_s", ""),
        "duration_s": round(kept.duration_s, 2),
        "audio_url": audio_url,
        "why_no_audio": why_no_audio,
        "transcript": texts["transcript"],
        "translation": texts.get("translation", ""),
        "recognized": row.get("recognized", ""),
        "translated": row.get("translated", ""),
        "words": aligned_words(texts, row.get("recognized", "")),
        "values": [row[name] for name in signals],
    }


def aligned_words(texts: Row, recognized: str) -> list[list[str]]:
    """Columns of the alignment: reference, recognized, error, 1 at the edges; empty ones at the end left out.

    Nothing where there is nothing to align.
    """
    if not recognized:
        return []
    words = align_transcript(texts["transcript"], recognized, texts.get("translation", ""))
    at_edge = edges(words)
    columns = []
    for position, word in enumerate(words):
        column = [word.reference, word.written if word.error else "", word.error]
        column += ["1"] * (position in at_edge)
        while not column[-1]:
            column.pop()
        columns.append(column)
    return columns


def edges(words: Sequence[AlignedWord]) -> set[int]:
    """Positions of the words that only one of both texts has, before the first and after the last word that
    both have: what a cut in the wrong place looks like. Without such a word there are no edges."""
    right = [position for position, word in enumerate(words) if not word.error]
    if not right:
        return set()
    one_sided = (EXTRA, ErrorKind.MISSING)
    return {
        position
        for position, word in enumerate(words)
        if word.error in one_sided and not right[0] < position < right[-1]
    }


# --- the other row ----------------------------------------------------------------------------------------


def partners(listened: Sequence[AuditedRow], rows: Iterable[AuditedRow]) -> dict[int, tuple[str, AuditedRow]]:
    """For rows with repeated audio the earlier row, else for overlapping ones the row that shares most.

    Args:
        rows: all of the table.

    Returns:
        Number of the row → (`duplicate_of` or `overlap_s`, the other row).
    """
    wanted_ids = {kept.row["duplicate_of"] for kept in listened} - {""}
    overlapping: dict[str, list[AuditedRow]] = {}
    for kept in listened:
        if float(kept.row["overlap_s"] or 0) > 0:
            overlapping.setdefault(kept.texts["video_id"], []).append(kept)
    of_id: dict[str, AuditedRow] = {}
    most: dict[int, tuple[float, AuditedRow]] = {}
    for other in rows:
        if other.row["id"] in wanted_ids:
            of_id.setdefault(other.row["id"], other)
        for kept in overlapping.get(other.texts.get("video_id", ""), ()):
            shared_s = _shared_s(kept.texts, other.texts) if other.number != kept.number else 0.0
            if shared_s > most.get(kept.number, (0.0,))[0]:
                most[kept.number] = (shared_s, other)
    found = {number: ("overlap_s", other) for number, (_, other) in most.items()}
    repeated = [kept for kept in listened if kept.row["duplicate_of"] in of_id]
    return found | {kept.number: ("duplicate_of", of_id[kept.row["duplicate_of"]]) for kept in repeated}


def _shared_s(first: Row, second: Row) -> float:
    starts, ends = ([_seconds(texts[column]) for texts in (first, second)] for column in ("start_s", "end_s"))
    shared_s = min(ends) - max(starts)
    return shared_s if math.isfinite(shared_s) else 0.0


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
