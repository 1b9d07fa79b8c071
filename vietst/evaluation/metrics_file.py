"""Scores and histories of runs, read from the files that hold them: `<run>_metrics.json`."""

import json
from pathlib import Path
from typing import Any, Final

from vietst.errors import VietstError

METRICS_SUFFIX: Final = "_metrics.json"


def read_metrics(path: Path) -> dict[str, Any]:
    """Read a `_metrics.json` file: of results, or of a run's history.

    Raises:
        VietstError: no such file, or not a JSON object.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise unreadable(str(path), "the file can be read", error.strerror or str(error)) from None
    except ValueError as error:  # not UTF-8, or not JSON
        raise unreadable(str(path), "the file is JSON", str(error)) from None
    if not isinstance(record, dict):
        raise unreadable(str(path), "the file holds a JSON object", type(record).__name__)
    return record


def load_results(results_dir: Path) -> list[dict[str, Any]]:
    """The metrics of all evaluations, `<results_dir>/<run>_metrics.json`, ordered by name.

    Raises:
        VietstError: a file that is no JSON object.
    """
    return [
        {"run_name": path.name.removesuffix(METRICS_SUFFIX)} | read_metrics(path)
        for path in sorted(results_dir.glob(f"*{METRICS_SUFFIX}"))
    ]


def path_of_run(run: str, results_dir: Path, suffix: str) -> Path:
    """The file that is meant by a run's name in `results_dir`, or by a path.

    Args:
        suffix: of the files that are looked for: `METRICS_SUFFIX` or `predictions_file.PREDICTIONS_SUFFIX`.

    Raises:
        VietstError: neither is there.
    """
    of_run = results_dir / f"{run}{suffix}"
    if Path(run).name == run and of_run.is_file():
        return of_run
    if Path(run).exists():
        return Path(run)
    known = ", ".join(sorted(path.name.removesuffix(suffix) for path in results_dir.glob(f"*{suffix}")))
    raise VietstError(
        where=run,
        rule=f"a run with results in {results_dir}, or the path of a file *{suffix}",
        found=f"neither; runs with results there: {known or 'none'}",
        do="name one of them, or evaluate the run first (scripts/run_evaluation.py)",
    )


def unreadable(where: str, rule: str, found: str) -> VietstError:
    """The error of a file of results that is not what it should be."""
    return VietstError(where=where, rule=rule, found=found, do="remove the file, or make it again")
