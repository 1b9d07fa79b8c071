"""What was transcribed already: a record beside the outputs tells by which model, from which file.

A folder with outputs holds `.vietst_transcripts.jsonl`, to which one line is appended for each output that
was written. Without a line, or where the file has changed since, an output belongs to somebody: perhaps the
subtitles that came with a video, perhaps a person's corrections. It is not written over unasked.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from vietst.data.tables import file_digest

RECORD_NAME: Final = ".vietst_transcripts.jsonl"


class OutputState(Enum):
    MISSING = "missing"
    DONE = "done"
    """Made from this recording by this model with these options, whatever was changed by hand since."""
    OUTDATED = "outdated"
    """Made here from what is another recording by now, or by another model or with other options."""
    NOT_OURS = "not ours"
    """Not made here, or changed by hand and made with something else."""


@dataclass(frozen=True)
class Origin:
    """What an output is made from, as it is recorded."""

    audio: Mapping[str, Any] | None
    """Name, size and time of the recording: it is known by these, as for `make`, and no hours of video are
    read. None: it has gone, which reading it will tell."""
    made_by: Mapping[str, Any]
    """Model and options: names to what JSON can hold."""

    @classmethod
    def of(cls, audio: Path, made_by: Mapping[str, Any]) -> "Origin":
        """Of a recording as it is now. To be asked before it is read: it may be one that still grows."""
        made_by = json.loads(json.dumps(made_by))  # lists, as they are read back
        try:
            status = audio.stat()
        except OSError:
            return cls(None, made_by)
        facts = {"name": audio.name, "num_bytes": status.st_size, "modified_ns": status.st_mtime_ns}
        return cls(facts, made_by)


class OutputRecord:
    """The records of all folders that outputs go to, each read once."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, dict[str, Any]]] = {}

    def state(self, output: Path, origin: Origin) -> OutputState:
        """Whether an output has to be made, and may be.

        Raises:
            OSError: the output cannot be read.
        """
        if not output.exists():
            return OutputState.MISSING
        entry = self._folder(output.parent).get(output.name)
        if entry is None:
            return OutputState.NOT_OURS
        if all(entry.get(key) == fact for key, fact in asdict(origin).items()):
            return OutputState.DONE
        is_unchanged = entry.get("digest") == file_digest(output)
        return OutputState.OUTDATED if is_unchanged else OutputState.NOT_OURS

    def add(self, output: Path, origin: Origin) -> None:
        """Note that `output` was written.

        Raises:
            OSError: the record cannot be written.
        """
        entry = {"output": output.name, "digest": file_digest(output), **asdict(origin)}
        with (output.parent / RECORD_NAME).open("ab+") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # the machine stopped while a line was written
                    file.write(b"\n")
            file.write(json.dumps(entry).encode() + b"\n")
        self._folder(output.parent)[output.name] = entry

    def _folder(self, folder: Path) -> dict[str, dict[str, Any]]:
        if folder not in self._folders:
            self._folders[folder] = _read(folder / RECORD_NAME)
        return self._folders[folder]


def _read(record: Path) -> dict[str, dict[str, Any]]:
    """Output's name → its last entry. Lines that are cut off are passed over."""
    entries = {}
    lines = record.read_text(encoding="utf-8", errors="replace").splitlines() if record.exists() else []
    for line in lines:
        try:
            entry = json.loads(line)
            entries[entry["output"]] = entry
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return entries
