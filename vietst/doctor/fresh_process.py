"""Code that may end the process it runs in, such as a library that does not fit the machine."""

import subprocess
import sys


def run_in_fresh_process(program: str, timeout_s: float) -> tuple[bool, str]:
    """Run Python code.

    Returns:
        Whether it ended well, and its last line: of what it printed, else of its error.
    """
    try:
        answer = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        return False, f"no end after {timeout_s:.0f} s"
    if answer.returncode == 0:
        return True, _last_line(answer.stdout)
    return False, _last_line(answer.stderr) or f"ended with code {answer.returncode}"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""
