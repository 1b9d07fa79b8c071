"""The curve of a run's mixtures with its base model, as it lies among the results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vietst.evaluation.metrics_file import METRICS_SUFFIX, read_metrics
from vietst.evaluation.report_tables import ReportTable

INTERPOLATION_SUFFIX: Final = "_interpolation.json"

_TABLE_SCORES: Final = {"wer": "WER %", "bleu": "BLEU"}


def curve_of_run(metrics_json: Path) -> dict[str, Any] | None:
    """The curve beside a run's metrics; None: there is none, or it is of other weights or another split.

    Raises:
        VietstError: a file that cannot be read.
    """
    path = metrics_json.with_name(metrics_json.name.removesuffix(METRICS_SUFFIX) + INTERPOLATION_SUFFIX)
    if not path.is_file():
        return None
    curve, metrics = read_metrics(path), read_metrics(metrics_json)
    tuned = curve["points"][-1]["test"]
    is_of_run = curve["test_csv_digest"] == metrics["facts"].get("test_csv_digest") and tuned == {
        name: metrics.get(name) for name in tuned
    }
    return curve if is_of_run else None


def load_curves(results_dir: Path) -> list[dict[str, Any]]:
    """All curves of a folder, ordered by name.

    Raises:
        VietstError: a file that is no JSON object.
    """
    return [read_metrics(path) for path in sorted(results_dir.glob(f"*{INTERPOLATION_SUFFIX}"))]


def curve_table(curve: Mapping[str, Any]) -> ReportTable:
    """What the curve shows, in figures."""
    points, names = curve["points"], list(curve["extra_sets"])
    of_test = [name for name in _TABLE_SCORES if name in points[0]["test"]]
    rows = [
        [
            f"{point['share_of_tuned']:g}",
            *(f"{point['test'][name]:.2f}" for name in of_test),
            *(f"{point['extra_sets'][name]['wer']:.2f}" for name in names),
        ]
        for point in points
    ]
    header = [
        "share of the tuned model",
        *(f"test {_TABLE_SCORES[name]}" for name in of_test),
        *(f"{name} WER %" for name in names),
    ]
    notes = ["0 is the base model, 1 the run; between them their weights are mixed (WiSE-FT)."]
    return ReportTable("Mixtures with the base model", header, rows, notes)
