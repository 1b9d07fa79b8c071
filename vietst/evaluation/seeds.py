"""Several trainings that differ in their seed, as one row: mean and standard deviation of each score."""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vietst.errors import VietstError
from vietst.evaluation.metrics_file import METRICS_SUFFIX, path_of_run, read_metrics
from vietst.evaluation.results_table import SCORE_LABELS


@dataclass(frozen=True)
class SeedSummary:
    """What several runs scored on the same test set."""

    name: str
    num_runs: int
    scores: Mapping[str, tuple[float, float]]
    """By the names of `SCORE_LABELS`: mean, and standard deviation of the sample (n − 1 below)."""
    not_in_every_run: tuple[str, ...]
    """Scores that some of the runs lack, and that are left out."""


def summarize_seeds(runs: Sequence[str], results_dir: Path, name: str | None = None) -> SeedSummary:
    """Summarize the results of several runs.

    Args:
        runs: names of runs in `results_dir`, or paths of `_metrics.json` files.
        name: of the row; None: the first run's name without the number of its seed.

    Raises:
        VietstError: fewer than two runs, one named twice, a file that cannot be read, runs that were scored
            on different utterances or by different rules, or other models than the first.
    """
    paths = [path_of_run(run, results_dir, METRICS_SUFFIX) for run in runs]
    if len(set(paths)) < max(len(paths), 2):
        raise VietstError(
            where="the runs to summarize",
            rule="two or more, each named once",
            found=", ".join(runs),
            do="name the runs of all seeds",
        )
    records = [read_metrics(path) for path in paths]
    for path, record in zip(paths[1:], records[1:], strict=True):
        _require_same_test(paths[0], records[0], path, record)
        _require_same_training(paths[0], records[0], path, record)
    scores = [_shown_scores(record) for record in records]
    in_some = [label for label in SCORE_LABELS if any(label in of_run for of_run in scores)]
    in_all = [label for label in in_some if all(label in of_run for of_run in scores)]
    return SeedSummary(
        name=name or _without_seed(paths[0].name.removesuffix(METRICS_SUFFIX)),
        num_runs=len(paths),
        scores={
            label: (statistics.fmean(values), statistics.stdev(values))
            for label in in_all
            for values in [[of_run[label] for of_run in scores]]
        },
        not_in_every_run=tuple(label for label in in_some if label not in in_all),
    )


def _require_same_test(path_a: Path, a: Mapping[str, Any], path_b: Path, b: Mapping[str, Any]) -> None:
    def fingerprint(record: Mapping[str, Any]) -> dict[str, Any]:
        digest = record.get("facts", {}).get("test_csv_digest")
        names = ("num_utterances", "num_videos", "audio_s", "normalizer")
        return {"test_csv_digest": digest, **{name: record.get(name) for name in names}}

    of_a, of_b = fingerprint(a), fingerprint(b)
    if different := [name for name in of_a if of_a[name] != of_b[name]]:
        raise VietstError(
            where=f"{path_a} and {path_b}",
            rule="runs of one row were scored on the same utterances, by the same rules",
            found=f"other {', '.join(different)}",
            do="evaluate all of them on the same test split",
        )


_SAME_FOR_ALL_SEEDS: Final = (
    "architecture",
    "tasks",
    "num_parameters",
    "num_trained_parameters",
    "split_hash",
)
"""Of a run's facts. The name of its base model may be a folder of another machine."""


def _require_same_training(path_a: Path, a: Mapping[str, Any], path_b: Path, b: Mapping[str, Any]) -> None:
    """As far as both tell: predictions from elsewhere come without a run's facts."""
    of_a, of_b = (record.get("facts", {}).get("run") or {} for record in (a, b))
    known = [name for name in _SAME_FOR_ALL_SEEDS if name in of_a and name in of_b]
    if different := [name for name in known if of_a[name] != of_b[name]]:
        raise VietstError(
            where=f"{path_a} and {path_b}",
            rule="runs of one row differ in nothing but their seed",
            found="; ".join(f"{name} {of_a[name]} and {of_b[name]}" for name in different),
            do="summarize each model apart; scripts/compare_runs.py compares two of them",
        )


def _shown_scores(record: Mapping[str, Any]) -> dict[str, float]:
    scores = {**(record.get("code_switching") or {}), **record}
    return {name: scores[name] for name in SCORE_LABELS if scores.get(name) is not None}


def _without_seed(run_name: str) -> str:
    return re.sub(r"(?<=[^_.\d-])[_.-]*(?:seed[_.-]*)?\d+$", "", run_name)


def format_markdown(summary: SeedSummary) -> str:
    """A table of one row."""
    header = ["", *(SCORE_LABELS[name] for name in summary.scores)]
    cells = [f"{mean:.2f} ± {deviation:.2f}" for mean, deviation in summary.scores.values()]
    label = f"{summary.name} ({summary.num_runs} seeds)".replace("|", r"\|")
    lines = [header, ["---", *["---:"] * len(cells)], [label, *cells]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def format_latex(summary: SeedSummary) -> str:
    """A row of a table, after a comment that names its columns."""
    columns = " & ".join(_latex(SCORE_LABELS[name]) for name in summary.scores)
    cells = [rf"${mean:.2f} \pm {deviation:.2f}$" for mean, deviation in summary.scores.values()]
    row = " & ".join([f"{_latex(summary.name)} ({summary.num_runs} seeds)", *cells])
    return f"%  & {columns} \\\\\n{row} \\\\"


_LATEX = {
    **{character: f"\\{character}" for character in "%&$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
