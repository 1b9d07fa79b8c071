"""`benchmark.py long_form`: both ways over the same recording, in this process and with a tiny model."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.rounded_figures import is_ratio_of
from vietst.benchmarks import long_form
from vietst.benchmarks.long_form import Run, compare_long_form, describe
from vietst.benchmarks.untrained_whisper import WhisperShape

TINY = WhisperShape(d_model=32, num_layers=1, num_heads=2, vocab_size=400)


@pytest.fixture
def results(tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    def in_this_process(run: Run) -> dict[str, Any]:
        told = json.loads(json.dumps(dataclasses.asdict(run)))
        return json.loads(json.dumps(long_form._measure(Run(**told))))

    monkeypatch.setattr(long_form, "_in_process", in_this_process)
    monkeypatch.setattr(long_form, "SHORT_MINUTES", 0.25)
    manifest = tiny_corpus / "data" / "export" / "manifest_clean.tsv"
    return compare_long_form(
        manifest, tiny_corpus, minutes=1.0, speed_minutes=0.75, num_tokens=5, batch_size=2, shape=TINY
    )


def test_both_ways_hear_the_same_recording_and_are_compared(results: dict[str, Any]) -> None:
    ours, theirs = results["translator"], results["pipeline"]
    assert ours["num_windows"] == 2, "45 s of speech, both tasks from one pass"
    assert theirs["num_windows"] == 2 * 2, "0 to 30 s and 20 to 45 s, for each task"
    assert is_ratio_of(results["times_faster"], theirs["seconds"], ours["seconds"], digits=3)
    assert results["peak_bytes"].keys() == {"0.25", "1"}
    described = describe(results)
    assert "0.75 minutes, both tasks, 5 tokens" in described
    assert f"ratio {results['times_faster']:.2f} (should be at least 2)" in described
    assert "GiB for 0.25 minutes" in described
