"""16-bit PCM in a WAV file, which is what clips mostly are: read at once, without a decoder.

Opening a file takes soundfile as long as reading a short clip does. All that is not quite plain (another
format or header, a size that does not fit, a long file) is left to soundfile, which also says what is wrong.
"""

import os
import struct
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from vietst.data.audio_headers import STREAMED_SIZES

MAX_PLAIN_BYTES: Final = 8 << 20
"""Larger files are decoded block by block."""

_FORMAT: Final = struct.Struct("<HHIIHH")
"""Format tag, channels, sample rate, bytes a second, bytes a frame, bits a sample."""
_PCM: Final = 1


class PlainWav(NamedTuple):
    samples: np.ndarray
    """Little-endian int16 [num_frames, num_channels], at least one frame; not to be written to."""
    sample_rate_hz: int


def read_plain_wav(path: Path) -> PlainWav | None:
    """All samples of a file; None if it is for soundfile."""
    try:
        with path.open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > MAX_PLAIN_BYTES:
                return None
            content = file.read()
    except (OSError, ValueError):
        return None
    return parse_plain_wav(content)


def parse_plain_wav(content: bytes) -> PlainWav | None:
    """As `read_plain_wav`, of what a file holds."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return None
    position, num_channels, rate_hz = 12, 0, 0
    while position + 8 <= len(content):
        chunk_id, size = struct.unpack_from("<4sI", content, position)
        position += 8
        if chunk_id == b"fmt " and size == _FORMAT.size and position + size <= len(content):
            tag, num_channels, rate_hz, _, frame_bytes, num_bits = _FORMAT.unpack_from(content, position)
            if (tag, num_bits, frame_bytes) != (_PCM, 16, 2 * num_channels) or num_channels * rate_hz == 0:
                return None
        elif chunk_id == b"data":
            is_whole = size not in STREAMED_SIZES and position + size <= len(content)
            if num_channels == 0 or not is_whole or size % (2 * num_channels):
                return None
            samples = np.frombuffer(content, "<i2", size // 2, position).reshape(-1, num_channels)
            return PlainWav(samples, rate_hz)
        position += size + size % 2
    return None
