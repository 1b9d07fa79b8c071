"""Benchmark stage `features`: building the feature cache, against what others do and against a floor.

Clips of exactly equal length, cut from the speech of a manifest, 16 bits at its rate, are turned into log-mel
features, in all ways of `feature_ways` on as many processes.

Each runs in a process of its own that has imported everything before the clock starts, turn by turn, and the
files were written a moment before, so none pays for a cold disk.
"""

import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np

from vietst.benchmarks.feature_corpus import Corpus, write_clips
from vietst.benchmarks.feature_ways import EXTRA_MODULES, Built, ways
from vietst.benchmarks.inputs import manifest_rows
from vietst.benchmarks.results import Bar
from vietst.data.feature_cache import num_usable_cores
from vietst.data.features import LOG_MEL_80
from vietst.errors import ConfigError

MAX_OVER_FLOOR: Final = 1.4
"""Of the build after cleaning."""
MIN_RATIOS: Final = {3.0: (9.0, 19.0), 10.0: (4.5, 5.8)}
"""By seconds of a clip: times faster, measuring included, and times smaller than the recipe."""

_MIN_CLIPS: Final = 3


def measure(
    manifest: Path,
    data_root: Path,
    *,
    num_utterances: int,
    durations_s: Sequence[float],
    num_proc: int | None,
    num_rounds: int,
    work_dir: Path | None,
) -> dict[str, Any]:
    """Builds the features of equally long clips in every way, in temporary folders that are removed.

    Args:
        manifest: cleaned; its speech is cut into clips, from the start again when it ends.
        data_root: `audio_path` is relative to it.
        num_utterances: at least 3.
        durations_s: of the clips; each is measured.
        num_proc: of every way; None: as many as there are cores.
        num_rounds: builds of each way.
        work_dir: where the temporary folders are made; the recipe takes 1 MB per utterance.

    Returns:
        `num_proc`, `num_rounds`, `left_out` (yardsticks that are not installed), and `cases`: for each length
        and way seconds, CPU seconds and bytes, ratios of medians, and the largest difference between the
        features of both.

    Raises:
        VietstError: a manifest or audio that cannot be used.
    """
    if num_utterances < _MIN_CLIPS:
        raise ConfigError(
            where="--num_utterances",
            rule=f"at least {_MIN_CLIPS} clips to measure",
            found=str(num_utterances),
            do="take more (2000 say something)",
        )
    num_proc = num_proc or num_usable_cores()
    rows = manifest_rows(manifest)
    cases = []
    for duration_s in durations_s:
        with tempfile.TemporaryDirectory(dir=work_dir, prefix="vietst-benchmark-") as folder:
            clips = write_clips(Path(folder), rows, data_root, duration_s, num_utterances)
            cases.append(_compare(Corpus(Path(folder), clips, num_proc), duration_s, num_rounds))
    return {
        "num_utterances": num_utterances,
        "features": LOG_MEL_80.name,
        "num_proc": num_proc,
        "num_rounds": num_rounds,
        "left_out": sorted(set(EXTRA_MODULES) - set(ways())),
        "cases": cases,
    }


def _compare(corpus: Corpus, duration_s: float, num_rounds: int) -> dict[str, Any]:
    built: dict[str, list[Built]] = {name: [] for name in ways()}
    for round_number in range(num_rounds):
        for name, way in ways().items():
            with tempfile.TemporaryDirectory(dir=corpus.root, prefix=f"{name}-{round_number}-") as folder:
                built[name].append(_in_own_process(way, corpus, Path(folder, "built")))
    seconds = {name: [round(one.seconds, 3) for one in of_way] for name, of_way in built.items()}
    medians = {name: statistics.median(of_way) for name, of_way in seconds.items()}
    differences = [
        float(np.abs(ours - theirs).max())
        for ours, theirs in zip(built["here"][0].compared, built["recipe"][0].compared, strict=True)
    ]
    return {
        "clip_s": duration_s,
        "seconds": seconds,
        "cpu_seconds": {
            name: [round(one.cpu_seconds, 2) for one in of_way] for name, of_way in built.items()
        },
        "bytes": {name: of_way[0].num_bytes for name, of_way in built.items() if name != "floor"},
        "times_faster": {
            name: round(median / medians["here_unmeasured"], 2) for name, median in medians.items()
        },
        "over_floor": round(medians["here"] / medians["floor"], 3),
        "times_smaller": round(built["recipe"][0].num_bytes / built["here"][0].num_bytes, 2),
        "largest_feature_difference": max(differences),
    }


def _in_own_process(build: Callable[[Corpus, Path], Built], corpus: Corpus, folder: Path) -> Built:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(build, corpus, folder).result()


def bars(results: dict[str, Any]) -> list[Bar]:
    """By the clock; those against the recipe where one was set for clips of this length."""
    found = []
    for case in results["cases"]:
        name = f"{case['clip_s']:g} s clips"
        if case["clip_s"] in MIN_RATIOS:
            min_faster, min_smaller = MIN_RATIOS[case["clip_s"]]
            faster = case["times_faster"]["recipe"]
            found.append(Bar(f"{name}: times faster than the recipe", faster, min_faster, at_least=True))
            smaller = case["times_smaller"]
            found.append(Bar(f"{name}: times smaller than the recipe", smaller, min_smaller, at_least=True))
        found.append(Bar(f"{name}: in floors", case["over_floor"], MAX_OVER_FLOOR, at_least=False))
    return found


def describe(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    lines = []
    for case in results["cases"]:
        lines += [
            f"{results['num_utterances']} clips of {case['clip_s']:g} s, {results['features']}, "
            f"{results['num_proc']} process(es), median of {results['num_rounds']}",
            f"{'':<18}{'seconds':>9}{'from':>8}{'to':>8}{'CPU s':>8}{'of here':>9}{'MB':>9}",
        ]
        here = statistics.median(case["seconds"]["here"])
        for name, seconds in case["seconds"].items():
            size = f"{case['bytes'][name] / 1e6:.1f}" if name in case["bytes"] else "-"
            median = statistics.median(seconds)
            lines.append(
                f"{name:<18}{median:>9.2f}{min(seconds):>8.2f}{max(seconds):>8.2f}"
                f"{statistics.median(case['cpu_seconds'][name]):>8.1f}{median / here:>8.2f}x{size:>9}"
            )
        difference = case["largest_feature_difference"]
        lines.append(f"largest difference between the features of here and recipe: {difference:.1e}")
    if results["left_out"]:
        lines.append(
            f"not installed and left out: {', '.join(results['left_out'])} "
            "(pip install -e '.[benchmark]' -c constraints.txt)"
        )
    return "\n".join(lines)
