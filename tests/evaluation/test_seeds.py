"""Several seeds become one row, in Markdown and LaTeX; runs that do not belong together are refused."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.patience import HANGS_AFTER_S
from vietst.errors import VietstError
from vietst.evaluation.seeds import format_latex, format_markdown, summarize_seeds


def write_run(folder: Path, run: str, wer: float, **more: Any) -> Path:
    record = {
        "wer": wer,
        "num_utterances": 10,
        "num_videos": 2,
        "audio_s": 60.0,
        "normalizer": "vietst-1",
        "code_switching": {"pier": 2 * wer, "wer_names": None},
        "facts": {"test_csv_digest": "abc"},
    }
    path = folder / f"{run}_metrics.json"
    path.write_text(json.dumps(record | more), encoding="utf-8")
    return path


def test_mean_and_sample_deviation_of_every_score(tmp_path: Path) -> None:
    for seed, wer in enumerate((10.0, 12.0, 14.0)):
        write_run(tmp_path, f"nano_e2e_seed{seed}", wer)
    summary = summarize_seeds([f"nano_e2e_seed{seed}" for seed in range(3)], tmp_path)
    assert summary.name == "nano_e2e"
    assert summary.scores == {"wer": (12, 2), "pier": (24, 4)}
    assert format_markdown(summary).splitlines() == [
        "|  | WER % | English WER % (PIER) |",
        "| --- | ---: | ---: |",
        "| nano_e2e (3 seeds) | 12.00 ± 2.00 | 24.00 ± 4.00 |",
    ]
    assert format_latex(summary).splitlines() == [
        r"%  & WER \% & English WER \% (PIER) \\",
        r"nano\_e2e (3 seeds) & $12.00 \pm 2.00$ & $24.00 \pm 4.00$ \\",
    ]


@pytest.mark.parametrize(
    ("run", "name"),
    [("nano-seed_12", "nano"), ("nano.3", "nano"), ("wav2vec2_e2e", "wav2vec2_e2e"), ("7", "7")],
)
def test_the_row_is_named_after_the_first_run_without_its_seed(tmp_path: Path, run: str, name: str) -> None:
    write_run(tmp_path, run, 10)
    write_run(tmp_path, "other", 12)
    assert summarize_seeds([run, "other"], tmp_path).name == name


def test_scores_that_some_runs_lack_are_left_out_and_named(tmp_path: Path) -> None:
    runs = [str(write_run(tmp_path, "a", 10, bleu=20)), str(write_run(tmp_path, "b", 12))]
    summary = summarize_seeds(runs, tmp_path / "elsewhere", name="both & more")
    assert summary.scores.keys() == {"wer", "pier"}
    assert summary.not_in_every_run == ("bleu",)
    assert r"both \& more (2 seeds)" in format_latex(summary)


@pytest.mark.parametrize(
    ("runs", "rule"),
    [
        (["a"], "two or more"),
        (["a", "a"], "each named once"),
        (["a", "other_test"], "same utterances"),
        (["a", "other_normalizer"], "same rules"),
        (["a", "other_model"], "nothing but their seed(.|\n)*num_parameters 5 and 6"),
        (["a", "missing"], "runs with results there: a, other_model, other_normalizer, other_test"),
    ],
)
def test_runs_that_make_no_row_are_refused(tmp_path: Path, runs: list[str], rule: str) -> None:
    facts = {"test_csv_digest": "abc", "run": {"num_parameters": 5, "split_hash": "x"}}
    write_run(tmp_path, "a", 10, facts=facts)
    write_run(tmp_path, "other_model", 10, facts=facts | {"run": {"num_parameters": 6}})
    write_run(tmp_path, "other_test", 10, facts={"test_csv_digest": "x"})
    write_run(tmp_path, "other_normalizer", 10, normalizer="vietst-0")
    with pytest.raises(VietstError, match=rule):
        summarize_seeds(runs, tmp_path)


def test_the_script_prints_both_rows(repo_root: Path, tmp_path: Path) -> None:
    runs = [write_run(tmp_path, "a1", 10), write_run(tmp_path, "a2", 12, bleu=1)]
    script = repo_root / "scripts" / "summarize_seeds.py"
    ran = subprocess.run(
        [sys.executable, str(script), *map(str, runs)],
        capture_output=True,
        encoding="utf-8",
        timeout=HANGS_AFTER_S,
        check=True,
        env={**os.environ, "PYTHONPATH": str(repo_root), "PYTHONIOENCODING": "utf-8"},
    )
    assert "| a (2 seeds) | 11.00 ± 1.41 |" in ran.stdout
    assert r"a (2 seeds) & $11.00 \pm 1.41$" in ran.stdout
    assert "Not in every run: BLEU." in ran.stdout
