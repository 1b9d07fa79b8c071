"""Where the audio of a manifest may lie, and the reason codes of audio that cannot be used."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from vietst.errors import AudioError

AUDIO_RULES: Final = {
    "path_absolute": "audio_path is relative to the audio root (paths.data_root)",
    "path_outside_root": "audio_path stays below the audio root (paths.data_root)",
    "audio_missing": "the audio file exists",
    "audio_empty": "the audio file holds samples",
    "audio_unreadable": "the file is audio that soundfile can decode",
    "audio_truncated": "the audio file is as long as its header promises",
    "audio_not_finite": "every sample is a finite number",
    "audio_silent": "some sample is louder than -60 dBFS",
    "piece_invalid": "start_s and end_s are seconds, 0 <= start_s < end_s, or empty",
    "piece_outside": "the audio file goes on until end_s",
}
"""Reason code of an unusable audio file (as written to `rejected.tsv`), and the rule that it breaks."""

_DRIVE: Final = re.compile(r"[A-Za-z]:")
"""Of Windows. `1:30.wav` is a file's name elsewhere."""


def resolve_audio_path(audio_root: Path, audio_path: str) -> Path:
    """Turns a manifest's `audio_path` into a real path below `audio_root`.

    Backslashes are read as slashes. The file need not exist.

    Raises:
        AudioError: `path_absolute`, or `path_outside_root` (through `..` or a symbolic link), or
            `audio_missing` for an empty path.
    """
    return Path(resolve_below(os.path.realpath(audio_root), audio_path))


def resolve_below(
    real_root: str, audio_path: str, real_folder: Callable[[str], str] = os.path.realpath
) -> str:
    """`resolve_audio_path` for many paths.

    Args:
        real_root: `os.path.realpath(audio_root)`, asked once.
        real_folder: `os.path.realpath`, or it with a memory, for the folders that the files lie in.
    """
    relative = normalize_audio_path(audio_path)
    if not relative or "\0" in relative:
        raise audio_error(
            "audio_missing", audio_path, "an empty path", "fill audio_path in, or remove the row"
        )
    if relative.startswith("/") or _DRIVE.match(relative):
        raise audio_error(
            "path_absolute", audio_path, "an absolute path", "write it relative to paths.data_root"
        )
    if ".." in relative.split("/"):
        raise audio_error(
            "path_outside_root",
            audio_path,
            "a path with ..",
            "write it relative to paths.data_root, without ..",
        )
    folder, name = os.path.split(f"{real_root}/{relative}")
    # Without a `Path`, which takes longer to make than the rest.
    real_path = os.path.join(real_folder(folder), name)  # noqa: PTH118
    if os.path.islink(real_path) or name in ("", "."):  # noqa: PTH114
        real_path = os.path.realpath(real_path)
    prefix = real_root if real_root.endswith(os.sep) else real_root + os.sep
    if not real_path.startswith(prefix):
        raise audio_error(
            "path_outside_root",
            audio_path,
            f"it leads to {real_path}, outside of {real_root}",
            "move the file below paths.data_root, or set paths.data_root to the folder that holds it",
        )
    return real_path


def normalize_audio_path(audio_path: str) -> str:
    """The one spelling under which an `audio_path` is known: slashes, no surrounding space, no `./`."""
    path = audio_path.strip().replace("\\", "/")
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    return path


def audio_error(code: str, where: Path | str, found: str, do: str) -> AudioError:
    """An `AudioError` that states the rule of its code."""
    return AudioError(code=code, where=str(where), rule=AUDIO_RULES[code], found=found, do=do)
