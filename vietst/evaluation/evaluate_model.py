"""One evaluation from a model and a split file to scores, files and the printed table."""

import dataclasses
from pathlib import Path
from typing import Any

from vietst.constants import TRANSCRIBE
from vietst.evaluation.beside import Beside, BesideOptions
from vietst.evaluation.history import run_histories
from vietst.evaluation.model_predictions import decode_split, plan_decoding
from vietst.evaluation.scoring import ScoredRun, ScoringOptions, SplitOptions
from vietst.output_folder import make_output_dir


def evaluate_model(
    *,
    model_dir: str,
    model_type: str | None,
    task: str | None,
    split: SplitOptions,
    scoring: ScoringOptions,
    beside: BesideOptions,
    run_name: str | None = None,
) -> dict[str, Any]:
    """Decode a split with a model, score it, write the results and print them.

    Args:
        model_dir, model_type, task: as `model_predictions.plan_decoding`.
        beside: without a `train_csv` of its own it gets `train.csv` beside the split, if that is there.
        run_name: None: the name of the model's folder.

    Returns:
        The content of `<run>_metrics.json`.

    Raises:
        VietstError: a model, split, word list, baseline or audio file that cannot be used, or results that
            cannot be written.
    """
    run_name = run_name or Path(model_dir).absolute().name
    _ = scoring.user_tags  # refused now, if at all
    plan = plan_decoding(model_dir, split, model_type=model_type, task=task)
    training = split.test_csv.parent / "train.csv"
    if beside.train_csv is None and training.is_file():
        beside = dataclasses.replace(beside, train_csv=training)
    comparison = Beside(beside, split, run_name, transcribes=TRANSCRIBE in plan.options.tasks)
    make_output_dir(scoring.output)
    comparison.decode_baselines(scoring)
    made = decode_split(plan)
    run = ScoredRun(
        run_name,
        made.predictions,
        made.facts,
        made.timing,
        run_histories(Path(model_dir)),
        plan.why_no_translation,
    )
    return comparison.score_and_write(run, scoring)
