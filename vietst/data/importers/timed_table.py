"""A TSV or CSV table of files and times, as annotation tools export it: a video, from, to, texts."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from vietst.data.audio_pieces import PIECE_COLUMNS, format_seconds
from vietst.data.importers.imported import (
    ImportedRow,
    Refusal,
    chosen_columns,
    path_in_root,
    require_columns,
    seconds_of,
)
from vietst.data.tables import open_table

USUAL_FIELDS: Final = {
    column: column for column in ("audio_path", "transcript", "translation", *PIECE_COLUMNS)
}


class TimedTableImporter:
    """A table whose rows name a file, and where they are pieces of it a start and an end.

    Args:
        base: what relative paths count from; None: `data_root`.
        columns: manifest column → the table's, where they are called otherwise.
    """

    def __init__(
        self, path: Path, *, data_root: Path, base: Path | None = None, columns: Mapping[str, str]
    ) -> None:
        self.source = str(path)
        self._data_root, self._base = data_root, base or data_root
        self._table = open_table(path)
        self._fields = chosen_columns(USUAL_FIELDS, columns, self._table.columns, self.source)
        require_columns(self._fields, self.source, self._table.columns)

    @property
    def columns(self) -> Sequence[str]:
        return list(self._fields)

    def rows(self) -> Iterator[ImportedRow]:
        for line_number, fields in self._table.records():
            content: Mapping[str, str] | Refusal
            try:
                if len(fields) != len(self._table.columns):
                    num_columns = len(self._table.columns)
                    raise Refusal("bad_row", f"{len(fields)} fields, the header names {num_columns}")
                content = self._values(dict(zip(self._table.columns, fields, strict=True)))
            except Refusal as refusal:
                content = refusal
            yield ImportedRow(f"line {line_number}", content)

    def _values(self, row: Mapping[str, str]) -> dict[str, str]:
        values = {column: row[field] for column, field in self._fields.items()}
        if not values["transcript"].strip():
            raise Refusal("no_transcript", f"{self._fields['transcript']} is empty")
        values["audio_path"] = path_in_root(values["audio_path"], self._base, self._data_root)
        times = {
            column: seconds_of(text) for column in PIECE_COLUMNS if (text := values.get(column, "").strip())
        }
        if times.get("end_s", float("inf")) <= times.get("start_s", 0.0):
            raise Refusal("bad_time", f"from {values.get('start_s')} to {values['end_s']}")
        return values | {column: format_seconds(seconds) for column, seconds in times.items()}
