"""One evaluation from predictions, anybody's, to scores, files and the printed table."""

from pathlib import Path
from typing import Any

from vietst.data.tables import file_digest
from vietst.environment import environment_record
from vietst.errors import VietstError
from vietst.evaluation.beside import Beside, BesideOptions
from vietst.evaluation.metrics import is_transcribed
from vietst.evaluation.predictions_file import PREDICTIONS_SUFFIX, read_predictions
from vietst.evaluation.scoring import ScoredRun, ScoringOptions, SplitOptions
from vietst.output_folder import make_output_dir


def evaluate_predictions_file(
    *,
    predictions: Path,
    split: SplitOptions,
    scoring: ScoringOptions,
    beside: BesideOptions,
    run_name: str | None = None,
) -> dict[str, Any]:
    """Score a predictions file (`predictions_file.read_predictions`), write the results and print them.

    Args:
        split: what baseline models are run on.
        run_name: None: the file's name.

    Returns:
        The content of `<run>_metrics.json`.

    Raises:
        VietstError: a file that cannot be used, or that the results would overwrite.
    """
    _ = scoring.user_tags  # refused now, if at all
    rows = read_predictions(predictions)
    run_name = run_name or predictions.name.removesuffix(PREDICTIONS_SUFFIX).removesuffix(".csv")
    written = scoring.output / f"{run_name}{PREDICTIONS_SUFFIX}"
    if not rows or written.resolve() == predictions.resolve():
        raise VietstError(
            where=str(predictions),
            rule="a predictions file with utterances, that is no file of these results themselves",
            found=f"the results would be written to {written}" if rows else "no utterances",
            do="choose another --run_name or --output" if rows else "name the file that holds them",
        )
    comparison = Beside(beside, split, run_name, transcribes=any(map(is_transcribed, rows)))
    make_output_dir(scoring.output)
    comparison.decode_baselines(scoring)
    facts = {
        "predictions": predictions.as_posix(),
        "predictions_digest": file_digest(predictions),
        "environment": environment_record(),
    }
    return comparison.score_and_write(ScoredRun(run_name, rows, facts), scoring)
