"""Writing the shards of a feature cache: several processes, each shard whole or not there at all.

A shard is written into a temporary file and moved into place in one step, so that a killed build leaves whole
shards and rubbish that the next build removes. Its bytes depend on the plan alone. The process that gives out
the jobs moves the shards: while some wait for the disk, others go on.
"""

import contextlib
import functools
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from vietst.data.audio import load_waveform
from vietst.data.audio_paths import resolve_below
from vietst.data.audio_pieces import Piece, locator_of, split_locator
from vietst.data.feature_plan import CachePlan, PlannedRow, Shard, cached_name, num_samples, planned_rows
from vietst.data.feature_reuse import CachedRow, ReusableRows, open_cached_split
from vietst.data.features import InputKind, extract, half_precision, load_constants
from vietst.data.shard_files import CacheRow, write_shard_file
from vietst.errors import AudioError, FeatureCacheError
from vietst.full_disk import full_disk_is_an_error
from vietst.runtime import keep_freed_memory

TEMPORARY_PREFIX: Final = ".tmp-"
_ROWS_PER_BATCH: Final = 64
"""Rows computed and written at once; `datasets`' 1000 would hold hundreds of MB in memory."""
_DISK_THREADS: Final = 4
"""Shards that are brought to the disk at once: it takes about as long for several as for one."""
_JOBS_AHEAD: Final = 2
"""Jobs at hand for each process, the running one included."""
_PARENT_CHECK_S: Final = 0.5
START_METHOD: Final = "fork" if sys.platform == "linux" else "spawn"
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
    real_root: str
    """`os.path.realpath` of the audio root."""

    @property
    def target(self) -> Path:
        """Where the shard belongs."""
        return self.cache_directory / self.shard.path_in_cache


def make_jobs(missing: Sequence[MissingShards], *, audio_root: Path) -> Iterator[list[ShardJob]]:
    """Yields for each shard the caches' jobs that write it, made when they are asked for.

    Args:
        missing: of caches of the same rows, which differ in their input kind.
    """
    plan, real_root = missing[0].plan, os.path.realpath(audio_root)
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
                real_root=real_root,
            )
            for of_cache, its_shards in zip(missing, wanted, strict=True)
            if shard in its_shards
        ]


def write_shards(
    missing: Sequence[MissingShards], *, audio_root: Path, num_proc: int, progress: bool = True
) -> None:
    """Writes the shards with `num_proc` processes (with one: in this process).

    Raises:
        FeatureCacheError: an audio file changed since it was measured, a process died, or the disk is full.
    """
    from tqdm import tqdm

    kinds = [of_cache.plan.kind for of_cache in missing]
    num_rows = sum(of_cache.num_rows for of_cache in missing)
    jobs = make_jobs(missing, audio_root=audio_root)
    description = kinds[0].name if len(kinds) == 1 else f"{len(kinds)} kinds"
    with (
        full_disk_is_an_error(
            missing[0].cache_directory.parent,
            FeatureCacheError,
            rule="the disk keeps room for the features while they are built",
            do="free some space, and run the same command again: the build continues where it stopped",
        ),
        tqdm(total=num_rows, desc=description, unit=" utterances", disable=not progress) as bar,
    ):
        # Not given a name, the generator ends as soon as an error, or Ctrl-C, leaves this loop.
        for num_written in _write_in_processes(jobs, num_proc, kinds) if num_proc > 1 else _write_here(jobs):
            bar.update(num_written)
    open_cached_split.cache_clear()
    _real_folder.cache_clear()


def _write_here(jobs: Iterator[list[ShardJob]]) -> Iterator[int]:
    """Yields the number of rows that are written, shard by shard."""
    import torch

    num_threads = torch.get_num_threads()
    keep_freed_memory()
    torch.set_num_threads(1)  # clips are short; the result is the same with more
    try:
        with threadpool_limits(1), ThreadPoolExecutor(1) as disk:
            moving: Future[int] | None = None
            for of_shard in jobs:
                partial = write_shard(of_shard)
                if moving is not None:
                    yield moving.result()
                moving = disk.submit(_move_into_place, of_shard, partial)
            if moving is not None:
                yield moving.result()
    finally:
        torch.set_num_threads(num_threads)


