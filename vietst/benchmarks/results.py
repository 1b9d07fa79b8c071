"""Benchmark results on disk: one JSON file per stage, with the machine and the versions; all as a page."""

import datetime
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vietst.data.tables import atomic_writer, write_json
from vietst.environment import environment_record


@dataclass(frozen=True)
class Bar:
    """A figure that a stage measured, and what it should be."""

    what: str
    measured: float
    limit: float
    at_least: bool
    """Whether the limit is the least, or else the most, that it should be."""

    @property
    def is_met(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


def add_result(
    output_dir: Path, stage: str, results: dict[str, Any], bars: Iterable[Bar] = (), *, description: str = ""
) -> Path:
    """Appends a run to `<stage>.json`, with what was said of it. Returns the file."""
    path = result_path(output_dir, stage)
    run = {
        "measured_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "results": results,
        "description": description,
        "bars": [{**asdict(bar), "is_met": bar.is_met} for bar in bars],
        "environment": environment_record(),
    }
    write_json(path, {"stage": stage, "runs": [*_runs(path), run]})
    return path


def result_path(output_dir: Path, stage: str) -> Path:
    """Where the runs of a stage are kept."""
    return output_dir / f"{stage}.json"


def last_bars(output_dir: Path, stage: str) -> list[Bar]:
    """Of the last run that was added."""
    *_, run = _runs(result_path(output_dir, stage))
    return [Bar(**{name: value for name, value in bar.items() if name != "is_met"}) for bar in run["bars"]]


def write_page(output_dir: Path, stages: Sequence[str]) -> Path:
    """Writes `table.md`: the bars of the stages' last runs, and of each the figures, machine and versions.

    Returns the file.
    """
    last_runs = {stage: _runs(result_path(output_dir, stage))[-1] for stage in stages}
    bars = [(stage, bar) for stage in stages for bar in last_bars(output_dir, stage)]
    path = output_dir / "table.md"
    with atomic_writer(path) as file:
        file.write(f"# Measured\n\n```text\n{describe_bars(bars)}\n```\n")
        for stage, run in last_runs.items():
            file.write(f"\n## {stage}\n\n{_circumstances(run)}\n\n```text\n{run['description']}\n```\n")
    return path


def _circumstances(run: dict[str, Any]) -> str:
    environment = run["environment"]
    devices = [gpu["name"] for gpu in environment["gpus"]]
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    machine = [f"{environment['num_cpu_cores']} cores of {environment['cpu']}", *devices]
    return (
        f"{run['measured_at']}, {', '.join(machine)}, Python {environment['python']}, {packages}; "
        f"commit {environment['git_commit'] or 'not known'}."
    )


def _runs(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["runs"] if path.is_file() else []


def describe_bars(bars: Sequence[tuple[str, Bar]]) -> str:
    """Stages and what they measured, as a table for people."""
    lines = [f"{'stage':<16}{'what':<62}{'measured':>10}{'bar':>12}"]
    for stage, bar in bars:
        limit = f"{'>=' if bar.at_least else '<='} {bar.limit:g}"
        verdict = "met" if bar.is_met else "MISSED"
        lines.append(f"{stage:<16}{bar.what:<62}{bar.measured:>10.3g}{limit:>12}  {verdict}")
    return "\n".join(lines)
