"""Benchmark stage `scaling`: how much more two processes train than one, at the same batch for each process.

The real script trains nano_whisper on the corpus at hand, launched with accelerate_configs/cpu.yaml and
cpu_x2.yaml turn by turn, every process with one thread. Throughput is what the training itself logs
(`vietst.training.throughput`), its first log left out, since everything is started and read in it. As the
machine's own limit, two trainings run at the same time that know nothing of each other: what two processes
lack of those is what working together costs; what those lack of twice one, the cores cost each other.
"""

import json
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from vietst.benchmarks.results import Bar
from vietst.benchmarks.script_runs import run_checkout_script

MIN_RATIO: Final = 1.7
"""How many times the utterances of one process two should train, on two cores."""

_APART: Final = "two trainings apart"
_LAUNCHES: Final = {"one process": ("cpu",), "two processes": ("cpu_x2",), _APART: ("cpu", "cpu")}
"""Launch configurations of the trainings that run at once."""
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
    utterances_per_s: dict[str, list[float]] = {kind: [] for kind in _LAUNCHES}
    with tempfile.TemporaryDirectory(prefix="vietst-benchmark-", ignore_cleanup_errors=True) as folder:
        for round_number in range(num_rounds):
            for kind, launches in _LAUNCHES.items():
                run_dirs = [
                    Path(folder, f"{kind}-{round_number}-{number}") for number in range(len(launches))
                ]
                with ThreadPoolExecutor(len(launches)) as pool:
                    trainings = [
                        pool.submit(
                            _train, repo_root, launch, run_dir, Path(folder, "base"), overrides, max_steps
                        )
                        for launch, run_dir in zip(launches, run_dirs, strict=True)
                    ]
                for training in trainings:
                    training.result()
                logged = [_logged_throughput(run_dir) for run_dir in run_dirs]
                utterances_per_s[kind] += [sum(at_once) for at_once in zip(*logged, strict=True)]
    medians = {kind: statistics.median(values) for kind, values in utterances_per_s.items()}
    one, two, apart = medians.values()
    return {
        "model": "nano_whisper",
        "max_steps": max_steps,
        "num_rounds": num_rounds,
        "utterances_per_s": utterances_per_s,
        "median_utterances_per_s": medians,
        "times_faster": round(two / one, 2),
        "times_faster_apart": round(apart / one, 2),
    }


def _train(
    repo_root: Path,
    launch_config: str,
    run_dir: Path,
    base_dir: Path,
    overrides: Sequence[str],
    max_steps: int,
) -> None:
    arguments = [
        *("--config", "nano_whisper"),
        *(f"output.dir={run_dir.as_posix()}", f"model.name={base_dir.as_posix()}"),
        *(f"training.max_steps={max_steps}", f"training.save_steps={max_steps}"),
        *("training.eval_strategy=no", "training.load_best_model_at_end=false", "training.report_to=none"),
        f"training.logging_steps={max(1, max_steps // _LOGS_PER_RUN)}",
        *overrides,
    ]
    run_checkout_script(repo_root, "train_whisper.py", arguments, launch_config=launch_config)


def _logged_throughput(run_dir: Path) -> list[float]:
    (path,) = (run_dir / "metrics").glob("*_metrics.json")
    history = json.loads(path.read_text(encoding="utf-8"))["history"]
    return [entry["utterances_per_s"] for entry in history if "loss" in entry][1:]


def bars(results: dict[str, Any]) -> list[Bar]:
    return [Bar("two processes: times the clips of one", results["times_faster"], MIN_RATIO, at_least=True)]


def describe(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    lines = [f"{results['model']}, one thread for each process, {results['max_steps']} steps a run"]
    for kind, median in results["median_utterances_per_s"].items():
        values = results["utterances_per_s"][kind]
        lines.append(f"{kind}: {median:.1f} utterances/s ({min(values):.1f} to {max(values):.1f})")
    return "\n".join(
        [
            *lines,
            f"two processes: {results['times_faster']:.2f} times one (should be at least {MIN_RATIO}); "
            f"two that know nothing of each other: {results['times_faster_apart']:.2f} times",
        ]
    )
