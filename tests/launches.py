"""Starting the real scripts through `accelerate launch`, as users do."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.patience import HANGS_AFTER_S

REPO_ROOT = Path(__file__).resolve().parents[1]


def launch(
    config: str,
    script: str,
    *arguments: str,
    options: Sequence[str] = (),
    cwd: Path = REPO_ROOT,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """`accelerate launch --config_file accelerate_configs/<config>.yaml <options> <script> <arguments>`

    Args:
        script: relative to the checkout.
        options: of the launcher.
    """
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--config_file", str(REPO_ROOT / "accelerate_configs" / f"{config}.yaml"), *options),
        *(str(REPO_ROOT / script), *arguments),
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    whole = {**os.environ, "PYTHONPATH": str(REPO_ROOT), **environment}
    with subprocess.Popen(command, **pipes, cwd=cwd, env=whole, start_new_session=True) as process:
        try:
            output, errors = process.communicate(timeout=HANGS_AFTER_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the ranks too
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)
