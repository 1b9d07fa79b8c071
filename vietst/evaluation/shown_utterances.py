"""Which utterances a report shows, and each of them as a report shows it: aligned, and with its audio."""

import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from vietst.data.audio_paths import resolve_audio_path
from vietst.data.audio_pieces import split_locator
from vietst.errors import AudioError, VietstError
from vietst.evaluation.alignments import AlignedWord, align_transcript, align_translation
from vietst.evaluation.blocks import blocks
from vietst.evaluation.metrics import Prediction
from vietst.evaluation.word_language import WordTag

NUM_WORST: Final = 20
NUM_RANDOM: Final = 20
_RIGHT: Final = {"wer": 0.0, "chrf": 100.0}
"""What utterances can be ranked by, and the score of a right one."""
SEED: Final = 1
"""Of the random utterances: the same predictions give the same report."""

ScoredPrediction = tuple[Prediction, Mapping[str, float]]
"""An utterance and its own scores, as far as it has them."""


@dataclass(frozen=True)
class AlignedText:
    """One hypothesis beside its reference."""

    title: str
    reference: str
    hypothesis: str
    words: list[AlignedWord]
    """Empty where there is nothing to align it with."""


@dataclass(frozen=True)
class ShownUtterance:
    """One utterance of a report."""

    id: str
    facts: list[str]
    """Video, speaker, duration, scores: in words."""
    texts: list[AlignedText]
    audio_url: str
    """Relative to the report; empty where no player is asked for or the file cannot be linked."""
    why_no_audio: str
    """Empty with a player, and where none is asked for."""


# --- which ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChosenUtterances:
    """What a report of one run shows, of how many, each with its own scores."""

    num_utterances: int
    ranked_by: str
    """`wer`, or `chrf` where nothing was transcribed."""
    worst: list[ScoredPrediction]
    drawn: list[ScoredPrediction]


def choose_utterances(read: Callable[[], Iterable[ScoredPrediction]]) -> ChosenUtterances:
    """The `NUM_WORST` with the highest WER, or where nothing was transcribed the lowest chrF; and
    `NUM_RANDOM`, in the order of the file.

    Right ones are never among the worst. Of equal ones the longer reference comes first, since more is wrong
    there.

    Args:
        read: goes through all utterances; called twice, so that only those that are chosen are kept.
    """
    num_utterances = 0
    worst: dict[str, list[ScoredPrediction]] = {metric: [] for metric in _RIGHT}
    ranked_by = "chrf"
    for block in blocks(read()):
        num_utterances += len(block)
        if any("wer" in scores for _, scores in block):
            ranked_by = "wer"
        worst = {metric: _worst_by(metric, [*before, *block]) for metric, before in worst.items()}
    num_drawn = min(NUM_RANDOM, num_utterances)
    positions = set(random.Random(SEED).sample(range(num_utterances), num_drawn))
    drawn = [utterance for index, utterance in enumerate(read()) if index in positions]
    return ChosenUtterances(num_utterances, ranked_by, worst[ranked_by], drawn)


def _worst_by(metric: str, utterances: Sequence[ScoredPrediction]) -> list[ScoredPrediction]:
    right = _RIGHT[metric]
    wrong = [(p, scores) for p, scores in utterances if scores.get(metric, right) != right]
    wrong.sort(key=lambda one: (-abs(one[1][metric] - right), -len(one[0].transcript), one[0].id))
    return wrong[:NUM_WORST]


# --- how --------------------------------------------------------------------------------------------------


def aligned_texts(
    prediction: Prediction, user_tags: Mapping[str, WordTag] | None, run_name: str = ""
) -> list[AlignedText]:
    """Transcript and translation, as far as the tasks were run.

    Args:
        run_name: shown in the titles where several runs stand side by side.
    """
    texts = []
    of_run = f" of {run_name}" if run_name else ""
    if (hypothesis := prediction.transcript_hypothesis) is not None:
        words = align_transcript(prediction.transcript, hypothesis, prediction.translation, user_tags)
        texts.append(AlignedText(f"Transcript{of_run}", prediction.transcript, hypothesis, words))
    if (hypothesis := prediction.translation_hypothesis) is not None:
        has_reference = bool(prediction.translation.strip())
        words = align_translation(prediction.translation, hypothesis) if has_reference else []
        title = f"Translation{of_run}" if has_reference else f"Translation{of_run}, without a reference"
        texts.append(AlignedText(title, prediction.translation, hypothesis, words))
    return texts


def recording_facts(prediction: Prediction) -> list[str]:
    """What is known of the recording, in words."""
    facts = [f"video {prediction.video_id}", f"{prediction.duration_s:.1f} s"]
    if prediction.speaker_id:
        facts.insert(1, f"speaker {prediction.speaker_id}")
    if prediction.level_dbfs is not None:
        facts.append(f"{prediction.level_dbfs:.0f} dBFS".replace("-", "−"))
    return facts


def audio_links(audio_root: Path | None, report_dir: Path) -> Callable[[str], tuple[str, str]]:
    """A function from the locator of audio (see `audio_pieces`) to (`audio_url`, `why_no_audio`).

    Only files below the audio root are linked: the files that a report is made from may come from anyone.

    Args:
        audio_root: None where no players are asked for.

    Raises:
        VietstError: the report lies on another drive than the audio, so that no relative link leads there.
    """
    if audio_root is None:
        return lambda locator: ("", "")
    real_root, real_report_dir = audio_root.resolve(), report_dir.resolve()
    if real_root.drive != real_report_dir.drive:
        raise VietstError(
            where=str(audio_root),
            rule="audio players link to files from the report's folder",
            found=f"the report is on another drive: {report_dir}",
            do="write the results to the drive that holds the audio, or leave --audio out",
        )

    def link(locator: str) -> tuple[str, str]:
        if not locator:
            return "", "the predictions file does not name the audio"
        audio_path, piece = split_locator(locator)
        try:
            path = resolve_audio_path(audio_root, audio_path)
        except AudioError:
            return "", "the path leads out of the audio root"
        if not path.is_file():
            return "", "not found below the audio root"
        url = quote(Path(os.path.relpath(path, real_report_dir)).as_posix())
        return f"{url}{piece.fragment if piece else ''}", ""

    return link
