"""What a model says about a recording: typed results, without torch."""

import dataclasses
import math
from collections.abc import Mapping

from vietst.constants import TRANSCRIBE, TRANSLATE
from vietst.evaluation.word_language import TaggedWord


@dataclasses.dataclass(frozen=True)
class Said:
    """One task's output for one piece of speech."""

    text: str
    words: tuple[TaggedWord, ...]
    """The words of `text` with their languages (`word_language.tag_words`)."""
    num_tokens: int
    """Generated tokens, with the end-of-text token."""
    log_probability: float
    """Natural logarithm of the probability of all these tokens."""

    @property
    def confidence(self) -> float:
        """Geometric mean of the token probabilities, from 0 to 1. It is not calibrated."""
        return math.exp(self.log_probability / self.num_tokens) if self.num_tokens else 0.0


@dataclasses.dataclass(frozen=True)
class Segment:
    """A piece of speech between two pauses."""

    start_s: float
    """From the beginning of the recording."""
    end_s: float
    said: Mapping[str, Said]
    """Task → output; the same tasks in all segments of a result."""


@dataclasses.dataclass(frozen=True)
class SpeechResult:
    """All that was said in one recording."""

    duration_s: float
    tasks: tuple[str, ...]
    segments: tuple[Segment, ...]
    """In the order of their times; none where nobody speaks."""

    def text(self, task: str) -> str:
        """The texts of all segments, joined.

        Raises:
            KeyError: a task that was not asked for.
        """
        if task not in self.tasks:
            raise KeyError(task)
        return " ".join(text for segment in self.segments if (text := segment.said[task].text))

    @property
    def transcript(self) -> str | None:
        """What was said; None where it was not asked for."""
        return self.text(TRANSCRIBE) if TRANSCRIBE in self.tasks else None

    @property
    def translation(self) -> str | None:
        """The same in Vietnamese; None where it was not asked for."""
        return self.text(TRANSLATE) if TRANSLATE in self.tasks else None

    def confidence(self, task: str) -> float:
        """Geometric mean of the token probabilities of all segments, from 0 to 1; 0 without any."""
        said = [segment.said[task] for segment in self.segments]
        num_tokens = sum(output.num_tokens for output in said)
        return math.exp(sum(output.log_probability for output in said) / num_tokens) if num_tokens else 0.0
