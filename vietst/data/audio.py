"""Audio files: what they hold, and how they become a 16 kHz waveform.

A file that cannot be used raises `AudioError` with a code of `audio_paths.AUDIO_RULES`; it never turns into
silence. soundfile decodes (WAV, FLAC, OGG, Opus, MP3) what is no plain WAV, soxr resamples. Of a piece (see
`audio_pieces`) only its part of the file is decoded; there ffmpeg's libraries (PyAV) decode what soundfile
does not know, videos above all.
"""

import contextlib
import functools
import hashlib
import io
import math
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import soundfile
import soxr

from vietst.constants import SAMPLE_RATE_HZ
from vietst.data.audio_headers import MPEG_FRAME_SAMPLES, count_mp3_samples, missing_bytes
from vietst.data.audio_paths import audio_error
from vietst.data.audio_paths import resolve_audio_path as resolve_audio_path
from vietst.data.audio_pieces import Piece, piece_of
from vietst.data.mono import Mono, name_of, to_mono
from vietst.data.plain_wav import read_plain_wav
from vietst.errors import AudioError

SILENCE_PEAK: Final = 1e-3
"""Largest |sample| (full scale 1.0) that still counts as silence: -60 dBFS."""

_BLOCK_FRAMES: Final = 1 << 18
_SAMPLES_PER_GLANCE: Final = 64
_16_BIT: Final = "PCM_16"
_16_BIT_STEP: Final = np.float32(2**-15)
_HASH_BLOCK_BYTES: Final = 1 << 20
_MP3_TOLERANCE_SAMPLES: Final = 2 * MPEG_FRAME_SAMPLES
"""By so much encoders' delay and padding make lengths disagree."""
UNKNOWN_NUM_FRAMES: Final = 1 << 48
"""libsndfile gives a frame count near 2^63 for a stream whose header does not know its length."""


@dataclass(frozen=True)
class AudioFacts:
    """What one audio file holds, measured by decoding all of it."""

    digest: str
    """BLAKE2b-128 of the file's bytes, hexadecimal; of a piece, of these and its times."""
    num_bytes: int
    """Of the file."""
    sample_rate_hz: int
    """Rate of the file, before resampling."""
    num_channels: int
    num_samples: int
    """Per channel, at the file's own rate."""
    duration_s: float
    peak: float
    """Largest |sample| of the mono mix; full scale is 1.0."""
    rms_dbfs: float
    """Root mean square of the mono mix in decibels relative to 1.0."""


def load_utterance(audio_root: Path, row: Mapping[str, Any]) -> np.ndarray:
    """What a row of a manifest or split sounds like: `load_waveform` of its file, or of its piece.

    Raises:
        AudioError: any code of `audio_paths.AUDIO_RULES`.
    """
    return load_waveform(resolve_audio_path(audio_root, str(row["audio_path"])), piece_of(row))


def load_waveform(
    path: Path, piece: Piece | None = None, *, sample_rate_hz: int = SAMPLE_RATE_HZ
) -> np.ndarray:
    """Decodes a file or a piece to mono (mean of the channels) at `sample_rate_hz` (soxr's HQ quality).

    Returns:
        float32 [num_samples], C-contiguous, in [-1, 1] but for float files that hold louder samples.

    Raises:
        AudioError: any `audio_*` or `piece_*` code of `audio_paths.AUDIO_RULES`.
    """
    with _open_mono(path, piece) as sound:
        blocks = list(sound.blocks)
    waveform = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    # A few samples show that nearly every clip is loud enough.
    if waveform[::_SAMPLES_PER_GLANCE].max() <= SILENCE_PEAK:
        _refuse_silence(float(max(waveform.max(), -waveform.min())), path)
    if sound.sample_rate_hz != sample_rate_hz:
        waveform = soxr.resample(waveform, sound.sample_rate_hz, sample_rate_hz, quality="HQ")
    return waveform


def measure_audio(path: Path, piece: Piece | None = None) -> AudioFacts:
    """Decodes a whole file or a piece and hashes it, in blocks: hours take no more memory than seconds.

    Raises:
        AudioError: any `audio_*` or `piece_*` code of `audio_paths.AUDIO_RULES`. Too short or too long is the
            manifest's decision.
    """
    num_samples, peak, sum_of_squares = 0, 0.0, 0.0
    with _open_mono(path, piece) as sound:
        for mono in sound.blocks:
            num_samples += len(mono)
            peak = max(peak, float(mono.max()), -float(mono.min()))
            sum_of_squares += float(np.dot(mono, mono))
    _refuse_silence(peak, path)
    digest, num_bytes = hash_file(path, piece)
    return AudioFacts(
        digest=digest,
        num_bytes=num_bytes,
        sample_rate_hz=sound.sample_rate_hz,
        num_channels=sound.num_channels,
        num_samples=num_samples,
        duration_s=num_samples / sound.sample_rate_hz,
        peak=peak,
        rms_dbfs=10.0 * math.log10(sum_of_squares / num_samples),
    )


