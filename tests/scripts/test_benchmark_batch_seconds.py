"""`benchmark.py batch_seconds`: the same utterances in batches by seconds and in fixed ones, and how fast."""

import json
from pathlib import Path

import pytest

from tests.script_runs import run_script
from tests.tiny_runs import tiny_e2e_run_overrides


@pytest.mark.slow
def test_an_epoch_both_ways_has_the_same_utterances(tiny_corpus: Path, tmp_path: Path):
    overrides = [o for o in tiny_e2e_run_overrides(tiny_corpus, tmp_path) if not o.startswith("output.dir")]
    answer = run_script("benchmark.py", tmp_path, "batch_seconds", *overrides, "training.batch_seconds=16")
    assert answer.returncode == 0, answer.stderr
    results = json.loads((tmp_path / "benchmarks" / "batch_seconds.json").read_text(encoding="utf-8"))
    measured = results["runs"][-1]["results"]
    by_seconds, fixed = measured["by_seconds"], measured["fixed"]
    for way in (by_seconds, fixed):
        assert round(way["num_steps"] * way["utterances_per_batch"]) == 35
        # the same audio: both throughputs are of one epoch
        assert way["audio_s_per_s"] * way["seconds"] == pytest.approx(
            fixed["audio_s_per_s"] * fixed["seconds"], rel=1e-2
        )
    assert by_seconds["padding_share"] < fixed["padding_share"]
    assert measured["times_faster"] == pytest.approx(fixed["seconds"] / by_seconds["seconds"], rel=1e-2)
    assert "times that of fixed batches" in answer.stdout
    assert not (tmp_path / "outputs").exists()


def test_without_a_corpus_it_says_how_to_make_one(tmp_path: Path):
    answer = run_script("benchmark.py", tmp_path, "batch_seconds")
    assert answer.returncode == 2
    assert "split_data.py" in answer.stderr
    assert "Traceback" not in answer.stderr
