"""`scripts/benchmark.py features` measures all ways on the same clips, and keeps what it measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.rounded_figures import is_ratio_of
from tests.script_runs import run_script
from vietst.benchmarks.feature_corpus import write_clips
from vietst.benchmarks.inputs import manifest_rows


def write_manifest(folder: Path, num_clips: int) -> None:
    lines = ["id\taudio_path\ttranscript\ttranslation\tduration\tvideo_id"]
    for number in range(num_clips):
        samples = 0.1 * np.random.default_rng(number).standard_normal(22_050)
        soundfile.write(folder / f"{number}.wav", samples, 22_050)
        lines.append(f"u{number}\t{number}.wav\tDeploy app\tTriển khai ứng dụng\t1.0\tv{number}")
    (folder / "clean.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.slow
def test_all_ways_build_from_the_same_clips_and_ratios_are_kept(tmp_path: Path) -> None:
    write_manifest(tmp_path, 5)
    answer = run_script(
        *("benchmark.py", tmp_path, "features", "--manifest", "clean.tsv", "--num_utterances", "4"),
        *("--durations_s", "3", "--num_rounds", "1", "--num_proc", "2", "--work_dir", str(tmp_path)),
    )
    assert answer.returncode == 0, answer.stderr
    assert "4 clips of 3 s" in answer.stdout
    (run,) = json.loads((tmp_path / "benchmarks" / "features.json").read_text(encoding="utf-8"))["runs"]
    (case,) = run["results"]["cases"]
    assert run["results"]["num_proc"] == 2
    assert case["largest_feature_difference"] < 2**-11 + 2e-6
    # 3 s instead of 30 s, half the bytes a value; these few clips share one shard's fixed bytes.
    assert 15 < case["times_smaller"] < 20
    seconds = {name: of_way[0] for name, of_way in case["seconds"].items()}
    assert is_ratio_of(case["over_floor"], seconds["here"], seconds["floor"], digits=3)
    assert {bar["what"]: bar["measured"] for bar in run["bars"]} == {
        "3 s clips: times faster than the recipe": case["times_faster"]["recipe"],
        "3 s clips: times smaller than the recipe": case["times_smaller"],
        "3 s clips: in floors": case["over_floor"],
    }
    assert run["environment"]["packages"]["torch"]
    left_out = run["results"]["left_out"]
    yardsticks = {"here", "here_unmeasured", "recipe", "lhotse", "openai_whisper", "floor"}
    assert seconds.keys() == yardsticks - set(left_out)
    assert all(name in answer.stdout for name in left_out)
    assert not list(tmp_path.glob("vietst-benchmark-*"))


def test_clips_are_cut_from_all_speech_and_never_alike(tmp_path: Path) -> None:
    write_manifest(tmp_path, 3)
    rows = manifest_rows(tmp_path / "clean.tsv")
    (tmp_path / "clips").mkdir()
    clips = write_clips(tmp_path / "clips", rows, tmp_path, 0.7, 6)
    sounds = [soundfile.read(tmp_path / "clips" / clip)[0] for clip in clips]
    spoken = np.concatenate([soundfile.read(tmp_path / row["audio_path"])[0] for row in rows])
    heard = np.concatenate(sounds)
    np.testing.assert_allclose(heard[: len(spoken)], spoken, atol=2**-15)
    assert len({sound.tobytes() for sound in sounds}) == 6
    assert {len(sound) for sound in sounds} == {round(0.7 * 22_050)}
