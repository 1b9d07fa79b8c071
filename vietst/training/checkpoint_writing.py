"""Writing checkpoints so that none is ever half there: not after a kill, a crash, or on a full disk.

A checkpoint is written in a folder of its own, flushed to the disk when all processes are done, and then
takes its name `checkpoint-N` in one step. Until then its forerunners stay. What a process that ends in
between leaves behind has other names, and is removed when the run goes on. The run folder must be on a file
system that all machines of the run share.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from vietst.errors import CheckpointError, VietstError
from vietst.full_disk import is_full_disk
from vietst.training.checkpoints import complete_checkpoints, files_of

_BEING_WRITTEN = "checkpoint.partial"
_BEING_DELETED = "checkpoint.deleted"
_BEING_RESHARED = "checkpoint.reshared"

_PYTORCHS_WORDS = ("PytorchStreamWriter failed", "file write failed", "iostream error", "unexpected pos")
"""Its exceptions do not hold the system's words."""


def partial_folder(run_dir: Path) -> Path:
    """The folder inside which `checkpoint-N` is written."""
    return run_dir / _BEING_WRITTEN


def resharing_folder(run_dir: Path) -> Path:
    """The folder for a copy of a checkpoint that is shared out anew, see `vietst.training.resharing`."""
    return run_dir / _BEING_RESHARED


def remove_leftovers(run_dir: Path) -> None:
    """Remove what an earlier process did not finish to write, delete or share out."""
    for name in (_BEING_WRITTEN, _BEING_DELETED, _BEING_RESHARED):
        if (run_dir / name).exists():
            shutil.rmtree(run_dir / name)


def publish(written: Path, run_dir: Path) -> Path:
    """Give a finished checkpoint its place in the run folder.

    Args:
        written: `checkpoint-N` in `partial_folder`; no process writes to it any more.
    """
    flush_to_disk(written)
    final = run_dir / written.name
    if final.exists():
        _delete(final)  # one that lacks something, else the run would have started from it
    written.rename(final)
    _flush_folder(run_dir)
    shutil.rmtree(written.parent)
    return final


def delete_old(run_dir: Path, keep: int | None, best: Path | None) -> None:
    """Keep the newest `keep` complete checkpoints (None: all), and the best one whatever its age."""
    checkpoints = complete_checkpoints(run_dir)
    if keep is None:
        return
    kept = {checkpoints[-1].name, *([best.name] if best is not None and best.parent == run_dir else [])}
    surplus = len(checkpoints) - max(keep, len(kept))
    for checkpoint in [path for path in checkpoints if path.name not in kept][: max(surplus, 0)]:
        _delete(checkpoint)


def _delete(checkpoint: Path) -> None:
    # It loses its name first: nobody must find it while half of it is gone.
    moved = checkpoint.parent / _BEING_DELETED / checkpoint.name
    moved.parent.mkdir(exist_ok=True)
    checkpoint.rename(moved)
    shutil.rmtree(moved.parent)


# --- the disk ----------------------------------------------------------------------------------------


def flush_to_disk(folder: Path) -> None:
    """Have the system write a folder's files and names to the disk, so that a power cut loses nothing."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            _flush_folder(path)
        elif path.is_file():
            _flush(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    if os.name != "nt":  # Windows does not open folders, and has no need to
        _flush(folder, os.O_RDONLY)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_space(run_dir: Path) -> None:
    """Refuse to begin a checkpoint for which the disk has no room, going by the size of the last one.

    Raises:
        CheckpointError: too little space.
    """
    existing = complete_checkpoints(run_dir)
    if not existing:
        return
    needed, free = sum(files_of(existing[-1]).values()), shutil.disk_usage(run_dir).free
    if needed > free:
        raise _disk_full(
            run_dir, f"{free / 1e9:.2f} GB free, and {existing[-1].name} has {needed / 1e9:.2f} GB"
        )


@contextlib.contextmanager
def full_disk_is_an_error(run_dir: Path) -> Iterator[None]:
    """Say clearly that the disk is full where the block fails for that, and remove what it left.

    Raises:
        CheckpointError: a file could not be written because there is no room.
    """
    try:
        yield
    except VietstError:
        raise  # has been said
    except Exception as error:
        if not is_full_disk(error) and not any(word in str(error) for word in _PYTORCHS_WORDS):
            raise
        with contextlib.suppress(OSError):
            remove_leftovers(run_dir)
        raise _disk_full(run_dir, str(error).splitlines()[0]) from error


def _disk_full(run_dir: Path, found: str) -> CheckpointError:
    existing = complete_checkpoints(run_dir)
    last = f"{existing[-1].name} is complete" if existing else "there is none yet"
    return CheckpointError(
        where=f"saving in {run_dir}",
        rule="room for one more checkpoint than are kept (training.save_total_limit)",
        found=found,
        do=f"make room and go on with --resume (of the checkpoints, {last}); fewer are kept with "
        "training.save_total_limit=1",
    )
