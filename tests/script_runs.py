"""Scripts as a user starts them: in processes of their own, in a folder of their own."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.patience import HANGS_AFTER_S

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def run_script(
    name: str, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `scripts/<name>` in a folder; what it wrote to both streams comes back as text.

    Args:
        environment: None: that of the tests.
    """
    command = [sys.executable, str(SCRIPTS / name), *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS_AFTER_S,
    )