def _write_in_processes(
    jobs: Iterator[list[ShardJob]], num_proc: int, kinds: Sequence[InputKind]
) -> Iterator[int]:
    # Imported here, what a forked process needs is there at once.
    import datasets  # noqa: F401
    import pyarrow  # type: ignore[import-untyped]  # noqa: F401

    for kind in kinds:
        load_constants(kind)
    context = multiprocessing.get_context(START_METHOD)
    pool = ProcessPoolExecutor(
        num_proc, mp_context=context, initializer=_start_worker, initargs=(os.getpid(), kinds)
    )
    disk, is_ending = ThreadPoolExecutor(_DISK_THREADS), False
    try:
        writing: dict[Future[list[Path]], list[ShardJob]] = {}
        moving: set[Future[int]] = set()
        while True:
            # Few are made ahead: a job holds the texts of its rows.
            for of_shard in itertools.islice(jobs, _JOBS_AHEAD * num_proc - len(writing)):
                writing[pool.submit(write_shard, of_shard)] = of_shard
            if not writing and not is_ending:
                is_ending = True
                disk.submit(pool.shutdown)  # the processes end while the last shards are brought to the disk
            if not writing and not moving:
                return
            running: list[Future[Any]] = [*writing, *moving]
            wait(running, return_when=FIRST_COMPLETED)
            for written in [future for future in writing if future.done()]:
                moving.add(disk.submit(_move_into_place, writing.pop(written), written.result()))
            for moved in [future for future in moving if future.done()]:
                moving.remove(moved)
                yield moved.result()
    except BrokenProcessPool as error:
        raise FeatureCacheError(
            where="a process that builds features",
            rule="it runs until its shard is written",
            found="it was ended from outside (out of memory?)",
            do="run the same command again, with a smaller --num_proc: the build continues where it stopped",
        ) from error
    finally:
        if not is_ending:
            pool.shutdown(cancel_futures=True)
        disk.shutdown()


def _num_rows(jobs: Sequence[ShardJob]) -> int:
    return sum(len(job.rows) for job in jobs)


def _start_worker(parent_pid: int, kinds: Sequence[InputKind]) -> None:
    threadpool_limits(1)
    if any(kind.kind == "log_mel" for kind in kinds):
        import torch

        torch.set_num_threads(1)
    keep_freed_memory()
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


class _Clip(NamedTuple):
    """The audio of a row."""

    locator: str
    path: Path
    piece: Piece | None
    num_file_bytes: int
    """As it was measured."""
    num_samples: int | None
    """How much of it counts, at 16 kHz; None: all."""


LoadClip = Callable[[_Clip], np.ndarray]
"""`_load_clip`, or it with a memory."""


def write_shard(jobs: Sequence[ShardJob]) -> list[Path]:
    """Writes the same shard of several caches beside their places; each clip is decoded once.

    With several, the shard's waveforms are kept meanwhile: 77 MB for `MAX_SHARD_DURATION_S`.

    Returns:
        A file for each job, to be moved into place.
    """
    load_clip: LoadClip = functools.cache(_load_clip) if len(jobs) > 1 else _load_clip
    # All paths first and all sizes last: between two clips the same code runs from a cold cache.
    clips = _find_clips(jobs)
    partial = [_partial_file(job) for job in jobs]
    try:
        for job, file in zip(jobs, partial, strict=True):
            _compute_shard(job, clips, load_clip, file)
        _check_sizes(clips)
    except BaseException:
        for file in partial:
            file.unlink(missing_ok=True)
        raise
    return partial


def _partial_file(job: ShardJob) -> Path:
    """Where this process writes the shard. What another one left there half written is deleted."""
    target = job.target
    target.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in target.parent.glob(f"{TEMPORARY_PREFIX}{target.name}-*"):
        with contextlib.suppress(OSError):  # Windows deletes no file that somebody writes to
            abandoned.unlink()
    return target.with_name(f"{TEMPORARY_PREFIX}{target.name}-{os.getpid()}")


