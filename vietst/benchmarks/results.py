"""Benchmark results on disk: one JSON file per stage, each run with the machine and the versions."""

import datetime
import json
from pathlib import Path
from typing import Any

from vietst.data.tables import write_json
from vietst.runtime import environment_record


def add_result(output_dir: Path, stage: str, results: dict[str, Any]) -> Path:
    """Appends a run to `<stage>.json`. Returns the file."""
    path = output_dir / f"{stage}.json"
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.is_file() else []
    run = {
        "measured_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "results": results,
        "environment": environment_record(),
    }
    write_json(path, {"stage": stage, "runs": [*runs, run]})
    return path
