"""`benchmark.py audit` and `audit_training`: what is counted, and that both go through the real scripts."""

import json
import shutil
from pathlib import Path

import pytest

from tests.script_runs import run_script
from tests.tiny_runs import tiny_run_overrides
from vietst.audit.signals import SIGNALS
from vietst.benchmarks.audit_recall import UNTOUCHED, bars, count_found
from vietst.benchmarks.audit_training import (
    CONDITIONS,
    make_train_splits,
    recovered_shares,
    train_and_score,
)
from vietst.benchmarks.fault_plan import FAULT_KINDS
from vietst.benchmarks.faulty_corpus import FaultyCorpusOptions
from vietst.data.tables import read_table

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
    ("recall", "false_alarms", "are_met"),
    [(0.95, 0.02, [True, True]), (0.94, 0.0, [False, True]), (1.0, 0.021, [True, False])],
)
def test_the_bars_are_the_worst_kind_and_the_untouched_rows(
    recall: float, false_alarms: float, are_met: list[bool]
) -> None:
    shares = dict.fromkeys(FAULT_KINDS, 1.0) | {"miscut": recall, UNTOUCHED: false_alarms}
    measured = bars({"kinds": {kind: {"share": share} for kind, share in shares.items()}})
    assert [bar.is_met for bar in measured] == are_met


def test_the_recovered_share_is_of_the_gap_of_the_same_seed() -> None:
    wers = {"clean": [2.0, 4.0, 100.0], "faulty": [12.0, 8.0, 100.0], "audited": [4.0, 9.0, 100.0]}
    scores = {name: [{"wer": wer, "bleu": 0.0} for wer in values] for name, values in wers.items()}
    assert recovered_shares(scores) == [0.8, -0.25, None]


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


@pytest.mark.slow
def test_only_the_train_split_is_faulty_and_the_audit_takes_faults_out(
    repo_root: Path, tmp_path: Path
) -> None:
    options = FaultyCorpusOptions(num_utterances=160, num_videos=10)
    splits = make_train_splits(repo_root, tmp_path, options, model=None, num_proc=1)
    assert set(splits) == set(CONDITIONS)
    for split in ("dev", "test"):
        assert len({(path / f"{split}.csv").read_bytes() for path in splits.values()}) == 1
    train = {name: read_table(path / "train.csv") for name, path in splits.items()}
    faulty_ids = {row["id"] for row in read_table(tmp_path / "faulty" / "faults.tsv")}
    changed = {old["id"] for old, new in zip(train["clean"], train["faulty"], strict=True) if old != new}
    assert changed == faulty_ids
    assert all(row in train["faulty"] for row in train["audited"])
    dropped = {row["id"] for row in train["faulty"]} - {row["id"] for row in train["audited"]}
    assert len(dropped & faulty_ids) > len(faulty_ids) / 3
    assert len(dropped - faulty_ids) <= 2


@pytest.mark.slow
def test_a_finished_training_is_found_again(
    tiny_corpus: Path, repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("splits", "features"):
        shutil.copytree(tiny_corpus / "data" / name, tmp_path / name)
    taken_by_the_stage = ("paths.", "output.dir", "model.name", "training.max_steps", "training.save_steps")
    overrides = [o for o in tiny_run_overrides(tiny_corpus, tmp_path) if not o.startswith(taken_by_the_stage)]

    def train() -> dict[str, float]:
        return train_and_score(repo_root, tiny_corpus, tmp_path / "splits", overrides, seed=5, max_steps=2)

    scores = train()
    assert set(scores) == {"wer", "bleu"}
    (config,) = tmp_path.glob("run-seed5-*/resolved_config.yaml")
    assert "max_steps: 2" in config.read_text(encoding="utf-8")

    monkeypatch.setattr(
        "vietst.benchmarks.audit_training.run_checkout_script",
        lambda *_, **__: pytest.fail("it was run again"),
    )
    assert train() == scores
