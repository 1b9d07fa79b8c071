"""Results of one evaluation as files.

`<run>_metrics.json` holds the scores (0–100) and all that is needed to judge and trace them
(`metrics_file` reads it), `<run>_predictions.csv` every reference and hypothesis (`predictions_file`).
"""

import json
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vietst.data.tables import atomic_writer
from vietst.evaluation.alarms import alarms_record, raise_alarms
from vietst.evaluation.code_switching import code_switching_scores, count_errors_of
from vietst.evaluation.english_left import english_left_counts
from vietst.evaluation.metrics import (
    Prediction,
    check_targets,
    count_scores,
    score_intervals,
    score_predictions,
    scores_by_video,
    utterance_scores,
)
from vietst.evaluation.metrics_file import METRICS_SUFFIX
from vietst.evaluation.predictions_file import PREDICTIONS_SUFFIX, write_predictions
from vietst.evaluation.score_counts import ScoreCounts
from vietst.evaluation.slices import scores_by_slice
from vietst.evaluation.without_model import bleu_above_copy
from vietst.evaluation.word_language import WordTag
from vietst.text_style import AS_IS


@dataclass(frozen=True)
class Timing:
    """How long decoding took, on the wall clock, reading of audio and features left out.

    Attributes:
        latencies_s: for each utterance, the seconds from handing its batch to the model until its texts.
        compute_s: seconds of the whole, each batch counted once.
    """

    latencies_s: Sequence[float]
    compute_s: float


def write_results(
    output_dir: Path,
    run_name: str,
    predictions: Sequence[Prediction],
    timing: Timing | None,
    facts: Mapping[str, Any],
    baseline_scores: Mapping[str, Mapping[str, Any]] | None = None,
    user_tags: Mapping[str, WordTag] | None = None,
    *,
    with_ter: bool = False,
    more_scores: Mapping[str, ScoreCounts] = types.MappingProxyType({}),
    more_signatures: Mapping[str, str] = types.MappingProxyType({}),
    why_no_translation: str | None = None,
) -> tuple[Path, Path]:
    """Score predictions; write `<run_name>_metrics.json` and `<run_name>_predictions.csv`, each atomically.

    What `metrics.score_predictions` returns becomes the top level of the JSON file.

    Args:
        timing: None where nothing was decoded (scores of someone else's predictions).
        facts: what the caller knows about model, data and run; plain JSON data (NaN becomes null).
        baseline_scores: from `without_model.baselines`, and of other runs: scores by name, perhaps a `note`.
        user_tags: from `word_language.read_word_tags`, for all that is told by language.
        with_ter: score TER, too, which takes longer than all the rest together.
        more_scores, more_signatures: what was computed elsewhere, by name.
        why_no_translation: a sentence for the notes below the table.

    Returns:
        the two paths.

    Raises:
        ValueError: no predictions, or `run_name` cannot be part of a file name.
    """
    if not run_name or Path(run_name).name != run_name:
        raise ValueError(f"a run's name becomes a file name, so it cannot be {run_name!r}")
    predictions_csv = output_dir / f"{run_name}{PREDICTIONS_SUFFIX}"
    metrics_json = output_dir / f"{run_name}{METRICS_SUFFIX}"
    counts = count_scores(predictions, with_ter=with_ter) | english_left_counts(predictions, user_tags)
    counts |= more_scores
    errors = count_errors_of(predictions, user_tags)
    scores = score_predictions(predictions, counts)
    write_predictions(predictions_csv, predictions, utterance_scores(predictions, counts))
    scores["metric_signatures"] |= more_signatures
    record = {
        "run_name": run_name,
        **scores,
        "text_style": next((p.text_style for p in predictions if p.text_style != AS_IS), AS_IS),
        "why_no_translation": why_no_translation,
        **(_timing_record(timing, predictions) if timing else {}),
        "targets": check_targets(scores),
        "baselines": baseline_scores or {},
        "bleu_above_copy": bleu_above_copy(scores, baseline_scores or {}),
        "intervals": score_intervals(predictions, counts),
        "code_switching": code_switching_scores(predictions, errors),
        "slices": scores_by_slice(predictions, counts, errors, user_tags),
        "by_video": scores_by_video(predictions, counts),
        "alarms": alarms_record(raise_alarms(predictions)),
        "facts": _without_nan(facts),
        "predictions_csv": predictions_csv.name,
    }
    with atomic_writer(metrics_json) as file:
        json.dump(record, file, ensure_ascii=False, indent=2, allow_nan=False)
        file.write("\n")
    return metrics_json, predictions_csv


def _without_nan(value: Any) -> Any:
    """NaN and infinity, which Python writes and no other program reads, as None."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _timing_record(timing: Timing, predictions: Sequence[Prediction]) -> dict[str, Any]:
    audio_s = sum(p.duration_s for p in predictions)
    p50, p95 = np.percentile(timing.latencies_s, (50, 95))
    return {
        "latency_s": {"mean": float(np.mean(timing.latencies_s)), "p50": float(p50), "p95": float(p95)},
        "real_time_factor": timing.compute_s / audio_s if audio_s > 0 else None,
        "compute_s": timing.compute_s,
    }
