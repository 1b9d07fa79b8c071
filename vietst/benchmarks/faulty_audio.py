"""What badly cut clips sound like: half a second off, music, half silent, the same recording once more.

Samples are float64 [num_samples], mono, full scale 1.0.
"""

import io
from typing import Final

import numpy as np
import numpy.typing as npt
import soundfile

from vietst.benchmarks.synthetic_music import make_music

Samples = npt.NDArray[np.float64]

MISCUT_S: Final = 0.5
"""By how much a miscut clip begins and ends too early or too late."""

_MUSIC_DBFS: Final = (-30.0, -14.0)
_FAINT_NOISE_DBFS: Final = (-75.0, -60.0)
_COPY_GAIN_DB: Final = (-8.0, 4.0)
_COPY_OFFSET_S: Final = 0.08
_PEAK: Final = 0.99


def miscut(
    previous: Samples, own: Samples, following: Samples, sample_rate_hz: int, *, early: bool
) -> Samples:
    """A clip cut `MISCUT_S` early or late out of the video in which the three follow each other."""
    offset = round(MISCUT_S * sample_rate_hz) * (-1 if early else 1)
    start = len(previous) + offset
    return np.concatenate([previous, own, following])[start : start + len(own)]


def music_instead(own: Samples, sample_rate_hz: int, generator: np.random.Generator) -> Samples:
    """Music as long as the clip."""
    level = 10 ** (generator.uniform(*_MUSIC_DBFS) / 20)
    return _below_full_scale(level * make_music(len(own), sample_rate_hz, generator))


def half_silent(own: Samples, generator: np.random.Generator, *, first_half: bool, faint: bool) -> Samples:
    """The clip with one half replaced by faint noise, or by zeros."""
    half = slice(0, len(own) // 2) if first_half else slice(len(own) // 2, None)
    changed = own.copy()
    level = 10 ** (generator.uniform(*_FAINT_NOISE_DBFS) / 20) if faint else 0.0
    changed[half] = level * generator.standard_normal(len(changed[half]))
    return changed


def another_copy(
    source: Samples, sample_rate_hz: int, generator: np.random.Generator, *, mp3: bool
) -> Samples:
    """The same recording louder or softer and begun a little later, perhaps once coded as MP3 on its way."""
    gain = 10 ** (generator.uniform(*_COPY_GAIN_DB) / 20)
    copy = _below_full_scale(gain * source[int(generator.uniform(0, _COPY_OFFSET_S) * sample_rate_hz) :])
    if not mp3:
        return copy
    coded = io.BytesIO()
    soundfile.write(coded, copy, sample_rate_hz, format="MP3", subtype="MPEG_LAYER_III")
    decoded, _ = soundfile.read(io.BytesIO(coded.getvalue()))
    return decoded


def _below_full_scale(samples: Samples) -> Samples:
    return samples * min(1.0, _PEAK / max(float(np.abs(samples).max()), 1e-9))
