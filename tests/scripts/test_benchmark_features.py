"""`scripts/benchmark.py features` measures both ways on the same clips, and keeps what it measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.script_runs import run_script


def write_manifest(folder: Path, num_clips: int) -> None:
    lines = ["id\taudio_path\ttranscript\ttranslation\tduration\tvideo_id"]
    for number in range(num_clips):
        samples = 0.1 * np.random.default_rng(number).standard_normal(22_050)
        soundfile.write(folder / f"{number}.wav", samples, 22_050)
        lines.append(f"u{number}\t{number}.wav\tDeploy app\tTriển khai ứng dụng\t1.0\tv{number}")
    (folder / "clean.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.slow
def test_both_ways_make_the_same_features_and_ratios_are_kept(tmp_path: Path) -> None:
    write_manifest(tmp_path, 5)
    for num_runs in (1, 2):
        answer = run_script(
            *("benchmark.py", tmp_path, "features", "--manifest", "clean.tsv", "--num_utterances", "4"),
            *("--num_proc", str(num_runs), "--work_dir", str(tmp_path)),
        )
        assert answer.returncode == 0, answer.stderr
        assert "4 utterances of 1.0 s" in answer.stdout
        kept = json.loads((tmp_path / "benchmarks" / "features.json").read_text(encoding="utf-8"))
        assert len(kept["runs"]) == num_runs
        results = kept["runs"][-1]["results"]
        assert results["num_proc"] == num_runs
        assert results["largest_feature_difference"] < 2**-11 + 2e-6
        # 1 s instead of 30 s, half the bytes a value; these few clips share one shard's fixed bytes.
        assert 20 < results["times_smaller"] < 60
        assert results["times_faster"] > 0
        assert kept["runs"][-1]["environment"]["packages"]["torch"]
    assert not list(tmp_path.glob("vietst-benchmark-*"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["features"], "make_sample_corpus"),
        (["features", "--manifest", "clean.tsv", "--num_utterances", "2"], "at least 3 rows"),
        (["speed"], "invalid choice"),
        ([], "STAGE"),
    ],
)
def test_mistakes_get_a_message_and_exit_code_2(tmp_path: Path, arguments: list[str], expected: str) -> None:
    write_manifest(tmp_path, 3)
    answer = run_script("benchmark.py", tmp_path, *arguments)
    assert answer.returncode == 2
    assert expected in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.slow
def test_memory_and_time_are_measured_by_size_and_drawn(tmp_path: Path) -> None:
    answer = run_script(
        *("benchmark.py", tmp_path, "feature_scaling", "--sizes", "80", "160", "--num_proc", "2"),
        *("--work_dir", str(tmp_path)),
    )
    assert answer.returncode == 0, answer.stderr
    runs = json.loads((tmp_path / "benchmarks" / "feature_scaling.json").read_text(encoding="utf-8"))["runs"]
    measured = runs[0]["results"]["runs"]
    assert [run["num_utterances"] for run in measured] == [80, 160]
    for step in ("clean", "split", "build features"):
        # Python alone takes more than 10 MB; the build has imported torch in three processes.
        assert all(run[step]["peak_bytes"] > 10e6 for run in measured)
        assert step in answer.stdout
    assert all(run["build features"]["peak_bytes"] > 2 * run["clean"]["peak_bytes"] for run in measured)
    assert (tmp_path / "benchmarks" / "feature_scaling.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("vietst-benchmark-*"))