def hash_file(path: Path, piece: Piece | None = None) -> tuple[str, int]:
    """BLAKE2b-128 of a file's bytes (hexadecimal), and how many bytes these are.

    Of a piece, the hash of the file's and the piece's times; the file is read once for all of its pieces.
    """
    if piece is not None:
        # One at a time: threads come with pieces of one file, and all but the first find it hashed.
        with _HASHING:
            digest, num_bytes = _hash_of_unchanged(path, *_stamp(path))
        of_piece = hashlib.blake2b(f"{digest}{piece.fragment}".encode(), digest_size=16)
        return of_piece.hexdigest(), num_bytes
    hasher, num_bytes = hashlib.blake2b(digest_size=16), 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            hasher.update(block)
            num_bytes += len(block)
    return hasher.hexdigest(), num_bytes


_HASHING: Final = threading.Lock()


@functools.lru_cache(maxsize=4096)
def _hash_of_unchanged(path: Path, num_bytes: int, mtime_ns: int) -> tuple[str, int]:
    return hash_file(path)


def _stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and modification time: what a file must have to count as unchanged."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return 0, 0  # opening it says what is wrong
    return status.st_size, status.st_mtime_ns


@contextlib.contextmanager
def _open_mono(path: Path, piece: Piece | None) -> Iterator[Mono]:
    if piece is None and (plain := read_plain_wav(path)) is not None:
        mono = to_mono(_scaled(plain.samples), str(path), is_finite=True)
        yield Mono(iter([mono]), plain.sample_rate_hz, plain.samples.shape[1])
    elif piece is None:
        with open_sound(path) as file:
            yield Mono(mono_blocks(file, path), file.samplerate, file.channels)
    elif (num_frames := _num_seekable_frames(path, *_stamp(path))) is not None:
        with soundfile.SoundFile(os.fspath(path)) as file:
            start, stop = piece.sample_span(file.samplerate, num_frames, path)
            file.seek(start)
            yield Mono(mono_blocks(file, path, stop - start), file.samplerate, file.channels)
    else:
        from vietst.data.containers import open_container_piece

        with open_container_piece(path, piece) as sound:
            yield sound


@functools.lru_cache(maxsize=4096)
def _num_seekable_frames(path: Path, num_bytes: int, mtime_ns: int) -> int | None:
    """Samples per channel of a file that soundfile decodes and seeks in; None: it does not.

    Asked once, for it may take reading all of an MP3.

    Raises:
        AudioError: as `open_sound`, but for what soundfile does not know.
    """
    try:
        with open_sound(path) as file:
            return file.frames if file.seekable() and file.frames < UNKNOWN_NUM_FRAMES else None
    except AudioError as error:
        # Without a cause soundfile knew the file, and we do not trust its length.
        if error.code != "audio_unreadable" or error.__cause__ is None:
            raise
        return None


class _CountedSound(soundfile.SoundFile):
    """A file whose length is what was counted where libsndfile takes it for longer."""

    num_counted: int | None = None
    """Samples per channel; None: libsndfile knows."""

    @property
    def frames(self) -> int:
        return int(super().frames) if self.num_counted is None else self.num_counted


def open_sound(source: Path | bytes) -> soundfile.SoundFile:
    """Opens a file, or what one holds, for decoding; refuses what is missing, empty, not audio, or cut off.

    Raises:
        AudioError: `audio_missing`, `audio_empty`, `audio_unreadable` or `audio_truncated`.
    """
    if isinstance(source, bytes):
        return _open_stream(io.BytesIO(source), len(source), source)
    try:
        status = source.stat()
        if stat.S_ISDIR(status.st_mode):
            raise audio_error("audio_missing", source, "a folder", "write the path of an audio file")
        with source.open("rb") as raw:
            return _open_stream(raw, status.st_size, source)
    except (OSError, ValueError) as error:
        raise audio_error(
            "audio_missing",
            source,
            str(error),
            "mend the path, restore the file, or remove its row from the manifest",
        ) from error


