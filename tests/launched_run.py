"""A training in processes of its own, in any launch mode, that can be killed or signalled at any moment."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.patience import HANGS_AFTER_S
from tests.tiny_runs import tiny_e2e_run_overrides, tiny_run_overrides

REPO_ROOT = Path(__file__).resolve().parents[1]

MODES = {
    "single": ("cpu", 1),
    "ddp": ("cpu_x2", 2),
    "zero1": ("h100x8", 2),
    "zero2": ("h100x8", 2),
    "zero3": ("h100x8_zero3", 2),
}
"""Launch configuration and number of processes. The ZeRO modes have DeepSpeed's CPU accelerator."""

ARCHITECTURES = {"whisper": tiny_run_overrides, "e2e": tiny_e2e_run_overrides}


@dataclass(frozen=True)
class Launch:
    """What is started: `accelerate launch` of a training script of the architecture, in a launch mode."""

    mode: str
    architecture: str
    overrides: tuple[str, ...]
    folder: Path
    """For DeepSpeed's file and the output of the processes."""
    script: Path | None = None
    """Instead of `scripts/train_<architecture>.py`; it gets `--config` too."""
    environment: tuple[tuple[str, str], ...] = ()
    num_processes: int | None = None
    """None: the mode's own number."""

    def command(self, *resume: str) -> list[str]:
        config, usual_number = MODES[self.mode]
        return [
            *(sys.executable, "-m", "accelerate.commands.launch", "--quiet"),
            *("--config_file", str(REPO_ROOT / "accelerate_configs" / f"{config}.yaml")),
            *("--num_processes", str(self.num_processes or usual_number), *self._deepspeed_options()),
            str(self.script or REPO_ROOT / "scripts" / f"train_{self.architecture}.py"),
            *("--config", f"nano_{self.architecture}", *resume, *self.overrides),
        ]

    def _deepspeed_options(self) -> tuple[str, ...]:
        if not self.mode.startswith("zero"):
            return ()
        settings = json.loads((REPO_ROOT / "ds_configs" / f"{self.mode}.json").read_text(encoding="utf-8"))
        # Buffers of the shipped size cost a CPU more time than the training.
        zero = settings["zero_optimization"]
        zero |= {key: 10**5 for key in zero if key.endswith("bucket_size")}
        path = self.folder / f"{self.mode}.json"
        path.write_text(json.dumps(settings), encoding="utf-8")
        return ("--deepspeed_config_file", str(path))


class RunningLaunch:
    """A launch that was started; its output goes to `output_file`.

    Use it in a `with` statement: at the end none of its processes is left.
    """

    def __init__(self, launch: Launch, *resume: str) -> None:
        launch.folder.mkdir(parents=True, exist_ok=True)
        self.output_file = launch.folder / "output.txt"
        extra = {"DS_ACCELERATOR": "cpu"} if launch.mode.startswith("zero") else {}
        with self.output_file.open("wb") as output:
            self.process = subprocess.Popen(
                launch.command(*resume),
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=REPO_ROOT,
                env={**os.environ, "PYTHONPATH": str(REPO_ROOT), **extra, **dict(launch.environment)},
                start_new_session=True,
            )

    def __enter__(self) -> "RunningLaunch":
        return self

    def __exit__(self, *error: Any) -> None:
        self.kill()

    def output(self) -> str:
        return self.output_file.read_text(encoding="utf-8", errors="replace")

    def processes(self) -> list[psutil.Process]:
        """The launcher and all below it. torch's launcher starts the ranks in process groups of their own."""
        launcher = psutil.Process(self.process.pid)
        return [launcher, *launcher.children(recursive=True)]

    def kill(self) -> None:
        """kill -9 for all at once: none has time to react to the end of another."""
        if self.process.poll() is None:
            processes = self.processes()
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
            processes = list({*processes, *self.processes()})  # what was started meanwhile
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(processes)
            self.process.wait()

    def signal_group(self, number: signal.Signals) -> None:
        """As a scheduler does it. To what it starts in other groups, the launcher must hand the signal on."""
        os.killpg(self.process.pid, number)

    def wait(self, timeout_s: float = HANGS_AFTER_S) -> int:
        """The launcher's exit code; then no process of it is left either."""
        processes = self.processes()
        code = self.process.wait(timeout_s)
        _, left = psutil.wait_procs(processes, timeout=HANGS_AFTER_S)
        assert not left, f"still running: {left}"
        return code

    def wait_until(self, condition: Any, timeout_s: float = HANGS_AFTER_S) -> None:
        """Until `condition()` holds, or the launch ends."""
        end = time.monotonic() + timeout_s
        while not condition() and self.process.poll() is None:
            assert time.monotonic() < end, self.output()[-3000:]
            time.sleep(0.01)

    def wait_for_step(self, step: int) -> None:
        """Until that step is logged: `training.logging_steps=1` is assumed."""
        self.wait_until(lambda: last_logged_step(self.output()) >= step)


def last_logged_step(output: str) -> int:
    """0 before the first."""
    return max((int(step) for step in re.findall(r"step (\d+)/\d+  loss", output)), default=0)
