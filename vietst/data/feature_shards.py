"""Writing the shards of a feature cache: several processes, each shard whole or not there at all.

A shard is written by `datasets`' `map` into a temporary folder and moved into place in one step, so that a
killed build leaves whole shards and rubbish that the next build removes. Its bytes depend on the plan alone.
"""

import contextlib
import functools
import itertools
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vietst.data.audio import load_waveform
from vietst.data.audio_paths import resolve_audio_path
from vietst.data.feature_plan import CachePlan, PlannedRow, Shard, cached_name, num_samples, planned_rows
from vietst.data.feature_reuse import CachedRow, ReusableRows, open_cached_split
from vietst.data.features import InputKind, extract, load_constants
from vietst.errors import AudioError, FeatureCacheError

if TYPE_CHECKING:
    import datasets
    import pyarrow  # type: ignore[import-untyped]

TEMPORARY_PREFIX: Final = ".tmp-"
_ROWS_PER_BATCH: Final = 64
"""Rows computed and written at once; `datasets`' 1000 would hold hundreds of MB in memory."""
_JOBS_AHEAD: Final = 2
"""Jobs at hand for each process, the running one included."""
_PARENT_CHECK_S: Final = 0.5
_START_METHOD: Final = "fork" if sys.platform == "linux" else "spawn"
"""As `datasets`' own `map`: forked processes begin at once, with everything imported."""


@dataclass(frozen=True)
class MissingShards:
    """What is to be written of one cache."""

    plan: CachePlan
    cache_directory: Path
    shards: list[Shard]
    """In the plan's order."""
    reusable: ReusableRows

    @property
    def num_rows(self) -> int:
        return sum(shard.stop - shard.start for shard in self.shards)


@dataclass(frozen=True)
class ShardJob:
    """All that one process needs to write one shard of one cache."""

    cache_directory: Path
    shard: Shard
    kind: InputKind
    columns: tuple[str, ...]
    rows: list[PlannedRow]
    reusable: list[CachedRow | None]
    """One per row: copied from there instead of computed."""
    audio_root: Path
    fingerprint: str


def make_jobs(missing: Sequence[MissingShards], *, audio_root: Path) -> Iterator[list[ShardJob]]:
    """Yields for each shard the caches' jobs that write it, made when they are asked for.

    Args:
        missing: of caches of the same rows, which differ in their input kind.
    """
    plan = missing[0].plan
    wanted = [frozenset(of_cache.shards) for of_cache in missing]
    for shard, rows in planned_rows(
        plan, [shard for shard in plan.shards if any(shard in w for w in wanted)]
    ):
        yield [
            ShardJob(
                cache_directory=of_cache.cache_directory,
                shard=shard,
                kind=of_cache.plan.kind,
                columns=tuple(cached_name(column) for column in plan.columns),
                rows=rows,
                reusable=of_cache.reusable.find(plan.numbers_of(shard)),
                audio_root=audio_root,
                fingerprint=f"{of_cache.plan.key}{shard.split}{shard.index}",
            )
            for of_cache, its_shards in zip(missing, wanted, strict=True)
            if shard in its_shards
        ]


def write_shards(
    missing: Sequence[MissingShards], *, audio_root: Path, num_proc: int, progress: bool = True
) -> None:
    """Writes the shards with `num_proc` processes (with one: in this process).

    Raises:
        FeatureCacheError: an audio file changed since it was measured, or a process died.
    """
    from tqdm import tqdm

    kinds = [of_cache.plan.kind for of_cache in missing]
    num_rows = sum(of_cache.num_rows for of_cache in missing)
    jobs = make_jobs(missing, audio_root=audio_root)
    description = kinds[0].name if len(kinds) == 1 else f"{len(kinds)} kinds"
    with tqdm(total=num_rows, desc=description, unit=" utterances", disable=not progress) as bar:
        for num_written in _write_in_processes(jobs, num_proc, kinds) if num_proc > 1 else _write_here(jobs):
            bar.update(num_written)
    open_cached_split.cache_clear()


