"""The rows of a manifest for an audit: in blocks, each with a key of all that decides over its signals."""

import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final

from vietst.data.audio_paths import resolve_below
from vietst.data.audio_pieces import locator_or_path
from vietst.data.tables import Table, open_table
from vietst.errors import AudioError

ROWS_OF_A_BLOCK: Final = 128
"""What a killed audit loses, at most, for each process."""


@dataclass(frozen=True)
class AuditRow:
    """What an audit needs of a manifest row; empty texts where the manifest has no such column."""

    id: str
    audio_path: str
    transcript: str
    translation: str
    speaker_id: str
    channel_id: str
    video_id: str
    start_s: str
    """Where the row is a piece of its file."""
    end_s: str
    video_start_s: str
    """Where the row's file is a clip of a video."""
    video_end_s: str

    @property
    def recording(self) -> str:
        """What the times of `span_s` count in; empty: not known."""
        return self.audio_path if self.start_s or self.end_s else self.video_id

    @property
    def span_s(self) -> tuple[float, float]:
        """Start and end in the recording, NaN where they are not given or no numbers."""
        if self.start_s or self.end_s:
            return _seconds(self.start_s or "0"), _seconds(self.end_s or "inf")
        return _seconds(self.video_start_s), _seconds(self.video_end_s)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


_COLUMNS: Final = tuple(AuditRow.__dataclass_fields__)


@dataclass(frozen=True)
class Block:
    """Rows that are measured and written together."""

    number: int
    rows: tuple[AuditRow, ...]
    digest: str
    """Of the texts and paths, and of the sizes and times of the audio files."""

    def path(self, folder: Path, settings: Mapping[str, Any]) -> Path:
        """Where its signals are kept; another name for other contents or settings."""
        key = hashlib.sha256((self.digest + json.dumps(settings, sort_keys=True)).encode()).hexdigest()
        return folder / f"{self.number:06d}-{key[:20]}.tsv"


def open_manifest(path: Path) -> Table:
    """Raises ManifestError: no such file, or one without audio_path and transcript."""
    return open_table(
        path,
        ("audio_path", "transcript"),
        if_missing="clean the manifest (python scripts/preprocess_manifest.py), or name another: --manifest",
    )


class RowBlocks:
    """The rows of a manifest in their order, a block at a time, as often as they are gone through.

    Raises:
        ManifestError: a row of odd length.
    """

    def __init__(self, table: Table, audio_root: Path) -> None:
        self.table = table
        real_root = os.path.realpath(audio_root)
        # Once: a file that changes meanwhile is measured again by the next audit.
        self._digests: list[str] = []
        self.num_rows = 0
        for rows in self._groups():
            self._digests.append(_digest(rows, real_root))
            self.num_rows += len(rows)

    def __iter__(self) -> Iterator[Block]:
        for number, (rows, digest) in enumerate(zip(self._groups(), self._digests, strict=True)):
            yield Block(number, rows, digest)

    @property
    def digest(self) -> str:
        """Of all blocks."""
        return hashlib.sha256("".join(self._digests).encode()).hexdigest()

    def _groups(self) -> Iterator[tuple[AuditRow, ...]]:
        rows = (_audit_row(row) for _, row in self.table.rows())
        while group := tuple(itertools.islice(rows, ROWS_OF_A_BLOCK)):
            yield group


def _digest(rows: Sequence[AuditRow], real_root: str) -> str:
    hasher = hashlib.sha256()
    for row in rows:
        hasher.update(json.dumps([*astuple(row), _file_state(real_root, row.audio_path)]).encode())
    return hasher.hexdigest()


def _audit_row(row: Mapping[str, str]) -> AuditRow:
    values = {column: row.get(column, "") for column in _COLUMNS}
    return AuditRow(**values | {"id": values["id"] or locator_or_path(values)})


def _file_state(real_root: str, audio_path: str) -> tuple[int, int] | str:
    try:
        status = Path(resolve_below(real_root, audio_path)).stat()
    except (AudioError, OSError) as error:
        return type(error).__name__
    return status.st_size, status.st_mtime_ns
