"""Input kinds: what a model listens to, computed from a 16 kHz waveform.

Two families, each equal to what transformers' own feature extractor gives, without its waste:

* log-mel filterbank features (Whisper). `WhisperFeatureExtractor` pads every clip with zeros to its window
  (30 s) first; here only the frames that touch a real sample are computed, plus the one value that all
  later frames would have. `pad_log_mel` puts the window together again.
* waveform (wav2vec2): zero mean and unit variance over the clip.
"""

import difflib
import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np

from vietst.constants import SAMPLE_RATE_HZ
from vietst.errors import ConfigError, ModelError

if TYPE_CHECKING:
    import torch

FEATURE_CODE_VERSION: Final = 2
"""Raise it with every change of this module (or of audio reading) that changes cached values by more than one
unit of float16: old caches are then no longer taken for current ones."""

_SCALE: Final = 0.25 / math.log(10)
"""Whisper's values are (log10(power) + 4) / 4: the natural logarithm times this, plus 1."""
_LOWEST_VALUE: Final = (-10 + 4) / 4
"""Of the smallest power that counts (1e-10), which is what a frame of zeros gets."""
_DYNAMIC_RANGE: Final = 8 / 4
"""Everything more than 8 powers of ten (80 dB) below the loudest value of the window is raised to there."""
_VARIANCE_FLOOR: Final = 1e-7
_FILTERS_PER_BAND: Final = 16
"""Of 80 or 128; with fewer, the calls cost more than the zeros that are left out."""


