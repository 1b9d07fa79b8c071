"""From speech probabilities to pieces that a model can hear: cut at pauses, none longer than the limit.

Pieces are decided while the recording streams by; what is still open is never longer than one piece.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Final

from vietst.constants import SAMPLE_RATE_HZ
from vietst.inference.voice_activity import CHUNK_SAMPLES

PADDING_S: Final = 0.2
"""Heard before and behind a piece where there is room: soft beginnings and ends that the detector misses."""

_ON: Final = 0.5
"""Speech begins at a chunk of at least this probability (Silero's default) …"""
_OFF: Final = 0.35
"""… and ends where it stays below this for `_MIN_PAUSE_S`."""
_MIN_PAUSE_S: Final = 0.1
_LINGER_SAMPLES: Final = 2 * CHUNK_SAMPLES
"""The detector holds on for some 0.1 s behind the end of speech (median of 130 clips, English and Vietnamese,
real and synthetic); so much of it is taken off the times."""
_MIN_SPEECH_S: Final = 0.1
"""What is shorter is a click."""
_PAUSES_PER_LIMIT: Final = 15
"""A pause of more than this share of the limit ends a piece: 2 s of 30, half a second of subtitles' 7."""
_LATE: Final = 0.75
"""A piece that must end is cut at its longest pause after this share of the limit."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """Samples of a recording; the next piece begins where this one ends, or later."""

    start: int
    end: int
    """Of the speech."""
    heard_start: int
    heard_end: int
    """What the model gets: with some of the pauses around it."""


@dataclasses.dataclass
class _Run:
    """Speech without a pause, in chunks."""

    start: int
    end: int
    was_cut: bool = False
    """Its beginning is no beginning of speech."""


class Segmenter:
    """Pieces of one recording.

    Args:
        limit_samples: that no piece exceeds, padding included.
    """

    def __init__(self, limit_samples: int) -> None:
        self._padding = min(round(PADDING_S * SAMPLE_RATE_HZ), limit_samples // 8)
        self._limit = (limit_samples - 2 * self._padding) // CHUNK_SAMPLES
        if self._limit < 4:
            raise ValueError(f"{limit_samples} samples are too few for a piece of speech")
        self._long_pause = max(limit_samples / _PAUSES_PER_LIMIT, 2 * self._padding)
        self._runs: list[_Run] = []  # of the piece that is being gathered
        self._open: _Run | None = None  # the run that goes on
        self._probabilities: list[float] = []  # of the open run
        self._position = 0  # chunks seen
        self._heard_end = 0  # of the last piece

    @property
    def earliest(self) -> int:
        """The first sample that a coming piece may need."""
        first = self._runs[0] if self._runs else self._open
        start = self._position if first is None else first.start
        return max(self._heard_end, start * CHUNK_SAMPLES - self._padding)

    def __call__(self, probabilities: Iterable[float]) -> Iterator[Piece]:
        """The pieces that the next chunks complete."""
        for probability in probabilities:
            self._position += 1
            self._see(probability)
            yield from self._overfull()
            if self._runs and self._open is None:
                pause = (self._position - self._runs[-1].end) * CHUNK_SAMPLES
                if pause > self._long_pause:
                    yield self._cut(len(self._runs), pause)

    def finish(self, num_samples: int) -> Iterator[Piece]:
        """The last piece, of a recording of so many samples."""
        if self._open is not None:
            self._close()
        if self._runs:
            last = self._cut(len(self._runs), num_samples)
            yield dataclasses.replace(
                last, end=min(last.end, num_samples), heard_end=min(last.heard_end, num_samples)
            )

    def _see(self, probability: float) -> None:
        """Begin, continue or close the open run. Its `end` is where it was last speech."""
        chunk = self._position - 1
        if self._open is None:
            if probability < _ON:
                return
            self._open = _Run(chunk, chunk)
            self._probabilities = []
        self._probabilities.append(probability)
        if probability >= _OFF:
            self._open.end = self._position
        elif (self._position - self._open.end) * CHUNK_SAMPLES >= _MIN_PAUSE_S * SAMPLE_RATE_HZ:
            self._close()

    def _close(self) -> None:
        run = self._open
        assert run is not None
        if run.was_cut or (run.end - run.start) * CHUNK_SAMPLES >= _MIN_SPEECH_S * SAMPLE_RATE_HZ:
            self._runs.append(run)
        self._open = None

    def _overfull(self) -> Iterator[Piece]:
        """What must be cut off because the limit is reached."""
        while True:
            runs = [*self._runs, *([self._open] if self._open is not None else [])]
            if not runs or runs[-1].end - runs[0].start <= self._limit:
                return
            if len(runs) > 1:
                pauses = [after.start - before.end for before, after in itertools.pairwise(runs)]
                late = [
                    index
                    for index, run in enumerate(runs[:-1])
                    if run.end - runs[0].start >= _LATE * self._limit
                ]
                index = max(late, key=lambda index: pauses[index]) if late else len(runs) - 2
                yield self._cut(index + 1, pauses[index] * CHUNK_SAMPLES)
            else:
                yield self._cut_inside()

    def _cut(self, num_runs: int, pause: int) -> Piece:
        """A piece of the first runs, behind which there is a pause of so many samples, or more."""
        start, end = self._runs[0].start * CHUNK_SAMPLES, self._runs[num_runs - 1].end * CHUNK_SAMPLES
        del self._runs[:num_runs]
        speech_end = max(end - _LINGER_SAMPLES, start + CHUNK_SAMPLES)
        return self._piece(start, speech_end, end + min(self._padding, pause // 2))

    def _cut_inside(self) -> Piece:
        """A piece of the open run, up to its least speech-like chunk in the second half of what fits."""
        assert self._open is not None
        half = self._limit // 2
        candidates = self._probabilities[half : self._limit]
        length = half + min(range(len(candidates)), key=candidates.__getitem__)
        start = self._open.start * CHUNK_SAMPLES
        self._open = _Run(self._open.start + length, self._open.end, was_cut=True)
        del self._probabilities[:length]
        end = self._open.start * CHUNK_SAMPLES
        return self._piece(start, end, end)

    def _piece(self, start: int, end: int, heard_end: int) -> Piece:
        heard_start = max(self._heard_end, start - self._padding)
        self._heard_end = heard_end
        return Piece(start, end, heard_start, heard_end)
