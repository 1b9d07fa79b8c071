"""Pieces of recordings: a row with `start_s` and `end_s` is that part of its file, which is never cut out.

A piece is named by one text, its locator: the file's path and a fragment as the W3C's Media Fragments write
it, `videos/b7x.mp4#t=12.5,14.25` (the player of a web page plays just that). A row without times is its whole
file, and its locator the path alone.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vietst.data.audio_paths import audio_error
from vietst.errors import AudioError

PIECE_COLUMNS: Final = ("start_s", "end_s")
"""Seconds from the beginning of the recording. An empty start is the beginning, an empty end the end."""

END_TOLERANCE_S: Final = 0.1
"""A piece may end so much after its file, for times are rounded; it then ends with the file."""

_FRAGMENT: Final = re.compile(r"#t=(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?\Z")


@dataclass(frozen=True)
class Piece:
    """A part of a recording, in seconds from its beginning."""

    start_s: float
    end_s: float
    """`inf`: to the end of the recording."""

    @property
    def fragment(self) -> str:
        """What stands behind the path in a locator."""
        end = "" if math.isinf(self.end_s) else f",{format_seconds(self.end_s)}"
        return f"#t={format_seconds(self.start_s)}{end}"

    def sample_span(self, rate_hz: int, num_samples: int, where: Path) -> tuple[int, int]:
        """(first sample, the one behind the last) of the piece in a recording of `num_samples`.

        Raises:
            AudioError: `piece_outside`, or `piece_invalid` for one of less than a sample.
        """
        start, last_s = round(self.start_s * rate_hz), num_samples / rate_hz
        is_open = math.isinf(self.end_s)
        if start >= num_samples or (not is_open and self.end_s > last_s + END_TOLERANCE_S):
            raise self.outside(where, last_s)
        stop = num_samples if is_open else min(round(self.end_s * rate_hz), num_samples)
        if stop <= start:
            raise audio_error("piece_invalid", where, f"{self.fragment}: no sample", "correct the times")
        return start, stop

    def outside(self, where: Path, duration_s: float) -> AudioError:
        """The error of a piece that its file of `duration_s` does not hold."""
        return audio_error(
            "piece_outside",
            where,
            f"{self.fragment}, and the sound ends at {format_seconds(duration_s)} s",
            "correct start_s and end_s; if audio_path is a clip and they are its times in the recording that "
            "it was cut from, call these columns otherwise, such as video_start_s",
        )


def piece_of(row: Mapping[str, Any]) -> Piece | None:
    """The piece that a manifest's row names; None: all of its file.

    Raises:
        AudioError: `piece_invalid`.
    """
    start, end = (str(row.get(column) or "").strip() for column in PIECE_COLUMNS)
    if not start and not end:
        return None
    try:
        piece = Piece(float(start or 0), float(end or "inf"))
        is_valid = 0 <= piece.start_s < piece.end_s and not math.isinf(float(end or 0))
    except ValueError:
        is_valid = False
    if not is_valid:
        raise audio_error(
            "piece_invalid",
            str(row.get("audio_path", "")),
            f"start_s {start!r}, end_s {end!r}",
            "correct them, or leave both empty for the whole file",
        )
    return piece


def locator_of(row: Mapping[str, Any]) -> str:
    """What tells a row's audio from all others: its path, with a fragment where it is a piece.

    Raises:
        AudioError: `piece_invalid`.
    """
    piece = piece_of(row)
    return f"{row['audio_path']}{piece.fragment if piece else ''}"


def locator_or_path(row: Mapping[str, Any]) -> str:
    """The locator; the path alone where the times are none, for which cleaning takes a row out."""
    try:
        return locator_of(row)
    except AudioError:
        return str(row["audio_path"])


def split_locator(locator: str) -> tuple[str, Piece | None]:
    """The path and the piece that a locator names."""
    fragment = _FRAGMENT.search(locator)
    if fragment is None:
        return locator, None
    return locator[: fragment.start()], Piece(float(fragment[1]), float(fragment[2] or "inf"))


def format_seconds(duration_s: float) -> str:
    """To the microsecond, without trailing zeros."""
    return f"{duration_s:.6f}".rstrip("0").rstrip(".")
