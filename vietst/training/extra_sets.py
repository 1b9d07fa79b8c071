"""Extra sets during a training: how the Trainer reads and scores them, and what it says when one gets worse.

The score before the training is the log entry of step 0. Every checkpoint keeps the log, so a training that
goes on still knows it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from transformers import EvalPrediction

from vietst.config_schema import RunConfig
from vietst.constants import TRANSCRIBE
from vietst.data.features import InputKind
from vietst.evaluation.decode import AudioRows, TextDecoder
from vietst.evaluation.extra_sets import ExtraSet
from vietst.evaluation.history import wer_key
from vietst.runtime import get_logger, warn_once
from vietst.training.dev_scores import make_compute_metrics
from vietst.training.preparation import Preparation

logger = get_logger(__name__)

NOTHING_TO_LOSE_WER: Final = 100.0
"""A model that writes nothing has this error rate."""

NUM_WORSE_SETS: Final = "eval_num_worse_sets"
"""Key of the log: sets whose WER has risen by more than is allowed."""


class ExtraUtterances(torch.utils.data.Dataset[dict[str, Any]]):
    """A set's rows as a collator takes them, with features computed from the audio."""

    def __init__(self, extra_set: ExtraSet, input_kind: InputKind) -> None:
        self.rows = [{**row, "duration_s": row["duration"]} for row in extra_set.rows]
        self._audio = AudioRows(self.rows, extra_set.audio_root, input_kind)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.rows[index], **self._audio[index]}


@dataclasses.dataclass(frozen=True)
class ScoredSet:
    """What the Trainer needs for one set, in the place of dev's."""

    name: str
    dataset: ExtraUtterances
    collator: Callable[[Sequence[dict[str, Any]]], dict[str, torch.Tensor]]
    compute_metrics: Callable[[EvalPrediction], dict[str, float]]
    language: str
    """Of the decoder prompt."""


def scored_sets(preparation: Preparation) -> list[ScoredSet]:
    """The extra sets of a run as its Trainer needs them: transcribed, whatever the run trains."""
    tokenizer = preparation.processor.tokenizer
    sets = []
    for extra_set in preparation.extra_sets:
        dataset = ExtraUtterances(extra_set, preparation.input_kind)
        sets.append(
            ScoredSet(
                extra_set.name,
                dataset,
                preparation.collator((TRANSCRIBE,), extra_set.language),
                make_compute_metrics(dataset.rows, TextDecoder(tokenizer), (TRANSCRIBE,), with_alarms=False),
                extra_set.language,
            )
        )
    return sets


class ForgettingGuard:
    """Compares the extra sets' WER with that before the training.

    Args:
        digests: of the sets by name, see `ExtraSet`.
        max_rise_points: a rise of the WER by more points warns; None: none does.

    Attributes:
        digests_before: of the sets that were scored before the first step, for the run's record.
    """

    def __init__(self, digests: Mapping[str, str], max_rise_points: float | None) -> None:
        self.digests, self.max_rise_points = dict(digests), max_rise_points
        self.digests_before = self.digests
        self._compared = list(digests)

    @classmethod
    def of_run(cls, config: RunConfig, preparation: Preparation) -> "ForgettingGuard":
        digests = {extra_set.name: extra_set.digest for extra_set in preparation.extra_sets}
        return cls(digests, config.evaluation.max_wer_rise_points)

    def go_on(self, record: Mapping[str, Any]) -> list[str]:
        """Compare only the sets that the run had before, as they are now; says why for each of the others.

        Args:
            record: what the checkpoint says about its run.
        """
        before = self.digests_before = dict(record.get("extra_sets", {}))
        self._compared = [name for name in self._compared if before.get(name) == self.digests[name]]
        return [
            f"evaluation.extra_sets.{name}: its score before the training is not known, since "
            f"{'its utterances or language were others' if name in before else 'it was not there'}: "
            "no rise is told"
            for name in self.digests
            if name not in self._compared
        ]

    def judge(
        self, scores: Mapping[str, float], step: int, log_history: Sequence[Mapping[str, Any]]
    ) -> dict[str, float]:
        """What an evaluation's log says besides: `eval_<name>_wer_rise` in points, `NUM_WORSE_SETS`; warns.

        Args:
            scores: of the extra sets, with the log's keys.
            step: optimizer steps done.
            log_history: of the Trainer, with the entry of step 0.
        """
        if step == 0:
            self._say_where_nothing_can_be_lost(scores)
            return {}
        before = {name: _wer_before(name, log_history) for name in self._compared}
        rises = {name: scores[wer_key(name)] - wer for name, wer in before.items() if wer is not None}
        if not rises:
            return {}
        found = {f"{wer_key(name)}_rise": rise for name, rise in rises.items()}
        if self.max_rise_points is None:
            return found
        worse = [name for name, rise in rises.items() if rise > self.max_rise_points]
        if worse:
            warn_once(
                logger,
                "step %d: worse than before the training by more than %g points "
                "(evaluation.max_wer_rise_points): %s. A lower learning rate, fewer steps, LoRA, such speech "
                "among the training data, or a mixture with the base model (run_evaluation.py "
                "--interpolate_with) keep more",
                step,
                self.max_rise_points,
                "; ".join(
                    f"{name} WER {before[name]:.2f} → {scores[wer_key(name)]:.2f} ({rises[name]:+.2f})"
                    for name in worse
                ),
            )
        return {**found, NUM_WORSE_SETS: float(len(worse))}

    def _say_where_nothing_can_be_lost(self, scores: Mapping[str, float]) -> None:
        for name in self._compared:
            if (wer := scores[wer_key(name)]) >= NOTHING_TO_LOSE_WER:
                logger.info(
                    "%s: WER %.2f before the training, no better than no text at all: no rise is told",
                    name,
                    wer,
                )


def _wer_before(name: str, log_history: Sequence[Mapping[str, Any]]) -> float | None:
    """A set's WER before the training; None where it was not scored then, or there was nothing to lose."""
    for entry in log_history:
        if entry["step"] == 0 and wer_key(name) in entry:
            wer = float(entry[wer_key(name)])
            return wer if wer < NOTHING_TO_LOSE_WER else None
    return None
