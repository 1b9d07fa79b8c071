"""A script in a process of its own, for tests of what surrounds every `main`."""

import os
import subprocess
import sys


def run_main(body: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script whose `main` is `body`."""
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    program = (
        "from vietst.runtime import get_logger\nfrom vietst.script_end import run_script\n"
        f"def main():\n{indented}\nrun_script(main)"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **environment}
    )
