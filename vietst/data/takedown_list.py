"""The takedown list: what must not be in the corpus any more, and which rows that is.

    # asked for by its owner on 2 March
    b7xKq2                      a video_id; or an id or audio_path, for a single utterance
    channel_id=UC_x5XG1OV2P6    everything of a channel; speaker_id=… likewise

One entry a line; blank lines and lines that begin with # say nothing. Names are compared as cleaning spells
them (`row_rules.clean_keys`). A name that looks like `column=value` itself is written behind its own column:
`id=take=2`.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vietst.data.audio_paths import normalize_audio_path
from vietst.data.tables import atomic_writer
from vietst.errors import ManifestError

NAMING_COLUMNS: Final = ("video_id", "id", "audio_path", "speaker_id", "channel_id")
"""Columns that an entry can name a value of, as `column=value`."""

_BARE: Final = ("video_id", "id", "audio_path")
"""Columns that an entry without a column is looked for in."""

_WITH_COLUMN: Final = re.compile(r"[\w -]+=")
"""How an entry begins that is meant to name a column. Most paths have a slash or a point before any =."""


@dataclass(frozen=True)
class Takedown:
    """The list as it was read. A list that is not there is an empty one."""

    path: Path | None = None
    entries: tuple[str, ...] = ()
    """In the order of the file, each once."""
    _entry_of: Mapping[tuple[str, str], str] = field(default_factory=dict, repr=False)

    def __bool__(self) -> bool:
        return bool(self.entries)

    def values_of(self, column: str) -> list[str]:
        """The values that the list names of one of `NAMING_COLUMNS`."""
        return [value for name, value in self._entry_of if name == column]

    def entry_for(self, row: Mapping[str, str]) -> str | None:
        """The entry that takes a row down; None: it may stay.

        Args:
            row: by column, as a manifest, a split or a cache has it; columns may be absent.
        """
        if not self._entry_of:
            return None
        for column in NAMING_COLUMNS:
            value = row.get(column)
            if value and (entry := self._entry_of.get((column, _spelled(column, value)))) is not None:
                return entry
        return None


def read_takedown(path: Path) -> Takedown:
    """Reads the list; an absent file is an empty list.

    Raises:
        ManifestError: not UTF-8, or an entry that names a column but no value, or a column that is none.
    """
    try:
        text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(
            str(path),
            "a text file in UTF-8",
            str(error),
            "name a text file (paths.takedown_path), and save it as UTF-8",
        ) from None
    entries: dict[str, None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            _require_name(entry, f"{path}, line {number}")
            entries[entry] = None
    return Takedown(path, tuple(entries), _entry_of(entries))


def add_entries(path: Path, entries: Iterable[str]) -> Takedown:
    """Appends what the list does not have yet, and reads it.

    Raises:
        ManifestError: as `read_takedown`, or an entry that the list could not hold; it stays as it was then.
    """
    known = read_takedown(path)
    new: list[str] = []
    for entry in map(str.strip, entries):
        where = f"--add {entry!r}"
        if not entry or entry.startswith("#") or len(entry.splitlines()) > 1:
            raise _refused(where, "a name, or COLUMN=NAME", "no name in it", "add what it names")
        _require_name(entry, where)
        if entry not in (*known.entries, *new):
            new.append(entry)
    if new:
        before = path.read_text(encoding="utf-8-sig") if path.exists() else ""
        gap = "\n" if before and not before.endswith("\n") else ""
        with atomic_writer(path) as file:
            file.write(before + gap + "\n".join(new) + "\n")
    return read_takedown(path)


def _require_name(entry: str, where: str) -> None:
    """Raises ManifestError for an entry that could name nothing, whatever is in the corpus."""
    columns, value = _split_entry(entry)
    if not value:
        raise _refused(where, f"{columns[0]}=VALUE", entry, "add the value, or take the entry out")
    if columns == _BARE and _WITH_COLUMN.match(entry):
        raise _refused(
            where,
            f"a name, or COLUMN=NAME with one of the columns {', '.join(NAMING_COLUMNS)}",
            entry,
            f"correct the column; if all of this is a name, say of what, as video_id={entry}",
        )


def _split_entry(entry: str) -> tuple[tuple[str, ...], str]:
    """(columns to look in, value as it is spelled there)"""
    column, is_named, value = entry.partition("=")
    if is_named and column.strip() in NAMING_COLUMNS:
        return (column.strip(),), value.strip()
    return _BARE, entry


def _entry_of(entries: Iterable[str]) -> dict[tuple[str, str], str]:
    named: dict[tuple[str, str], str] = {}
    for entry in entries:
        columns, value = _split_entry(entry)
        for column in columns:
            named.setdefault((column, _spelled(column, value)), entry)
    return named


def _spelled(column: str, value: str) -> str:
    value = unicodedata.normalize("NFC", value)
    return normalize_audio_path(value) if column == "audio_path" else " ".join(value.split())


def _refused(where: str, rule: str, found: str, do: str) -> ManifestError:
    return ManifestError(where=where, rule=rule, found=found, do=do)
