"""Benchmark stage `generation` with a tiny Whisper: both ways decode every clip for both tasks."""

from pathlib import Path

import pytest

from tests.rounded_figures import is_ratio_of
from vietst.benchmarks.generation import compare_generation, describe
from vietst.benchmarks.untrained_whisper import WhisperShape

TINY = WhisperShape(d_model=32, num_layers=1, num_heads=2, vocab_size=400)


@pytest.mark.slow
def test_both_ways_are_timed_at_their_best_batch_size(tiny_corpus: Path) -> None:
    results = compare_generation(
        tiny_corpus / "data" / "export" / "manifest_clean.tsv",
        tiny_corpus,
        model="tiny",
        num_utterances=4,
        num_tokens=3,
        num_rounds=1,
        shapes={"tiny": TINY},
        batch_sizes=(2, 4),
    )
    (here,), (pipeline,) = results["seconds"]["here"], results["seconds"]["pipeline"]
    assert is_ratio_of(results["times_faster"]["pipeline"], pipeline, here, digits=3)
    assert set(results["best_batch_size"].values()) <= {2, 4}
    assert results["num_utterances"] == 4
    # faster-whisper would take a vocabulary that small for an English one, and is left out with a word.
    assert results["left_out"].keys() == {"faster_whisper_float32", "faster_whisper_int8"}
    assert "faster_whisper_int8: left out: " in describe(results)
    assert "pipeline, batches of" in describe(results)
