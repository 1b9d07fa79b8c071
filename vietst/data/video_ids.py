"""Which video a clip was cut from, told from its `audio_path` where the manifest does not say."""

import re
from pathlib import PurePosixPath
from typing import Final

from vietst.errors import ManifestError

# fmt: off
_CONTAINER_WORDS: Final = frozenset((
    "all", "audio", "audios", "chunks", "clean", "clips", "corpora", "corpus", "cuts", "data", "dataset",
    "datasets", "dev", "eval", "export", "exports", "files", "final", "flac", "media", "mono", "mp3",
    "ogg", "opus", "output", "outputs", "processed", "raw", "recordings", "samples", "segments", "sounds",
    "speech", "splits", "test", "train", "utterances", "val", "valid", "validation", "videos", "wav",
    "wavs", "youtube",
))
# fmt: on
_CONTAINER_PART: Final = re.compile(r"(?:part|shard|split|v|version)?\d*k?(?:hz)?")
"""Parts such as `part2`, `v3`, `16khz` beside a container word: `clips_v2`."""

_NUMBER: Final = r"\d+(?:\.\d+)?"
_NUMBERED: Final = re.compile(rf"(.+)[_-]{_NUMBER}")
_TIMED: Final = re.compile(rf"(.+)[_-]({_NUMBER})[_-]({_NUMBER})")
_MIN_TIME_CHARACTERS: Final = 5


def video_id_of(audio_path: str) -> str:
    """The default rule. `audio_path` is in its normal spelling (slashes, relative).

    * A folder that is named like a video stands for it: `b7x/seg_0004.wav` → `b7x`.
    * In a folder that is named like a container (`clips`, `wavs`, `train`, `part2` … or the root itself) the
      file name counts, up to its last `_` or `-` with a number: `clips/b7x_0004.wav` → `b7x`; up to the last
      but one if two numbers look like start and end (`b7x_0012300_0014500`, `b7x_12.30-14.50`).
    * A bare number in a container tells nothing: the folder's name, so that all of these stay together.

    Where the rule errs it should put too much into one group, never spread a video over several.
    """
    path = PurePosixPath(audio_path)
    folder = path.parent.name
    if folder and not _is_container(folder):
        return folder
    timed = _TIMED.fullmatch(path.stem)
    if timed and _are_start_and_end(timed[2], timed[3]):
        return timed[1]
    numbered = _NUMBERED.fullmatch(path.stem)
    if numbered:
        return numbered[1]
    return folder if folder and re.fullmatch(_NUMBER, path.stem) else path.stem


def _is_container(folder: str) -> bool:
    parts = [part for part in re.split(r"[_\-.\s]+", folder.lower()) if part]
    named = [part for part in parts if part in _CONTAINER_WORDS]
    others = [part for part in parts if part not in _CONTAINER_WORDS]
    if named:
        return all(_CONTAINER_PART.fullmatch(part) for part in others)
    return len(parts) == 1 and re.fullmatch(r"(?:part|shard|split)\d*|\d+k(?:hz)?", parts[0]) is not None


def _are_start_and_end(first: str, second: str) -> bool:
    return min(len(first), len(second)) >= _MIN_TIME_CHARACTERS and float(first) < float(second)


def compile_video_id_pattern(pattern: str) -> re.Pattern[str]:
    """The user's own rule. Raises ManifestError for what is no regular expression."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ManifestError(
            where="video_id_pattern",
            rule="a regular expression that finds the video in audio_path",
            found=f"{pattern!r}: {error}",
            do=r"for example ([^/]+)_\d+\.wav$ for clips/b7x_0004.wav",
        ) from error


def video_id_by_pattern(audio_path: str, pattern: re.Pattern[str]) -> str | None:
    """The group named `video_id`, else the first group, else the whole match; None without a match."""
    match = pattern.search(audio_path)
    if match is None:
        return None
    if "video_id" in pattern.groupindex:
        return match["video_id"] or None
    return match[1 if pattern.groups else 0] or None
