"""Benchmark stage `scaling`: how much more two processes train than one, at the same batch for each process.

The real script trains nano_whisper on the corpus at hand, launched with accelerate_configs/cpu.yaml and
cpu_x2.yaml turn by turn, every process with one thread. Throughput is what the training itself logs
(`vietst.training.throughput`), its first log left out, since everything is started and read in it.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from vietst.errors import VietstError

MIN_RATIO: Final = 1.7
"""How many times the utterances of one process two should train, on two cores."""

_LAUNCH_CONFIGS: Final = {1: "cpu", 2: "cpu_x2"}
_LOGS_PER_RUN: Final = 5


def compare_processes(
    repo_root: Path, overrides: Sequence[str], *, max_steps: int, num_rounds: int
) -> dict[str, Any]:
    """Throughput of one process and of two.

    Args:
        repo_root: the checkout, whose script and launch configurations are used.
        overrides: changes to the configuration nano_whisper, `section.key=value`.
        max_steps: of each run.
        num_rounds: runs of each kind.

    Raises:
        VietstError: a training that failed, the end of whose messages it holds.
    """
    utterances_per_s: dict[int, list[float]] = {number: [] for number in _LAUNCH_CONFIGS}
    with tempfile.TemporaryDirectory(prefix="vietst-benchmark-", ignore_cleanup_errors=True) as folder:
        for round_number in range(num_rounds):
            for num_processes in _LAUNCH_CONFIGS:
                run_dir = Path(folder, f"run-{num_processes}-{round_number}")
                _train(repo_root, num_processes, run_dir, Path(folder, "base"), overrides, max_steps)
                utterances_per_s[num_processes] += _logged_throughput(run_dir)
    medians = {number: statistics.median(values) for number, values in utterances_per_s.items()}
    return {
        "model": "nano_whisper",
        "max_steps": max_steps,
        "num_rounds": num_rounds,
        "utterances_per_s": {str(number): values for number, values in utterances_per_s.items()},
        "median_utterances_per_s": {str(number): median for number, median in medians.items()},
        "times_faster": round(medians[2] / medians[1], 2),
    }


def _train(
    repo_root: Path,
    num_processes: int,
    run_dir: Path,
    base_dir: Path,
    overrides: Sequence[str],
    max_steps: int,
) -> None:
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--quiet"),
        *("--config_file", str(repo_root / "accelerate_configs" / f"{_LAUNCH_CONFIGS[num_processes]}.yaml")),
        *(str(repo_root / "scripts" / "train_whisper.py"), "--config", "nano_whisper"),
        *(f"output.dir={run_dir.as_posix()}", f"model.name={base_dir.as_posix()}"),
        *(f"training.max_steps={max_steps}", f"training.save_steps={max_steps}"),
        *("training.eval_strategy=no", "training.load_best_model_at_end=false", "training.report_to=none"),
        f"training.logging_steps={max(1, max_steps // _LOGS_PER_RUN)}",
        *overrides,
    ]
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(repo_root), *([inherited] if inherited else [])])
    ran = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )
    if ran.returncode != 0:
        raise VietstError(
            where="benchmark scaling",
            rule="nano_whisper trains on the corpus at hand",
            found=ran.stderr.strip()[-2000:],
            do="build features first (python scripts/build_features.py), or mend what the message says",
        )


def _logged_throughput(run_dir: Path) -> list[float]:
    (path,) = (run_dir / "metrics").glob("*_metrics.json")
    history = json.loads(path.read_text(encoding="utf-8"))["history"]
    return [entry["utterances_per_s"] for entry in history if "loss" in entry][1:]


def describe(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    lines = [f"{results['model']}, one thread for each process, {results['max_steps']} steps a run"]
    for number, median in results["median_utterances_per_s"].items():
        values = results["utterances_per_s"][number]
        lines.append(
            f"{number} process{'es' if number != '1' else ''}: {median:.1f} utterances/s "
            f"({min(values):.1f} to {max(values):.1f})"
        )
    return "\n".join([*lines, f"ratio {results['times_faster']:.2f} (should be at least {MIN_RATIO})"])
