"""Copies of the tiny corpus' features with damage in them, for tests of what happens then."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets


def damaged_copy(
    corpus: Path, folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]], ids: set[str]
) -> Path:
    """A features folder whose training rows `ids` are as `change` makes them."""
    shutil.copytree(corpus / "data" / "features", folder)
    for train in folder.glob("log_mel*/train"):
        rows = datasets.load_from_disk(str(train), keep_in_memory=True)
        assert ids <= set(rows["id"])
        num_shards = len(list(train.glob("*.arrow")))
        changed = rows.map(lambda row: change(row) if row["id"] in ids else row, keep_in_memory=True)
        changed.save_to_disk(str(train), num_shards=num_shards)
    return folder
