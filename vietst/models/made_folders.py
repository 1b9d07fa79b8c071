"""Folders of models that are made here: complete or not at all, never in the place of other files."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from vietst.errors import ModelError


@contextlib.contextmanager
def made_folder(folder: Path, card_name: str, otherwise: str) -> Iterator[Path]:
    """A folder to build in, which takes the place of `folder` when all is done.

    Args:
        card_name: the file in it that tells what it was made of, and that it was made here.
        otherwise: what to do where something else lies there, for the error's text.

    Raises:
        ModelError: `folder` is a file, or holds something that was not made here, which would be lost.
    """
    folder = folder.resolve()
    require_place(folder, card_name, otherwise)
    building = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        yield building
        shutil.rmtree(folder, ignore_errors=True)
        building.replace(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def require_place(folder: Path, card_name: str, otherwise: str) -> None:
    """What `made_folder` asks for, before there is anything to put there.

    Raises:
        ModelError: as `made_folder`.
    """
    if folder.exists() and not folder.is_dir():
        raise ModelError(
            where=str(folder),
            rule="a folder, or a name that is free: a model is about to be made there",
            found="a file",
            do=otherwise,
        )
    if not (folder / card_name).is_file() and folder.exists() and any(folder.iterdir()):
        raise ModelError(
            where=f"folder {folder}",
            rule="empty, or made here before: a model is about to be made there",
            found=f"other files, such as {min(path.name for path in folder.iterdir())}, and no {card_name}",
            do=otherwise,
        )
