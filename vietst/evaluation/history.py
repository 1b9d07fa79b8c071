"""What training runs logged, read back from `outputs/<run>/metrics/<experiment>_metrics.json`."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vietst.errors import VietstError
from vietst.evaluation.metrics_file import METRICS_SUFFIX, read_metrics


@dataclass(frozen=True)
class History:
    """The log of one run: `entries` as in the Trainer's `log_history`, each with its optimizer `step`."""

    name: str
    entries: Sequence[Mapping[str, Any]]

    def series(self, key: str) -> tuple[list[int], list[float]]:
        """Rising steps and what was logged at them under `key`, the last of several; infinity becomes NaN."""
        by_step = {
            int(entry["step"]): float(entry[key]) if math.isfinite(entry[key]) else math.nan
            for entry in self.entries
            if "step" in entry and isinstance(entry.get(key), int | float)
        }
        steps = sorted(by_step)
        return steps, [by_step[step] for step in steps]

    def has(self, key: str) -> bool:
        """Whether any finite value was logged under `key`."""
        return any(math.isfinite(value) for value in self.series(key)[1])


def wer_key(extra_set: str) -> str:
    """The log's key of the WER of an extra set (`evaluation.extra_sets`)."""
    return f"eval_{extra_set}_wer"


def extra_set_names(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """The extra sets that were scored, in the order of the log."""
    found = (re.fullmatch(wer_key("(.+)"), key) for entry in entries for key in entry)
    return list(dict.fromkeys(match[1] for match in found if match))


def load_histories(runs_dir: Path) -> list[History]:
    """The histories of all runs below `runs_dir`, ordered by name.

    A history is named after its run, and after its experiment too where a run has several.

    Raises:
        VietstError: a file that holds no history.
    """
    return _load(sorted(runs_dir.glob(f"*/metrics/*{METRICS_SUFFIX}")))


def run_histories(run_dir: Path) -> list[History]:
    """As `load_histories`, of one run; none where the folder is no run's."""
    return _load(sorted(run_dir.resolve().glob(f"metrics/*{METRICS_SUFFIX}")))


def _load(paths: Sequence[Path]) -> list[History]:
    run_names = [path.parents[1].name for path in paths]
    histories = []
    for path, run_name in zip(paths, run_names, strict=True):
        experiment_name = path.name.removesuffix(METRICS_SUFFIX)
        name = run_name if run_names.count(run_name) == 1 else f"{run_name} / {experiment_name}"
        histories.append(History(name, _entries(path)))
    return histories


def _entries(path: Path) -> list[dict[str, Any]]:
    entries = read_metrics(path).get("history")
    if isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries):
        return entries
    raise VietstError(
        where=str(path),
        rule='a file in a run\'s metrics folder holds a list of entries under "history"',
        found="none",
        do="remove the file, or train again",
    )
