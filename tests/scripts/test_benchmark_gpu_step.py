"""`benchmark.py gpu_step` where there is no GPU: it measures what it says, and claims nothing."""

import dataclasses

import pytest
import torch

from vietst.benchmarks.gpu_step import Work, _made_up_rows, bars, describe, matrix_rate, measure_steps
from vietst.benchmarks.stages import stages_of_table
from vietst.benchmarks.untrained_whisper import WhisperShape
from vietst.data.features import LOG_MEL_80
from vietst.training import compiled_layers

WORK = Work(
    num_utterances=2,
    num_micro_batches=2,
    num_words=5,
    num_steps=1,
    num_rounds=2,
    num_workers=1,
    matrix_size=64,
)
TINY = WhisperShape(d_model=16, num_layers=1, num_heads=2, vocab_size=300)


@pytest.mark.slow
def test_both_ways_are_trained_and_compared_with_the_matrix_rate(monkeypatch):
    monkeypatch.setattr(compiled_layers, "BACKEND", "aot_eager")
    results = measure_steps(TINY, WORK)
    eager, compiled = results["eager"], results["compiled"]
    assert results["device"] == "cpu"
    for figures in (eager, compiled):
        assert figures["num_label_tokens"] == 4 + WORK.num_words, "as many as stated, and no padding"
        assert len(figures["utterances_per_s_of_rounds"]) == WORK.num_rounds
        assert 0 < figures["data_wait_share"] < 1
        rate = figures["utterances_per_s"] * figures["flops_per_utterance"]
        assert figures["share_of_matrix_rate"] == pytest.approx(rate / results["matrix_flops_per_s"])
    assert compiled["flops_per_utterance"] == eager["flops_per_utterance"]
    assert "This was not a GPU" in describe(results)
    assert bars(results) == []


def test_one_way_that_does_not_fit_the_gpu_leaves_the_figures_of_the_other(monkeypatch):
    def train(folder, base, rows, work, compiles):
        if not compiles:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return {"useful_flops_per_s": 1e9}

    monkeypatch.setattr("vietst.benchmarks.gpu_step._train", train)
    results = measure_steps(TINY, WORK)
    assert results["eager"] == {"impossible": "CUDA out of memory"}
    assert results["compiled"]["share_of_matrix_rate"] == 1e9 / results["matrix_flops_per_s"]


def test_no_step_waits_for_an_epoch_to_begin(tmp_path):
    work = dataclasses.replace(WORK, num_utterances=1, num_steps=5)
    rows = _made_up_rows(tmp_path, LOG_MEL_80, work)
    assert len(rows) == 1 * 2 * 5 * (1 + 2)
    assert rows[8]["id"] == rows[0]["id"] != rows[7]["id"], "a few are on disk, and come again"


def figures(share: float, wait: float) -> dict[str, float]:
    return {
        **{"share_of_matrix_rate": share, "data_wait_share": wait, "useful_flops_per_s": share * 1e14},
        **{"utterances_per_s": 1.0, "peak_memory_gb": 1.0},
    }


def test_on_a_gpu_the_faster_way_is_judged_and_what_cannot_be_compiled_is_told():
    results = {
        **{"device": "cuda", "device_name": "a GPU", "model": "medium", "matrix_flops_per_s": 1e14},
        **vars(WORK),
        "eager": figures(0.4, 0.02),
        "compiled": figures(0.5, 0.005),
    }
    assert [bar.is_met for bar in bars(results)] == [True, True]
    results["compiled"] = {"impossible": "no Triton"}
    assert [bar.is_met for bar in bars(results)] == [False, False]
    assert "compiled  not measured: no Triton" in describe(results)
    assert "not a GPU" not in describe(results)
    results["eager"] = {"impossible": "no bfloat16"}
    assert bars(results) == []


def test_the_matrix_rate_counts_two_operations_for_each_pair(monkeypatch):
    now = iter(range(10_000))
    monkeypatch.setattr("vietst.benchmarks.gpu_step.time.perf_counter", lambda: next(now))
    assert matrix_rate(8, "cpu") == 2 * 8**3


def test_the_table_leaves_it_out_where_there_is_no_gpu(monkeypatch):
    for has_gpu in (False, True):
        monkeypatch.setattr("torch.cuda.is_available", lambda has_gpu=has_gpu: has_gpu)
        stages, left_out = stages_of_table()
        assert ("gpu_step" in stages) == has_gpu
        assert left_out == ([] if has_gpu else ["gpu_step"])
        assert "training_step" in stages
        assert "audit" not in stages
