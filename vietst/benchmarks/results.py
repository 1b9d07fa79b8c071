"""Benchmark results on disk, one JSON file per stage, with the machine and the versions; and as a table."""

import datetime
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vietst.data.tables import write_json
from vietst.runtime import environment_record


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


def add_result(output_dir: Path, stage: str, results: dict[str, Any], bars: Iterable[Bar] = ()) -> Path:
    """Appends a run to `<stage>.json`. Returns the file."""
    path = result_path(output_dir, stage)
    run = {
        "measured_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "results": results,
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
