"""Benchmark stage `cost_by_size`: memory and time from manifest to scores, by number of utterances.

The corpus is a few hundred short clips of noise, hard-linked under as many names as there are utterances,
each with texts of its own: every link is decoded, hashed, audited without a seed model, and its features
computed. A nano Whisper takes some training steps on them, then decodes all of them for both tasks and is
scored; the scores are computed once more from its predictions alone; these three with one thread. Each step
runs in a process of its own; ten times a second the resident sets of it and of all its processes are added
up, where pages that forked processes share count in each of them.
"""

import json
import multiprocessing
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vietst.benchmarks.results import Bar
from vietst.benchmarks.script_runs import run_checkout_script
from vietst.constants import SAMPLE_RATE_HZ, SPLITS
from vietst.data.feature_cache import build_feature_cache
from vietst.data.features import LOG_MEL_80_NANO
from vietst.data.manifest import AUDIO_FACTS_NAME, preprocess_manifest
from vietst.data.splits import split_manifest, split_path
from vietst.data.tables import write_table
from vietst.errors import VietstError
from vietst.evaluation.chart_style import chart_style, look_of, new_figure
from vietst.evaluation.predictions_file import predictions_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_STEP_GROWTH: Final = 1.15
"""Times as long a training step may take on the largest corpus as on the smallest."""
MAX_UTTERANCE_GROWTH: Final = 1.15
"""The same of the seconds for each utterance of the steps that look at all of them, to the largest corpus
from the next smaller one."""
MAX_BYTES_PER_UTTERANCE: Final = 10_000
"""By which the memory of any step grows; its texts, predictions and scores are a few kilobytes."""

_NUM_CLIPS: Final = 500
_CLIP_DURATION_S: Final = 0.6
_CLIPS_PER_VIDEO: Final = 25
_NUM_WORDS: Final = 4000
_WORDS_PER_TEXT: Final = 8
_TRAINING_STEPS: Final = 60
_LOGGING_STEPS: Final = 20
_BATCH_SIZE: Final = 16
_SAMPLE_EVERY_S: Final = 0.1
_MANIFEST_NAME: Final = "manifest.tsv"
_CLEAN_NAME: Final = "manifest_clean.tsv"
_ALL_NAME: Final = "all.csv"
_RUN_NAME: Final = "run"


def measure(
    repo_root: Path, sizes: Sequence[int], *, num_proc: int, work_dir: Path | None = None
) -> dict[str, Any]:
    """Takes corpora of these sizes from manifest to scores, in temporary folders that are removed.

    Args:
        repo_root: the checkout, whose scripts train and evaluate.
        sizes: numbers of utterances.
        num_proc: processes of the audit and the build, and threads of the cleaning.
        work_dir: where the temporary folders are made: 20 kB for each utterance.

    Returns:
        `num_proc`, `clip_s`, `training_steps`, and `runs`: for each size `num_utterances`, for each step
        `seconds` and `peak_bytes` (resident, over all of its processes), and of the training `step_s`.

    Raises:
        VietstError: a step that failed; what it printed tells why.
    """
    runs = []
    for num_utterances in sizes:
        with tempfile.TemporaryDirectory(dir=work_dir, prefix="vietst-benchmark-") as folder:
            root = Path(folder)
            _write_corpus(root, num_utterances)
            measured = {name: _measure(step, repo_root, root, num_proc) for name, step in _STEPS.items()}
            measured["train"]["step_s"] = _training_step_s(root)
        runs.append({"num_utterances": num_utterances, **measured})
    return {
        "model": "nano_whisper",
        "num_proc": num_proc,
        "clip_s": _CLIP_DURATION_S,
        "training_steps": _TRAINING_STEPS,
        "runs": runs,
    }


def bars(results: dict[str, Any]) -> list[Bar]:
    """From the largest size and the next smaller one; none for a single size."""
    runs = sorted(results["runs"], key=lambda run: run["num_utterances"])
    if len(runs) == 1:
        return []
    smallest, before, largest = runs[0], runs[-2], runs[-1]
    growth = largest["train"]["step_s"] / smallest["train"]["step_s"]
    found = [Bar("training step: times as long", round(growth, 3), MAX_STEP_GROWTH, at_least=False)]
    more = largest["num_utterances"] - before["num_utterances"]
    for name in _STEPS:
        if name != "train":
            seconds = [run[name]["seconds"] / run["num_utterances"] for run in (before, largest)]
            what = f"{name}: times as long for each utterance"
            found.append(Bar(what, round(seconds[1] / seconds[0], 3), MAX_UTTERANCE_GROWTH, at_least=False))
        grown = (largest[name]["peak_bytes"] - before[name]["peak_bytes"]) / more
        found.append(
            Bar(f"{name}: bytes an utterance", round(grown), MAX_BYTES_PER_UTTERANCE, at_least=False)
        )
    return found


