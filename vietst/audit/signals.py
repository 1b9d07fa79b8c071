"""The signals of an audit: what each measures, in which unit, and on which side faults lie.

`signals.tsv` has a column for each, in this order. An empty cell was not measured: a row without a
translation, a clip that the model cannot hear whole, a property that this row does not have.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Group(StrEnum):
    """Where a signal comes from."""

    AUDIO = "audio"
    TEXT = "text"
    MODEL = "model"


class Kind(StrEnum):
    """What a cell holds, and on which side of it faults lie."""

    HIGH = "high"
    """A number; the higher, the worse."""
    LOW = "low"
    """A number; the lower, the worse."""
    BOTH = "both"
    """A number; far from the others on either side is bad."""
    FACT = "fact"
    """A number that says nothing of faults by itself."""
    NAME = "name"
    """A text; in expressions true where it is not empty."""
    TEXT = "text"
    """A text to read."""


@dataclass(frozen=True)
class Signal:
    """One column of `signals.tsv`."""

    name: str
    group: Group
    kind: Kind
    unit: str
    description: str

    @property
    def is_number(self) -> bool:
        return self.kind not in (Kind.NAME, Kind.TEXT)


def _signals(group: Group, *rows: tuple[str, Kind, str, str]) -> tuple[Signal, ...]:
    return tuple(Signal(name, group, kind, unit, description) for name, kind, unit, description in rows)


AUDIO_SIGNALS: Final = _signals(
    Group.AUDIO,
    ("audio_error", Kind.NAME, "", "why the audio cannot be used: a reason code of rejected.tsv"),
    ("duration", Kind.FACT, "s", "length of the decoded audio"),
    ("syllables_per_second", Kind.BOTH, "1/s", "syllables of the transcript for each second of audio"),
    ("syllable_rate_z", Kind.BOTH, "", "syllables per second, in robust deviations from the speaker's usual"),
    ("speech", Kind.LOW, "share", "of the clip in which Silero VAD hears speech"),
    ("music", Kind.HIGH, "share", "of the clip with steady tones and without speech"),
    ("silence", Kind.HIGH, "share", "of the clip in which nearly nothing is heard"),
    ("noise", Kind.HIGH, "share", "of the clip that is neither speech nor music nor silence"),
    ("level_dbfs", Kind.BOTH, "dBFS", "root mean square of the clip, full scale 0"),
    ("clipping", Kind.HIGH, "share", "of the samples at full scale"),
    ("snr_db", Kind.LOW, "dB", "speech above the quietest tenth of the clip, in power"),
    ("edge_start_db", Kind.HIGH, "dB", "loudest 20 ms of the first 40 ms, relative to the clip's speech"),
    ("edge_end_db", Kind.HIGH, "dB", "loudest 20 ms of the last 40 ms, relative to the clip's speech"),
    ("duplicate_of", Kind.NAME, "", "id of the first earlier row with the same or nearly the same audio"),
    (
        "overlap_s",
        Kind.HIGH,
        "s",
        "shared with another row of the recording (needs start_s, end_s or video_start_s, video_end_s)",
    ),
)

TEXT_SIGNALS: Final = _signals(
    Group.TEXT,
    ("length_ratio", Kind.BOTH, "", "words of the translation for each word of the transcript"),
    ("copy", Kind.HIGH, "share", "of words that both texts have, where the transcript has English"),
    ("shared_words", Kind.LOW, "share", "of the transcript's Vietnamese words that the translation has"),
    ("wrong_language", Kind.NAME, "", "transcript, translation or both: the text that is in none of ours"),
    ("untranslated_english", Kind.HIGH, "share", "of the transcript's English words in the translation"),
    ("number_mismatch", Kind.HIGH, "count", "of numbers in either text that the other does not have"),
)

MODEL_SIGNALS: Final = _signals(
    Group.MODEL,
    ("recognized", Kind.TEXT, "", "what the seed model hears"),
    ("wer", Kind.HIGH, "share", "word errors of what is recognized, for each word of the transcript"),
    ("inserted_start", Kind.HIGH, "words", "heard before the first word that both have"),
    ("inserted_end", Kind.HIGH, "words", "heard after the last word that both have"),
    ("deleted_start", Kind.HIGH, "words", "of the transcript's start that were not heard"),
    ("deleted_end", Kind.HIGH, "words", "of the transcript's end that were not heard"),
    ("inner_wer", Kind.HIGH, "share", "word errors but for those at the edges, for each word left"),
    ("logprob_per_second", Kind.LOW, "nat/s", "log-probability of the transcript for a second of audio"),
    ("logprob_gap", Kind.HIGH, "nat/s", "by how much the model's own text is more probable to it"),
    ("translated", Kind.TEXT, "", "how the seed model translates the audio"),
    ("translation_chrf", Kind.LOW, "chrF", "of the model's translation against the given one, 0 to 100"),
    ("translation_logprob_per_second", Kind.LOW, "nat/s", "as logprob_per_second, of the translation"),
    ("translation_logprob_gap", Kind.HIGH, "nat/s", "as logprob_gap, of the translation"),
)

SIGNALS: Final = (*AUDIO_SIGNALS, *TEXT_SIGNALS, *MODEL_SIGNALS)
SIGNAL_OF: Final = {signal.name: signal for signal in SIGNALS}

SUGGESTED: Final[Mapping[str, str]] = {
    "audio_error": "audio_error",
    "syllable_rate_z": "syllable_rate_z > 5 or syllable_rate_z < -5",
    "speech": "speech < 0.6",
    "music": "music > 0.4",
    "silence": "silence > 0.4",
    "edge_start_db": "edge_start_db > -10 and wer > 0",
    "edge_end_db": "edge_end_db > -10 and wer > 0",
    "duplicate_of": "duplicate_of",
    "overlap_s": "overlap_s > 0.3",
    "copy": "copy > 0.95",
    "shared_words": "shared_words < 0.3",
    "wrong_language": "wrong_language",
    "number_mismatch": "number_mismatch > 0",
    "wer": "wer > 0.3 and logprob_gap > 1",
    "translation_chrf": "translation_chrf < 40 and translation_logprob_gap > 1",
}
"""A term for `--drop` for each signal that has one.

Chosen with nano_whisper on a sample corpus with faults (corpus seed 2, scripts/benchmark.py audit), and
measured on another one. A decoder's greedy text may be far off where it finds the transcript as probable,
hence both conditions of wer and chrF. Clips of that corpus begin and end in silence: where clips are cut
closely to the words, their edges say nothing, and those two terms should be left out.
"""


def suggested_terms(*, with_model: bool) -> dict[str, str]:
    """The terms of `SUGGESTED` that an audit with or without a seed model can decide."""
    of_model = {signal.name for signal in MODEL_SIGNALS}
    return {
        name: term
        for name, term in SUGGESTED.items()
        if with_model or not of_model.intersection(re.findall(r"\w+", term))
    }


def suggested_drop(*, with_model: bool) -> str:
    """The whole expression that is suggested for an audit with or without a seed model."""
    return " or ".join(suggested_terms(with_model=with_model).values())


def format_number(value: float | None) -> str:
    """A cell of `signals.tsv`: at most 4 digits behind the point; empty for None and NaN."""
    if value is None or math.isnan(value):
        return ""
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
