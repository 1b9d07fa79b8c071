"""Music without speech, made from numbers: what stands between the words of a badly cut video.

Chords, bass, a broken chord, a tune and drums in random keys, tempi, timbres and mixtures. It is far from
recordings, and nobody sings; it is varied enough that no single tone or rhythm gives it away.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]

_MAJOR: Final = (0, 2, 4, 5, 7, 9, 11)
_MINOR: Final = (0, 2, 3, 5, 7, 8, 10)
_PROGRESSIONS: Final = ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 4, 4), (1, 4, 0, 0), (0, 6, 5, 4))
"""Degrees of the scale on which the chords of four bars stand, counted from 0."""


class _Song:
    """What all instruments of a piece agree on."""

    def __init__(self, sample_rate_hz: int, generator: np.random.Generator) -> None:
        self.sample_rate_hz, self.generator = sample_rate_hz, generator
        self.scale = _MAJOR if generator.random() < 0.5 else _MINOR
        self.root = int(generator.integers(48, 60))
        """MIDI number: 60 is the middle C, 69 is 440 Hz."""
        self.beat_s = 60.0 / generator.uniform(70.0, 150.0)
        self.progression = _PROGRESSIONS[generator.integers(len(_PROGRESSIONS))]
        self.start_beat = int(generator.integers(0, 16))
        """Clips of a video begin anywhere in its music."""

    def degree(self, beat: int) -> int:
        """The chord of a beat, as a degree of the scale; a bar has four beats."""
        return self.progression[(self.start_beat + beat) // 4 % len(self.progression)]

    def frequency_hz(self, degree: int, octave: int = 0) -> float:
        octaves, step = divmod(degree, len(self.scale))
        note = self.root + self.scale[step] + 12 * (octaves + octave)
        return 440.0 * 2.0 ** ((note - 69) / 12)


def make_music(num_samples: int, sample_rate_hz: int, generator: np.random.Generator) -> Samples:
    """A piece [num_samples] of root mean square 1, of two to five instruments."""
    song = _Song(sample_rate_hz, generator)
    number = int(generator.integers(2, len(_INSTRUMENTS) + 1))
    chosen = generator.choice(len(_INSTRUMENTS), size=number, replace=False)
    piece = np.zeros(num_samples)
    for index in sorted(chosen):
        part = _INSTRUMENTS[index](song, num_samples)
        piece += generator.uniform(0.4, 1.0) * part / np.sqrt(np.mean(part**2))
    return piece / np.sqrt(np.mean(piece**2))


def _tone(
    song: _Song,
    frequency_hz: float,
    duration_s: float,
    harmonics: Samples,
    *,
    decay_s: float,
    attack_s: float,
) -> Samples:
    """One note: its harmonics die away, the higher ones sooner, and its pitch trembles a little."""
    times_s = np.arange(max(1, int(duration_s * song.sample_rate_hz))) / song.sample_rate_hz
    vibrato = 0.003 * np.sin(2 * np.pi * song.generator.uniform(4.0, 6.0) * times_s) / (2 * np.pi * 5.0)
    phase = 2 * np.pi * frequency_hz * (times_s + vibrato) + song.generator.uniform(0, 2 * np.pi)
    note = np.zeros(len(times_s))
    for number, amplitude in enumerate(harmonics, 1):
        if number * frequency_hz < 0.45 * song.sample_rate_hz:
            note += amplitude * np.sin(number * phase) * np.exp(-times_s * number**0.5 / decay_s)
    release_s = min(0.03, duration_s / 4)
    envelope = np.minimum(1.0, times_s / attack_s) * np.clip((duration_s - times_s) / release_s, 0.0, 1.0)
    return note * envelope


def _harmonics(song: _Song, *, odd_only: bool = False) -> Samples:
    """Amplitudes of the first twelve harmonics of a timbre."""
    numbers = np.arange(1, 13)
    amplitudes = song.generator.uniform(0.5, 1.0, len(numbers)) * numbers ** -song.generator.uniform(0.7, 2.0)
    return amplitudes * (numbers % 2) if odd_only else amplitudes


def _add(part: Samples, note: Samples, start: int) -> None:
    end = min(len(part), start + len(note))
    if start < end:
        part[start:end] += note[: end - start]


def _beats(song: _Song, num_samples: int, per_beat: int = 1) -> list[tuple[int, int]]:
    """(number of the beat, its first sample) for every beat of the piece, or part of a beat."""
    step = song.beat_s * song.sample_rate_hz / per_beat
    return [(number // per_beat, int(number * step)) for number in range(int(num_samples / step) + 1)]


def _chords(song: _Song, num_samples: int) -> Samples:
    part, harmonics = np.zeros(num_samples), _harmonics(song)
    for beat, start in _beats(song, num_samples):
        if beat == 0 or (song.start_beat + beat) % 4 == 0:
            beats_left = 4 - (song.start_beat + beat) % 4
            for third in (0, 2, 4):
                frequency_hz = song.frequency_hz(song.degree(beat) + third)
                note = _tone(
                    song, frequency_hz, beats_left * song.beat_s, harmonics, decay_s=8.0, attack_s=0.08
                )
                _add(part, note, start)
    return part


def _bass(song: _Song, num_samples: int) -> Samples:
    part, harmonics = np.zeros(num_samples), _harmonics(song)
    for beat, start in _beats(song, num_samples):
        degree = song.degree(beat) + int(song.generator.choice([0, 0, 4]))
        frequency_hz = song.frequency_hz(degree, octave=-1)
        _add(part, _tone(song, frequency_hz, song.beat_s, harmonics, decay_s=0.6, attack_s=0.01), start)
    return part


def _broken_chord(song: _Song, num_samples: int) -> Samples:
    part, harmonics = np.zeros(num_samples), _harmonics(song)
    pattern = song.generator.permutation([0, 2, 4, 7])
    for number, (beat, start) in enumerate(_beats(song, num_samples, per_beat=2)):
        frequency_hz = song.frequency_hz(song.degree(beat) + int(pattern[number % 4]), octave=1)
        _add(part, _tone(song, frequency_hz, song.beat_s, harmonics, decay_s=0.3, attack_s=0.004), start)
    return part


def _tune(song: _Song, num_samples: int) -> Samples:
    part, harmonics = np.zeros(num_samples), _harmonics(song, odd_only=song.generator.random() < 0.5)
    degree = int(song.generator.integers(0, 7))
    for _, start in _beats(song, num_samples, per_beat=2):
        if start == 0 or song.generator.random() < 0.7:  # otherwise the note before it sounds on
            degree = int(np.clip(degree + song.generator.integers(-2, 3), -3, 10))
            frequency_hz = song.frequency_hz(degree, octave=1)
            note = _tone(song, frequency_hz, 0.9 * song.beat_s, harmonics, decay_s=2.0, attack_s=0.03)
            _add(part, note, start)
    return part


def _drums(song: _Song, num_samples: int) -> Samples:
    part, rate_hz = np.zeros(num_samples), song.sample_rate_hz
    times_s = np.arange(int(0.25 * rate_hz)) / rate_hz
    kick = np.sin(2 * np.pi * (50.0 * times_s - 2.5 * np.exp(-times_s / 0.03))) * np.exp(-times_s / 0.08)
    for number, (beat, start) in enumerate(_beats(song, num_samples, per_beat=2)):
        noise = song.generator.standard_normal(len(times_s))
        _add(part, 0.15 * np.diff(noise, prepend=0.0) * np.exp(-times_s / 0.03), start)  # hi-hat
        if number % 2 == 0:
            is_snare = (song.start_beat + beat) % 2 == 1
            _add(part, 0.5 * noise * np.exp(-times_s / 0.07) if is_snare else kick, start)
    return part


_INSTRUMENTS: Final[tuple[Callable[[_Song, int], Samples], ...]] = (
    _chords,
    _bass,
    _broken_chord,
    _tune,
    _drums,
)