def describe(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    lines = [
        f"{results['model']}, clips of {results['clip_s']:g} s, {results['num_proc']} process(es), "
        f"{results['training_steps']} training steps; peak memory (MB) and seconds",
        f"{'utterances':>12}" + "".join(f"{name:>20}" for name in _STEPS) + f"{'a training step':>17}",
    ]
    for run in results["runs"]:
        cells = (f"{run[name]['peak_bytes'] / 1e6:,.0f} MB {run[name]['seconds']:7.1f} s" for name in _STEPS)
        lines.append(
            f"{run['num_utterances']:>12,}"
            + "".join(f"{cell:>20}" for cell in cells)
            + f"{1000 * run['train']['step_s']:>14.1f} ms"
        )
    return "\n".join(lines)


def draw(results: dict[str, Any]) -> "Figure":
    """Peak memory and time of each step over the number of utterances, and the time of a training step."""
    sizes = [run["num_utterances"] for run in results["runs"]]
    with chart_style():
        figure = new_figure(5.0)
        figure.suptitle(f"From manifest to scores, {results['num_proc']} processes", fontsize=13)
        memory, seconds = figure.subplots(1, 2)
        handles = []
        for index, name in enumerate(_STEPS):
            runs = [run[name] for run in results["runs"]]
            handles += memory.plot(sizes, [run["peak_bytes"] / 1e6 for run in runs], **look_of(index))
            seconds.plot(sizes, [run["seconds"] for run in runs], **look_of(index))
        step_s = [run["train"]["step_s"] for run in results["runs"]]
        handles += seconds.plot(sizes, step_s, **look_of(len(_STEPS)))
        memory.set_ylabel("peak memory of all processes (MB)")
        memory.set_ylim(bottom=0)
        seconds.set_ylabel("time (s), logarithmic")
        seconds.set_yscale("log")
        for axes in (memory, seconds):
            axes.set_xscale("log")
            axes.set_xlabel("utterances, logarithmic")
        figure.legend(handles, [*_STEPS, "a training step"], loc="outside lower center", ncols=4)
    return figure


# --- the corpus -------------------------------------------------------------------------------------------


def _write_corpus(root: Path, num_utterances: int) -> None:
    """Clips and manifest below `root`; texts of words that are drawn, so that few of them are alike."""
    import soundfile

    generator = np.random.default_rng(0)
    originals = []
    for number in range(min(_NUM_CLIPS, num_utterances)):
        originals.append(root / "originals" / f"{number}.wav")
        originals[-1].parent.mkdir(exist_ok=True)
        samples = 0.1 * generator.standard_normal(round(_CLIP_DURATION_S * SAMPLE_RATE_HZ))
        soundfile.write(originals[-1], samples, SAMPLE_RATE_HZ, subtype="PCM_16")
        # Dated back: the facts of files that were written just now are measured twice.
        os.utime(originals[-1], (1_000_000_000, 1_000_000_000))
    drawing = random.Random(0)
    words = [
        f"{drawing.choice('bcdghklmnpt')}{drawing.choice('aeiou')}{number}" for number in range(_NUM_WORDS)
    ]
    rows = []
    for number in range(num_utterances):
        name = f"video_{number // _CLIPS_PER_VIDEO:05d}/{number:06d}.wav"
        (root / name).parent.mkdir(exist_ok=True)
        _link(originals[number % len(originals)], root / name)
        rows.append(
            {
                "audio_path": name,
                "transcript": " ".join(drawing.choices(words, k=_WORDS_PER_TEXT)),
                "translation": " ".join(drawing.choices(words, k=_WORDS_PER_TEXT)),
            }
        )
    write_table(root / _MANIFEST_NAME, rows, list(rows[0]))


def _link(original: Path, path: Path) -> None:
    try:
        path.hardlink_to(original)
    except OSError:  # a file system without links
        shutil.copy2(original, path)


# --- the steps --------------------------------------------------------------------------------------------


def _clean(repo_root: Path, root: Path, num_proc: int) -> None:
    preprocess_manifest(
        root / _MANIFEST_NAME, root / _CLEAN_NAME, audio_root=root, num_proc=num_proc, progress=False
    )


def _audit(repo_root: Path, root: Path, num_proc: int) -> None:
    arguments = [
        *("--manifest", str(root / _CLEAN_NAME), "--output", str(root / "audit")),
        *("--audio_root", str(root), "--num_proc", str(num_proc)),
    ]
    run_checkout_script(repo_root, "audit_manifest.py", arguments)


def _split(repo_root: Path, root: Path, num_proc: int) -> None:
    split_manifest(root / _CLEAN_NAME, root / "splits")


def _build(repo_root: Path, root: Path, num_proc: int) -> None:
    build_feature_cache(
        root / "splits",
        root / "features",
        LOG_MEL_80_NANO,
        audio_root=root,
        num_proc=num_proc,
        measured=root / AUDIO_FACTS_NAME,
        progress=False,
    )


def _train(repo_root: Path, root: Path, num_proc: int) -> None:
    arguments = [
        *("--config", "nano_whisper"),
        *(f"model.name={(root / 'base').as_posix()}", f"output.dir={(root / _RUN_NAME).as_posix()}"),
        *(f"paths.{name}_dir={(root / name).as_posix()}" for name in ("splits", "features")),
        f"paths.data_root={root.as_posix()}",
        *(f"training.max_steps={_TRAINING_STEPS}", f"training.save_steps={_TRAINING_STEPS}"),
        *(f"training.logging_steps={_LOGGING_STEPS}", f"training.batch_size={_BATCH_SIZE}"),
        *("training.eval_strategy=no", "training.load_best_model_at_end=false", "training.report_to=none"),
        "loss.ctc_weight=0",  # more letters than such short clips have frames
    ]
    run_checkout_script(repo_root, "train_whisper.py", arguments)


def _evaluate(repo_root: Path, root: Path, num_proc: int) -> None:
    arguments = [
        *("--model_dir", str(root / _RUN_NAME), "--batch_size", "64", "--output", str(root / "results")),
        *("--test_csv", str(_write_all(root)), "--audio_root", str(root)),
    ]
    run_checkout_script(repo_root, "run_evaluation.py", arguments)


def _score(repo_root: Path, root: Path, num_proc: int) -> None:
    predictions = str(predictions_path(_RUN_NAME, root / "results"))
    arguments = ["--predictions", predictions, "--output", str(root / "scored")]
    run_checkout_script(repo_root, "run_evaluation.py", arguments)


def _write_all(root: Path) -> Path:
    """The rows of all splits in one file, to be evaluated; line by line, since memory is measured."""
    with (root / _ALL_NAME).open("w", encoding="utf-8", newline="") as written:
        for split in SPLITS:
            with split_path(root / "splits", split).open(encoding="utf-8", newline="") as file:
                header = next(file)
                if split == SPLITS[0]:
                    written.write(header)
                shutil.copyfileobj(file, written)
    return root / _ALL_NAME


def _training_step_s(root: Path) -> float:
    """Median over the logs but the first, in which everything is started and read."""
    (path,) = (root / _RUN_NAME / "metrics").glob("*_metrics.json")
    history = json.loads(path.read_text(encoding="utf-8"))["history"]
    utterances_per_s = [entry["utterances_per_s"] for entry in history if "loss" in entry][1:]
    return round(_BATCH_SIZE / statistics.median(utterances_per_s), 5)


_STEPS: Final[dict[str, Callable[[Path, Path, int], None]]] = {
    "clean": _clean,
    "audit": _audit,
    "split": _split,
    "build features": _build,
    "train": _train,
    "evaluate": _evaluate,
    "score": _score,
}


def _measure(
    step: Callable[[Path, Path, int], None], repo_root: Path, root: Path, num_proc: int
) -> dict[str, float]:
    """Runs a step in a process of its own, and watches it and all its processes."""
    import psutil  # type: ignore[import-untyped]

    process = multiprocessing.get_context("spawn").Process(target=step, args=(repo_root, root, num_proc))
    start = time.perf_counter()
    process.start()
    watched, peak_bytes = psutil.Process(process.pid), 0
    while process.is_alive():
        peak_bytes = max(peak_bytes, _resident_bytes(watched))
        time.sleep(_SAMPLE_EVERY_S)
    if process.exitcode != 0:
        raise VietstError(
            where=f"benchmark step {step.__name__.strip('_')}",
            rule="it ends with exit code 0",
            found=str(process.exitcode),
            do="see what it printed above",
        )
    return {"seconds": round(time.perf_counter() - start, 2), "peak_bytes": peak_bytes}


def _resident_bytes(process: Any) -> int:
    """Of a process and its descendants; those that end meanwhile count nothing."""
    import psutil

    total = 0
    try:
        for one in [process, *process.children(recursive=True)]:
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total
