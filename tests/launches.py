"""Starting the real scripts through `accelerate launch`, as users do."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

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
    return subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch"),
            *("--config_file", str(REPO_ROOT / "accelerate_configs" / f"{config}.yaml"), *options),
            *(str(REPO_ROOT / script), *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPO_ROOT), **environment},
    )
