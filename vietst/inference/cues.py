"""Subtitle cues from what was said: times in whole milliseconds, lines that can be read in time.

Subtitling guides (Netflix, BBC) ask for at most two lines of about 42 characters in a language. A segment
that says more becomes several cues. When inside the segment its words were spoken is not known, so the cues
share its time by the length of their texts.
"""

import dataclasses
import math
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Final

from vietst.inference.results import Segment, SpeechResult

MAX_LINE_CHARACTERS: Final = 42
MAX_LINES_PER_TASK: Final = 2
MAX_CUE_S: Final = 7.0
"""Segments for subtitles are asked for with this limit, so that most are one cue with times of its own."""


@dataclasses.dataclass(frozen=True)
class Cue:
    """What stands on the screen from one moment to another."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]
    """Of the first task, then of the second. None is empty, nor longer than `MAX_LINE_CHARACTERS`, but for
    single words that are."""


def milliseconds(seconds: float) -> int:
    """Rounded to the nearest."""
    return round(seconds * 1000)


def one_line(text: str) -> str:
    """Text without line ends, tabs and other control characters; single spaces."""
    printable = (" " if unicodedata.category(character) == "Cc" else character for character in text)
    return " ".join("".join(printable).split())


def cues_of(result: SpeechResult) -> list[Cue]:
    """The cues of all tasks of a result, one after the other: none overlaps the next or lasts no time.

    A segment that begins before the one before it has ended cuts that one's time. Segments without text have
    no cue.
    """
    pieces = [piece for segment in result.segments for piece in _readable_pieces(segment, tasks=result.tasks)]
    cues: list[Cue] = []
    previous_end_ms = 0
    for index, piece in enumerate(pieces):
        start_ms = max(piece.start_ms, previous_end_ms)
        end_ms = piece.end_ms
        if index + 1 < len(pieces):
            end_ms = min(end_ms, pieces[index + 1].start_ms)
        previous_end_ms = max(end_ms, start_ms + 1)
        cues.append(Cue(start_ms, previous_end_ms, piece.lines))
    return cues


def _readable_pieces(segment: Segment, tasks: Sequence[str]) -> Iterator[Cue]:
    texts = [text for task in tasks if (text := one_line(segment.said[task].text))]
    if not texts:
        return
    num_pieces = _num_pieces(texts)
    shown = [parts for parts in zip(*(_parts(text, num_pieces) for text in texts), strict=True) if any(parts)]
    ends = list(accumulate(sum(map(len, parts)) for parts in shown))
    duration_s = segment.end_s - segment.start_s
    times_ms = [milliseconds(segment.start_s + duration_s * end / ends[-1]) for end in (0, *ends)]
    for parts, (start_ms, end_ms) in zip(shown, pairwise(times_ms), strict=True):
        yield Cue(start_ms, end_ms, tuple(line for part in parts for line in _even_lines(part)))


def _num_pieces(texts: Sequence[str]) -> int:
    """The fewest parts of all texts that take no more than `MAX_LINES_PER_TASK` each."""
    fewest = math.ceil(max(map(len, texts)) / (MAX_LINES_PER_TASK * (MAX_LINE_CHARACTERS + 1)))
    most = max(len(text.split(" ")) for text in texts)
    for num_pieces in range(fewest, most):
        parts = (part for text in texts for part in _parts(text, num_pieces))
        if all(len(_wrap(part)) <= MAX_LINES_PER_TASK for part in parts):
            return num_pieces
    return most


def _parts(text: str, num_parts: int) -> list[str]:
    """The words of a text in `num_parts` stretches of about equal length; some are empty where words lack."""
    parts: list[list[str]] = [[] for _ in range(num_parts)]
    position = 0
    for word in text.split(" "):
        middle = position + len(word) / 2
        parts[int(middle / (len(text) + 1) * num_parts)].append(word)
        position += len(word) + 1
    return [" ".join(words) for words in parts]


def _even_lines(text: str) -> list[str]:
    """As few lines as fit, of about equal length."""
    lines = _wrap(text)
    if len(lines) < 2:
        return lines
    narrower = (_wrap(text, width) for width in range(len(text) // len(lines), MAX_LINE_CHARACTERS))
    return next((even for even in narrower if len(even) == len(lines)), lines)


def _wrap(text: str, width: int = MAX_LINE_CHARACTERS) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
