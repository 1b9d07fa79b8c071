"""The common end of evaluations: what stands beside a run in its table, files, and the printed table."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vietst.data.splits import open_split_file, split_rows
from vietst.errors import VietstError
from vietst.evaluation.baseline_runs import (
    BaselineRun,
    on_the_same_utterances,
    plan_baselines,
    scores_of,
)
from vietst.evaluation.comet import CometOptions, comet_scores
from vietst.evaluation.metrics import Prediction, written_in
from vietst.evaluation.results_table import format_results_table
from vietst.evaluation.scoring import ScoredRun, ScoringOptions, SplitOptions, write_run
from vietst.evaluation.without_model import baselines
from vietst.runtime import get_logger
from vietst.text_style import AS_IS

if TYPE_CHECKING:
    from vietst.evaluation.cascade import Cascade, CascadeOptions

logger = get_logger(__name__)

BASELINE_SEED: Final = 1


@dataclasses.dataclass(frozen=True)
class BesideOptions:
    """What a run is compared with, and scores that other programs compute."""

    train_csv: Path | None = None
    """For the random-sentence baseline; None: without it."""

    baselines: Sequence[str] = ()
    """Models and predictions files (`baseline_runs.plan_baselines`)."""

    cascade: "CascadeOptions | None" = None
    comet: CometOptions | None = None


class IncompleteError(VietstError):
    """A part of an evaluation failed that others do not need; the rest is done and written.

    Args:
        metrics: the content of `<run>_metrics.json`.
    """

    def __init__(self, problem: VietstError, metrics: dict[str, Any]) -> None:
        super().__init__(where=problem.where, rule=problem.rule, found=problem.found, do=problem.do)
        self.metrics = metrics


class Beside:
    """What `BesideOptions` ask for, looked at before a model is run.

    Args:
        split: what baseline models are run on.
        transcribes: whether the run has transcripts, which a cascade translates.

    Raises:
        VietstError: a baseline, translation model or program that cannot be used.
    """

    def __init__(
        self, options: BesideOptions, split: SplitOptions, run_name: str, *, transcribes: bool
    ) -> None:
        self._options = options
        self._predictions: dict[str, Sequence[Prediction]] = {}
        self._problems: list[VietstError] = []
        self._runs = plan_baselines(options.baselines, split, run_name)
        self._cascade: Cascade | None = None
        if options.cascade is not None:
            self._cascade = _cascade(options.cascade, run_name, transcribes)
        if options.comet is not None:
            _ = options.comet.words  # is the program there

    def decode_baselines(self, options: ScoringOptions) -> None:
        """Decode what is not there yet, before the run itself: baselines are kept, whatever comes after."""
        for baseline in self._runs:
            self._have(baseline, options)

    def _have(self, baseline: BaselineRun, options: ScoringOptions) -> None:
        try:
            self._predictions[baseline.name] = baseline.predictions(options)
        except VietstError as error:
            self._problems.append(error)

    def score_and_write(self, run: ScoredRun, options: ScoringOptions) -> dict[str, Any]:
        """Score a run beside all that was asked for, write results and report, print and return the metrics.

        Raises:
            IncompleteError: a part failed that others do not need; what could be done is written and printed.
        """
        if self._cascade is not None:
            cascade = self._cascade.of(run.predictions)
            self._have(cascade, options)
            self._runs.append(cascade)
        rows: dict[str, dict[str, Any]] = {**self._without_a_model(run.predictions)}
        systems = {run.name: run.predictions}
        for baseline in self._runs:
            if baseline.name in self._predictions:
                predictions = self._predictions[baseline.name]
                row = _row(baseline, run.predictions, predictions, options)
                rows[baseline.name], systems[baseline.name] = row
        if self._options.comet is not None:
            try:
                run = _with_comet(run, systems, rows, self._options.comet)
            except VietstError as error:
                self._problems.append(error)
        metrics, files = write_run(run, options, rows)
        print(format_results_table(metrics, files))
        for problem in self._problems[1:]:
            logger.error("%s", problem)
        if self._problems:
            raise IncompleteError(self._problems[0], metrics) from self._problems[0]
        return metrics

    def _without_a_model(self, predictions: Sequence[Prediction]) -> dict[str, dict[str, float]]:
        path = self._options.train_csv
        transcripts, translations = [], []
        for row in split_rows(open_split_file(path)) if path is not None else ():
            transcripts.append(str(row["transcript"]))
            translations.append(str(row["translation"]))
        return baselines(predictions, transcripts, translations, BASELINE_SEED)


def _cascade(options: "CascadeOptions", run_name: str, transcribes: bool) -> "Cascade":
    from vietst.evaluation.cascade import Cascade

    if not transcribes:
        raise VietstError(
            where=f"--cascade {options.model}",
            rule="a run with transcripts, which the cascade translates",
            found=f"{run_name} only translates",
            do="evaluate a model that transcribes, or leave --cascade out",
        )
    return Cascade(options, run_name)


def _row(
    baseline: BaselineRun,
    run: Sequence[Prediction],
    predictions: Sequence[Prediction],
    options: ScoringOptions,
) -> tuple[dict[str, Any], Sequence[Prediction]]:
    """A row of the table, and the predictions behind it, written in the run's style if that is plainer."""
    predictions, why_not = on_the_same_utterances(run, predictions)
    note = baseline.note if why_not is None else f"{baseline.name} stands here without scores: {why_not}."
    if predictions and (style := run[0].text_style) != AS_IS:
        predictions = [written_in(prediction, style) for prediction in predictions]
    elif predictions and (style := predictions[0].text_style) != AS_IS:
        in_its_own = (
            f"{baseline.name} is scored in text style {style}, which it was taught to write: compare BLEU, "
            "chrF and WER as written by scripts/compare_runs.py, not here."
        )
        note = f"{note} {in_its_own}" if note else in_its_own
    row: dict[str, Any] = {"note": note} if note else {}
    return row | (scores_of(predictions, options) if predictions else {}), predictions


def _with_comet(
    run: ScoredRun,
    systems: Mapping[str, Sequence[Prediction]],
    rows: dict[str, dict[str, Any]],
    options: CometOptions,
) -> ScoredRun:
    """The run with its COMET scores; those of the others are put into their rows."""
    copies = [dataclasses.replace(p, translation_hypothesis=p.transcript) for p in run.predictions]
    scores = comet_scores({**systems, "copy": copies}, options)
    for name in rows.keys() & scores.keys():
        rows[name]["comet"] = scores[name].score
    if run.name not in scores:
        return run
    return dataclasses.replace(
        run, more_scores={"comet": scores[run.name]}, more_signatures={"comet": options.signature}
    )
