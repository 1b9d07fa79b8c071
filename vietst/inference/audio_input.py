"""Any recording as a stream of 16 kHz samples: an hour takes no more memory than a second.

soundfile decodes what it knows (WAV, FLAC, OGG, Opus, MP3), as for training; ffmpeg's libraries (PyAV) decode
the rest: M4A, MP4, WebM, AMR, WMA, the sound of videos …
"""

import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import soxr

from vietst.constants import SAMPLE_RATE_HZ
from vietst.data.audio import mono_blocks, open_sound
from vietst.data.containers import mono_frames, offset_s, open_container, silence, sound_stream, unreadable
from vietst.data.mono import to_mono
from vietst.errors import AudioError

Audio: TypeAlias = str | Path | bytes | np.ndarray | tuple[np.ndarray, int]
"""A path; the bytes of a file; samples at 16 kHz; or samples and their rate in Hz. Samples are float, with
full scale 1.0, [num_samples] or [num_samples, num_channels]."""

_BLOCK_SAMPLES: Final = 1 << 18
_MAX_PEAK: Final = 100.0
"""Of an array whose full scale is 1.0: 40 dB too loud. Integers that were only cast are beyond it."""


def waveform_blocks(audio: Audio) -> Iterator[np.ndarray]:
    """Decode a recording block by block: mono (mean of the channels), 16 kHz (soxr's HQ quality).

    Yields:
        float32 [num_samples], C-contiguous, of some seconds each.

    Raises:
        AudioError: no file, no sound in it, cut off, damaged, empty, samples that are not finite, or nothing
            that is an `Audio`. It may come after blocks were yielded.
    """
    if isinstance(audio, bytes):
        return _file_blocks(audio)
    if isinstance(audio, (str, os.PathLike)):
        return _file_blocks(Path(audio))
    # A caller may hand over anything.
    given: Any = audio
    samples, rate_hz = given if isinstance(given, tuple) and len(given) == 2 else (given, SAMPLE_RATE_HZ)
    if not isinstance(samples, np.ndarray) or not _is_rate(rate_hz):
        raise AudioError(
            code="audio_unreadable",
            where="recording",
            rule="a path, the bytes of a file, a NumPy array of samples at 16 kHz, or (array, rate in Hz)",
            found=f"{type(samples).__name__} at {rate_hz!r} Hz"
            if isinstance(given, tuple)
            else type(given).__name__,
            do="hand over one of these; a tensor as tensor.numpy(), several recordings by each()",
        )
    return _resampled(_array_blocks(samples), int(rate_hz))


def _is_rate(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and bool(1 <= value < math.inf)


def _array_blocks(samples: np.ndarray) -> Iterator[np.ndarray]:
    if (
        not np.issubdtype(samples.dtype, np.floating)
        or samples.ndim not in (1, 2)
        or samples.size == 0
        or samples.size > len(samples) ** 2  # more channels than samples: they are swapped
    ):
        raise _unusable(samples, "")
    for start in range(0, len(samples), _BLOCK_SAMPLES):
        block = samples[start : start + _BLOCK_SAMPLES].astype(np.float32, copy=False)
        mono = to_mono(block.reshape(len(block), -1), "array of samples")
        if (peak := float(np.abs(mono).max())) > _MAX_PEAK:
            raise _unusable(samples, f", and samples of {peak:g}")
        yield mono


def _unusable(samples: np.ndarray, peak: str) -> AudioError:
    return AudioError(
        code="audio_unreadable",
        where="array of samples",
        rule="float samples with full scale 1.0, [num_samples] or [num_samples, num_channels]",
        found=f"{samples.dtype} {list(samples.shape)}{peak}",
        do="divide 16-bit integers by 32768; put the channels last",
    )


def _file_blocks(source: Path | bytes) -> Iterator[np.ndarray]:
    try:
        file = open_sound(source)
    except AudioError as error:
        if error.code != "audio_unreadable":
            raise
        yield from _av_blocks(source)
        return
    with file:
        yield from _resampled(mono_blocks(file, source), file.samplerate)


def _resampled(blocks: Iterator[np.ndarray], rate_hz: int) -> Iterator[np.ndarray]:
    if rate_hz == SAMPLE_RATE_HZ:
        yield from blocks
        return
    resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
    # A header may say any rate: at 1 Hz a block of input would be one of gigabytes.
    num_at_once = max(1, _BLOCK_SAMPLES * rate_hz // SAMPLE_RATE_HZ)
    for block in blocks:
        for start in range(0, len(block), num_at_once):
            yield resampler.resample_chunk(block[start : start + num_at_once])
    yield resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


# --- ffmpeg's libraries ------------------------------------------------------------------------------------


def _av_blocks(source: Path | bytes) -> Iterator[np.ndarray]:
    import av

    try:
        with open_container(source) as container:
            stream = sound_stream(container, source)
            yield from _resampled(_joined(_av_mono(container, stream, source), source), stream.rate)
    except (av.FFmpegError, OSError) as error:
        raise unreadable(source, f"ffmpeg: {error.strerror or error}") from error


def _joined(blocks: Iterator[np.ndarray], source: Path | bytes) -> Iterator[np.ndarray]:
    """Codecs' frames of some 20 ms as blocks of some seconds."""
    num_yielded, gathered, num_gathered = 0, [], 0
    for block in blocks:
        gathered.append(block)
        num_gathered += len(block)
        if num_gathered >= _BLOCK_SAMPLES:
            yield np.concatenate(gathered)
            num_yielded, gathered, num_gathered = num_yielded + num_gathered, [], 0
    if num_gathered:
        yield np.concatenate(gathered)
    elif not num_yielded:
        raise unreadable(source, "no sound that can be decoded")


def _av_mono(container: Any, stream: Any, source: Path | bytes) -> Iterator[np.ndarray]:
    """Float32 [num_samples] at the stream's rate, behind the silence before its first frame."""
    frames = container.decode(stream)
    first = next(frames, None)
    if first is not None:
        yield from silence(offset_s(container, first), stream.rate)
        yield from mono_frames(itertools.chain([first], frames), stream.rate, source)
