"""Sound on its way from a decoder: blocks of samples, the mean of the channels."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vietst.data.audio_paths import audio_error


class Mono(NamedTuple):
    """An open file or piece: float32 [num_samples] block by block, at least one, none of them empty."""

    blocks: Iterator[np.ndarray]
    sample_rate_hz: int
    """Of the file, before resampling."""
    num_channels: int
    """Of the file; the blocks are their mean."""


def name_of(source: Path | bytes) -> str:
    """How errors call it."""
    return f"{len(source)} bytes of audio" if isinstance(source, bytes) else str(source)


def to_mono(block: np.ndarray, where: str, *, is_finite: bool = False) -> np.ndarray:
    """[num_frames, num_channels] -> float32 [num_frames]: the mean of the channels.

    Args:
        is_finite: known beforehand, as of samples that were integers.

    Raises:
        AudioError: `audio_not_finite`.
    """
    # Without a copy for the usual mono file; a sum of squares is not finite exactly when a sample is not (or
    # when it overflows, which the second look tells apart).
    mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
    if not is_finite and not math.isfinite(float(np.dot(mono, mono))) and not np.isfinite(block).all():
        raise audio_error("audio_not_finite", where, "NaN or infinite samples", "export the file again")
    return np.ascontiguousarray(mono)
