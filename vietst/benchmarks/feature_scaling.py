"""Benchmark stage `feature_scaling`: memory and time from manifest to features, by number of utterances.

The corpus is a few hundred short clips of noise, hard-linked under as many names as there are utterances,
each with texts of its own: every link is decoded, hashed, and its features computed. Each step runs in a
process of its own; ten times a second the resident sets of it and of all its processes are added up, where
pages that forked processes share count in each of them.
"""

import multiprocessing
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vietst.constants import SAMPLE_RATE_HZ
from vietst.data.feature_cache import build_feature_cache
from vietst.data.features import LOG_MEL_80
from vietst.data.manifest import AUDIO_FACTS_NAME, preprocess_manifest
from vietst.data.splits import split_manifest
from vietst.data.tables import write_table
from vietst.errors import VietstError
from vietst.evaluation.chart_style import chart_style, look_of, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NUM_CLIPS: Final = 500
_CLIP_DURATION_S: Final = 0.6
_CLIPS_PER_VIDEO: Final = 25
_NUM_WORDS: Final = 4000
_SAMPLE_EVERY_S: Final = 0.1
_MANIFEST_NAME: Final = "manifest.tsv"
_CLEAN_NAME: Final = "manifest_clean.tsv"


def measure_scaling(sizes: Sequence[int], *, num_proc: int, work_dir: Path | None = None) -> dict[str, Any]:
    """Cleans, splits and caches corpora of these sizes, in temporary folders that are removed.

    Args:
        sizes: numbers of utterances.
        num_proc: processes of the build, and threads of the cleaning.
        work_dir: where the temporary folders are made: 10 kB for each utterance.

    Returns:
        `num_proc`, `clip_s`, and `runs`: for each size `num_utterances` and for each step `seconds` and
        `peak_bytes` (resident, over all of its processes).
    """
    runs = []
    for num_utterances in sizes:
        with tempfile.TemporaryDirectory(dir=work_dir, prefix="vietst-benchmark-") as folder:
            root = Path(folder)
            _write_corpus(root, num_utterances)
            measured = {name: _measure(step, root, num_proc) for name, step in _STEPS.items()}
        runs.append({"num_utterances": num_utterances, **measured})
    return {"num_proc": num_proc, "clip_s": _CLIP_DURATION_S, "runs": runs}


def describe(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    lines = [
        f"clips of {results['clip_s']:g} s, {results['num_proc']} process(es); peak memory (MB) and seconds",
        f"{'utterances':>12}" + "".join(f"{name:>20}" for name in _STEPS),
    ]
    for run in results["runs"]:
        cells = (f"{run[name]['peak_bytes'] / 1e6:,.0f} MB {run[name]['seconds']:7.1f} s" for name in _STEPS)
        lines.append(f"{run['num_utterances']:>12,}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def draw(results: dict[str, Any]) -> "Figure":
    """Peak memory and time of each step over the number of utterances."""
    sizes = [run["num_utterances"] for run in results["runs"]]
    with chart_style():
        figure = new_figure(4.6)
        figure.suptitle(f"From manifest to features, {results['num_proc']} processes", fontsize=13)
        memory, seconds = figure.subplots(1, 2)
        handles = []
        for index, name in enumerate(_STEPS):
            runs = [run[name] for run in results["runs"]]
            handles += memory.plot(sizes, [run["peak_bytes"] / 1e6 for run in runs], **look_of(index))
            seconds.plot(sizes, [run["seconds"] for run in runs], **look_of(index))
        memory.set_ylabel("peak memory of all processes (MB)")
        memory.set_ylim(bottom=0)
        seconds.set_ylabel("time (s), logarithmic")
        seconds.set_yscale("log")
        for axes in (memory, seconds):
            axes.set_xscale("log")
            axes.set_xlabel("utterances, logarithmic")
        figure.legend(handles, list(_STEPS), loc="outside lower center", ncols=len(_STEPS))
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
                "transcript": " ".join(drawing.choices(words, k=8)),
                "translation": " ".join(drawing.choices(words, k=8)),
            }
        )
    write_table(root / _MANIFEST_NAME, rows, list(rows[0]))


def _link(original: Path, path: Path) -> None:
    try:
        path.hardlink_to(original)
    except OSError:  # a file system without links
        shutil.copy2(original, path)


# --- the steps --------------------------------------------------------------------------------------------


def _clean(root: Path, num_proc: int) -> None:
    preprocess_manifest(
        root / _MANIFEST_NAME, root / _CLEAN_NAME, audio_root=root, num_proc=num_proc, progress=False
    )


def _split(root: Path, num_proc: int) -> None:
    split_manifest(root / _CLEAN_NAME, root / "splits")


def _build(root: Path, num_proc: int) -> None:
    build_feature_cache(
        root / "splits",
        root / "features",
        LOG_MEL_80,
        audio_root=root,
        num_proc=num_proc,
        measured=root / AUDIO_FACTS_NAME,
        progress=False,
    )


_STEPS: Final[dict[str, Callable[[Path, int], None]]] = {
    "clean": _clean,
    "split": _split,
    "build features": _build,
}


def _measure(step: Callable[[Path, int], None], root: Path, num_proc: int) -> dict[str, float]:
    """Runs a step in a process of its own, and watches it and all its processes."""
    import psutil  # type: ignore[import-untyped]

    process = multiprocessing.get_context("spawn").Process(target=step, args=(root, num_proc))
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
