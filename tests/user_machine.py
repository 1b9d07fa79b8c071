"""A user's machine for tests: scripts run on it in processes that reach the loopback Hub and nothing else."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.hub.server import LoopbackHub

FEW_STEPS = (
    "training.max_steps=2",
    "training.batch_size=2",
    "training.effective_batch=4",
    "training.eval_steps=2",
    "training.save_steps=2",
    "evaluation.max_dev_utterances=2",
)
"""All that the tests change in a shipped config, besides paths and the model's name."""


@dataclasses.dataclass
class Machine:
    """A user's machine: the corpus as current folder, a Hub, a model cache, and nothing behind the Hub."""

    repo_root: Path
    corpus: Path
    folder: Path
    hub: LoopbackHub

    def run(self, script: str, *arguments: str, launched: bool = False, **environment: str) -> Any:
        """Run a script, by `accelerate launch` if asked for; returns the finished process."""
        command = [str(self.repo_root / "scripts" / script), *arguments]
        if launched:
            launch_config = str(self.repo_root / "accelerate_configs" / "cpu.yaml")
            command = ["-m", "accelerate.commands.launch", "--config_file", launch_config, *command]
        return self.python(command, **environment)

    def python(self, arguments: list[str], **environment: str) -> Any:
        guard = str(self.repo_root / "tests" / "network_guard")
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.corpus,
            env=self.hub.client_environment(
                self.folder / "hf_home",
                PYTHONPATH=os.pathsep.join([guard, os.environ["PYTHONPATH"]]),
                NETWORK_GUARD_RECORD=str(self.network_record),
                **environment,
            ),
            capture_output=True,
            text=True,
            check=False,
        )

    def train(
        self, config: str, run: str, *overrides: str, launched: bool = False, **environment: str
    ) -> Any:
        output = f"output.dir={(self.folder / run).as_posix()}"
        arguments = ("--config", config, *FEW_STEPS, output, *overrides)
        return self.run("train_whisper.py", *arguments, launched=launched, **environment)

    @property
    def network_record(self) -> Path:
        """Hosts outside of this machine that a process asked for; missing where none did."""
        return self.folder / "network.txt"


def assert_refused(finished: Any, *parts: str) -> None:
    """Exit code 2, a message with these parts as the last words, and no traceback."""
    assert finished.returncode == 2, finished.stderr
    assert "Traceback" not in finished.stdout + finished.stderr
    message = finished.stderr[finished.stderr.rindex("error: ") :]
    assert message.splitlines()[-1].startswith("  do: "), message
    for part in parts:
        assert part in message