def _write_here(jobs: Iterator[list[ShardJob]]) -> Iterator[int]:
    """Yields the number of rows that are written, shard by shard."""
    import torch

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # clips are short; the result is the same with more
    try:
        for of_shard in jobs:
            write_shard(of_shard)
            yield _num_rows(of_shard)
    finally:
        torch.set_num_threads(num_threads)


def _write_in_processes(
    jobs: Iterator[list[ShardJob]], num_proc: int, kinds: Sequence[InputKind]
) -> Iterator[int]:
    # Imported here, what a forked process needs is there at once.
    import datasets  # noqa: F401

    for kind in kinds:
        load_constants(kind)
    context = multiprocessing.get_context(_START_METHOD)
    pool = ProcessPoolExecutor(
        num_proc, mp_context=context, initializer=_start_worker, initargs=(os.getpid(), kinds)
    )
    try:
        running: dict[Future[None], int] = {}
        while True:
            # Few are made ahead: a job holds the texts of its rows.
            for of_shard in itertools.islice(jobs, _JOBS_AHEAD * num_proc - len(running)):
                running[pool.submit(write_shard, of_shard)] = _num_rows(of_shard)
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
                yield running.pop(future)
    except BrokenProcessPool as error:
        raise FeatureCacheError(
            where="a process that builds features",
            rule="it runs until its shard is written",
            found="it was ended from outside (out of memory?)",
            do="run the same command again, with a smaller --num_proc: the build continues where it stopped",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _num_rows(jobs: Sequence[ShardJob]) -> int:
    return sum(len(job.rows) for job in jobs)


def _start_worker(parent_pid: int, kinds: Sequence[InputKind]) -> None:
    if any(kind.kind == "log_mel" for kind in kinds):
        import torch

        torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_die_with_parent, args=(parent_pid,), daemon=True).start()


def _die_with_parent(parent_pid: int) -> None:
    """Ends this process when its parent is gone, so that a killed build leaves nobody writing."""
    parent = multiprocessing.parent_process()
    # A forked process learns of a killed parent by its new parent's id; Windows keeps the old id.
    while os.getppid() == parent_pid and (parent is None or parent.is_alive()):
        time.sleep(_PARENT_CHECK_S)
    os._exit(1)


# --- one shard --------------------------------------------------------------------------------------------


LoadRow = Callable[[Path, PlannedRow, str], np.ndarray]
"""`_load_row`, or it with a memory."""


def write_shard(jobs: Sequence[ShardJob]) -> None:
    """Writes the same shard of several caches; each clip is decoded once.

    With several, the shard's waveforms are kept meanwhile: 77 MB for `MAX_SHARD_DURATION_S`.
    """
    load_row: LoadRow = functools.cache(_load_row) if len(jobs) > 1 else _load_row
    for job in jobs:
        _write_shard(job, load_row)


