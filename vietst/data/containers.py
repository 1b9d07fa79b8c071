"""Files that ffmpeg's libraries (PyAV) read, videos above all; pieces of them without decoding the rest."""

import contextlib
import io
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np

from vietst.data.audio_paths import audio_error
from vietst.data.audio_pieces import END_TOLERANCE_S, Piece
from vietst.data.mono import Mono, name_of, to_mono
from vietst.errors import AudioError

MIN_OFFSET_S: Final = 0.02
"""Sound that begins less behind the picture is taken to begin with it: codecs' priming differs by so much."""

_GAP_S: Final = (0.1, 3600.0)
"""Shortest and longest gap in a sound's times that is filled: below are roundings, above broken clocks."""
_PREROLL_S: Final = 1.0
"""Decoded and thrown away before a piece: a codec's frame needs those before it, Opus 80 ms of them."""
_SILENCE_SAMPLES: Final = 1 << 18
_NUM_FIRST_FRAMES: Final = 4
_LAST_PTS: Final = (1 << 63) - 1
"""A container counts no further."""


@contextlib.contextmanager
def open_container(source: Path | bytes) -> Iterator[Any]:
    """A file as ffmpeg's libraries read it, and no other: playlists name files and addresses, which whoever
    uploads one could read then.

    Yields:
        An `av.container.InputContainer`.

    Raises:
        av.FFmpegError, OSError: it cannot be read.
    """
    import av

    with (
        io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file,
        av.open(file, container_options={"protocol_whitelist": "none"}) as container,
    ):
        yield container


def sound_stream(container: Any, source: Path | bytes) -> Any:
    """The first sound stream. Raises AudioError if there is none of a known format."""
    if not container.streams.audio:
        raise unreadable(source, "no sound in it")
    stream = container.streams.audio[0]
    if stream.codec_context is None or not stream.rate:
        raise unreadable(source, "sound of an unknown format")
    return stream


def offset_s(container: Any, frame: Any) -> float:
    """How far behind the beginning of the recording its sound begins, with its first frame; subtitles count
    from the former."""
    if frame.time is None or container.start_time is None:
        return 0.0
    offset = float(frame.time - container.start_time / 1e6)
    return offset if offset >= MIN_OFFSET_S else 0.0


def unreadable(source: Path | bytes, found: str) -> AudioError:
    return AudioError(
        code="audio_unreadable",
        where=name_of(source),
        rule="a file with sound that soundfile or ffmpeg's libraries can decode",
        found=found,
        do="check that it plays, and export it again, for example: ffmpeg -i IN -ac 1 -ar 16000 OUT.flac",
    )


def mono_frames(frames: Iterable[Any], rate_hz: int, source: Path | bytes) -> Iterator[np.ndarray]:
    """Decoded frames as float32 [num_samples] at `rate_hz`: the mean of the channels.

    Where sound is missing (a stream that broke off and went on), there is silence as long as players show, so
    that all behind it keeps its time.
    """
    import av

    where = name_of(source)

    def converted(frame: Any) -> Iterator[np.ndarray]:
        return (to_mono(same.to_ndarray().T, where) for same in converter.resample(frame))

    # A converter takes frames of one kind, and a stream may change in the middle.
    converter: Any = None
    kind = end_s = None
    for frame in frames:
        gap_s = 0.0 if end_s is None or frame.time is None else frame.time - end_s
        if _GAP_S[0] <= gap_s <= _GAP_S[1]:
            yield from converted(None)
            yield from silence(gap_s, rate_hz)
            kind = converter = None
        end_s = None if frame.time is None else frame.time + frame.samples / frame.sample_rate
        if kind != (kind := (frame.format.name, frame.layout, frame.sample_rate)):
            if converter is not None:
                yield from converted(None)
            converter = av.AudioResampler(format="fltp", layout=frame.layout, rate=rate_hz)
        yield from converted(frame)
    if converter is not None:
        yield from converted(None)


def silence(duration_s: float, rate_hz: int) -> Iterator[np.ndarray]:
    """Float32 zeros [num_samples], in blocks."""
    for start in range(0, num_samples := round(duration_s * rate_hz), _SILENCE_SAMPLES):
        yield np.zeros(min(_SILENCE_SAMPLES, num_samples - start), np.float32)


