"""What the page does with a recording: look whether it may be heard, hear it, show it or say why not."""

import base64
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from vietst.constants import SAMPLE_RATE_HZ, TRANSCRIBE, TRANSLATE
from vietst.demo.marked_text import Stretch, stretches
from vietst.errors import AudioError
from vietst.inference.cues import MAX_CUE_S
from vietst.inference.results import Segment, SpeechResult
from vietst.inference.transcript_files import FORMATS
from vietst.pages import filled
from vietst.quantities import seconds_in_words
from vietst.runtime import get_logger

logger = get_logger(__name__)

_DOWNLOADS: Final = {"srt": "application/x-subrip", "vtt": "text/vtt", "txt": "text/plain"}
"""Format of `FORMATS` → media type."""

_UNUSABLE: Final = {
    "audio_missing": "This recording has been deleted meanwhile. Please choose or record it again.",
    "audio_empty": "This file holds no sound.",
    "audio_truncated": "This file is cut off: it is shorter than it says. Please upload it again.",
}
"""Code of `AudioError` → sentence."""
_UNREADABLE: Final = (
    "This file cannot be read as sound. Please choose a recording such as WAV, MP3, M4A, FLAC or Opus; "
    "if it is one, it may be damaged."
)


class Translator(Protocol):
    """What is needed of a `SpeechTranslator`."""

    @property
    def tasks(self) -> Sequence[str]:
        """What the model was trained for."""

    @property
    def model_name(self) -> str:
        """Folder or Hub id."""

    @property
    def device(self) -> object:
        """Where the model is."""

    def __call__(self, audio: Path, /, *, max_segment_s: float | None) -> SpeechResult: ...


@dataclass(frozen=True)
class Limits:
    """Of one recording."""

    max_upload_mb: float
    """Megabytes of 2^20 bytes, as Gradio counts them."""
    max_duration_s: float

    @property
    def max_upload_bytes(self) -> int:
        """The same in bytes."""
        return round(self.max_upload_mb * (1 << 20))


class Listener:
    """The translator, for several users at once, one call at a time. Holds nothing of a recording."""

    def __init__(self, translator: Translator, limits: Limits) -> None:
        self._translator = translator
        self._limits = limits
        self._turn = threading.Lock()

    def hear(self, path: str | None) -> str:
        """What was said in a recording, or a sentence about why it cannot be told; as HTML.

        Args:
            path: of the uploaded or recorded file; None: there is none.
        """
        if path is None:
            return _problem("Please record something or choose a file first.")
        audio = Path(path)
        try:
            if (refusal := self._refusal(audio)) is not None:
                return _problem(refusal)
            with self._turn:
                started = time.perf_counter()
                result = self._translator(audio, max_segment_s=MAX_CUE_S)
                elapsed_s = time.perf_counter() - started
        except AudioError as error:
            return _problem(_UNUSABLE.get(error.code, _UNREADABLE))
        except FileNotFoundError:
            return _problem(_UNUSABLE["audio_missing"])
        except Exception:  # the page goes on for the others, and this user is told
            logger.exception("a recording could not be transcribed")
            return _problem(
                "Something went wrong here, and was noted. Please try again, or another recording."
            )
        return filled("demo_result.html", **_shown(result, audio.stem, elapsed_s))

    def _refusal(self, audio: Path) -> str | None:
        """Why a recording is not heard, or None. It is decoded no further than the limit."""
        from vietst.inference.audio_input import waveform_blocks

        limits = self._limits
        if audio.stat().st_size > limits.max_upload_bytes:
            return f"This file is too large: the limit is {limits.max_upload_mb:g} MB."
        num_samples = 0
        for block in waveform_blocks(audio):
            num_samples += len(block)
            if num_samples > limits.max_duration_s * SAMPLE_RATE_HZ:
                return f"This recording is too long: the limit is {in_words(limits.max_duration_s)}."
        return None


def in_words(seconds: float) -> str:
    """A limit as the page says it: 90 seconds, 10 minutes."""
    if seconds >= 60 and seconds % 60 == 0:
        minutes = int(seconds // 60)
        return f"{minutes} minute{'' if minutes == 1 else 's'}"
    return f"{seconds:g} seconds"


# --- HTML -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _ShownSegment:
    start: str
    end: str
    transcript: list[Stretch] | None
    translation: str | None


def _problem(sentence: str) -> str:
    return filled("demo_problem.html", sentence=sentence)


def _shown(result: SpeechResult, name: str, elapsed_s: float) -> dict[str, Any]:
    return {
        "segments": [_shown_segment(segment) for segment in result.segments],
        "duration": seconds_in_words(result.duration_s),
        "elapsed": seconds_in_words(elapsed_s),
        "downloads": [
            {
                "format": format_name.upper(),
                "file_name": f"{name}.{format_name}",
                "uri": _data_uri(FORMATS[format_name](result), media_type),
            }
            for format_name, media_type in _DOWNLOADS.items()
        ],
    }


def _shown_segment(segment: Segment) -> _ShownSegment:
    transcript, translation = segment.said.get(TRANSCRIBE), segment.said.get(TRANSLATE)
    return _ShownSegment(
        start=_clock(segment.start_s),
        end=_clock(segment.end_s),
        transcript=stretches(transcript.text, transcript.words) if transcript is not None else None,
        translation=translation.text if translation is not None else None,
    )


def _clock(seconds: float) -> str:
    """Minutes, seconds and tenths: 1:02.3."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    return f"{minutes}:{tenths // 10:02d}.{tenths % 10}"


def _data_uri(text: str, media_type: str) -> str:
    """A link that holds the file itself, so that none has to be kept on the server."""
    return f"data:{media_type};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"
