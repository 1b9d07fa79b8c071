"""`benchmark.py scoring`: predictions with errors, scored both ways, and how long each took."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import HANGS_AFTER_S
from tests.rounded_figures import is_ratio_of
from vietst.benchmarks.scoring import describe, make_predictions
from vietst.evaluation.metrics import score_predictions

ROWS = [
    ("a-0", "a", "mình sẽ fix cái bug này trước deadline nhé", "mình sẽ sửa cái lỗi này trước hạn chót nhé"),
    ("a-1", "a", "hôm nay team mình họp lúc chín giờ", "hôm nay nhóm mình họp lúc chín giờ"),
    ("b-0", "b", "bạn gửi file cho khách hàng chưa", "bạn gửi tệp cho khách hàng chưa"),
]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "manifest_clean.tsv"
    rows = ["\t".join((*row, "2.5", "a.wav")) for row in ROWS]
    columns = "id\tvideo_id\ttranscript\ttranslation\tduration\taudio_path\n"
    path.write_text(columns + "\n".join(rows), encoding="utf-8")
    return path


def test_repeated_utterances_have_other_errors_and_videos_of_their_own(manifest: Path):
    predictions = make_predictions(manifest, 300)
    assert len({p.id for p in predictions}) == 300
    assert len({p.video_id for p in predictions}) == 200
    assert len({p.transcript_hypothesis for p in predictions[::3]}) > 50
    assert 10 < score_predictions(predictions)["wer"] < 20
    assert predictions == make_predictions(manifest, 300)


def test_the_stage_times_both_ways_and_keeps_the_result(manifest: Path, repo_root: Path, tmp_path: Path):
    script = [sys.executable, str(repo_root / "scripts" / "benchmark.py"), "scoring"]
    answer = subprocess.run(
        [*script, "--manifest", str(manifest), "--num_utterances", "40"],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=HANGS_AFTER_S,
    )
    assert answer.returncode == 0, answer.stderr
    (run,) = json.loads((tmp_path / "benchmarks" / "scoring.json").read_text(encoding="utf-8"))["runs"]
    results = run["results"]
    assert (results["num_utterances"], results["num_videos"]) == (40, 27)
    assert results["libraries_s"].keys() == {"wer", "cer", "bleu", "chrf", "chrf++"}
    libraries_s = sum(results["libraries_s"].values())
    assert is_ratio_of(results["times_libraries"], results["ours_s"], libraries_s, digits=3)
    assert "jiwer and sacreBLEU alone: " in answer.stdout
    assert "under 300 s" not in answer.stdout, "the target is about 100,000 utterances"


@pytest.mark.parametrize(("ours_s", "verdict"), [(299.0, "met"), (301.0, "MISSED")])
def test_the_target_is_judged_at_its_own_size(ours_s: float, verdict: str):
    sizes = {"num_utterances": 100_000, "num_videos": 9, "num_words": 9}
    described = describe({**sizes, "libraries_s": {"wer": 1.0}, "ours_s": ours_s, "times_libraries": ours_s})
    assert described.endswith(f"under 300 s for 100,000 on two cores: {verdict}")
