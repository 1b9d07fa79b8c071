"""What the headers of audio files promise, so that a cut-off file is told from a short one.

libsndfile quietly shortens a WAV whose data chunk ends early, and ends an Ogg stream at the last whole
page; FLAC and MP3 (with a Xing or Info frame) are told by counting the decoded frames instead.
"""

import struct
from typing import BinaryIO, Final

_STREAMED_SIZES: Final = (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFF000)
"""Sizes that programs leave in a WAV header when they could not go back and fill in the real one."""

_OGG_PAGE_BYTES: Final = 27 + 255 + 255 * 255
"""Largest page: fixed header, segment table, 255 segments of 255 bytes."""

_MPEG_FRAME_SAMPLES: Final = 1152


def missing_bytes(file: BinaryIO, num_bytes: int) -> int:
    """How many bytes a WAV, RF64 or Ogg file lacks of what its headers promise; 0 for any other format.

    Args:
        file: opened for reading bytes; its position is moved.
        num_bytes: the file's true size.
    """
    file.seek(0)
    magic = file.read(12)
    if magic[:4] in (b"RIFF", b"RF64") and magic[8:12] == b"WAVE":
        return _missing_wav_bytes(file, num_bytes)
    if magic[:4] == b"OggS":
        return _missing_ogg_bytes(file, num_bytes)
    return 0


def _missing_wav_bytes(file: BinaryIO, num_bytes: int) -> int:
    """Walks the chunks up to `data`. An RF64 file keeps the size of its data chunk in the `ds64` chunk."""
    position, data_size_64 = 12, 0
    while position + 8 <= num_bytes:
        file.seek(position)
        chunk_id, size = struct.unpack("<4sI", file.read(8))
        if chunk_id == b"ds64" and size >= 16:
            data_size_64 = struct.unpack("<8xQ", file.read(16))[0]
        if chunk_id == b"data":
            promised = data_size_64 if size == 0xFFFFFFFF and data_size_64 else size
            if promised in _STREAMED_SIZES:
                return 0
            return max(0, position + 8 + promised - num_bytes)
        position += 8 + size + size % 2
    return 0


def _missing_ogg_bytes(file: BinaryIO, num_bytes: int) -> int:
    """Reads the segment table of the last page that begins in the file. RFC 3533, section 6."""
    start = max(0, num_bytes - _OGG_PAGE_BYTES)
    file.seek(start)
    tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0:
        return 0
    if page + 27 > len(tail):
        return page + 27 - len(tail)
    table_end = page + 27 + tail[page + 26]
    if table_end > len(tail):
        return table_end - len(tail)
    return max(0, table_end + sum(tail[page + 27 : table_end]) - len(tail))


def promises_length(file: BinaryIO, container: str, num_missing_frames: int) -> bool:
    """Whether a count of frames that came out `num_missing_frames` short really means a cut-off file.

    An MP3 without a Xing, Info or VBRI frame only has a length that the decoder guessed from the file's
    size, and padding makes that guess wrong by a frame or two.
    """
    if container != "MP3":
        return True
    file.seek(0)
    head = file.read(10)
    if head[:3] == b"ID3":
        # An ID3v2 tag (it may carry a picture) stands first; its size has 7 bits to a byte.
        file.seek(
            10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        )
    else:
        file.seek(0)
    first_frame = file.read(4096)
    counted = any(tag in first_frame for tag in (b"Xing", b"Info", b"VBRI"))
    return counted and num_missing_frames > 2 * _MPEG_FRAME_SAMPLES