def _open_stream(raw: BinaryIO, num_bytes: int, source: Path | bytes) -> soundfile.SoundFile:
    """`raw` is read for what its headers promise; soundfile opens a path itself, which is quicker."""
    where = name_of(source)
    if num_bytes == 0:
        raise audio_error("audio_empty", where, "a file of 0 bytes", "cut the clip again")
    try:
        file = _CountedSound(io.BytesIO(source) if isinstance(source, bytes) else os.fspath(source))
    # soundfile asks for rate and channels of a headerless .raw file by a TypeError.
    except (soundfile.SoundFileError, RuntimeError, TypeError, OSError) as error:
        raise audio_error(
            "audio_unreadable",
            where,
            f"libsndfile: {error} (of a video, rows are pieces: start_s and end_s)",
            "convert it, for example: ffmpeg -i IN -ac 1 -ar 16000 OUT.flac",
        ) from error
    num_missing = missing_bytes(raw, num_bytes)
    counted = count_mp3_samples(raw) if file.format == "MP3" else None
    if num_missing:
        file.close()
        raise audio_error(
            "audio_truncated",
            where,
            f"{num_missing} bytes fewer than its header promises",
            "copy or cut it again",
        )
    if counted is not None:
        _trust_count(file, *counted, where)
    return file


def _trust_count(file: _CountedSound, num_counted: int, is_constant: bool, where: str) -> None:
    """Has an MP3 end where its frames do, or refuses one in which libsndfile would find no places."""
    if is_constant and num_counted < file.frames:
        file.num_counted = num_counted
    elif abs(num_counted - file.frames) > _MP3_TOLERANCE_SAMPLES:
        file.close()
        raise audio_error(
            "audio_unreadable",
            where,
            f"an MP3 without a Xing frame, whose {num_counted} samples are taken for {file.frames}",
            "write its frames anew: ffmpeg -i IN -c copy OUT.mp3",
        )


def mono_blocks(
    file: soundfile.SoundFile, source: Path | bytes, num_frames: int | None = None
) -> Iterator[np.ndarray]:
    """Yields float32 [num_samples] at the file's own rate until its end: the mean of the channels.

    Args:
        num_frames: only so many, from where the file stands.

    Raises:
        AudioError: `audio_empty`, `audio_truncated` or `audio_not_finite`.
    """
    where = name_of(source)
    for block in _decoded_blocks(file, where, num_frames):
        yield to_mono(block, where, is_finite=file.subtype == _16_BIT)


def _decoded_blocks(file: soundfile.SoundFile, where: str, num_frames: int | None) -> Iterator[np.ndarray]:
    """Yields float32 [num_frames, num_channels] until the end; at least one block, none of them empty."""
    # The same values as libsndfile's own floats, in half the time.
    is_16_bit = file.subtype == _16_BIT
    num_promised = num_frames
    if num_promised is None and file.frames < UNKNOWN_NUM_FRAMES:
        num_promised = file.frames
    num_read = 0
    while num_promised is None or num_read < num_promised:
        num_wanted = _BLOCK_FRAMES if num_promised is None else min(_BLOCK_FRAMES, num_promised - num_read)
        try:
            block = file.read(num_wanted, dtype="int16" if is_16_bit else "float32", always_2d=True)
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise audio_error(
                "audio_truncated",
                where,
                f"decoding broke off after {num_read} of {num_promised} frames: {error}",
                "copy or cut it again",
            ) from error
        if len(block) == 0:
            break
        num_read += len(block)
        yield _scaled(block) if is_16_bit else block
    if num_read == 0:
        raise audio_error("audio_empty", where, "a header without samples", "cut the clip again")
    tolerance = _MP3_TOLERANCE_SAMPLES if file.format == "MP3" else 0
    if num_promised is not None and num_read < num_promised - tolerance:
        raise audio_error(
            "audio_truncated",
            where,
            f"{num_read} of the {num_promised} promised frames",
            "copy or cut it again",
        )


def _scaled(samples: np.ndarray) -> np.ndarray:
    """16-bit integers as float32 of the same shape; full scale is 1.0."""
    return np.multiply(samples, _16_BIT_STEP, dtype=np.float32)


def _refuse_silence(peak: float, path: Path) -> None:
    if peak <= SILENCE_PEAK:
        level = f"{20.0 * math.log10(peak):.0f} dBFS" if peak > 0 else "digital silence"
        raise audio_error("audio_silent", path, f"peak {level}", "remove the row, or record it again")