def _move_into_place(jobs: Sequence[ShardJob], partial: Sequence[Path]) -> int:
    """Brings written shards to the disk, and to their places. Returns their number of rows."""
    for job, file in zip(jobs, partial, strict=True):
        try:
            with file.open("rb+") as written:
                os.fsync(written.fileno())
            file.replace(job.target)
        except FileNotFoundError as error:
            raise FeatureCacheError(
                where=str(job.target),
                rule="one process writes a shard",
                found="another one took it for abandoned: the same part of the build was started twice",
                do="run the same command again, once",
            ) from error
    return _num_rows(jobs)


def _compute_shard(job: ShardJob, clips: Sequence[_Clip | None], load_clip: LoadClip, file: Path) -> None:
    rows = (
        _cache_row(row, reusable, clip, job.kind, load_clip)
        for row, reusable, clip in zip(job.rows, job.reusable, clips, strict=True)
    )
    write_shard_file(file, job.columns, iter(lambda: list(itertools.islice(rows, _ROWS_PER_BATCH)), []))


def _cache_row(
    row: PlannedRow, reusable: CachedRow | None, clip: _Clip | None, kind: InputKind, load_clip: LoadClip
) -> CacheRow:
    if reusable is not None:
        cached = open_cached_split(reusable.cache_directory, reusable.split)[reusable.index]
        values, num_frames = np.frombuffer(cached["features"], "<f2"), cached["num_frames"]
        pad_value = cached["pad_value"]
    else:
        assert clip is not None  # there is one wherever a cache has nothing to copy
        extracted = extract(load_clip(clip), kind)
        values, num_frames = half_precision(extracted.values, kind), len(extracted.values)
        pad_value = extracted.pad_value
    return CacheRow(row.columns, row.audio_digest, row.duration_s, values, num_frames, pad_value)


def _find_clips(jobs: Sequence[ShardJob]) -> list[_Clip | None]:
    """The clip of each row of the shard; None where all caches copy the features."""
    columns, real_root = jobs[0].columns, jobs[0].real_root
    return [
        _find_clip(row, columns, real_root) if None in reusable else None
        for row, *reusable in zip(jobs[0].rows, *(job.reusable for job in jobs), strict=True)
    ]


_real_folder: Final = functools.lru_cache(maxsize=4096)(os.path.realpath)


def _find_clip(row: PlannedRow, columns: Sequence[str], real_root: str) -> _Clip:
    locator = locator_of(dict(zip(columns, row.columns, strict=True)))
    audio_path, piece = split_locator(locator)
    try:
        path = Path(resolve_below(real_root, audio_path, _real_folder))
    except AudioError as error:
        raise _changed_audio(locator, f"{error.code}: {error.found}") from error
    num_counted = num_samples(row.duration_s) if row.is_cut else None
    return _Clip(locator, path, piece, row.num_audio_bytes, num_counted)


def _load_clip(clip: _Clip) -> np.ndarray:
    """As much of the waveform as counts: float32 [num_samples] at 16 kHz."""
    try:
        return load_waveform(clip.path, clip.piece)[: clip.num_samples]
    except AudioError as error:
        raise _changed_audio(clip.locator, f"{error.code}: {error.found}") from error


def _check_sizes(clips: Iterable[_Clip | None]) -> None:
    for clip in filter(None, clips):
        try:
            is_as_measured = clip.path.stat().st_size == clip.num_file_bytes
        except OSError:
            is_as_measured = False
        if not is_as_measured:
            raise _changed_audio(clip.locator, "a file of another size, or none")


def _changed_audio(locator: str, found: str) -> FeatureCacheError:
    return FeatureCacheError(
        where=locator,
        rule="the audio stays as it was measured while features are built",
        found=found,
        do="run the same command again; if the file is broken, scripts/preprocess_manifest.py first",
    )