# --- pieces -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_container_piece(path: Path, piece: Piece) -> Iterator[Mono]:
    """A piece of a file's sound: the samples that decoding all of it would give there, found by seeking.

    Their place is exact where the container tells the time of a frame to the sample (MP4), or its frames are
    equally long (AAC, Opus or MP3 in Matroska or WebM, whose times are whole milliseconds); else to such a
    tick. Only what a decoder draws at random (AAC's noise substitution) sounds another way.

    Raises:
        AudioError: `audio_missing`, `audio_unreadable`, `piece_outside` or `piece_invalid`; some of them only
            when the blocks are read.
    """
    import av

    try:
        with open_container(path) as container:
            stream = sound_stream(container, path)
            yield Mono(_piece_blocks(container, stream, piece, path), stream.rate, stream.channels)
    except (av.FFmpegError, OSError) as error:
        raise unreadable(path, f"ffmpeg: {error.strerror or error}") from error


def _piece_blocks(container: Any, stream: Any, piece: Piece, path: Path) -> Iterator[np.ndarray]:
    rate_hz, is_open = stream.rate, math.isinf(piece.end_s)
    start = position = round(piece.start_s * rate_hz)
    stop = 0 if is_open else round(piece.end_s * rate_hz)
    if not is_open and stop <= start:
        raise audio_error("piece_invalid", path, f"{piece.fragment}: no sample", "correct the times")
    timeline = _Timeline.of(container, stream, path)
    num_silent = (timeline.num_silent if is_open else min(timeline.num_silent, stop)) - start
    if num_silent > 0:
        yield np.zeros(num_silent, np.float32)
        position += num_silent
    first, frames = _frames_before(container, stream, timeline, start, path)
    for samples in mono_frames(frames, rate_hz, path):
        if not is_open and position >= stop:
            break
        wanted = samples[max(0, position - first) : None if is_open else stop - first]
        if len(wanted):
            yield wanted
            position += len(wanted)
        first += len(samples)
    num_missing = 0 if is_open else stop - position
    if position == start or num_missing > END_TOLERANCE_S * rate_hz:
        raise piece.outside(path, (container.duration or 0) / 1e6)


def _frames_before(
    container: Any, stream: Any, timeline: "_Timeline", start: int, path: Path
) -> tuple[int, Iterator[Any]]:
    """Frames from well before sample `start` on, and the place of the first one's first sample."""
    preroll = round(_PREROLL_S * stream.rate)
    if start > timeline.num_silent + timeline.num_decoded + preroll:
        if (pts := timeline.pts_of(start - preroll)) > _LAST_PTS:
            return start, iter(())
        container.seek(pts, stream=stream)
        frames = container.decode(stream)
        frame = next(frames, None)
        if frame is None:
            return start, iter(())
        place = timeline.place_of(frame)
        if place is not None and place <= start:
            return place, itertools.chain([frame], frames)
    # From the beginning: it is near, or the file knows no way to the place.
    return timeline.num_silent, _all_frames(path)


def _all_frames(path: Path) -> Iterator[Any]:
    with open_container(path) as container:
        yield from container.decode(container.streams.audio[0])


@dataclass(frozen=True)
class _Timeline:
    """Where a frame's samples are among all of a recording, by its time; learned from the first frames."""

    num_silent: int
    """Samples of silence before the first frame."""
    first_pts: int
    tick: Fraction
    """Samples per unit of time (`pts`)."""
    num_first: int
    """Samples of the first frame, which may be shorter by the codec's priming."""
    num_per_frame: int | None
    """Samples of the others; None where they differ."""
    num_decoded: int
    """Samples of the frames that were looked at."""

    @classmethod
    def of(cls, container: Any, stream: Any, path: Path) -> "_Timeline":
        frames = list(itertools.islice(container.decode(stream), _NUM_FIRST_FRAMES))
        if not frames:
            raise unreadable(path, "no sound that can be decoded")
        first, *others = (frame.samples for frame in frames)
        return cls(
            num_silent=round(offset_s(container, frames[0]) * stream.rate),
            first_pts=frames[0].pts or 0,
            tick=Fraction(stream.time_base) * stream.rate,
            num_first=first,
            num_per_frame=others[0] if len(set(others)) == 1 else None,
            num_decoded=first + sum(others),
        )

    def pts_of(self, place: int) -> int:
        return self.first_pts + int((place - self.num_silent) / self.tick)

    def place_of(self, frame: Any) -> int | None:
        """None: the container does not say."""
        if frame.pts is None:
            return None
        told = (frame.pts - self.first_pts) * self.tick
        if self.tick > 1 and self.num_per_frame is not None:
            # A time in whole ticks: the frame boundary next to it, if it is as near as rounding explains.
            number = round((told - self.num_first) / self.num_per_frame)
            boundary = self.num_first + number * self.num_per_frame
            if abs(boundary - told) <= self.tick:
                told = Fraction(boundary)
        return self.num_silent + round(told)
