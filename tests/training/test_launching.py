"""Signals to stop: they reach the training below a launcher, and scripts start it again."""

import os
import runpy
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.patience import HANGS_AFTER_S
from vietst.config import load_config
from vietst.script_end import EXIT_PREEMPTED
from vietst.training.launching import NOTE_FILE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups")

# As accelerate's launcher of one process: it starts a child, waits, and knows nothing of signals.
LAUNCHER = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, *sys.argv[1:]]))"
TRAINING = """
import pathlib, signal, sys, time
stopped = []
signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
pathlib.Path("ready").touch()
while not stopped:
    time.sleep(0.01)
time.sleep(0.5)  # the last step
pathlib.Path("saved").touch()
sys.exit(75)
"""
STARTER = """
import os, pathlib, sys
from vietst.training.launching import run_launcher
answer = run_launcher([sys.executable, *sys.argv[1:]], cwd=pathlib.Path.cwd(), environment=os.environ)
print(*answer, pathlib.Path("saved").exists())
"""


@pytest.mark.parametrize("to_whom", [os.kill, os.killpg], ids=["the starter alone", "the process group"])
def test_a_signal_reaches_the_training_and_the_launcher_waits_for_it(tmp_path, to_whom):
    names = ("starter", "launcher", "training")
    for name, text in zip(names, (STARTER, LAUNCHER, TRAINING), strict=True):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, *(f"{name}.py" for name in names)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as starter:
        end = time.monotonic() + HANGS_AFTER_S
        while not (tmp_path / "ready").exists():
            assert starter.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        to_whom(starter.pid, signal.SIGTERM)
        output, _ = starter.communicate(timeout=HANGS_AFTER_S)
    assert output.split() == ["75", str(int(signal.SIGTERM)), "True"]


# --- run_pipeline.py -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "stages"),
    [
        ([], ["make_sample_corpus.py", "preprocess_manifest.py", "split_data.py"]),
        (["data.sources={own: {manifest: own.tsv}}"], ["preprocess_manifest.py", "split_data.py"]),
        (["paths.clean_manifest_path=audited.tsv"], ["make_sample_corpus.py", "split_data.py"]),
    ],
)
def test_a_pipeline_makes_no_sample_for_sources_and_cleans_nothing_over_what_an_audit_left(
    repo_root: Path, tmp_path: Path, overrides: list[str], stages: list[str]
) -> None:
    (tmp_path / "audited.json").write_text('{"made_by": "scripts/audit_manifest.py"}', encoding="utf-8")
    script = runpy.run_path(str(repo_root / "scripts" / "run_pipeline.py"))
    pipeline = script["Pipeline"].__new__(script["Pipeline"])
    pipeline.plan = SimpleNamespace(config="nano_whisper", work_dir=tmp_path)
    pipeline.config = load_config("nano_whisper", overrides).config
    started: list[str] = []
    pipeline.run = lambda script, *options: started.append(script)
    pipeline.prepare_manifest([])
    assert started == stages


@pytest.fixture
def train(repo_root: Path, tmp_path: Path) -> Callable[..., list[Path]]:
    """`train((exit code, signal, whether a note is left), …)`: a pipeline's training that ends in these ways.

    Returns the run folder once for each time that it was started.
    """
    script = runpy.run_path(str(repo_root / "scripts" / "run_pipeline.py"))
    pipeline = script["Pipeline"].__new__(script["Pipeline"])
    pipeline.plan = SimpleNamespace(
        config="nano_whisper", accelerate_config=Path("cpu.yaml"), overrides=(), work_dir=tmp_path
    )
    pipeline.config = SimpleNamespace(model=SimpleNamespace(type="whisper"), nano=None, nano_e2e=None)
    pipeline.run_dir = Path("run")
    (tmp_path / "run").mkdir()

    def run(*endings: tuple[int, int, bool]) -> list[Path]:
        left = list(endings)
        started: list[Path] = []

        def run_launcher(command: list[str], **options: object) -> tuple[int, int]:
            assert command[command.index("--resume") + 1] == "auto"
            note = tmp_path / "run" / NOTE_FILE
            assert not note.exists(), "the note of the time before"
            started.append(note.parent)
            exit_code, number, leaves_note = left.pop(0) if len(left) > 1 else left[0]
            if leaves_note:
                note.touch()
            return exit_code, number

        script["Pipeline"].train.__globals__["run_launcher"] = run_launcher
        pipeline.train()
        return started

    return run


def test_a_training_that_was_asked_to_stop_is_started_again(train):
    assert len(train((1, 0, True), (1, 0, True), (0, 0, False))) == 3


def test_it_is_not_where_the_whole_pipeline_was_asked(train, capsys):
    with pytest.raises(SystemExit) as end:
        train((1, signal.SIGTERM, True))
    assert end.value.code == EXIT_PREEMPTED
    assert "the same command goes on" in capsys.readouterr().out


def test_a_failed_training_is_not_started_again(train):
    with pytest.raises(SystemExit) as end:
        train((2, 0, False))
    assert end.value.code == 2


def test_nobody_starts_a_training_for_ever(train):
    with pytest.raises(SystemExit) as end:
        train((1, 0, True))
    assert end.value.code == EXIT_PREEMPTED


# --- run_slurm.sbatch ------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("restarts", "exit_code", "leaves_note", "queued_again", "expected"),
    [
        ("", 0, False, False, 0),
        ("", 1, True, True, 0),
        ("3", 1, True, True, 0),
        ("3", 7, False, False, 7),
        ("50", 1, True, False, EXIT_PREEMPTED),
    ],
    ids=["finished", "stopped", "stopped again", "failed", "stopped for ever"],
)
def test_the_slurm_script_has_a_stopped_training_queued_again(
    repo_root, tmp_path, restarts, exit_code, leaves_note, queued_again, expected
):
    """With stand-ins for SLURM's two programs; the first one leaves what the training would."""
    programs = tmp_path / "programs"
    programs.mkdir()
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / NOTE_FILE).touch()  # of the run before; it must not count
    touch = f"touch {run_dir / NOTE_FILE}" if leaves_note else ":"
    for name, text in (
        ("srun", f'echo "$@" >> {tmp_path}/srun\n{touch}\nexit {exit_code}'),
        ("scontrol", f'[ "$1" = show ] && echo localhost || echo "$@" >> {tmp_path}/scontrol'),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (programs / name).chmod(stat.S_IRWXU)
    ran = subprocess.run(
        ["bash", str(repo_root / "scripts" / "run_slurm.sbatch"), "scripts/train_e2e.py",
         "--config", "nano_e2e", f"output.dir={run_dir}"],
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
        env={
            **os.environ,
            "SLURM_SUBMIT_DIR": str(repo_root),
            "SLURM_JOB_ID": "12",
            "SLURM_JOB_NODELIST": "node1",
            "SLURM_NNODES": "1",
            **({"SLURM_RESTART_COUNT": restarts} if restarts else {}),
            "VIETST_PYTHON": sys.executable,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        },
    )  # fmt: skip
    assert ran.returncode == expected, ran.stderr
    asked = (tmp_path / "scontrol").read_text() if (tmp_path / "scontrol").exists() else ""
    assert asked == ("requeue 12\n" if queued_again else "")
    assert ("--resume auto" in (tmp_path / "srun").read_text()) == bool(restarts)
