"""`scripts/build_features.py` as its user runs it: from a manifest to caches, again, killed, and wrongly."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from transformers import WhisperFeatureExtractor

from tests.patience import HANGS_AFTER_S
from vietst.data.audio import load_waveform
from vietst.data.feature_cache import features_of, open_feature_cache
from vietst.data.features import INPUT_KINDS, LOG_MEL_80, LOG_MEL_128, pad_log_mel

REFUSE_NETWORK = """
import runpy, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise SystemExit(f"the network was used: {event} {arguments}")
sys.addaudithook(refuse)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

TELLS_IMPORTS = """
import atexit, runpy, sys
slow = {"datasets", "librosa", "numpy", "omegaconf", "pyarrow", "pydantic", "torch", "transformers"}
atexit.register(lambda: print("imported:", sorted(slow & set(sys.modules))))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def script(repo_root: Path) -> str:
    return str(repo_root / "scripts" / "build_features.py")


def run(script: str, folder: Path, *arguments: str, network: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *([] if network else ["-c", REFUSE_NETWORK]), script, *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=HANGS_AFTER_S
    )


def write_noise(
    path: Path,
    duration_s: float,
    sample_rate_hz: int = 16_000,
    num_channels: int = 1,
    subtype: str | None = None,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(len(path.name))
    samples = 0.1 * generator.standard_normal((round(duration_s * sample_rate_hz), num_channels))
    container = "OGG" if path.suffix == ".opus" else None
    soundfile.write(path, samples, sample_rate_hz, subtype=subtype, format=container)


def write_manifest(folder: Path, rows: Sequence[tuple[str, str]], *, bom: bool = False) -> Path:
    """Rows are (audio_path, video_id)."""
    path = folder / "data" / "export" / "manifest.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["audio_path\ttranscript\ttranslation\tvideo_id"]
    for number, (audio_path, video_id) in enumerate(rows):
        lines.append(
            f"{audio_path}\tDeploy app số {number} nhé\tTriển khai ứng dụng số {number} nhé\t{video_id}"
        )
    path.write_text("\r\n".join(lines) + "\r\n", encoding="utf-8-sig" if bom else "utf-8", newline="")
    return path


def opened(folder: Path, kind_name: str) -> datasets.DatasetDict:
    return open_feature_cache(
        folder / "data/splits", folder / "data/features", INPUT_KINDS[kind_name], audio_root=folder
    )


def audio_names(cache: datasets.DatasetDict) -> set[str]:
    return {name for split in cache.values() for name in split["audio_path"]}


def test_help_is_quick_and_needs_nothing(script: str, tmp_path: Path) -> None:
    """What takes seconds is not imported; the seconds themselves are no test on a busy machine."""
    command = [sys.executable, "-c", TELLS_IMPORTS, script, "--help"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "--num_proc" in answer.stdout
    assert answer.stdout.splitlines()[-1] == "imported: []"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "python scripts/make_sample_corpus.py"),
        (["paths.manifest_path=mine.tsv"], "mine.tsv"),
        (["--kinds", "log_mel80"], "log_mel-80"),
        (["--kinds", "log_mel-80", "paths.manifst_path=x"], "manifest_path"),
        (["--config", "nano_wisper"], "nano_whisper"),
        (["--num_proc", "0"], "'0' is no whole number of at least 1"),
        (["--kind", "log_mel-80"], "unrecognized"),
    ],
)
def test_mistakes_get_a_message_and_exit_code_2(
    script: str, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    answer = run(script, tmp_path, *arguments)
    assert answer.returncode == 2
    assert expected in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "data").exists()


def test_odd_audio_is_cached_bad_audio_is_rejected_and_nothing_is_done_twice(
    script: str, tmp_path: Path
) -> None:
    good = {
        "a/8khz.wav": {"sample_rate_hz": 8_000},
        "a/6channels.wav": {"sample_rate_hz": 96_000, "num_channels": 6},
        "b/clip.flac": {"sample_rate_hz": 44_100, "num_channels": 2},
        "b/clip.mp3": {"sample_rate_hz": 44_100},
        "c/clip.opus": {"sample_rate_hz": 48_000, "subtype": "OPUS"},
        "c/clip.ogg": {"sample_rate_hz": 22_050},
    }
    for name, options in good.items():
        write_noise(tmp_path / name, 1.0 + len(name) / 100, **options)
    bad = tmp_path / "bad"
    write_noise(bad / "short.wav", 0.2)
    write_noise(bad / "long.wav", 3 * 3600, sample_rate_hz=1_000, subtype="PCM_U8")
    write_noise(bad / "truncated.wav", 2.0)
    (bad / "truncated.wav").write_bytes((bad / "truncated.wav").read_bytes()[:30_000])
    (bad / "zero.wav").touch()
    (bad / "text.wav").write_text("xin chào", encoding="utf-8")
    soundfile.write(bad / "silence.wav", np.zeros(16_000), 16_000)
    soundfile.write(bad / "nan.wav", np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    reasons = {
        "bad/short.wav": "too_short",
        "bad/long.wav": "too_long",
        "bad/truncated.wav": "audio_truncated",
        "bad/zero.wav": "audio_empty",
        "bad/text.wav": "audio_unreadable",
        "bad/silence.wav": "audio_silent",
        "bad/nan.wav": "audio_not_finite",
        "bad/none.wav": "audio_missing",
        "../outside.wav": "path_outside_root",
        "/etc/passwd": "path_absolute",
    }
    rows = [(name.replace("/", "\\"), name[0]) for name in good] + [(name, "bad") for name in reasons]
    write_manifest(tmp_path, rows, bom=True)

    answer = run(script, tmp_path, "--num_proc", "1", network=False)
    assert answer.returncode == 0, answer.stderr
    rejected = (tmp_path / "data/export/rejected.tsv").read_text(encoding="utf-8")
    for name, reason in reasons.items():
        assert any(name in line and reason in line for line in rejected.splitlines()), (name, reason)
    for kind_name in INPUT_KINDS:
        cache = opened(tmp_path, kind_name)
        assert audio_names(cache) == set(good)
        assert all(split.num_rows for split in cache.values())

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.arrow")}
    again = run(script, tmp_path, "--num_proc", "1")
    assert again.returncode == 0
    assert again.stderr.count("nothing to do") == len(INPUT_KINDS)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.arrow")} == before

    # A text is edited and a video added: only the new audio is computed.
    write_noise(tmp_path / "d/new.wav", 1.0)
    manifest = write_manifest(tmp_path, [*rows, ("d/new.wav", "d")])
    manifest.write_text(
        manifest.read_text(encoding="utf-8").replace("số 0 nhé", "số không nhé"), encoding="utf-8"
    )
    edited = run(script, tmp_path, "--num_proc", "1", "--kinds", "log_mel-80,waveform-16k")
    assert edited.returncode == 0, edited.stderr
    assert edited.stderr.count(f"{len(good)} utterances are copied from another cache") == 2
    assert audio_names(opened(tmp_path, "waveform-16k")) == {*good, "d/new.wav"}


def test_a_config_names_the_kind_that_its_model_needs(script: str, tmp_path: Path) -> None:
    for video in "abc":
        write_noise(tmp_path / f"{video}.wav", 1.0)
    write_manifest(tmp_path, [(f"{video}.wav", video) for video in "abc"])
    overrides = ["model.name=openai/whisper-large-v3", "paths.features_dir=elsewhere"]
    answer = run(script, tmp_path, "--config", "prod_whisper", "--num_proc", "1", *overrides)
    assert answer.returncode == 0, answer.stderr
    built = [path.parent.name for path in (tmp_path / "elsewhere").glob("*/dataset_dict.json")]
    assert len(built) == 1
    assert built[0].startswith(LOG_MEL_128.name)


def test_real_speech_is_cached_as_the_extractor_hears_it(
    script: str, tmp_path: Path, shared_data: Path
) -> None:
    speech = shared_data / "speech_en"
    paths = sorted(path for path in speech.rglob("*") if path.suffix in (".wav", ".flac"))
    names = {path.relative_to(speech).as_posix(): path for path in paths}
    write_manifest(tmp_path, [(name, name.split("/")[0]) for name in names])
    answer = run(script, tmp_path, "--num_proc", "1", "--kinds", "log_mel-80", f"paths.data_root={speech}")
    assert answer.returncode == 0, answer.stderr
    cache = open_feature_cache(
        tmp_path / "data/splits", tmp_path / "data/features", LOG_MEL_80, audio_root=speech
    )
    assert audio_names(cache) >= {"jfk/jfk.flac", "ljspeech/LJ001-0001.wav", "librispeech/61-70968-0000.flac"}
    extractor = WhisperFeatureExtractor()
    for row in (row for split in cache.values() for row in split):
        padded = pad_log_mel([features_of(row, LOG_MEL_80)], [row["pad_value"]], 3000)[0]
        waveform = load_waveform(names[row["audio_path"]])
        expected = extractor([waveform], sampling_rate=16_000, return_tensors="np").input_features[0]
        np.testing.assert_allclose(padded, expected, atol=2**-11 + 2e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_the_script_killed_from_outside_continues_to_the_same_bytes(script: str, tmp_path: Path) -> None:
    for number in range(12):
        write_noise(tmp_path / f"audio/v{number % 4}/{number:02d}.wav", 25.0, sample_rate_hz=22_050)
    folders = [tmp_path / "undisturbed", tmp_path / "killed"]
    for folder in folders:
        write_manifest(folder, [(f"audio/v{n % 4}/{n:02d}.wav", f"v{n % 4}") for n in range(12)])
    arguments = ["--num_proc", "2", "--kinds", "waveform-16k", f"paths.data_root={tmp_path}"]
    assert run(script, folders[0], *arguments).returncode == 0

    num_kills = 0
    for delay_s in (0.0, 0.02, 0.05, 0.1, 0.2):
        process = subprocess.Popen(
            [sys.executable, script, *arguments], cwd=folders[1], stderr=subprocess.DEVNULL
        )
        while process.poll() is None and not list(folders[1].glob("data/features/*/*/.tmp-*")):
            time.sleep(0.002)
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        num_kills += process.wait() == -signal.SIGKILL
    assert num_kills >= 1
    last = run(script, folders[1], *arguments)
    assert last.returncode == 0, last.stderr
    undisturbed, killed = (
        {path.relative_to(f): path for path in f.glob("data/features/*/**/*")} for f in folders
    )
    assert undisturbed.keys() == killed.keys()
    for name, path in undisturbed.items():
        if path.name == "feature_card.json":
            cards = [json.loads(each.read_text(encoding="utf-8")) for each in (path, killed[name])]
            assert cards[0] | {"finished_at": ""} == cards[1] | {"finished_at": ""}
        elif path.is_file():
            assert path.read_bytes() == killed[name].read_bytes(), name
