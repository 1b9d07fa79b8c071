"""The real script on real recordings, with a model that knows them by heart."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.memorizing_model import Clip
from tests.patience import HANGS_AFTER_S
from vietst.inference import SpeechTranslator
from vietst.inference.transcript_files import FORMATS


def run_script(repo_root: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(repo_root / "scripts" / "transcribe.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(repo_root)},
    )


def test_a_folder_becomes_subtitles_and_the_bad_file_is_said(
    repo_root: Path, tmp_path: Path, memorizing_model: tuple[Path, list[Clip]]
) -> None:
    model, (first, second, *_) = memorizing_model
    recordings = tmp_path / "recordings"
    (recordings / "monday").mkdir(parents=True)
    shutil.copy(first.audio, recordings / "monday" / "first.wav")
    shutil.copy(second.audio, recordings / "second.wav")
    (recordings / "broken.mp4").write_bytes(b"no video at all")
    arguments = ("recordings/**", "--model", str(model), "--output", "out", "--task", "both")

    ran = run_script(repo_root, tmp_path, *arguments, "--format", "srt,json", "--format", "txt")
    assert ran.returncode == 1, ran.stderr
    assert "3 recordings to transcribe" in ran.stdout
    assert "1 recording failed, with the errors above:\n  recordings/broken.mp4" in ran.stdout
    assert "broken.mp4" in ran.stderr
    assert "Traceback" not in ran.stderr
    translator = SpeechTranslator.from_pretrained(model)
    for name, clip in (("monday/first", first), ("second", second)):
        expected = translator(clip.audio, task="both", max_segment_s=7)
        assert (expected.transcript, expected.translation) == (clip.transcript, clip.translation)
        for format_name in ("srt", "json", "txt"):
            written = (tmp_path / "out" / f"{name}.{format_name}").read_text(encoding="utf-8")
            assert written == FORMATS[format_name](expected)
    assert not (tmp_path / "out" / "broken.srt").exists()

    (recordings / "broken.mp4").unlink()
    again = run_script(repo_root, tmp_path, *arguments, "--format", "srt")
    assert again.returncode == 0, again.stderr
    assert "2 recordings done already by this model with these options" in again.stdout
    assert "Nothing to do." in again.stdout

    in_windows = run_script(repo_root, tmp_path, *arguments, "--format", "srt", "--context", "bucketed")
    assert in_windows.returncode == 0, in_windows.stderr
    assert "was not trained in short windows" in in_windows.stderr
    assert "2 recordings to transcribe" in in_windows.stdout, "another way of hearing is another output"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a.wav", "--model", "x", "--format", "srt,doc"), "'doc' is none of txt, json, srt, vtt, tsv"),
        (("a.wav", "--model", "x", "--task", "summarize"), "invalid choice: 'summarize'"),
        (("b.wav", "--model", "x"), "no such file or folder"),
        (("a.wav", "a.mp3", "--model", "x"), "recordings that would write the same"),
        (("a.wav", "--model", "x", "--output", "a.mp3"), "a folder that can be written to"),
    ],
)
def test_wrong_usage_ends_with_2_before_a_model_is_loaded(
    repo_root: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    for name in ("a.wav", "a.mp3"):
        (tmp_path / name).touch()
    ran = run_script(repo_root, tmp_path, *arguments)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_formats_of_the_script_are_those_of_the_package(repo_root: Path) -> None:
    """The script names them itself, so that its help does not wait for the package's imports."""
    help_text = subprocess.run(
        [sys.executable, str(repo_root / "scripts" / "transcribe.py"), "--help"],
        capture_output=True,
        text=True,
    ).stdout
    assert "|".join(FORMATS) in help_text
