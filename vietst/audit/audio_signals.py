"""What one clip sounds like: shares of speech, music, silence and noise, level, clipping, noise, cut edges.

Speech is what Silero VAD's network hears. What it does not is silence where it is far below the clip's loud
parts or the limit of hearing, music where tones stand still, else noise. Steady tones are the measure of
Seyerlehner et al. 2007 ("Automatic Music Detection in Television Productions", DAFx): in speech, harmonics
glide; in music, peaks of the spectrum stay where they are for tenths of a second.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from vietst.audit.fingerprints import fingerprint
from vietst.constants import SAMPLE_RATE_HZ
from vietst.inference.voice_activity import CHUNK_SAMPLES, SileroNetwork, speech_probabilities

_HOP_SAMPLES: Final = 160
_FFT_SAMPLES: Final = 512
_WINDOW_SAMPLES: Final = 400
_SPEECH_PROBABILITY: Final = 0.5
"""Silero's own default."""
_SILENT_DBFS: Final = -55.0
_SILENT_BELOW_LOUD_DB: Final = 35.0
"""Under the loud parts of the clip (their 95th percentile): pauses of a good recording lie lower."""
_FLOOR_POWER: Final = 1e-10
_CLIPPED: Final = 0.99
_EDGE_SAMPLES: Final = 640
_EDGE_FRAME_SAMPLES: Final = 320
_MAX_SNR_DB: Final = 80.0
"""Digital silence would give any number."""

_TONE_WINDOW_SAMPLES: Final = 2048
"""128 ms, so long that the notes of a chord are apart; one such window for each chunk."""
_PEAK_RATIO: Final = 4.0
"""A bin this much above the mean of its neighbours is a peak; in white noise 2 % of them are."""
_NUM_NEIGHBOURS: Final = 41
_STEADY_CHUNKS: Final = 11
_STEADY_SHARE: Final = 0.7
"""Of a third of a second, in which a peak must stand in its bin to be a steady tone."""
_MIN_STEADY_BINS: Final = 3
_TONE_BINS: Final = slice(12, 640)
"""From 94 Hz, above mains hum, to 5 kHz."""


@dataclass(frozen=True)
class ClipSound:
    """What `measure_clips` finds; the names are those of the signals."""

    duration: float
    speech: float
    music: float
    silence: float
    noise: float
    level_dbfs: float
    clipping: float
    snr_db: float | None
    edge_start_db: float | None
    edge_end_db: float | None
    fingerprint: np.ndarray
    """uint32 [num_words]."""


def measure_clips(network: SileroNetwork, waveforms: Sequence[np.ndarray]) -> list[ClipSound]:
    """Measures clips, which the network hears together.

    Args:
        network: from `voice_activity.load_network`.
        waveforms: float32 [num_samples] each, mono, 16 kHz, not empty.
    """
    probabilities = speech_probabilities(network, waveforms)
    return [_measure(clip, speech) for clip, speech in zip(waveforms, probabilities, strict=True)]


def _measure(waveform: np.ndarray, probabilities: np.ndarray) -> ClipSound:
    power = _chunk_power(waveform)
    level_db = 10 * np.log10(np.maximum(power, _FLOOR_POWER))
    is_speech = probabilities >= _SPEECH_PROBABILITY
    loud_db = float(np.percentile(level_db, 95))
    is_silent = ~is_speech & (level_db < max(_SILENT_DBFS, loud_db - _SILENT_BELOW_LOUD_DB))
    is_music = ~is_speech & ~is_silent & _has_steady_tones(waveform, len(power))
    speech_power = float(power[is_speech].mean()) if is_speech.any() else None
    return ClipSound(
        duration=len(waveform) / SAMPLE_RATE_HZ,
        speech=float(is_speech.mean()),
        music=float(is_music.mean()),
        silence=float(is_silent.mean()),
        noise=float((~is_speech & ~is_music & ~is_silent).mean()),
        level_dbfs=10 * math.log10(max(float(np.mean(np.square(waveform))), _FLOOR_POWER)),
        clipping=float(np.mean(np.abs(waveform) >= _CLIPPED)),
        snr_db=_snr_db(speech_power, waveform),
        edge_start_db=_edge_db(waveform[:_EDGE_SAMPLES], speech_power),
        edge_end_db=_edge_db(waveform[-_EDGE_SAMPLES:], speech_power),
        fingerprint=fingerprint(power_spectrum(waveform)),
    )


