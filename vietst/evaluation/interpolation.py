"""A run mixed with its base model: every mixture scored on the test split and on the run's extra sets.

`<run>_interpolation.json` holds the scores by the share of the tuned model, `<run>_interpolation.png` the
curve: where it lies lowest for all sets is the mixture to take (`vietst.models.interpolation`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from vietst.config_schema import EvaluationSection
from vietst.constants import TRANSCRIBE
from vietst.data.features import input_kind_of
from vietst.data.tables import file_digest, write_json
from vietst.environment import environment_record
from vietst.errors import VietstError
from vietst.evaluation.beside import BesideOptions, IncompleteError
from vietst.evaluation.chart_style import save_chart
from vietst.evaluation.decode import DecodingOptions, decode_rows
from vietst.evaluation.evaluate_model import evaluate_model
from vietst.evaluation.extra_set_charts import draw_interpolation
from vietst.evaluation.extra_sets import ExtraSet, SetReader
from vietst.evaluation.history import History, run_histories
from vietst.evaluation.html_report import write_run_report
from vietst.evaluation.interpolation_curve import INTERPOLATION_SUFFIX, curve_table
from vietst.evaluation.metrics import score_predictions
from vietst.evaluation.metrics_file import METRICS_SUFFIX
from vietst.evaluation.model_predictions import (
    PlannedDecoding,
    device_and_dtype,
    hearable,
    plan_decoding,
)
from vietst.evaluation.results_table import aligned
from vietst.evaluation.scoring import ScoringOptions, SplitOptions
from vietst.models.architectures import ARCHITECTURES
from vietst.models.interpolation import ModelPair, require_place_for_mixture
from vietst.runtime import get_logger

logger = get_logger(__name__)

CURVE_SCORES: Final[tuple[str, ...]] = ("wer", "cer", "bleu", "chrf")
"""What is known of every mixture, as far as its tasks give them."""


@dataclasses.dataclass(frozen=True)
class InterpolationOptions:
    """The base that a model is mixed with, and in which shares."""

    base: str
    """Folder or Hub id of the model that the training began from."""

    shares: Sequence[float]
    """Of the tuned model, between 0 and 1; these two are scored in any case."""

    save_share: float | None = None
    """Save the mixture of this share, at `save_to`; it is scored too."""

    save_to: Path | None = None

    @property
    def all_shares(self) -> list[float]:
        extra = [] if self.save_share is None else [self.save_share]
        return sorted({0.0, 1.0, *self.shares, *extra})


def evaluate_with_interpolation(
    interpolation: InterpolationOptions,
    *,
    model_dir: str,
    model_type: str | None,
    task: str | None,
    split: SplitOptions,
    scoring: ScoringOptions,
    beside: BesideOptions,
    run_name: str | None = None,
) -> dict[str, Any]:
    """`evaluate_model`, and its mixtures with the base; the curve is in the report, too.

    Returns:
        The content of `<run>_interpolation.json`.

    Raises:
        VietstError: as `evaluate_model`; a base that the model was not trained from; an extra set that is
            not there.
        IncompleteError: as `evaluate_model`, after the curve was written.
    """
    run_name = run_name or Path(model_dir).absolute().name
    if interpolation.save_to is not None:
        require_place_for_mixture(interpolation.save_to)
    plan = plan_decoding(model_dir, split, model_type=model_type, task=task)
    pair = ModelPair(plan.model_type, interpolation.base, model_dir)
    window_s = input_kind_of(pair.processor.feature_extractor).window_s
    test_rows = hearable(plan.read_rows(), window_s, model_dir, split.test_csv)
    mixtures = _Mixtures(plan, pair, test_rows, _extra_sets_of_run(plan, pair))
    incomplete = None
    try:
        metrics = evaluate_model(
            model_dir=model_dir,
            model_type=model_type,
            task=task,
            split=split,
            scoring=scoring,
            beside=beside,
            run_name=run_name,
        )
    except IncompleteError as error:  # no reason to leave out the curve
        incomplete, metrics = error, error.metrics
    curve = mixtures.curve(run_name, interpolation, metrics)
    files = _write(curve, scoring, run_histories(Path(model_dir)))
    if interpolation.save_to is not None and interpolation.save_share is not None:
        pair.save(interpolation.save_share, interpolation.save_to)
        files.append(interpolation.save_to)
    table = curve_table(curve)
    lines = [*aligned([table.header, *table.rows]), *table.notes]
    print("\n".join(["", *lines, "", "Written:", *(f"  {path}" for path in files)]))
    if incomplete is not None:
        raise incomplete
    return curve


def _write(curve: Mapping[str, Any], scoring: ScoringOptions, histories: Sequence[History]) -> list[Path]:
    """The curve, its picture, and the run's report again, now with the curve in it."""
    curve_json = scoring.output / f"{curve['run_name']}{INTERPOLATION_SUFFIX}"
    write_json(curve_json, curve)
    save_chart(draw_interpolation(curve), curve_json.with_suffix(".png"))
    metrics_json = scoring.output / f"{curve['run_name']}{METRICS_SUFFIX}"
    report = write_run_report(metrics_json, histories, scoring.players_root, scoring.user_tags)
    return [curve_json, curve_json.with_suffix(".png"), report]


