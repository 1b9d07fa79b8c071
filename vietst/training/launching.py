"""Starting a launcher so that a signal to stop reaches the training processes, and is waited for.

`accelerate launch` of one process dies of the signal and leaves its child alone; of several, it passes the
signal on and gives them half a minute. A training takes as long as a step, perhaps an evaluation, and a
checkpoint.
"""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vietst.script_end import STOP_SIGNALS

NOTE_FILE: Final = "resume_me.json"
"""In a run folder: the training stopped for a signal and wants to go on. Gone as soon as it does."""

PATIENCE_S: Final = 3600
"""How long torch's launcher waits for training processes that were asked to stop. Whoever asks has less."""

LAUNCHER_ENVIRONMENT: Final = {
    "PET_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1",
    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(PATIENCE_S),
}
"""For torch's launcher of several processes. scripts/run_slurm.sbatch sets the same."""


def run_launcher(command: Sequence[str], *, cwd: Path, environment: Mapping[str, str]) -> tuple[int, int]:
    """Run a launcher until it and its training processes have ended, and hand `STOP_SIGNALS` on to them.

    Returns:
        Its exit code, and the last signal that asked this process to stop meanwhile, else 0.
    """
    received = 0
    # What is ignored when a program starts stays ignored in it, until it says otherwise as the trainings do.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOP_SIGNALS}
    try:
        process = subprocess.Popen(command, cwd=cwd, env={**environment, **LAUNCHER_ENVIRONMENT})

        def hand_on(number: int, frame: Any) -> None:
            nonlocal received
            received = number
            _signal_all_below(process.pid, number)

        for number in STOP_SIGNALS:
            signal.signal(number, hand_on)
        return process.wait(), received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _signal_all_below(pid: int, number: int) -> None:
    """To whom the signal was sent, and who therefore has it already, it does no harm."""
    import psutil  # type: ignore[import-untyped]

    try:
        for process in psutil.Process(pid).children(recursive=True):
            os.kill(process.pid, number)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return  # it ends anyway
