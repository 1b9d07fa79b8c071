"""`benchmark.py cost_by_size` takes corpora from manifest to scores, and draws what that took."""

import json
from pathlib import Path

import pytest

from tests.script_runs import run_script
from vietst.benchmarks import cost_by_size

STEPS = ("clean", "audit", "split", "build features", "train", "evaluate", "score")


@pytest.mark.slow
def test_memory_and_time_are_measured_by_size_and_drawn(tmp_path: Path) -> None:
    answer = run_script(
        *("benchmark.py", tmp_path, "cost_by_size", "--sizes", "100", "--num_proc", "2"),
        *("--work_dir", str(tmp_path)),
    )
    assert answer.returncode == 0, answer.stderr
    runs = json.loads((tmp_path / "benchmarks" / "cost_by_size.json").read_text(encoding="utf-8"))["runs"]
    measured = runs[0]["results"]["runs"]
    assert [run["num_utterances"] for run in measured] == [100]
    for step in STEPS:
        # Python alone takes more than 10 MB.
        assert all(run[step]["peak_bytes"] > 10e6 for run in measured)
        assert step in answer.stdout
    assert all(run["build features"]["peak_bytes"] > 2 * run["clean"]["peak_bytes"] for run in measured)
    assert all(0 < run["train"]["step_s"] < run["train"]["seconds"] for run in measured)
    assert (tmp_path / "benchmarks" / "cost_by_size.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("vietst-benchmark-*"))


def test_growth_is_judged_per_utterance() -> None:
    def run(num_utterances: int, seconds: float, peak_bytes: int, step_s: float) -> dict[str, object]:
        measured = {step: {"seconds": seconds, "peak_bytes": peak_bytes} for step in STEPS}
        measured["train"]["step_s"] = step_s
        return {"num_utterances": num_utterances, **measured}

    runs = [run(10, 5.0, 100, 0.1), run(100, 10.0, 1_000, 0.1), run(1_000, 200.0, 10_000_000, 0.11)]
    bars = {bar.what: bar for bar in cost_by_size.bars({"runs": runs})}
    step, linear, memory = (
        bars[what]
        for what in (
            "training step: times as long",
            "evaluate: times as long for each utterance",
            "evaluate: bytes an utterance",
        )
    )
    assert (step.measured, step.is_met) == (1.1, True)
    assert (linear.measured, linear.is_met) == (2.0, False)
    assert (memory.measured, memory.is_met) == (11_110, False)
    assert cost_by_size.bars({"runs": runs[:1]}) == []
