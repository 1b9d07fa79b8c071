"""One training at a time in a run folder: two would write each other's checkpoints over."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from vietst.errors import VietstError
from vietst.runtime import get_logger, rank

LOCK_NAME: Final = ".training.lock"

logger = get_logger(__name__)


@contextlib.contextmanager
def sole_training(run_dir: Path) -> Iterator[None]:
    """No other training, on any machine that shares the disk, is inside this block for the same run folder.

    Rank 0 holds the lock for all processes; that of a killed one is free at once, also while data loaders'
    workers live on (filelock 3.30 closes it in forked processes).

    Raises:
        VietstError: another training writes into the folder, or nobody may.
    """
    if rank() != 0:
        yield
        return
    from filelock import FileLock, Timeout

    lock = FileLock(run_dir / LOCK_NAME)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise VietstError(
            where=f"run folder {run_dir}",
            rule="one training at a time writes there",
            found="another one that is running",
            do="wait for it or stop it, or name another folder: output.dir=outputs/NAME",
        ) from None
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise VietstError(
            where=f"run folder {run_dir}",
            rule="a folder, or room for one, where the training may write",
            found=str(error),
            do="name another folder: output.dir=outputs/NAME",
        ) from error
    except (OSError, NotImplementedError) as error:  # the second is what filelock raises on such disks
        logger.warning("the disk of %s has no locks (%s): start no second training there", run_dir, error)
    try:
        yield
    finally:
        lock.release()
