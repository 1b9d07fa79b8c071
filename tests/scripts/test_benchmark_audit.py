"""`benchmark.py audit` and `audit_training`: what is counted, and that both go through the real scripts."""

import json
from pathlib import Path

import pytest

from tests.script_runs import run_script
from vietst.audit.signals import SIGNALS
from vietst.benchmarks.audit_recall import MAX_FALSE_ALARMS, UNTOUCHED, count_found, describe
from vietst.benchmarks.audit_training import recovered_shares
from vietst.benchmarks.fault_plan import FAULT_KINDS

TERMS = {"wer": "wer > 0.5", "speech": "speech < 0.6"}


def cells(row_id: str, **measured: str) -> dict[str, str]:
    return {signal.name: "" for signal in SIGNALS} | {"id": row_id} | measured


def test_rows_are_found_by_any_term_and_counted_once() -> None:
    kinds = {"a": "music", "b": "music", "c": "shifted"}
    signals = [
        cells("a", wer="1", speech="0"),
        cells("b", wer="0.2", speech="0.9"),
        cells("c", wer="0.9"),
        cells("d", wer="0.1", speech="0.7"),
        cells("e", speech="0.5"),
    ]
    found = count_found(kinds, signals, TERMS)
    assert found["music"] == {"num_rows": 2, "num_found": 1, "share": 0.5, "by_term": {"wer": 1, "speech": 1}}
    assert (found["shifted"]["num_found"], found["shifted"]["by_term"]) == (1, {"wer": 1})
    assert (found[UNTOUCHED]["num_rows"], found[UNTOUCHED]["share"]) == (2, 0.5)
    assert found["miscut"]["num_rows"] == 0


@pytest.mark.parametrize(
    ("recall", "false_alarms", "verdict"),
    [(0.95, 0.02, "met"), (0.94, 0.0, "MISSED"), (1.0, 0.021, "MISSED")],
)
def test_the_goal_is_about_every_kind_and_the_untouched_rows(
    recall: float, false_alarms: float, verdict: str
) -> None:
    counts = {"num_rows": 100, "num_found": 1, "by_term": {}}
    kinds = {kind: {**counts, "share": 1.0} for kind in FAULT_KINDS}
    kinds["miscut"]["share"], kinds[UNTOUCHED] = recall, {**counts, "share": false_alarms}
    results = {"num_utterances": 9, "corpus_seed": 3, "fault_seed": 1, "model": None, "terms": TERMS}
    described = describe(results | {"kinds": kinds})
    assert f"at most {MAX_FALSE_ALARMS:.0%}" in described
    assert described.endswith(verdict)


def test_the_recovered_share_is_of_the_gap_of_the_same_seed() -> None:
    wers = {"clean": [2.0, 4.0], "faulty": [12.0, 8.0], "audited": [4.0, 9.0]}
    scores = {name: [{"wer": wer, "bleu": 0.0} for wer in values] for name, values in wers.items()}
    assert recovered_shares(scores) == [0.8, -0.25]


@pytest.mark.slow
def test_a_faulty_corpus_is_made_and_audited(tmp_path: Path) -> None:
    corpus = ["--num_utterances", "160", "--num_videos", "5", "--work_dir", str(tmp_path / "work")]
    answer = run_script("benchmark.py", tmp_path, "audit", "--model", "", *corpus)
    assert answer.returncode == 0, answer.stderr
    (run,) = json.loads((tmp_path / "benchmarks" / "audit.json").read_text(encoding="utf-8"))["runs"]
    kinds = run["results"]["kinds"]
    assert all(kinds[kind]["num_rows"] == 8 for kind in FAULT_KINDS)
    assert kinds[UNTOUCHED]["num_rows"] == 160 - 7 * 8
    # What needs no seed model is found without one.
    for kind in ("copied_transcript", "half_silent", "duplicate"):
        assert kinds[kind]["num_found"] == 8, kind
    assert kinds["music"]["num_found"] >= 7
    assert kinds[UNTOUCHED]["share"] <= 0.05
    assert "wer" not in run["results"]["terms"]
    assert "copied_transcript" in answer.stdout
