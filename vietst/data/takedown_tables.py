"""Taking rows out of the manifests and splits that lie on the disk, by the takedown list."""

import contextlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from vietst.constants import SPLITS
from vietst.data.abandoned import is_abandoned
from vietst.data.audio_facts import AudioFactsFile
from vietst.data.audio_paths import normalize_audio_path
from vietst.data.audio_pieces import locator_or_path, split_locator
from vietst.data.audited_manifest import summary_path
from vietst.data.manifest import REJECTED_NAME, SUMMARY_NAME
from vietst.data.records import format_record
from vietst.data.rejections import REJECTED_COLUMNS, TAKEN_DOWN
from vietst.data.row_rules import taken_down_by
from vietst.data.sources import Manifests, digest_of, paths_of
from vietst.data.splits import SET_ASIDE_NAME, read_audit, read_split_file, split_path
from vietst.data.tables import (
    atomic_writer,
    delimiter_of,
    file_digest,
    has_rows,
    open_table,
    write_json,
    write_table,
)
from vietst.data.takedown_list import Takedown
from vietst.errors import ManifestError

_HALF_WRITTEN: Final = re.compile(r"\..+\.\d+\.tmp")
_NO_TEXT: Final = dict.fromkeys(REJECTED_COLUMNS, "")


@dataclass
class NamedRows:
    """What the list names in the tables and caches of a corpus."""

    audio_paths: set[str] = field(default_factory=set)
    digests: set[str] = field(default_factory=set)
    """Of the content of their audio files."""
    entry_of: dict[tuple[str, str], str] = field(default_factory=dict)
    """By id (empty: it has none) and audio file, since ids of a manifest may repeat: the entry that names the
    row."""
    entry_of_audio: dict[str, str] = field(default_factory=dict)
    """By audio path."""
    lines: dict[str, dict[str, str]] = field(default_factory=dict)
    """Rows of the manifest by line, as `rejected.tsv` names lines: what it says of them."""

    @property
    def entries(self) -> set[str]:
        """Of the list, that name something."""
        return set(self.entry_of.values())

    def add(self, entry: str, row: Mapping[str, str]) -> None:
        audio_path = normalize_audio_path(locator_or_path({"audio_path": "", **row}))
        self.entry_of[_id_and_file(row)] = entry
        self.audio_paths.add(audio_path)
        self.entry_of_audio[audio_path] = entry

    def entry_for(self, row: Mapping[str, str]) -> str | None:
        """The entry that names a row of a table without its video and channel; None: none does.

        By its audio also where cleaning has made its id unique since.
        """
        audio_path = normalize_audio_path(row.get("audio_path", ""))
        if not audio_path:
            return None
        return self.entry_of.get(_id_and_file(row)) or self.entry_of_audio.get(audio_path)


def find_in_manifests(manifests: Manifests, takedown: Takedown, pattern: re.Pattern[str] | None) -> NamedRows:
    """The rows that the list names of the manifests as they were exported; of none that is not there."""
    named = NamedRows()
    of_sources = {"": manifests} if isinstance(manifests, Path) else manifests
    for source, path in of_sources.items():
        if not (takedown and path.is_file()):
            continue
        for line_number, row, _ in open_table(path, ("audio_path",)).named_records():
            entry = taken_down_by(row, takedown, pattern)
            if entry is not None:
                named.add(entry, row)
                line = f"{source}:{line_number}" if source else str(line_number)
                named.lines[line] = _rejected_row(line, row, entry, takedown)
    return named


def find_in_table(path: Path, takedown: Takedown, named: NamedRows) -> int:
    """How many rows of a cleaned manifest or split the list names; adds them to `named`.

    Raises:
        ManifestError: it is none: a table without these columns would seem to hold nothing of a video.
    """
    num_rows = 0
    for row in _rows(path, ("id", "audio_path", "video_id")):
        if (entry := takedown.entry_for(row)) is not None:
            named.add(entry, row)
            num_rows += 1
    return num_rows


def num_named(path: Path, takedown: Takedown, named: NamedRows) -> int:
    """How many rows the list names of a table that may not say of which video or channel they are."""
    ids = {row_id for row_id, _ in named.entry_of if row_id} | named.audio_paths
    return sum(
        (takedown.entry_for(row) or named.entry_for(row)) is not None
        or (not row.get("audio_path") and row.get("id") in ids)
        for row in _rows(path)
    )


def remove_rows(path: Path, takedown: Takedown) -> None:
    """Writes a table anew without the rows that the list names; nothing where there are none."""
    rows = list(_rows(path))
    kept = [row for row in rows if takedown.entry_for(row) is None]
    if len(kept) == len(rows):
        return
    columns, delimiter = list(rows[0]), delimiter_of(path)
    with atomic_writer(path) as file:
        file.write(format_record(columns, delimiter))
        file.writelines(format_record(list(row.values()), delimiter) for row in kept)


def find_half_written(tables: Iterable[Path]) -> list[Path]:
    """What killed commands left beside tables (`tables.atomic_writer`): nobody can tell what it holds."""
    return sorted(
        path
        for folder in {table.parent for table in tables}
        for path in folder.glob(".*.tmp")
        if _HALF_WRITTEN.fullmatch(path.name) and is_abandoned(path)
    )


def split_files(splits_dir: Path) -> list[Path]:
    """All files of the splits that hold rows."""
    return [*(split_path(splits_dir, split) for split in SPLITS), splits_dir / SET_ASIDE_NAME]


