"""Several processes share one build through the disk alone: who writes what, and one at a time where need be.

Members are the processes of a launch (`accelerate launch`), the parts of a job array (`--shard i/n`), or both
at once. They never talk to each other: a member writes the shards that are its own by their number, takes a
lock on the disk where only one may write, and whoever finds no shard missing completes the cache. So members
may start, end and be killed in any order.
"""

import contextlib
import datetime
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vietst.errors import FeatureCacheError
from vietst.runtime import get_logger, rank, world_size

_LOCK_NAME: Final = ".build.lock"
_ROLL_CALL_TIMEOUT: Final = datetime.timedelta(minutes=10)

logger = get_logger(__name__)


@dataclass(frozen=True)
class BuildMember:
    """One of the processes that share a build."""

    part: int = 1
    """Of the job array, counted from 1."""
    num_parts: int = 1
    rank: int = 0
    """Of the launch, counted from 0."""
    num_ranks: int = 1

    @classmethod
    def of_this_process(cls, part: int = 1, num_parts: int = 1) -> "BuildMember":
        """The member that this process is, by its launcher's environment."""
        return cls(part, num_parts, rank(), world_size())

    def owns(self, shard_number: int) -> bool:
        """Whether this process writes the shard of this number in the plan."""
        return self._owner(shard_number) == (self.part, self.rank)

    def part_that_owns(self, shard_number: int) -> int:
        """The part of the job array that writes a shard."""
        return self._owner(shard_number)[0]

    def _owner(self, shard_number: int) -> tuple[int, int]:
        part, rank = divmod(shard_number % (self.num_parts * self.num_ranks), self.num_ranks)
        return part + 1, rank


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """No other process, on any machine that shares the disk, is inside this block for the same folder.

    The lock of a killed process is free at once.

    Raises:
        FeatureCacheError: nothing can be written there.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / _LOCK_NAME)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        logger.info("another process prepares the build in %s; waiting for it", folder)
        lock.acquire()
    except OSError as error:
        raise FeatureCacheError(
            where=str(folder),
            rule="features are built into a folder that can be written to",
            found=str(error),
            do="set paths.features_dir to another one",
        ) from error
    try:
        yield
    finally:
        lock.release()


def require_shared_disk(folder: Path) -> None:
    """Makes sure that all processes of this launch see the same folder. Starts no process group.

    Raises:
        FeatureCacheError: they do not.
    """
    if world_size() == 1:
        return
    from torch.distributed import rendezvous

    # The launcher's own key-value store, through which processes usually form a group.
    store, _, _ = next(rendezvous("env://", timeout=_ROLL_CALL_TIMEOUT))
    folder.mkdir(parents=True, exist_ok=True)
    if rank() == 0:
        sign = folder / f".sign-{secrets.token_hex(8)}"
        sign.touch()
        store.set("vietst/sign", sign.name)
    else:
        sign = folder / os.fsdecode(store.get("vietst/sign"))
        store.set(f"vietst/sees/{rank()}", "yes" if sign.is_file() else "no")
    # The first one may hold the store itself, so it waits for all, and the others only speak for themselves.
    asked = range(1, world_size()) if rank() == 0 else [rank()]
    blind = [other for other in asked if store.get(f"vietst/sees/{other}") != b"yes"]
    if rank() == 0:
        sign.unlink()
    if blind:
        raise FeatureCacheError(
            where=f"paths.features_dir {folder}",
            rule="all processes that share a build see the same folder",
            found=f"rank {', '.join(map(str, blind))} of {world_size()} does not see what rank 0 writes",
            do="set paths.features_dir to a disk that all machines share, or build on one machine",
        )
