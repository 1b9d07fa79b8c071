"""Benchmark stage `reading`: how long a training waits for its data.

The model of the configuration nano_whisper trains on the corpus at hand, with its batches read by one worker,
and its own meter says which share of the time it waited (`vietst.training.throughput`), from one log entry
to the next. The first, in which the worker starts, is told apart: it comes once in a training. Beside it:
reading, collating and padding an epoch's batches alone, against slicing and padding the same features out of
one array that lies in the page cache.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from vietst.benchmarks.results import Bar
from vietst.config import load_config
from vietst.config_rules import accumulation_steps
from vietst.data.feature_cache import features_of
from vietst.data.features import pad_log_mel
from vietst.data.packed_clips import padded_batch
from vietst.training.arguments import training_arguments
from vietst.training.preparation import Preparation, prepare
from vietst.training.runner import build_trainer

MAX_WAIT_SHARE: Final = 0.02
"""Of a nano training's steps on a CPU, with one worker."""
MAX_GPU_WAIT_SHARE: Final = 0.01

_MAX_BATCHES: Final = 100
_NUM_LOG_ENTRIES: Final = 8


def measure_reading(overrides: Sequence[str], *, max_steps: int, num_rounds: int) -> dict[str, Any]:
    """The share of waiting in a training, and clips per second of reading alone and of the yardstick.

    Args:
        overrides: changes to the configuration nano_whisper, `section.key=value`.
        max_steps: of the training; 8 at least.
        num_rounds: passes over the batches, both ways.

    Raises:
        VietstError: no corpus where the configuration looks for it.
    """
    with tempfile.TemporaryDirectory(prefix="vietst-benchmark-", ignore_cleanup_errors=True) as folder:
        own = [
            f"output.dir={Path(folder, 'run').as_posix()}",
            f"model.name={Path(folder, 'base').as_posix()}",
            *(f"training.max_steps={max_steps}", f"training.save_steps={max_steps}"),
            f"training.logging_steps={max_steps // _NUM_LOG_ENTRIES}",
            *("training.eval_strategy=no", "training.load_best_model_at_end=false"),
            *("training.report_to=none", "dataloader.num_workers=1"),
        ]
        config = load_config("nano_whisper", [*own, *overrides]).config
        preparation = prepare(config)
        arguments = training_arguments(config, accumulation_steps(config.training, num_processes=1))
        trainer = build_trainer(config, arguments, preparation)
        batches = _some_batches(len(preparation.train), config.training.batch_size)
        alone = _compare_reading(preparation, trainer.data_collator, batches, Path(folder), num_rounds)
        trainer.train()
    first, *entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    shares = [entry["data_wait_share"] for entry in entries]
    return {
        "model": "nano_whisper",
        "device": str(arguments.device),
        "num_workers": arguments.dataloader_num_workers,
        "batch_size": config.training.batch_size,
        "num_steps": max_steps,
        "num_threads": torch.get_num_threads(),
        "data_wait_share": round(statistics.mean(shares), 5),
        "data_wait_share_of_entries": [round(share, 5) for share in shares],
        "data_wait_share_at_first": round(first["data_wait_share"], 5),
        "trained_utterances_per_s": round(
            statistics.median(entry["utterances_per_s"] for entry in entries), 1
        ),
        **alone,
    }


def _some_batches(num_utterances: int, batch_size: int) -> list[list[int]]:
    """In random order, as training reads them."""
    order = torch.randperm(num_utterances, generator=torch.Generator().manual_seed(0)).tolist()
    batches = [order[start : start + batch_size] for start in range(0, num_utterances, batch_size)]
    return batches[:_MAX_BATCHES]


def _compare_reading(
    preparation: Preparation,
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    batches: list[list[int]],
    folder: Path,
    num_rounds: int,
) -> dict[str, Any]:
    rows, kind = preparation.train, preparation.input_kind
    num_clips = sum(map(len, batches))
    from_array = _batches_of_array(preparation, batches, folder / "features.npy")
    seconds: dict[str, list[float]] = {"here": [], "array": []}
    for _ in range(num_rounds):
        started_at = time.perf_counter()
        for batch in batches:
            padded_batch(collate([rows[index] for index in batch]))
        seconds["here"].append(time.perf_counter() - started_at)
        started_at = time.perf_counter()
        for clips in from_array():
            torch.from_numpy(pad_log_mel(clips, [0.0] * len(clips), kind.num_window_frames))
        seconds["array"].append(time.perf_counter() - started_at)
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    return {
        "num_clips_read": num_clips,
        "seconds": {way: [round(value, 4) for value in values] for way, values in seconds.items()},
        "clips_per_s": {way: round(num_clips / median, 1) for way, median in medians.items()},
        "times_longer": round(medians["here"] / medians["array"], 2),
    }


def _batches_of_array(
    preparation: Preparation, batches: list[list[int]], path: Path
) -> Callable[[], Iterator[list[np.ndarray]]]:
    """Reads batches of float16 [num_frames, num_mel_bins] out of one file, as slices."""
    kind = preparation.input_kind
    features = [features_of(preparation.train[index], kind) for batch in batches for index in batch]
    np.save(path, np.concatenate(features))
    ends = np.cumsum([len(clip) for clip in features])
    starts = [0, *ends[:-1]]
    mapped = np.load(path, mmap_mode="r")
    mapped.sum(dtype=np.float64)  # into the page cache

    def read() -> Iterator[list[np.ndarray]]:
        position = 0
        for batch in batches:
            clips = range(position, position + len(batch))
            yield [mapped[starts[clip] : ends[clip]] for clip in clips]
            position += len(batch)

    return read


def bars(results: dict[str, Any]) -> list[Bar]:
    limit = MAX_WAIT_SHARE if results["device"] == "cpu" else MAX_GPU_WAIT_SHARE
    return [Bar("share of training spent waiting", results["data_wait_share"], limit, at_least=False)]


def describe(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    bar = MAX_WAIT_SHARE if results["device"] == "cpu" else MAX_GPU_WAIT_SHARE
    rates = results["clips_per_s"]
    return "\n".join(
        [
            f"{results['model']} on {results['device']}, batches of {results['batch_size']} clips, "
            f"{results['num_workers']} worker beside {results['num_threads']} threads, "
            f"{results['num_steps']} steps: {results['trained_utterances_per_s']:.0f} clips/s, of its time "
            f"{results['data_wait_share']:.2%} waiting for data (should be below {bar:.0%}; in the first of "
            f"{_NUM_LOG_ENTRIES} parts, with the worker's start, {results['data_wait_share_at_first']:.2%})",
            f"reading and collating alone, texts and tokens included: {rates['here']:.0f} clips/s; features "
            f"alone out of one array in the page cache: {rates['array']:.0f} clips/s; "
            f"{results['times_longer']:.2f} times as long",
        ]
    )
