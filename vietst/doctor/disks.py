"""The folders that are written to: is there room, and may this user write?"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vietst.doctor.findings import Finding, Status

LITTLE_SPACE_BYTES = int(20e9)
"""A checkpoint of Whisper medium with AdamW's state has 9 GB; while one is replaced, two are there."""

NO_SPACE_BYTES = int(1e9)
"""Not even the smallest base model with its checkpoints fits."""

SMALL_SHARED_MEMORY_BYTES = int(1e9)
"""Data workers hand over their batches there; containers begin with 64 MB, which a few batches fill."""


def check_folders() -> Iterator[Finding]:
    for name in ("outputs", "data"):
        yield check_folder(f"folder {name}", Path(name))


def check_hugging_face_cache() -> Iterator[Finding]:
    from huggingface_hub import constants

    yield check_folder("Hugging Face cache", Path(constants.HF_HUB_CACHE))


def check_folder(subject: str, folder: Path) -> Finding:
    """Room and permission in a folder, or where it would be made."""
    there = folder.resolve()
    while not there.exists() and there != there.parent:  # on Windows a whole drive may be missing
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Finding(
            Status.MEND,
            subject,
            f"cannot be written to: {error}",
            f"give this user the right to write in {there}",
        )
    free_bytes = shutil.disk_usage(there).free
    found = f"{free_bytes / 1e9:.1f} GB free ({folder})"
    if free_bytes < NO_SPACE_BYTES:
        return Finding(Status.MEND, subject, found, "make room, or work on another disk")
    if free_bytes < LITTLE_SPACE_BYTES:
        return Finding(
            Status.WARNING, subject, found, "enough for small models; make room before large ones are trained"
        )
    return Finding(Status.OK, subject, found)


def check_shared_memory() -> Iterator[Finding]:
    folder = Path("/dev/shm")
    if not sys.platform.startswith("linux") or not folder.is_dir():
        return
    total_bytes = shutil.disk_usage(folder).total
    found = f"{total_bytes / 1e9:.2f} GB"
    if total_bytes < SMALL_SHARED_MEMORY_BYTES:
        yield Finding(
            Status.WARNING,
            "shared memory (/dev/shm)",
            found,
            "data workers may end with a bus error: start the container with --shm-size=8g, or set "
            "dataloader.num_workers=0",
        )
    else:
        yield Finding(Status.OK, "shared memory (/dev/shm)", found)
