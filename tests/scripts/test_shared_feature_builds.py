"""Processes that share one feature build: launched together, as parts of a job array, killed, and apart."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.patience import HANGS_AFTER_S

NUM_CLIPS = 24
KIND = "waveform-16k"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 20 s of 8 videos, dated back so that their facts are remembered, and their manifest."""
    root = tmp_path_factory.mktemp("corpus")
    lines = ["audio_path\ttranscript\ttranslation\tvideo_id"]
    for number in range(NUM_CLIPS):
        path = root / f"{number:02d}.wav"
        samples = 0.1 * np.random.default_rng(number).standard_normal(20 * 8_000)
        soundfile.write(path, samples, 8_000)
        os.utime(path, (1_000_000_000, 1_000_000_000))
        lines.append(f"{path.name}\tDeploy app số {number}\tTriển khai số {number}\tv{number % 8}")
    (root / "manifest.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def arguments(corpus: Path) -> list[str]:
    return [
        *("--kinds", KIND, f"paths.data_root={corpus.as_posix()}"),
        f"paths.manifest_path={(corpus / 'manifest.tsv').as_posix()}",
    ]


def command(repo_root: Path, corpus: Path, *others: str) -> list[str]:
    return [sys.executable, str(repo_root / "scripts/build_features.py"), *arguments(corpus), *others]


def run(folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=HANGS_AFTER_S
    )


def launched(repo_root: Path, script: Path, *arguments: str) -> list[str]:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
    return [*launch, str(repo_root / "accelerate_configs" / "cpu_x2.yaml"), str(script), *arguments]


def contents(folder: Path) -> dict[str, object]:
    """Every file of the cleaned manifest, the splits and the caches, without the time of the card."""
    found: dict[str, object] = {}
    for path in sorted((folder / "data").rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name == "feature_card.json":
            found[name] = json.loads(path.read_text(encoding="utf-8")) | {"finished_at": ""}
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def from_one_process(
    repo_root: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("alone")
    answer = run(folder, command(repo_root, corpus, "--num_proc", "1"))
    assert answer.returncode == 0, answer.stderr
    found = contents(folder)
    assert sum(name.endswith(".arrow") for name in found) >= 5
    return found


@pytest.mark.slow
def test_a_launch_leaves_what_one_process_leaves_and_touches_no_device(
    repo_root: Path, corpus: Path, tmp_path: Path, from_one_process: dict[str, object]
) -> None:
    # Each rank tells whether it ever joined a process group, which its end would leave, and whether it has a
    # CUDA context.
    script = tmp_path / "reporting.py"
    script.write_text(
        f"""
import os, runpy, torch
joined = []
join = torch.distributed.init_process_group
torch.distributed.init_process_group = lambda *args, **kwargs: (joined.append(args), join(*args, **kwargs))
runpy.run_path({str(repo_root / "scripts/build_features.py")!r}, run_name="__main__")
with open(f"rank-{{os.environ['RANK']}}", "w") as report:
    report.write(f"{{bool(joined)}} {{torch.cuda.is_initialized()}}")
"""
    )
    answer = run(tmp_path, launched(repo_root, script, *arguments(corpus), "--num_proc", "1"))
    assert answer.returncode == 0, answer.stderr
    assert contents(tmp_path) == from_one_process
    assert [(tmp_path / f"rank-{rank}").read_text() for rank in (0, 1)] == ["False False"] * 2
    # Whoever comes first cleans the manifest; rank 0, which alone tells, did so or found it done.
    did, found = "kept 24 of 24 rows", "is already the cleaned"
    assert answer.stderr.count(did) + answer.stderr.count(found) == 1
    assert f"{KIND}: built" in answer.stderr


@pytest.mark.slow
def test_a_launch_without_a_shared_disk_is_refused(repo_root: Path, corpus: Path, tmp_path: Path) -> None:
    script = tmp_path / "apart.py"
    script.write_text(
        f"""
import os, runpy, sys
sys.argv.append(f"paths.features_dir=machine-{{os.environ['RANK']}}")
runpy.run_path({str(repo_root / "scripts/build_features.py")!r}, run_name="__main__")
"""
    )
    answer = run(tmp_path, launched(repo_root, script, *arguments(corpus)))
    assert answer.returncode != 0
    assert "rank 1 of 2 does not see what rank 0 writes" in answer.stderr
    assert "a disk that all machines share" in answer.stderr
    assert not list(tmp_path.glob("machine-*/*/*.arrow"))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_parts_of_an_array_make_one_cache_though_one_is_killed(
    repo_root: Path, corpus: Path, tmp_path: Path, from_one_process: dict[str, object]
) -> None:
    parts = [
        subprocess.Popen(
            command(repo_root, corpus, "--num_proc", "1", "--shard", f"{part}/3"),
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        for part in (1, 2, 3)
    ]
    while parts[1].poll() is None and not list(tmp_path.glob("data/features/*/*/.tmp-*")):
        time.sleep(0.005)
    parts[1].send_signal(signal.SIGKILL)
    said = [part.communicate(timeout=HANGS_AFTER_S)[1] for part in parts]
    was_killed = parts[1].returncode == -signal.SIGKILL
    assert [parts[0].returncode, parts[2].returncode] == [0, 0], said
    if was_killed and contents(tmp_path) != from_one_process:
        assert any("Still missing" in text and "of part 2" in text for text in (said[0], said[2]))
        again = run(tmp_path, command(repo_root, corpus, "--num_proc", "1", "--shard", "2/3"))
        assert again.returncode == 0, again.stderr
        assert f"{KIND}: built" in again.stderr
    assert contents(tmp_path) == from_one_process


@pytest.mark.slow
def test_the_command_without_parts_does_what_is_missing(
    repo_root: Path, corpus: Path, tmp_path: Path, from_one_process: dict[str, object]
) -> None:
    part = run(tmp_path, command(repo_root, corpus, "--num_proc", "1", "--shard", "2/2"))
    assert part.returncode == 0, part.stderr
    assert "part 2 of 2 is written. Still missing:" in part.stderr
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("data/features/*/*/*.arrow")}
    assert written
    assert not list(tmp_path.glob("data/features/*/dataset_dict.json"))
    rest = run(tmp_path, command(repo_root, corpus, "--num_proc", "2"))
    assert rest.returncode == 0, rest.stderr
    assert contents(tmp_path) == from_one_process
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in written.items())


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("0/4", "counts from 1/4 to 4/4"),
        ("5/4", "counts from 1/4 to 4/4"),
        ("2", "must be I/N"),
        ("-1/4", "I/N"),
    ],
)
def test_a_part_that_is_none_is_refused(
    repo_root: Path, corpus: Path, tmp_path: Path, part: str, expected: str
) -> None:
    answer = run(tmp_path, command(repo_root, corpus, f"--shard={part}"))
    assert answer.returncode == 2
    assert expected in answer.stderr
