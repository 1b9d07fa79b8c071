"""The scripts of the checkout, each in a process of its own with one thread, as a user starts them."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vietst.errors import VietstError


def run_checkout_script(
    repo_root: Path, name: str, arguments: Sequence[str], *, launch_config: str | None = None
) -> None:
    """Runs `scripts/<name>` and waits for its end.

    Args:
        arguments: what follows the script's name.
        launch_config: by accelerate with this file of `accelerate_configs`; None: by Python alone.

    Raises:
        VietstError: it failed; the end of what it said is in the error.
    """
    launch: list[str] = []
    if launch_config is not None:
        config = repo_root / "accelerate_configs" / f"{launch_config}.yaml"
        launch = ["-m", "accelerate.commands.launch", "--quiet", "--config_file", str(config)]
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(repo_root), *([inherited] if inherited else [])])
    ran = subprocess.run(
        [sys.executable, *launch, str(repo_root / "scripts" / name), *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "PYTHONUTF8": "1"},
    )
    if ran.returncode != 0:
        raise VietstError(
            where=f"scripts/{name}",
            rule="a benchmark's script ends well",
            found=ran.stderr.strip()[-2000:],
            do="mend what the message says",
        )