@dataclasses.dataclass(frozen=True)
class _Mixtures:
    """What the points of a curve have in common."""

    plan: PlannedDecoding
    pair: ModelPair
    test_rows: list[dict[str, Any]]
    extra_sets: list[ExtraSet]

    def curve(
        self, run_name: str, interpolation: InterpolationOptions, metrics: Mapping[str, Any]
    ) -> dict[str, Any]:
        """All points, and what they were made from.

        Args:
            metrics: of the tuned model on the split.
        """
        tuned_scores = {name: metrics[name] for name in CURVE_SCORES if name in metrics}
        points = [
            self.score(share, tuned_scores if share == 1 else None) for share in interpolation.all_shares
        ]
        return {
            "run_name": run_name,
            "base": interpolation.base,
            "tuned": self.plan.model_dir,
            "test_csv": self.plan.split.test_csv.as_posix(),
            "test_csv_digest": file_digest(self.plan.split.test_csv),
            "extra_sets": {
                extra_set.name: {"digest": extra_set.digest, "num_utterances": len(extra_set.rows)}
                for extra_set in self.extra_sets
            },
            "decoding": dataclasses.asdict(self.plan.options),
            "points": points,
            "environment": environment_record(),
        }

    def score(self, share: float, test_scores: Mapping[str, float] | None) -> dict[str, Any]:
        """A point of the curve.

        Args:
            test_scores: where they are known already.
        """
        device, dtype = device_and_dtype()
        model = self.pair.at(share).to(device=device, dtype=dtype)
        split, options = self.plan.split, self.plan.options
        if test_scores is None:
            logger.info("share %g of the tuned model: test", share)
            test_scores = self._scores(model, self.test_rows, split.audio_root, options)
        extra_scores = {}
        for extra_set in self.extra_sets:
            logger.info("share %g of the tuned model: %s", share, extra_set.name)
            of_set = dataclasses.replace(options, tasks=(TRANSCRIBE,), language=extra_set.language)
            extra_scores[extra_set.name] = self._scores(model, extra_set.rows, extra_set.audio_root, of_set)
        return {"share_of_tuned": share, "test": dict(test_scores), "extra_sets": extra_scores}

    def _scores(
        self, model: Any, rows: Sequence[dict[str, Any]], audio_root: Path, options: DecodingOptions
    ) -> dict[str, float]:
        processor = self.pair.processor
        decoded = decode_rows(
            rows,
            audio_root=audio_root,
            input_kind=input_kind_of(processor.feature_extractor),
            architecture=ARCHITECTURES[self.plan.model_type],
            model=model,
            tokenizer=processor.tokenizer,
            options=options,
        )
        scores = score_predictions(decoded.predictions)
        return {name: scores[name] for name in CURVE_SCORES if name in scores}


def _extra_sets_of_run(plan: PlannedDecoding, pair: ModelPair) -> list[ExtraSet]:
    """The sets of the run's configuration, the same utterances as in its training; none of other models."""
    path = Path(plan.model_dir) / "resolved_config.yaml"
    if not path.is_file():
        return []
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        evaluation = EvaluationSection(**config["evaluation"])
        language, seed = config["model"]["language"], config["training"]["seed"]
        data_root = Path(config["paths"]["data_root"])
    except (OSError, ValueError, TypeError, LookupError, yaml.YAMLError) as error:
        raise VietstError(
            where=str(path),
            rule="the resolved configuration that training wrote",
            found=str(error),
            do="restore the file from the run, or delete it to evaluate the folder as any other model",
        ) from None
    architecture = ARCHITECTURES[plan.model_type]
    reader = SetReader(
        evaluation,
        language,
        data_root,
        seed,
        architecture,
        pair.processor.tokenizer,
        architecture.max_label_length(architecture.load_model_config(plan.model_dir)),
        input_kind_of(pair.processor.feature_extractor),
        plan.options.text_style,
    )
    return reader.read_all()[0]
