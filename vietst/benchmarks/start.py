"""Benchmark stage `start`: how long a user waits for `--help`, and for the first training step.

The yardstick of the first step is a script under the same launcher that only imports what training imports,
and says that it did. Both are launched turn by turn; what counts is when their line appears.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from vietst.benchmarks.results import Bar
from vietst.errors import VietstError

MAX_HELP_S: Final = 1.0
MAX_FIRST_STEP_S: Final = 3.0
"""How much later than the yardstick's line the first step should be logged, with features built."""

_IMPORTS_ONLY: Final = 'import vietst.training.runner\nprint("imported", flush=True)\n'
_USAGE_ERROR: Final = 2


def measure_start(repo_root: Path, overrides: Sequence[str], *, num_rounds: int) -> dict[str, Any]:
    """Seconds until help is printed, a wrong argument refused, and the first step of nano_whisper logged.

    Args:
        repo_root: the checkout, whose scripts and launch configuration are used.
        overrides: changes to the configuration nano_whisper, `section.key=value`.
        num_rounds: measurements of each kind.

    Raises:
        VietstError: a training that failed, the end of whose messages it holds.
    """
    scripts = sorted((repo_root / "scripts").glob("*.py"))
    help_s = {script.name: _medians(script, ["--help"], 0, num_rounds) for script in scripts}
    refusal_s = {
        script.name: _medians(script, ["--no_such_option"], _USAGE_ERROR, num_rounds) for script in scripts
    }
    with tempfile.TemporaryDirectory(prefix="vietst-benchmark-", ignore_cleanup_errors=True) as folder:
        first_step_s, imports_s = _first_steps(repo_root, Path(folder), overrides, num_rounds)
    return {
        "num_rounds": num_rounds,
        "help_s": help_s,
        "refusal_s": refusal_s,
        "model": "nano_whisper",
        "first_step_s": first_step_s,
        "imports_s": imports_s,
        "first_step_later_s": round(statistics.median(first_step_s) - statistics.median(imports_s), 2),
    }


def _medians(script: Path, arguments: list[str], expected_exit: int, num_rounds: int) -> float:
    seconds = []
    for _ in range(num_rounds):
        started_at = time.perf_counter()
        ran = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True)
        seconds.append(time.perf_counter() - started_at)
        if ran.returncode != expected_exit:
            raise VietstError(
                where=f"{script.name} {' '.join(arguments)}",
                rule=f"ends with exit code {expected_exit}",
                found=f"exit code {ran.returncode}: {ran.stderr.strip()[-500:]}",
                do="mend the script; its message is above",
            )
    return round(statistics.median(seconds), 3)


def _first_steps(
    repo_root: Path, folder: Path, overrides: Sequence[str], num_rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds until the first step is logged, and until the yardstick has imported, of every round."""
    imports_only = folder / "imports_only.py"
    imports_only.write_text(_IMPORTS_ONLY, encoding="utf-8")
    first_step_s, imports_s = [], []
    for round_number in range(-1, num_rounds):  # the first fills caches: the base model is made in it
        training = [
            str(repo_root / "scripts" / "train_whisper.py"),
            *("--config", "nano_whisper"),
            f"output.dir={(folder / f'run-{round_number}').as_posix()}",
            f"model.name={(folder / 'base').as_posix()}",
            *("training.max_steps=1", "training.logging_steps=1", "training.eval_strategy=no"),
            *("training.load_best_model_at_end=false", "training.report_to=none"),
            *overrides,
        ]
        first_step = _seconds_until("step 1/1 ", repo_root, training)
        imports = _seconds_until("imported", repo_root, [str(imports_only)])
        if round_number >= 0:
            first_step_s.append(first_step)
            imports_s.append(imports)
    return first_step_s, imports_s


def _seconds_until(line_part: str, repo_root: Path, script: list[str]) -> float:
    """Seconds from launching a script until it prints a line with this part. It is left to end by itself."""
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--quiet"),
        *("--config_file", str(repo_root / "accelerate_configs" / "cpu.yaml"), *script),
    ]
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(repo_root), *([inherited] if inherited else [])])
    started_at, seconds, lines = time.perf_counter(), None, []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if seconds is None and line_part in line:
                seconds = time.perf_counter() - started_at
    if process.returncode != 0 or seconds is None:
        raise VietstError(
            where="benchmark start",
            rule="nano_whisper trains on the corpus at hand",
            found="".join(lines).strip()[-2000:],
            do="build features first (python scripts/build_features.py), or mend what the message says",
        )
    return round(seconds, 3)


def bars(results: dict[str, Any]) -> list[Bar]:
    return [
        Bar("--help, slowest script (s)", max(results["help_s"].values()), MAX_HELP_S, at_least=False),
        Bar("wrong argument, slowest (s)", max(results["refusal_s"].values()), MAX_HELP_S, at_least=False),
        Bar(
            "first step after imports alone (s)",
            results["first_step_later_s"],
            MAX_FIRST_STEP_S,
            at_least=False,
        ),
    ]


def describe(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    slowest = max(results["help_s"], key=results["help_s"].get)
    slowest_refusal = max(results["refusal_s"], key=results["refusal_s"].get)
    first, imports = results["first_step_s"], results["imports_s"]
    return "\n".join(
        [
            f"--help: at most {results['help_s'][slowest]:.2f} s ({slowest}, of {len(results['help_s'])} "
            f"scripts); a wrong argument refused: at most {results['refusal_s'][slowest_refusal]:.2f} s "
            f"({slowest_refusal}); should be below {MAX_HELP_S:g} s",
            f"first step of {results['model']} logged after {statistics.median(first):.2f} s "
            f"({min(first):.2f} to {max(first):.2f}); imports alone, same launcher: "
            f"{statistics.median(imports):.2f} s ({min(imports):.2f} to {max(imports):.2f})",
            f"difference {results['first_step_later_s']:.2f} s (should be at most {MAX_FIRST_STEP_S:g} s)",
        ]
    )