def clean_manifests(clean_path: Path, splits_dir: Path) -> list[Path]:
    """The cleaned manifest, and what audits left of it beside it (`audited_manifest`), as far as they are
    there; last the one that the splits were made from."""
    paths = [clean_path, *_audited_beside(clean_path)]
    with contextlib.suppress(ManifestError, KeyError, TypeError):
        recorded = Path(read_audit(splits_dir)["manifest"]["path"])
        # In a copy of the corpus the record still names the original, which is none of ours.
        paths.append(_beside(clean_path, recorded))
    last_first = dict.fromkeys(path for path in reversed(paths) if path.is_file())
    return [*reversed(last_first)]


def _beside(path: Path, recorded: Path) -> Path:
    """The file of a recorded name in the folder of `path`, if it is there."""
    beside = path.with_name(recorded.name)
    return beside if beside.is_file() else recorded


def _audited_beside(clean_path: Path) -> list[Path]:
    found = []
    for summary_file in sorted(clean_path.parent.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            summary = json.loads(summary_file.read_text(encoding="utf-8"))
            audited = summary_file.with_name(Path(summary["output"]["path"]).name)
            if summary_path(audited) == summary_file and "drop" in summary:
                found.append(audited)
    return found


def clear_manifest(path: Path, manifests: Manifests, takedown: Takedown, named: NamedRows) -> None:
    """Takes the named rows out of a cleaned manifest, and their texts out of its `rejected.tsv`, and brings
    its summary up to date, so that it need not be made again.

    Args:
        path: as cleaning made it, or as an audit left it.
        manifests: what was cleaned.
    """
    remove_rows(path, takedown)
    rows = read_split_file(path) if has_rows(path) else []
    output = {
        "digest": file_digest(path),
        "num_rows": len(rows),
        "hours": round(sum(row["duration"] for row in rows) / 3600, 6),
    }
    for summary_file in (path.with_name(SUMMARY_NAME), summary_path(path)):
        try:
            summary: dict[str, Any] = json.loads(summary_file.read_text(encoding="utf-8"))
            if Path(summary["output"]["path"]).name != path.name:
                continue  # of another manifest beside this one
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not ours, or not there: what reads it makes all of it anew
        brought_up = {**summary, "output": {**summary["output"], **output}}
        if summary_file.name == SUMMARY_NAME:
            is_as_cleaned = all(file.is_file() for file in paths_of(manifests)) and (
                summary["input"]["digest"] == digest_of(manifests)
            )
            lines = named.lines if is_as_cleaned else {}
            rejected = _clear_rejected(path.with_name(REJECTED_NAME), takedown, named, lines)
            brought_up |= {
                "removed": _counted(rejected, "removed"),
                "changed": _counted(rejected, "changed"),
                "kept": {**summary["kept"], "num_videos": len({row["video_id"] for row in rows})},
                "takedown": sorted(takedown.entries),
            }
        else:
            _clear_rejected(Path(summary["rejected"]), takedown, named, {})
            audited = _beside(path, Path(summary["input"]["path"]))
            if audited.is_file():
                brought_up["input"] = {**summary["input"], "digest": file_digest(audited)}
        if brought_up != summary:
            write_json(summary_file, brought_up)


def forget_audio(facts_path: Path, audio_paths: set[str]) -> int:
    """Takes files out of what is remembered of audio; returns of how many something was known."""
    if not facts_path.is_file():
        return 0
    facts_file = AudioFactsFile(facts_path)
    num_forgotten = facts_file.forget(audio_paths)
    facts_file.save()
    return num_forgotten


def _clear_rejected(
    path: Path, takedown: Takedown, named: NamedRows, lines: dict[str, dict[str, str]]
) -> list[dict[str, str]]:
    """Leaves one line for each named row, without its texts. Returns all lines.

    Args:
        lines: named rows of the table that the file is about, by line.
    """
    before = list(_rows(path))
    kept, cleared = [], dict(lines)
    for row in before:
        entry = takedown.entry_for(row) or named.entry_for(row)
        if row["line"] in cleared:
            continue
        if entry is None:
            kept.append(row)
        else:
            cleared[row["line"]] = _rejected_row(row["line"], row, entry, takedown)
    after = sorted([*kept, *cleared.values()], key=lambda row: _in_order(row["line"]))
    if after != before:
        write_table(path, after, REJECTED_COLUMNS)
    return after


def _id_and_file(row: Mapping[str, str]) -> tuple[str, str]:
    """As cleaning spells them."""
    row_id = " ".join(unicodedata.normalize("NFC", row.get("id", "")).split())
    return row_id, normalize_audio_path(split_locator(row.get("audio_path", ""))[0])


def _in_order(line: str) -> tuple[str, int]:
    """A line's number, behind the name of its source where there are several."""
    source, _, number = line.rpartition(":")
    return source, int(number)


def _rejected_row(line: str, row: dict[str, str], entry: str, takedown: Takedown) -> dict[str, str]:
    return _NO_TEXT | {
        "line": line,
        "id": row.get("id", ""),
        "audio_path": row.get("audio_path", ""),
        "action": "removed",
        "reason": TAKEN_DOWN,
        "detail": f"{entry!r} in {takedown.path}",
    }


def _counted(rejected: list[dict[str, str]], action: str) -> dict[str, int]:
    return dict(sorted(Counter(row["reason"] for row in rejected if row["action"] == action).items()))


def _rows(path: Path, required_columns: Sequence[str] = ()) -> Iterator[dict[str, str]]:
    """The rows of a table; none where there is no file, or nothing below its header."""
    if path.is_file() and has_rows(path):
        for _, row in open_table(path, required_columns).rows():
            yield row
