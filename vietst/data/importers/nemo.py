"""NeMo's manifests: a JSON object on each line, with `audio_filepath`, `text`, `duration`, `offset`.

A line with an `offset` is a piece of its file, from there on for its duration, or to an end where `--columns`
names one. One without is the beginning of its file, where that lasts longer than the line says: NeMo reads
`duration` seconds from 0 on.
"""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from vietst.data.audio import UNKNOWN_NUM_FRAMES, open_sound
from vietst.data.audio_pieces import END_TOLERANCE_S, PIECE_COLUMNS, format_seconds
from vietst.data.importers.imported import (
    ImportedRow,
    Refusal,
    chosen_columns,
    path_in_root,
    require_columns,
    require_fields,
)
from vietst.errors import AudioError, ManifestError

USUAL_FIELDS: Final = {
    "audio_path": "audio_filepath",
    "transcript": "text",
    "speaker_id": "speaker",
}
"""Manifest column → field."""

_USUAL_TIMES: Final = {"start_s": "offset", "duration": "duration"}
"""The same, of fields that hold seconds."""
_TIME_COLUMNS: Final = (*_USUAL_TIMES, "end_s")


class NemoImporter:
    """A file of JSON lines.

    Args:
        base: what relative paths count from; None: the file's folder, as in NeMo.
        columns: manifest column → field, where they are not the usual ones.
    """

    def __init__(
        self, path: Path, *, data_root: Path, base: Path | None = None, columns: Mapping[str, str]
    ) -> None:
        self.source = str(path)
        self._path, self._data_root, self._base = path, data_root, base or path.parent
        times = {column: field for column, field in columns.items() if column in _TIME_COLUMNS}
        others = {column: field for column, field in columns.items() if column not in times}
        self._chosen_times, self._chosen = times, others
        # A field that is chosen for another column says nothing of a piece: video_start_s=offset.
        usual = {column: field for column, field in _USUAL_TIMES.items() if field not in others.values()}
        self._time_fields = {**usual, **times}

    @cached_property
    def _available(self) -> list[str]:
        """The fields of all lines."""
        return list(dict.fromkeys(key for entry in self._entries() for key in entry))

    @cached_property
    def _fields(self) -> dict[str, str]:
        """Manifest column → field."""
        available = self._available
        if not available:
            raise ManifestError(
                where=self.source,
                rule="each line is a JSON object",
                found="none is",
                do="write JSON lines, one object a line (a JSON array is none)",
            )
        require_fields(self._chosen_times, available, self.source)
        of_times = {*self._time_fields.values(), "duration"} - {*self._chosen.values()}
        known = [key for key in available if key not in of_times]
        fields = chosen_columns(USUAL_FIELDS, self._chosen, known, self.source)
        require_columns(fields, self.source, available)
        return fields

    @cached_property
    def _has_pieces(self) -> bool:
        """Whether some lines are pieces. Where no field says it, the lengths of all files do."""
        if any(self._time_fields.get(column) in self._available for column in PIECE_COLUMNS):
            return True
        for entry in self._entries():
            with contextlib.suppress(Refusal):
                if "end_s" in self._values(entry, may_be_beginning=True):
                    return True
        return False

    @property
    def columns(self) -> Sequence[str]:
        return [*self._fields, "duration", *(PIECE_COLUMNS if self._has_pieces else [])]

    def rows(self) -> Iterator[ImportedRow]:
        for place, line in self._lines():
            content: Mapping[str, str] | Refusal
            try:
                content = self._values(_parsed(line), may_be_beginning=self._has_pieces)
            except Refusal as refusal:
                content = refusal
            yield ImportedRow(place, content)

    def _values(self, entry: Mapping[str, Any], *, may_be_beginning: bool) -> dict[str, str]:
        values = {column: text_of(entry.get(field)) for column, field in self._fields.items()}
        path = entry.get(self._fields["audio_path"])
        if not isinstance(path, str):
            raise Refusal("no_audio", f"{self._fields['audio_path']}: {text_of(path) or 'nothing'}")
        if not values["transcript"].strip():
            raise Refusal("no_transcript", f"{self._fields['transcript']} is empty")
        values["audio_path"] = path_in_root(path, self._base, self._data_root)
        start_s, duration_s, end_s = (self._seconds(entry, column) for column in _TIME_COLUMNS)
        if start_s is None and end_s is None:
            if not may_be_beginning or not _goes_on(self._data_root / values["audio_path"], duration_s):
                return values | {"duration": _written(duration_s)}
            start_s = 0.0
        if end_s is None and start_s is not None and duration_s is not None:
            end_s = start_s + duration_s
        return values | {"start_s": _written(start_s), "end_s": _written(end_s)}

    def _seconds(self, entry: Mapping[str, Any], column: str) -> float | None:
        field = self._time_fields.get(column)
        return None if field is None else _number(entry, field)

    def _entries(self) -> Iterator[Mapping[str, Any]]:
        for _, line in self._lines():
            try:
                yield _parsed(line)
            except Refusal:
                continue  # `rows` tells it

    def _lines(self) -> Iterator[tuple[str, str]]:
        try:
            with self._path.open(encoding="utf-8-sig") as file:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield f"line {number}", line
        except (OSError, UnicodeDecodeError) as error:
            raise ManifestError(
                where=self.source,
                rule="a UTF-8 text file of JSON lines",
                found=str(error),
                do="check the path, or save the file as UTF-8",
            ) from error


def _parsed(line: str) -> Mapping[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise Refusal("bad_row", f"no JSON: {error}") from error
    if not isinstance(entry, dict):
        raise Refusal("bad_row", f"no JSON object: {type(entry).__name__}")
    return entry


def _number(entry: Mapping[str, Any], name: str) -> float | None:
    value = entry.get(name)
    if value is None:
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= sys.float_info.max:
        raise Refusal("bad_time", f"{name}: {value!r}")
    return float(value)


def _goes_on(file: Path, duration_s: float | None) -> bool:
    """Whether a file lasts longer, by its header. Not if it cannot be opened: cleaning says why."""
    if not duration_s:
        return False
    try:
        with open_sound(file) as sound:
            length_s = sound.frames / sound.samplerate
            return sound.frames < UNKNOWN_NUM_FRAMES and length_s > duration_s + END_TOLERANCE_S
    except AudioError:
        return False


def _written(time_s: float | None) -> str:
    return "" if time_s is None else format_seconds(time_s)


def text_of(value: Any) -> str:
    """A value as a manifest's field: texts as they are, lists and objects as JSON, nothing as no text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
