"""What a model is not good for, or nobody has looked at, as far as its records tell."""

import math

from vietst.constants import TRANSLATE
from vietst.hub.card_records import RunRecords


def window_s(records: RunRecords) -> float | None:
    """Seconds that the model hears at once; None: as many as memory allows, or not recorded."""
    seconds = records.feature_extractor.get("chunk_length")
    return seconds if isinstance(seconds, int | float) else None


def short_windows_s(records: RunRecords) -> list[float]:
    """Those in seconds that a Whisper was trained in besides its whole one; none, if it was not."""
    if records.model is None or records.model.context is None:
        return []
    whole_s = window_s(records) or math.inf
    return [seconds for seconds in records.model.context.windows_s if seconds < whole_s]


def limits(records: RunRecords) -> list[str]:
    """Sentences for the model card."""
    window, longest = window_s(records), records.setting("audio", "max_length_seconds")
    sentences = []
    if records.base_origin == "untrained":
        sentences.append(
            "**This is a toy.** It was trained from nothing, to try the software, and knows no more than its "
            "training texts. Which corpus that was is not recorded; on the sample corpus of vietst, which a "
            "synthesizer speaks from a few sentence templates, scores say nothing about real speech."
        )
    if window is not None:
        sentences.append(
            f"It hears {window:g} s at once. A stock pipeline refuses what is longer; told "
            f"`chunk_length_s={window:g}`, it cuts at fixed times and loses words there. "
            "`SpeechTranslator` cuts at pauses."
        )
    elif isinstance(longest, int | float):
        sentences.append(
            f"It was trained on clips of at most {longest:g} s, and may stop early in longer ones. "
            "`SpeechTranslator` cuts them at pauses."
        )
    is_whisper = records.model is not None and records.model.architecture == "whisper"
    if is_whisper and not short_windows_s(records):
        sentences.append(
            'It was trained in its whole window alone; in shorter ones (`context="bucketed"`) it may repeat '
            "itself."
        )
    sentences.append("It is meant for Vietnamese with English words inside, and for no other language.")
    if records.model is None or TRANSLATE in records.model.tasks:
        sentences.append("It translates into Vietnamese only.")
    if not records.results:
        sentences.append("No test scores are recorded.")
    else:
        videos, hours = records.results["num_videos"], records.results["audio_s"] / 3600
        sentences.append(
            f"All scores come from one test set of {videos:,} videos ({hours:.2f} hours). Other corpora, "
            "dialects, noise, overlapping speakers and far microphones were not measured."
        )
    sentences.append(
        "Like all models of its kind it can write fluent sentences that nobody said, above all over silence, "
        "music and noise. Do not rely on it alone where a mistake does harm."
    )
    return sentences