@dataclass(frozen=True)
class InputKind:
    """Settings of one kind of model input; everything that decides its values besides the code."""

    name: str
    kind: Literal["log_mel", "waveform"]
    window_s: float
    """What the model sees at once. Longer audio is cut there, as the feature extractors do."""
    num_mel_bins: int = 0
    fft_size_samples: int = 0
    hop_length_samples: int = 1

    @property
    def num_window_samples(self) -> int:
        return round(self.window_s * SAMPLE_RATE_HZ)

    @property
    def num_window_frames(self) -> int:
        """Frames of a full window; samples for the waveform."""
        return self.num_window_samples // self.hop_length_samples

    def num_frames(self, num_samples: int) -> int:
        """Frames that `extract` gives for `num_samples` samples at 16 kHz."""
        num_samples = min(num_samples, self.num_window_samples)
        if self.kind == "waveform":
            return num_samples
        # Frame t looks at samples [t * hop - fft/2, t * hop + fft/2): those that begin before the end.
        num_touching = -(-(num_samples + self.fft_size_samples // 2) // self.hop_length_samples)
        return max(1, min(self.num_window_frames, num_touching))

    @property
    def bytes_per_frame(self) -> int:
        """Of cached half-precision features."""
        return 2 * max(1, self.num_mel_bins)

    def num_bytes(self, num_samples: int) -> int:
        """Bytes of the cached half-precision features of `num_samples` samples at 16 kHz."""
        return self.num_frames(num_samples) * self.bytes_per_frame


def log_mel_kind(num_mel_bins: int, hop_length_samples: int = 160, window_s: int = 30) -> InputKind:
    """A log-mel front end with Whisper's Fourier transform (400 samples); its name says what is not usual."""
    name = f"log_mel-{num_mel_bins}"
    if (hop_length_samples, window_s) != (160, 30):
        name += f"-hop{hop_length_samples}-{window_s}s"
    return InputKind(name, "log_mel", float(window_s), num_mel_bins, 400, hop_length_samples)


LOG_MEL_80: Final = log_mel_kind(80)
"""Whisper tiny … large-v2."""
LOG_MEL_128: Final = log_mel_kind(128)
"""Whisper large-v3."""
LOG_MEL_80_NANO: Final = log_mel_kind(80, hop_length_samples=320, window_s=4)
"""The small untrained Whisper of `nano_whisper`: half as many frames, a window of 4 s."""
WAVEFORM_16K: Final = InputKind("waveform-16k", "waveform", 30.0)
"""wav2vec2 encoders."""

INPUT_KINDS: Final = {kind.name: kind for kind in (LOG_MEL_80, LOG_MEL_128, WAVEFORM_16K, LOG_MEL_80_NANO)}
"""Every input kind that the shipped configurations need, by name."""


def input_kind_named(name: str) -> InputKind:
    """The input kind of this name: a shipped one, or another front end of a model made here.

    Raises:
        ConfigError: there is no such kind.
    """
    if name in INPUT_KINDS:
        return INPUT_KINDS[name]
    if numbers := re.fullmatch(r"log_mel-(80|128)-hop([1-9]\d*)-([1-9]\d*)s", name):
        kind = log_mel_kind(*map(int, numbers.groups()))
        if kind.name == name:
            return kind
    close = difflib.get_close_matches(name, INPUT_KINDS, n=1)
    raise ConfigError(
        where="name of an input kind",
        rule="one of " + ", ".join(INPUT_KINDS) + " (or log_mel-MELS-hopSAMPLES-SECONDSs)",
        found=repr(name),
        do=f"write {close[0]}" if close else "write one of these",
    )


@dataclass(frozen=True)
class Extracted:
    """Features of one clip, as long as the clip."""

    values: np.ndarray
    """float32 [num_frames, num_mel_bins] for log-mel, [num_samples] for the waveform."""
    pad_value: float
    """What the feature extractor would have put behind them, up to the end of the window."""


def input_kind_of(feature_extractor: Any) -> InputKind:
    """The input kind that a loaded transformers feature extractor computes.

    Raises:
        ModelError: its settings are none that `extract` can reproduce.
    """
    is_log_mel = hasattr(feature_extractor, "hop_length")
    expected: dict[str, object] = {"sampling_rate": SAMPLE_RATE_HZ, "padding_value": 0.0}
    expected |= {"n_fft": 400, "dither": 0.0} if is_log_mel else {"feature_size": 1, "do_normalize": True}
    found = {name: getattr(feature_extractor, name, None) for name in expected}
    if found != expected:
        raise ModelError(
            where=f"the model's {type(feature_extractor).__name__}",
            rule="its settings are the usual ones: " + _listed(expected),
            found=_listed(found),
            do="use a Whisper or wav2vec2 model with the usual front end",
        )
    if not is_log_mel:
        return WAVEFORM_16K
    return log_mel_kind(
        feature_extractor.feature_size, feature_extractor.hop_length, feature_extractor.chunk_length
    )


def _listed(settings: dict[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def load_constants(kind: InputKind) -> None:
    """Imports and computes what `extract` needs besides the waveform, so that its first call is quick."""
    if kind.kind == "log_mel":
        _log_mel_constants(kind)


def extract(waveform: np.ndarray, kind: InputKind) -> Extracted:
    """Features of one clip.

    Args:
        waveform: float32 [num_samples], mono, 16 kHz. Samples behind the window are left out.
    """
    signal = np.ascontiguousarray(waveform[: kind.num_window_samples], dtype=np.float32)
    return _extract_log_mel(signal, kind) if kind.kind == "log_mel" else _normalize(signal)


def half_precision(values: np.ndarray, kind: InputKind) -> np.ndarray:
    """Extracted values as a cache holds them: little-endian float16 of the same shape."""
    if kind.kind != "log_mel":
        return values.astype("<f2")
    import torch  # which is loaded anyway, and rounds alike five times as fast

    return torch.from_numpy(values).half().numpy().astype("<f2", copy=False)


def _normalize(signal: np.ndarray) -> Extracted:
    """As `Wav2Vec2FeatureExtractor(do_normalize=True)`; it pads the normalized clip with zeros."""
    if len(signal) == 0:
        return Extracted(signal, 0.0)
    return Extracted((signal - signal.mean()) / np.sqrt(signal.var() + _VARIANCE_FLOOR), 0.0)


def _extract_log_mel(signal: np.ndarray, kind: InputKind) -> Extracted:
    """As `WhisperFeatureExtractor` (a short-time Fourier transform, centred frames), real frames only."""
    import torch

    num_frames = kind.num_frames(len(signal))
    window, mel_bands = _log_mel_constants(kind)
    samples = torch.from_numpy(_frame_samples(signal, num_frames, kind))
    frames = samples.unfold(0, kind.fft_size_samples, kind.hop_length_samples)  # [num_frames, fft]
    spectrum = torch.view_as_real(torch.fft.rfft(frames * window))  # [num_frames, fft/2 + 1, 2]
    # On one thread of an x86 processor numpy adds, multiplies and takes logarithms of so few numbers faster.
    squared = spectrum.square_().numpy()
    power = squared[:, :, 0] + squared[:, :, 1]
    mel_power = np.empty((num_frames, kind.num_mel_bins), np.float32)
    for band in mel_bands:
        np.matmul(power[:, band.frequencies], band.filters, out=mel_power[:, band.mel_bins])
    with np.errstate(divide="ignore"):
        log_power = torch.from_numpy(np.log(mel_power, out=mel_power))
    values = torch.add(torch.ones(()), log_power, alpha=_SCALE, out=log_power)
    # Of the window, whose maximum counts, the frames that are left out have the lowest value of all.
    loudest = max(float(values.max()), _LOWEST_VALUE)
    pad_value = max(_LOWEST_VALUE, loudest - _DYNAMIC_RANGE)
    return Extracted(values.clamp_(min=pad_value).numpy(), pad_value)


def _frame_samples(signal: np.ndarray, num_frames: int, kind: InputKind) -> np.ndarray:
    """The samples under frames 0 … num_frames - 1, where the zero-padded window is mirrored at both ends.

    Returns:
        float32 [(num_frames - 1) * hop + fft]; position fft/2 is the signal's first sample.
    """
    half = kind.fft_size_samples // 2
    samples = np.zeros((num_frames - 1) * kind.hop_length_samples + kind.fft_size_samples, dtype=np.float32)
    num_copied = min(len(signal), len(samples) - half)
    samples[half : half + num_copied] = signal[:num_copied]
    mirrored = signal[1 : half + 1]
    samples[half - len(mirrored) : half] = mirrored[::-1]
    # Only the last frame of a full window looks behind the window's end.
    num_behind = len(samples) - half - kind.num_window_samples
    if num_behind > 0:
        start = kind.num_window_samples - 1 - num_behind
        tail = np.zeros(num_behind, dtype=np.float32)
        real = signal[start : kind.num_window_samples - 1]
        tail[: len(real)] = real
        samples[-num_behind:] = tail[::-1]
    return samples


class _MelBand(NamedTuple):
    """Neighbouring mel filters, and the frequencies that any of them weighs: most of all filters is zeros."""

    mel_bins: slice
    """The filters of the band among all."""
    frequencies: slice
    """Of the Fourier transform's fft/2 + 1."""
    filters: np.ndarray
    """float32 [num_frequencies, num_filters]."""


@functools.lru_cache(maxsize=8)
def _log_mel_constants(kind: InputKind) -> tuple["torch.Tensor", list[_MelBand]]:
    """Hann window [fft] and mel filters, as WhisperFeatureExtractor makes them."""
    import torch
    from transformers.audio_utils import mel_filter_bank

    mel_filters = mel_filter_bank(
        num_frequency_bins=1 + kind.fft_size_samples // 2,
        num_mel_filters=kind.num_mel_bins,
        min_frequency=0.0,
        max_frequency=SAMPLE_RATE_HZ / 2,
        sampling_rate=SAMPLE_RATE_HZ,
        norm="slaney",
        mel_scale="slaney",
    ).astype(np.float32)  # [fft/2 + 1, num_mel_bins]
    bands = []
    for first_bin in range(0, kind.num_mel_bins, _FILTERS_PER_BAND):
        mel_bins = slice(first_bin, first_bin + _FILTERS_PER_BAND)
        weighed = np.flatnonzero(mel_filters[:, mel_bins].any(axis=1))
        frequencies = slice(int(weighed[0]), int(weighed[-1]) + 1)
        bands.append(
            _MelBand(mel_bins, frequencies, np.ascontiguousarray(mel_filters[frequencies, mel_bins]))
        )
    return torch.hann_window(kind.fft_size_samples), bands


def pad_log_mel(
    values: Sequence[np.ndarray], pad_values: Sequence[float], num_window_frames: int
) -> np.ndarray:
    """Pads clips to the model's window, each with its own value, mel bins first as Whisper reads them.

    Args:
        values: one [num_frames, num_mel_bins] per clip, any float type; frames behind the window are cut.
        pad_values: one per clip, as `Extracted.pad_value`.

    Returns:
        float32 [batch, num_mel_bins, num_window_frames].
    """
    num_mel_bins = values[0].shape[1]
    batch = np.empty((len(values), num_mel_bins, num_window_frames), dtype=np.float32)
    for row, clip, pad_value in zip(batch, values, pad_values, strict=True):
        num_frames = min(len(clip), num_window_frames)
        row[:, :num_frames] = clip[:num_frames].T
        row[:, num_frames:] = pad_value
    return batch
