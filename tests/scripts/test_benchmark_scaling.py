"""`benchmark.py scaling`: real trainings by one process and by two, and what they log of their throughput."""

import json
from pathlib import Path

import pytest

from tests.script_runs import run_script
from tests.tiny_runs import tiny_run_overrides


@pytest.mark.slow
def test_one_process_and_two_are_trained_and_compared(tiny_corpus: Path, tmp_path: Path):
    taken_by_the_stage = ("output.dir", "model.name", "training.max_steps", "training.logging_steps")
    overrides = [o for o in tiny_run_overrides(tiny_corpus, tmp_path) if not o.startswith(taken_by_the_stage)]
    answer = run_script(
        "benchmark.py", tmp_path, "scaling", "--max_steps", "10", "--num_rounds", "1", *overrides
    )
    assert answer.returncode == 0, answer.stderr
    results = json.loads((tmp_path / "benchmarks" / "scaling.json").read_text(encoding="utf-8"))
    measured = results["runs"][-1]["results"]
    # five logs, of which the first is left out
    assert [len(values) for values in measured["utterances_per_s"].values()] == [4, 4, 4]
    one, two, apart = measured["median_utterances_per_s"].values()
    assert measured["times_faster"] == pytest.approx(two / one, abs=0.01)
    assert measured["times_faster_apart"] == pytest.approx(apart / one, abs=0.01)
    assert "two processes: " in answer.stdout
    assert not (tmp_path / "outputs").exists()


def test_a_training_that_fails_is_told_with_its_own_message(tmp_path: Path):
    answer = run_script("benchmark.py", tmp_path, "scaling")
    assert answer.returncode == 2
    assert "split_data.py" in answer.stderr
    assert "Traceback" not in answer.stderr
