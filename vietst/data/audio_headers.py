"""What the headers of audio files promise, so that a cut-off file is told from a short one.

libsndfile quietly shortens a WAV whose data chunk ends early, and ends an Ogg stream at the last whole
page; FLAC and MP3 (with a Xing or Info frame) are told by counting the decoded frames instead.
"""

import struct
from typing import BinaryIO, Final

STREAMED_SIZES: Final = (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFF000)
"""Sizes that programs leave in a WAV header when they could not go back and fill in the real one."""

_OGG_PAGE_BYTES: Final = 27 + 255 + 255 * 255
"""Largest page: fixed header, segment table, 255 segments of 255 bytes."""

MPEG_FRAME_SAMPLES: Final = 1152
"""Samples per channel in a frame of an MP3 (half of it below 32 kHz)."""
_MPEG_1_KBIT_S: Final = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG_2_KBIT_S: Final = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


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
            if promised in STREAMED_SIZES:
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


def count_mp3_samples(file: BinaryIO) -> tuple[int, bool] | None:
    """Samples per channel of an MP3 that does not say so itself, by walking over its frames, and whether
    these are of a constant bit rate up to its end.

    None for an MP3 whose first frame carries a count (Xing, Info or VBRI), which the decoder knows to read.
    Without one the decoder guesses the length from the bytes of the file and of its first frame, and stops
    there: a few thousandths too far where a constant bit rate does not divide into whole bytes a frame, and
    anywhere where the bit rate varies.
    """
    file.seek(0)
    head = file.read(10)
    start = 0
    if head[:3] == b"ID3":
        # An ID3v2 tag (it may hold a picture) stands first; its size has 7 bits to a byte.
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    file.seek(start)
    first_frame = file.read(1024)
    if any(tag in first_frame for tag in (b"Xing", b"Info", b"VBRI")):
        return None
    content = first_frame + file.read()
    position = 0
    num_samples = 0
    sizes = set()
    while frame := _mpeg_frame(content[position : position + 4]):
        frame_bytes, frame_samples = frame
        position += frame_bytes
        num_samples += frame_samples
        sizes.add(frame_bytes)
    is_at_end = position >= len(content) or content[position : position + 3] in (b"TAG", b"APE")
    is_constant = num_samples > 0 and max(sizes) - min(sizes) <= 1  # a byte of padding
    return num_samples, is_constant and is_at_end


def _mpeg_frame(header: bytes) -> tuple[int, int] | None:
    """Bytes and samples of a layer III frame by its 4 bytes of header; None if this is no such header."""
    bits = int.from_bytes(header, "big")
    version, layer = bits >> 19 & 3, bits >> 17 & 3
    rate_index, bit_rate_index = bits >> 10 & 3, bits >> 12 & 15
    is_frame = len(header) == 4 and bits >> 21 == 0x7FF and layer == 1 and version != 1
    if not is_frame or rate_index == 3 or bit_rate_index in (0, 15):
        return None
    is_mpeg_1 = version == 3
    sample_rate_hz = (44_100, 48_000, 32_000)[rate_index] // {3: 1, 2: 2, 0: 4}[version]
    bit_rate = 1000 * (_MPEG_1_KBIT_S if is_mpeg_1 else _MPEG_2_KBIT_S)[bit_rate_index - 1]
    num_samples = MPEG_FRAME_SAMPLES if is_mpeg_1 else MPEG_FRAME_SAMPLES // 2
    return num_samples // 8 * bit_rate // sample_rate_hz + (bits >> 9 & 1), num_samples
