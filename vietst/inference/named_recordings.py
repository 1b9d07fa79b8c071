"""Which recordings a command line names, and where what is said in them is written."""

import glob
import os
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vietst.errors import VietstError
from vietst.inference.transcript_files import FORMATS

RECORDING_SUFFIXES: Final = frozenset(
    (
        *(".aac", ".ac3", ".aif", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".m4b"),
        *(".mka", ".mp2", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".weba", ".wma"),
        # videos
        *(".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"),
        *(".ogv", ".ts", ".webm", ".wmv"),
    )
)
"""Files with another suffix are read where they are named one by one."""

_OUTPUT_SUFFIXES: Final = frozenset(f".{name}" for name in FORMATS)
_NUM_NAMED: Final = 10
"""So many files an error names."""


@dataclass(frozen=True)
class Recording:
    audio: Path
    output_stem: Path
    """Folder and name of the output files, without suffix."""

    def output(self, format_name: str) -> Path:
        """The file in one of `FORMATS`."""
        return self.output_stem.with_name(f"{self.output_stem.name}.{format_name}")


def find_recordings(names: Sequence[str], output_dir: Path | None) -> list[Recording]:
    """The recordings that files, folders and globs name, each once, in the order of the names.

    Folders are searched with all below them, but for what is hidden (.name). Transcript files are passed
    over, so that `recordings/*` means the same when there are some.

    Args:
        output_dir: holds the outputs in the folders that the recordings have below the deepest folder that
            contains all names; None: each output stands beside its recording.

    Raises:
        VietstError: a name of nothing, no recording in all of them, or two that would write the same file.
    """
    names = [_as_it_is_spelled(name) for name in names]
    audio_paths = {
        _absolute(path): path
        for name in names
        for path in _paths_of(name)
        if path.suffix.lower() not in _OUTPUT_SUFFIXES
    }
    if not audio_paths:
        raise VietstError(
            where=_listed(names),
            rule="at least one recording",
            found="no file that is called like one",
            do=f"name files, or folders with files called {' '.join(sorted(RECORDING_SUFFIXES))}",
        )
    base = None if output_dir is None else _shared_folder(names)
    recordings = [
        Recording(path, _output_stem(absolute, path, output_dir, base))
        for absolute, path in audio_paths.items()
    ]
    _refuse_shared_outputs(recordings)
    return recordings


def _output_stem(absolute: str, path: Path, output_dir: Path | None, base: str | None) -> Path:
    beside = path if output_dir is None or base is None else output_dir / os.path.relpath(absolute, base)
    return beside.with_name(beside.stem)


def _as_it_is_spelled(name: str) -> str:
    """A name whose file, or a folder above it, has its letters composed otherwise: Macs take "ế" apart,
    keyboards write one sign. Of a glob, the folders above it."""
    if Path(name).exists():
        return name
    spelled = Path()
    for part in Path(name).parts:
        forms = (part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part))
        spelled = next((spelled / form for form in forms if (spelled / form).exists()), spelled / part)
    return str(spelled)


def _paths_of(name: str) -> Iterator[Path]:
    path = Path(name)
    if path.is_dir():
        yield from _recordings_below(path)
    elif path.exists():
        yield path
    else:
        # Only here: a file may be called [1].wav. Windows' shells leave globs to the program.
        matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute ones
        if not matches:
            raise VietstError(
                where=name,
                rule="a file, a folder, or a glob such as recordings/*.mp4",
                found="a glob that matches nothing" if glob.has_magic(name) else "no such file or folder",
                do="check the spelling, and that it is relative to the current folder",
            )
        for match in map(Path, matches):
            if match.is_dir():
                yield from _recordings_below(match)
            elif _is_recording(match):
                yield match


def _recordings_below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (path for name in sorted(files) if _is_recording(path := Path(parent, name)))


def _is_recording(path: Path) -> bool:
    return path.suffix.lower() in RECORDING_SUFFIXES and not path.name.startswith(".")


def _shared_folder(names: Sequence[str]) -> str:
    """The deepest folder that contains all names, absolute; a folder contains itself."""
    try:
        return os.path.commonpath([_folder_of(name) for name in names])
    except ValueError as error:
        raise VietstError(
            where=_listed(names),
            rule="with --output, all names lie on one drive, whose folders are kept",
            found=str(error),
            do="run the command for each drive, or leave --output out",
        ) from None


def _folder_of(name: str) -> str:
    path = Path(name)
    if not path.exists():
        while glob.has_magic(str(path)):
            path = path.parent
    return _absolute(path if path.is_dir() else path.parent)


def _absolute(path: Path) -> str:
    """Without `..`, and symbolic links as they are: what is linked to may lie outside of the folder."""
    return os.path.normpath(path.absolute())


def _refuse_shared_outputs(recordings: Sequence[Recording]) -> None:
    writers = defaultdict(list)
    for recording in recordings:
        stem = _absolute(recording.output_stem)
        # Elsewhere A.srt and a.srt are one file.
        writers[stem if sys.platform == "linux" else stem.casefold()].append(str(recording.audio))
    shared = [f"{' and '.join(names)}" for names in writers.values() if len(names) > 1]
    if shared:
        raise VietstError(
            where=_listed(shared),
            rule="every recording has output files of its own, called like it but for the suffix",
            found="recordings that would write the same",
            do="name the one that is meant, or rename one of them",
        )


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - _NUM_NAMED} more" if len(names) > _NUM_NAMED else ""
    return ", ".join(names[:_NUM_NAMED]) + more
