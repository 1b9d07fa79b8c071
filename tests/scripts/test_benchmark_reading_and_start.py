"""`benchmark.py reading` and `start` on a small corpus: what they measure is what the training did."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.patience import HANGS_AFTER_S
from tests.rounded_figures import is_ratio_of
from tests.tiny_runs import tiny_run_overrides

TAKEN_BY_THE_STAGES = ("output.dir", "model.name", "training.max_steps", "training.logging_steps")


def results_of(repo_root: Path, corpus: Path, folder: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    overrides = [o for o in tiny_run_overrides(corpus, folder) if not o.startswith(TAKEN_BY_THE_STAGES)]
    command = [sys.executable, str(repo_root / "scripts" / "benchmark.py"), *arguments, *overrides]
    ran = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=HANGS_AFTER_S
    )
    assert ran.returncode == 0, ran.stderr
    file = folder / "benchmarks" / f"{arguments[0]}.json"
    return json.loads(file.read_text(encoding="utf-8"))["runs"][-1]["results"], ran.stdout


@pytest.mark.slow
def test_reading_tells_the_share_of_waiting_beside_reading_alone(
    repo_root: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    arguments = ("reading", "--max_steps", "8", "--num_rounds", "1")
    results, said = results_of(repo_root, tiny_corpus, tmp_path, *arguments)
    shares = results["data_wait_share_of_entries"]
    assert len(shares) == 7, "the first of eight is told apart"
    assert results["data_wait_share"] == pytest.approx(sum(shares) / len(shares), abs=2e-5)
    assert 0 < results["data_wait_share"] < 1
    assert 0 < results["data_wait_share_at_first"] < 1
    assert results["num_workers"] == 1
    here, array = (results["seconds"][way][0] for way in ("here", "array"))
    assert is_ratio_of(results["times_longer"], here, array, digits=4)
    assert "waiting for data" in said


@pytest.mark.slow
def test_start_measures_every_script_and_the_first_step(
    repo_root: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    results, said = results_of(repo_root, tiny_corpus, tmp_path, "start", "--num_rounds", "1")
    scripts = {path.name for path in (repo_root / "scripts").glob("*.py")}
    assert results["help_s"].keys() == results["refusal_s"].keys() == scripts
    (first,), (imports,) = results["first_step_s"], results["imports_s"]
    assert results["first_step_later_s"] == pytest.approx(first - imports, abs=0.01)
    assert "first step of nano_whisper" in said
