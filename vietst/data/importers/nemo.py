"""NeMo's manifests: a JSON object on each line, with `audio_filepath`, `text`, `duration`, `offset`.

A line with an `offset` is a piece of its file, from there on for its duration.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from vietst.data.audio_pieces import format_seconds
from vietst.data.importers.imported import (
    ImportedRow,
    Refusal,
    chosen_columns,
    path_in_root,
    require_columns,
)
from vietst.errors import ManifestError

USUAL_FIELDS: Final = {
    "audio_path": "audio_filepath",
    "transcript": "text",
    "speaker_id": "speaker",
}
"""Manifest column → field."""

_TIMES: Final = ("offset", "duration")


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
        self._chosen = columns

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
        known = [key for key in available if key not in _TIMES]
        fields = chosen_columns(USUAL_FIELDS, self._chosen, known, self.source)
        require_columns(fields, self.source, list(available))
        self._has_offsets = "offset" in available
        return fields

    @property
    def columns(self) -> Sequence[str]:
        times = ["duration", *(["start_s", "end_s"] if self._fields and self._has_offsets else [])]
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
        offset, duration = (_number(entry, name) for name in _TIMES)
        if offset is None:
            return values | {"duration": "" if duration is None else format_seconds(duration)}
        end = "" if duration is None else format_seconds(offset + duration)
        return values | {"start_s": format_seconds(offset), "end_s": end}

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


def text_of(value: Any) -> str:
    """A value as a manifest's field: texts as they are, lists and objects as JSON, nothing as no text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