def _chunk_power(waveform: np.ndarray) -> np.ndarray:
    """Mean square of the voice activity's chunks: [num_chunks]; the last one may be shorter."""
    starts = np.arange(0, len(waveform), CHUNK_SAMPLES)
    lengths = np.minimum(CHUNK_SAMPLES, len(waveform) - starts)
    return np.add.reduceat(np.square(waveform, dtype=np.float64), starts) / lengths


def _snr_db(speech_power: float | None, waveform: np.ndarray) -> float | None:
    """Power of speech above that of the quietest tenth of 20 ms frames, as NIST's STNR takes percentiles."""
    num_frames = len(waveform) // _EDGE_FRAME_SAMPLES
    if speech_power is None or num_frames == 0:
        return None
    frames = waveform[: num_frames * _EDGE_FRAME_SAMPLES].reshape(num_frames, -1)
    noise_power = max(float(np.percentile(np.square(frames).mean(axis=1), 10)), _FLOOR_POWER)
    return min(
        10 * math.log10(max(speech_power - noise_power, noise_power * 1e-2) / noise_power), _MAX_SNR_DB
    )


def _edge_db(edge: np.ndarray, speech_power: float | None) -> float | None:
    """The louder half of an edge relative to the speech."""
    if speech_power is None or len(edge) < _EDGE_SAMPLES:
        return None
    loudest = float(np.square(edge.reshape(-1, _EDGE_FRAME_SAMPLES)).mean(axis=1).max())
    return 10 * math.log10(max(loudest, _FLOOR_POWER) / max(speech_power, _FLOOR_POWER))


def power_spectrum(waveform: np.ndarray) -> np.ndarray:
    """Of Hann windows of 25 ms, 10 ms apart: float32 [num_frames, 257], at least one frame."""
    samples = np.pad(waveform, (0, max(0, _WINDOW_SAMPLES - len(waveform))))
    return _power_of_windows(samples, _WINDOW_SAMPLES, _HOP_SAMPLES, _FFT_SAMPLES)


def _power_of_windows(
    samples: np.ndarray, window_samples: int, hop_samples: int, fft_samples: int | None = None
) -> np.ndarray:
    """[num_windows, num_bins]; a Fourier transform longer than the window is padded with zeros."""
    windows = torch.from_numpy(samples).unfold(0, window_samples, hop_samples)
    spectrum = torch.fft.rfft(windows * torch.hann_window(window_samples), fft_samples)
    return torch.view_as_real(spectrum).square_().sum(dim=-1).numpy()


def _has_steady_tones(waveform: np.ndarray, num_chunks: int) -> np.ndarray:
    """bool [num_chunks]: whether tones stand still around the chunk."""
    margin = (_TONE_WINDOW_SAMPLES - CHUNK_SAMPLES) // 2
    samples = np.zeros((num_chunks - 1) * CHUNK_SAMPLES + _TONE_WINDOW_SAMPLES, dtype=np.float32)
    samples[margin : margin + len(waveform)] = waveform
    spectrum = _power_of_windows(samples, _TONE_WINDOW_SAMPLES, CHUNK_SAMPLES)[:, : _TONE_BINS.stop]
    is_peak = spectrum > _PEAK_RATIO * _moving_mean(spectrum, _NUM_NEIGHBOURS, axis=1)
    in_place = _moving_mean(is_peak[:, _TONE_BINS].astype(np.float32), _STEADY_CHUNKS, axis=0)
    return np.asarray((in_place >= _STEADY_SHARE).sum(axis=1) >= _MIN_STEADY_BINS)


def _moving_mean(values: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Centred, over as many neighbours as there are at the ends."""
    values = np.moveaxis(values, axis, 0)
    sums = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0, dtype=np.float64)])
    positions = np.arange(len(values))
    first, last = np.maximum(positions - length // 2, 0), np.minimum(positions + length // 2 + 1, len(values))
    means = (sums[last] - sums[first]) / (last - first).reshape(-1, *[1] * (values.ndim - 1))
    return np.moveaxis(means, 0, axis)
