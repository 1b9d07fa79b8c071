"""Scores of an evaluation during training, from what `SpeechTrainer.prediction_step` returns."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from transformers import EvalPrediction

from vietst.constants import TASKS
from vietst.evaluation.alarms import WARNING_SHARE, alarm_lines, alarms_record, raise_alarms
from vietst.evaluation.decode import TextDecoder
from vietst.evaluation.metrics import Prediction, score_predictions
from vietst.runtime import get_logger, warn_once

logger = get_logger(__name__)

EVALUATION_SCORES = ("wer", "cer", "bleu", "chrf")
"""Scores that an evaluation during training reports, as far as its tasks give them."""

REFERENCE_COLUMNS = ("id", "video_id", "duration_s", "transcript", "translation")
"""What scoring reads of an utterance."""


def make_compute_metrics(
    rows: Iterable[Mapping[str, Any]], decoder: TextDecoder, tasks: Sequence[str], *, with_alarms: bool = True
) -> Callable[[EvalPrediction], dict[str, float]]:
    """Scores of an evaluation: token-weighted losses, WER/CER of transcripts, BLEU/chrF of translations.

    `loss` is the cross-entropy in nats per label token over both tasks (without CTC, smoothing and task
    weights), `loss_<task>` the same for one task. `alarm_<name>` is the number of hypotheses of either task
    that raised an alarm (`vietst.evaluation.alarms`); a share above `WARNING_SHARE` warns, with an example.

    Args:
        rows: what is evaluated, in order: `id`, `video_id`, `duration_s`, `transcript`, `translation`.
    """
    references = [{key: row[key] for key in REFERENCE_COLUMNS} for row in rows]

    def compute_metrics(evaluated: EvalPrediction) -> dict[str, float]:
        generated, losses = evaluated.predictions
        identity = evaluated.label_ids
        # Samplers repeat rows to give every process equally many: keep each (row, task) once.
        kept = np.unique(identity[:, :2], axis=0, return_index=True)[1]
        row_index, task_index, num_tokens = identity[kept].T
        losses, texts = losses[kept, 0], decoder(generated[kept])
        metrics = {"loss": float(losses.sum() / max(num_tokens.sum(), 1))}
        hypotheses: dict[int, dict[str, str]] = {int(row): {} for row in row_index}
        for row, task, text in zip(row_index, task_index, texts, strict=True):
            hypotheses[int(row)][TASKS[task]] = text
        for task in tasks:
            of_task = task_index == TASKS.index(task)
            metrics[f"loss_{task}"] = float(losses[of_task].sum() / max(num_tokens[of_task].sum(), 1))
        predictions = [
            Prediction(
                **references[row],
                transcript_hypothesis=by_task.get("transcribe"),
                translation_hypothesis=by_task.get("translate"),
            )
            for row, by_task in sorted(hypotheses.items())
        ]
        scores = score_predictions(predictions)
        metrics |= {name: scores[name] for name in EVALUATION_SCORES if name in scores}
        if with_alarms:
            metrics |= _alarm_counts(predictions)
        return metrics | {"num_utterances": len(hypotheses)}

    return compute_metrics


def _alarm_counts(predictions: Sequence[Prediction]) -> dict[str, int]:
    record = alarms_record(raise_alarms(predictions))
    if lines := alarm_lines(record, min_share=WARNING_SHARE):
        warn_once(logger, "hypotheses of this evaluation raise alarms: %s", " ".join(lines))
    return {
        f"alarm_{alarm}": sum(found["num"] for found in by_texts.values())
        for alarm, by_texts in record.items()
    }
