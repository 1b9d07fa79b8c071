"""Results as text files: txt, json, srt, vtt, tsv; UTF-8 without a byte order mark, lines end with LF.

- txt: for each segment its transcript, its translation below; with both tasks a blank line between segments.
- srt, vtt: subtitles, the lines of the transcript above those of the translation (`cues`).
- tsv: one row for each segment: start_s, end_s, then transcript and translation as far as asked for.
- json: all there is. Version 1 holds these keys, in this order:

      format          "vietst speech result"
      version         1; a new number when a key changes its meaning or goes, not when one is added
      duration_s      of the recording
      transcript      the texts of all segments, joined, or null where it was not asked for
      translation     the same in Vietnamese
      segments        a list in the order of their times, each with
        start_s, end_s  from the beginning of the recording, rounded to milliseconds
        transcript      null where it was not asked for, or
          text
          confidence    geometric mean of the token probabilities, 0 to 1, not calibrated
          words         a list of {"word", "language"}: lower case, without punctuation; language is one of
                        vi, en, ambiguous, name, number, other
        translation     the same
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from vietst.constants import TARGET_COLUMN, TASKS
from vietst.data.records import format_record
from vietst.inference.cues import cues_of, milliseconds, one_line
from vietst.inference.results import Said, Segment, SpeechResult

JSON_FORMAT: Final = "vietst speech result"
JSON_VERSION: Final = 1

_NOT_MARKUP_IN_SRT: Final = str.maketrans("<>{}", "＜＞｛｝")
"""SubRip has no way to escape what players take for markup (<i>, {\\an8}) or for a line of times (-->), so
these become their fullwidth forms, which look alike."""

_ESCAPED_IN_VTT: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
"""`-->` too must not stand in a cue's text (WebVTT, section 4.1)."""


def format_txt(result: SpeechResult) -> str:
    """Plain text, a line for each segment and task."""
    blocks = [
        [text for task in result.tasks if (text := one_line(segment.said[task].text))]
        for segment in result.segments
    ]
    between = "\n" if len(result.tasks) > 1 else ""
    return between.join("".join(f"{line}\n" for line in block) for block in blocks if block)


def format_srt(result: SpeechResult) -> str:
    """SubRip subtitles."""
    return "\n".join(
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n"
        + "".join(f"{line.translate(_NOT_MARKUP_IN_SRT)}\n" for line in cue.lines)
        for number, cue in enumerate(cues_of(result), start=1)
    )


def format_vtt(result: SpeechResult) -> str:
    """WebVTT subtitles."""
    return "WEBVTT\n" + "".join(
        f"\n{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n"
        + "".join(f"{line.translate(_ESCAPED_IN_VTT)}\n" for line in cue.lines)
        for cue in cues_of(result)
    )


def format_tsv(result: SpeechResult) -> str:
    """A table that `vietst.data.tables.read_table` and spreadsheets read."""
    rows = [["start_s", "end_s", *(TARGET_COLUMN[task] for task in result.tasks)]]
    for segment in result.segments:
        texts = [one_line(segment.said[task].text) for task in result.tasks]
        rows.append([_decimal_seconds(segment.start_s), _decimal_seconds(segment.end_s), *texts])
    return "".join(format_record(row, "\t") for row in rows)


def format_json(result: SpeechResult) -> str:
    """Everything, in the schema of this module's docstring."""
    content = {
        "format": JSON_FORMAT,
        "version": JSON_VERSION,
        "duration_s": milliseconds(result.duration_s) / 1000,
        "transcript": result.transcript,
        "translation": result.translation,
        "segments": [_json_segment(segment) for segment in result.segments],
    }
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


FORMATS: Final[Mapping[str, Callable[[SpeechResult], str]]] = {
    "txt": format_txt,
    "json": format_json,
    "srt": format_srt,
    "vtt": format_vtt,
    "tsv": format_tsv,
}
"""Name and suffix of a format → the text of a result in it."""

SUBTITLES: Final = frozenset({"srt", "vtt"})


def _json_segment(segment: Segment) -> dict[str, Any]:
    times = {"start_s": milliseconds(segment.start_s) / 1000, "end_s": milliseconds(segment.end_s) / 1000}
    return times | {TARGET_COLUMN[task]: _json_said(segment.said.get(task)) for task in TASKS}


def _json_said(said: Said | None) -> dict[str, Any] | None:
    if said is None:
        return None
    words = [{"word": word, "language": tag.value} for word, tag in said.words]
    return {"text": said.text, "confidence": round(said.confidence, 4), "words": words}


def _clock(time_ms: int, decimal_mark: str) -> str:
    """Hours of two digits or more, minutes, seconds, milliseconds: 01:02:03.004."""
    seconds, thousandths = divmod(time_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{decimal_mark}{thousandths:03d}"


def _decimal_seconds(seconds: float) -> str:
    return "{}.{:03d}".format(*divmod(milliseconds(seconds), 1000))
