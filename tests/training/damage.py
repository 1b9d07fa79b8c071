"""Copies of the tiny corpus' features with damage in them, for tests of what happens then."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets

from vietst.data.duration_batches import DurationBatchSampler

BATCH_SECONDS = 16.0
"""Four clips of the nano Whisper's window of 4 s."""

BY_SECONDS = (f"training.batch_seconds={BATCH_SECONDS:g}", "training.effective_batch=null")
"""Overrides for batches that are known beforehand."""


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


def ids_of_batches(corpus: Path, *, num_processes: int, batches_per_step: int = 0) -> list[list[str]]:
    """The utterances of each batch of the first epoch, in the order in which they are dealt to the ranks.

    Holds for runs with `BY_SECONDS`.
    """
    (cache,) = (corpus / "data" / "features").glob("log_mel*")
    rows = datasets.load_from_disk(str(cache))["train"]
    sampler = DurationBatchSampler(
        rows["duration_s"][:],
        BATCH_SECONDS,
        seed=42,
        batches_per_step=batches_per_step or num_processes,
        num_processes=num_processes,
        fixed_length_s=4.0,
    )
    return [[rows[index]["id"] for index in batch] for batch in sampler]
