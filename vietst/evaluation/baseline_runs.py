"""Baselines that are runs of their own: other models, anybody's predictions, a cascade.

A model is decoded once. Its results are kept under its own name beside those of the run, as if it had been
evaluated alone, and used again while model, split and decoding are the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vietst.errors import VietstError
from vietst.evaluation.code_switching import count_errors_of, language_score_counts
from vietst.evaluation.history import run_histories
from vietst.evaluation.kept_results import kept_predictions
from vietst.evaluation.metrics import Prediction, count_scores
from vietst.evaluation.predictions_file import PREDICTIONS_SUFFIX, read_predictions
from vietst.evaluation.results_table import SCORE_LABELS, WITHOUT_MODEL
from vietst.evaluation.scoring import ScoredRun, ScoringOptions, SplitOptions


@dataclass(frozen=True)
class BaselineRun:
    """What stands beside a run under a name of its own."""

    name: str
    predictions: Callable[[ScoringOptions], Sequence[Prediction]]
    """Reads them, or makes them first."""

    note: str | None = None
    """A sentence that the reader of the table needs."""


def plan_baselines(specs: Sequence[str], split: SplitOptions, run_name: str) -> list[BaselineRun]:
    """Look at every baseline, so that what cannot be used is refused before a model is run for hours.

    Args:
        specs: each a predictions file (`predictions_file.read_predictions`), or a folder or Hub id of a
            model.
        split: what models are run on.

    Raises:
        VietstError: a file or model that cannot be used, or two baselines of the same name.
    """
    planned = [_planned_file(Path(spec)) if _is_file(spec) else _planned_model(spec, split) for spec in specs]
    taken = {run_name, *WITHOUT_MODEL}
    for spec, baseline in zip(specs, planned, strict=True):
        if baseline.name in taken:
            raise VietstError(
                where=f"--baseline {spec}",
                rule="every baseline has a name of its own: its file's or its folder's",
                found=f"a second {baseline.name}",
                do="rename the file or the folder, or the run with --run_name",
            )
        taken.add(baseline.name)
    return planned


def _is_file(spec: str) -> bool:
    return Path(spec).suffix == ".csv"


def _planned_file(path: Path) -> BaselineRun:
    predictions = read_predictions(path)
    name = path.name.removesuffix(PREDICTIONS_SUFFIX).removesuffix(".csv")
    return BaselineRun(name, lambda options: predictions)


def _planned_model(model_dir: str, split: SplitOptions) -> BaselineRun:
    from vietst.evaluation.model_predictions import decode_split, plan_decoding

    plan = plan_decoding(model_dir, split)
    name = Path(model_dir).absolute().name

    def predictions(options: ScoringOptions) -> Sequence[Prediction]:
        def make() -> ScoredRun:
            made = decode_split(plan)
            histories = run_histories(Path(model_dir))
            return ScoredRun(
                name, made.predictions, made.facts, made.timing, histories, plan.why_no_translation
            )

        return kept_predictions(name, plan.made_from, options, make)

    return BaselineRun(name, predictions, plan.why_no_translation)


# --- rows of the table ------------------------------------------------------------------------------------


def on_the_same_utterances(
    run: Sequence[Prediction], baseline: Sequence[Prediction]
) -> tuple[list[Prediction], str | None]:
    """The baseline's predictions of the run's utterances, in their order; or none, and why, in words."""
    by_id = {prediction.id: prediction for prediction in baseline}
    missing = [prediction.id for prediction in run if prediction.id not in by_id]
    if missing:
        return (
            [],
            f"it has no predictions of {len(missing):,} of {len(run):,} utterances, such as {missing[0]}",
        )
    chosen = [by_id[prediction.id] for prediction in run]
    for ours, theirs in zip(run, chosen, strict=True):
        if (ours.transcript, ours.translation) != (theirs.transcript, theirs.translation):
            return [], f"it was scored on other references, such as those of {ours.id}"
    return chosen, None


def scores_of(predictions: Sequence[Prediction], options: ScoringOptions) -> dict[str, float]:
    """The scores of the table, as of a run."""
    counts = count_scores(predictions, with_ter=options.with_ter)
    counts |= language_score_counts(count_errors_of(predictions, options.user_tags))
    return {name: counts[name].score for name in SCORE_LABELS if name in counts}
