"""NeMo's manifests: a JSON object on each line, with `audio_filepath`, `text`, `duration`, `offset`.

A line with an `offset` is a piece of its file, from there on for its duration, or to an end where `--columns`
names one.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from vietst.data.audio_pieces import PIECE_COLUMNS, format_seconds
from vietst.data.importers.imported import (
    ImportedRow,
    Refusal,
    chosen_columns,
    path_in_root,
    require_columns,
    require_fields,
)
from vietst.errors import ManifestError

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
        self._chosen_times = times
        self._chosen = {column: field for column, field in columns.items() if column not in times}
        self._time_fields = {**_USUAL_TIMES, **times}

    @cached_property
    def _fields(self) -> dict[str, str]:
        """Manifest column → field, of all lines; reads the file once for it."""
        available = dict.fromkeys(key for entry in self._entries() for key in entry)
        if not available:
            raise ManifestError(
                where=self.source,
                rule="each line is a JSON object",
                found="none is",
                do="write JSON lines, one object a line (a JSON array is none)",
            )
        require_fields(self._chosen_times, list(available), self.source)
        known = [key for key in available if key not in (*self._time_fields.values(), "duration")]
        fields = chosen_columns(USUAL_FIELDS, self._chosen, known, self.source)
        require_columns(fields, self.source, list(available))
        self._has_pieces = any(self._time_fields.get(column) in available for column in PIECE_COLUMNS)
        return fields

    @property
    def columns(self) -> Sequence[str]:
        times = ["duration", *(PIECE_COLUMNS if self._fields and self._has_pieces else [])]
        return [*self._fields, *times]

    def rows(self) -> Iterator[ImportedRow]:
        for place, line in self._lines():
            content: Mapping[str, str] | Refusal
            try:
                content = self._values(_parsed(line))
            except Refusal as refusal:
                content = refusal
            yield ImportedRow(place, content)

    def _values(self, entry: Mapping[str, Any]) -> dict[str, str]:
        values = {column: text_of(entry.get(field)) for column, field in self._fields.items()}
        path = entry.get(self._fields["audio_path"])
        if not isinstance(path, str):
            raise Refusal("no_audio", f"{self._fields['audio_path']}: {text_of(path) or 'nothing'}")
        if not values["transcript"].strip():
            raise Refusal("no_transcript", f"{self._fields['transcript']} is empty")
        values["audio_path"] = path_in_root(path, self._base, self._data_root)
        start_s, duration_s, end_s = (self._seconds(entry, column) for column in _TIME_COLUMNS)
        if start_s is None and end_s is None:
            return values | {"duration": _written(duration_s)}
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


def _written(time_s: float | None) -> str:
    return "" if time_s is None else format_seconds(time_s)


def text_of(value: Any) -> str:
    """A value as a manifest's field: texts as they are, lists and objects as JSON, nothing as no text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