def _write_shard(job: ShardJob, load_row: LoadRow) -> None:
    """Computes one shard and moves it to its place in the cache."""
    target = job.cache_directory / job.shard.path_in_cache
    target.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in target.parent.glob(f"{TEMPORARY_PREFIX}{target.name}-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    folder = target.parent / f"{TEMPORARY_PREFIX}{target.name}-{os.getpid()}"
    folder.mkdir()
    try:
        file = folder / target.name
        _compute_shard(job, load_row, file)
        with file.open("rb+") as written:
            os.fsync(written.fileno())
        file.replace(target)
    except FileNotFoundError as error:
        if folder.is_dir():
            raise
        raise FeatureCacheError(
            where=str(target),
            rule="one process writes a shard",
            found="another one took it for abandoned: the same part of the build was started twice",
            do="run the same command again, once",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _compute_shard(job: ShardJob, load_row: LoadRow, file: Path) -> None:
    import datasets

    features = cache_features(job.columns)
    audio_paths = [row.columns[job.columns.index("audio_path")] for row in job.rows]
    with _quiet_map():
        datasets.Dataset.from_dict({"audio_path": audio_paths}).map(
            functools.partial(_compute_batch, job=job, load_row=load_row, schema=features.arrow_schema),
            with_indices=True,
            batched=True,
            batch_size=_ROWS_PER_BATCH,
            writer_batch_size=_ROWS_PER_BATCH,
            features=features,
            cache_file_name=str(file),
            load_from_cache_file=False,
            new_fingerprint=job.fingerprint,
        )
    if os.name == "nt":
        # Windows moves no file that is still mapped into memory.
        import gc

        gc.collect()


def cache_features(columns: Sequence[str]) -> "datasets.Features":
    """Types of the cached columns: strings, then what was computed."""
    from datasets import Features, Value

    return Features(
        {column: Value("string") for column in columns}
        | {
            "audio_digest": Value("string"),
            "duration_s": Value("float64"),
            "features": Value("binary"),
            "num_frames": Value("int32"),
            "pad_value": Value("float32"),
        }
    )


@contextlib.contextmanager
def _quiet_map() -> Iterator[None]:
    """Without `map`'s own bar per shard."""
    import datasets

    was_disabled = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not was_disabled:
            datasets.enable_progress_bars()


def _compute_batch(
    batch: Any, indices: list[int], *, job: ShardJob, load_row: LoadRow, schema: "pyarrow.Schema"
) -> "pyarrow.Table":
    """The function given to `map`: rows `indices` of the shard as a table of the cache's columns."""
    import pyarrow

    rows = [job.rows[index] for index in indices]
    computed = [
        _features_of_row(row, audio_path, reusable, job, load_row)
        for row, audio_path, reusable in zip(
            rows, batch["audio_path"], (job.reusable[index] for index in indices), strict=True
        )
    ]
    values, num_frames, pad_values = zip(*computed, strict=True)
    columns = [list(column) for column in zip(*(row.columns for row in rows), strict=True)]
    digests, durations = [row.audio_digest for row in rows], [row.duration_s for row in rows]
    return pyarrow.Table.from_arrays(
        [
            pyarrow.array(column, field.type)
            for column, field in zip(
                [*columns, digests, durations, values, num_frames, pad_values], schema, strict=True
            )
        ],
        schema=schema,
    )


def _features_of_row(
    row: PlannedRow, audio_path: str, reusable: CachedRow | None, job: ShardJob, load_row: LoadRow
) -> tuple[bytes, int, float]:
    """Half-precision little-endian features, number of frames, padding value."""
    if reusable is not None:
        cached = open_cached_split(reusable.cache_directory, reusable.split)[reusable.index]
        return cached["features"], cached["num_frames"], cached["pad_value"]
    extracted = extract(load_row(job.audio_root, row, audio_path), job.kind)
    values = extracted.values.astype("<f2")
    return values.tobytes(), len(values), float(np.float32(extracted.pad_value))


def _load_row(audio_root: Path, row: PlannedRow, audio_path: str) -> np.ndarray:
    """As much of the waveform as counts: float32 [num_samples] at 16 kHz."""
    try:
        path = resolve_audio_path(audio_root, audio_path)
        waveform = load_waveform(path)
        is_as_measured = path.stat().st_size == row.num_audio_bytes
    except AudioError as error:
        raise _changed_audio(audio_path, f"{error.code}: {error.found}") from error
    if not is_as_measured:
        raise _changed_audio(audio_path, "a file of another size")
    return waveform[: num_samples(row.duration_s)] if row.is_cut else waveform


def _changed_audio(audio_path: str, found: str) -> FeatureCacheError:
    return FeatureCacheError(
        where=audio_path,
        rule="the audio stays as it was measured while features are built",
        found=found,
        do="run the same command again; if the file is broken, scripts/preprocess_manifest.py first",
    )


def shard_num_rows(path: Path) -> int | None:
    """Rows of a written shard; None if there is none, or not a whole one. Reads no values."""
    import pyarrow

    try:
        with pyarrow.memory_map(os.fspath(path)) as file, pyarrow.ipc.open_stream(file) as stream:
            return sum(batch.num_rows for batch in stream)
    except (OSError, pyarrow.ArrowInvalid):
        return None
