"""Results that are not made again while all that decided about them is the same."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from vietst import __version__
from vietst.evaluation.metrics import Prediction
from vietst.evaluation.metrics_file import METRICS_SUFFIX, read_metrics
from vietst.evaluation.predictions_file import PREDICTIONS_SUFFIX, read_predictions
from vietst.evaluation.scoring import ScoredRun, ScoringOptions, write_run
from vietst.runtime import get_logger

logger = get_logger(__name__)

_MADE_FROM: Final = "made_from"
"""The fact among those of the results."""


def made_from_fact(made_from: Mapping[str, Any]) -> dict[str, str]:
    """A fact for results to carry: the digest of plain JSON data about all that decides about them."""
    text = json.dumps({"vietst_version": __version__, **made_from}, sort_keys=True, ensure_ascii=False)
    return {_MADE_FROM: f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"}


def kept_predictions(
    name: str, made_from: Mapping[str, Any], options: ScoringOptions, make: Callable[[], ScoredRun]
) -> Sequence[Prediction]:
    """The predictions that lie among the results under this name, made first if they are others or none.

    Args:
        make: the run, whose facts contain `made_from_fact(made_from)`; it is written as any other.
    """
    metrics_json = options.output / f"{name}{METRICS_SUFFIX}"
    predictions_csv = options.output / f"{name}{PREDICTIONS_SUFFIX}"
    if metrics_json.is_file() and predictions_csv.is_file():
        if made_from_fact(made_from).items() <= read_metrics(metrics_json).get("facts", {}).items():
            logger.info("%s is there already: %s", name, predictions_csv)
            return read_predictions(predictions_csv)
        logger.info("%s comes from other things, and is made again", predictions_csv)
    write_run(make(), options)
    return read_predictions(predictions_csv)
