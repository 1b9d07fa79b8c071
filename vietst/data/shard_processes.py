"""Writing the missing shards of feature caches, in this process or with several.

The process that gives out the jobs moves the shards into place: while some wait for the disk, others go on.
"""

import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from vietst.data.feature_plan import CachePlan, Shard, planned_rows
from vietst.data.feature_reuse import ReusableRows, forget_opened
from vietst.data.feature_shards import ShardJob, move_into_place, real_folder, write_shard
from vietst.data.features import InputKind, load_constants
from vietst.errors import FeatureCacheError
from vietst.full_disk import full_disk_is_an_error
from vietst.runtime import keep_freed_memory, pool_size

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
                columns=plan.cached_columns,
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
    try:
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
            for num_written in (
                _write_in_processes(jobs, num_proc, kinds) if num_proc > 1 else _write_here(jobs)
            ):
                bar.update(num_written)
    finally:
        forget_opened()
        real_folder.cache_clear()


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
                moving = disk.submit(move_into_place, of_shard, partial)
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
    num_proc = pool_size(num_proc)
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
                moving.add(disk.submit(move_into_place, writing.pop(written), written.result()))
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
