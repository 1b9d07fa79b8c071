"""Runs whose batches are known beforehand, and what the log must say about these batches."""

from pathlib import Path

import datasets
import pytest

from vietst.data.duration_batches import DurationBatchSampler

BATCH_SECONDS = 16.0
"""Four clips of the nano Whisper's window of 4 s."""

BY_SECONDS = (f"training.batch_seconds={BATCH_SECONDS:g}", "training.effective_batch=null")
"""Overrides of `nano_whisper` for which `ids_of_batches` holds."""

WINDOW_FRAMES = 200  # the nano front end: 4 s in hops of 20 ms


def ids_of_batches(corpus: Path, *, num_processes: int, batches_per_step: int = 0) -> list[list[str]]:
    """The utterances of each batch of the first epoch, in the order in which they are dealt to the ranks."""
    rows = _training_rows(corpus)
    sampler = DurationBatchSampler(
        rows["duration_s"][:],
        BATCH_SECONDS,
        seed=42,
        batches_per_step=batches_per_step or num_processes,
        num_processes=num_processes,
        fixed_length_s=4.0,
    )
    return [[rows[index]["id"] for index in batch] for batch in sampler]


def assert_figures(entry: dict[str, float], corpus: Path, batches: list[list[str]]) -> None:
    """The throughput in a log entry is that of these batches. Their time cancels out."""
    by_id = {row["id"]: row for row in _training_rows(corpus)}
    rows = [by_id[name] for batch in batches for name in batch]
    audio_s = sum(row["duration_s"] for row in rows)
    num_frames = sum(row["num_frames"] for row in rows)
    assert entry["utterances_per_s"] / entry["audio_s_per_s"] == pytest.approx(len(rows) / audio_s, rel=1e-6)
    assert entry["padding_share"] == pytest.approx(1 - num_frames / (len(rows) * WINDOW_FRAMES), rel=1e-12)


def _training_rows(corpus: Path) -> datasets.Dataset:
    (cache,) = (corpus / "data" / "features").glob("log_mel*")
    return datasets.load_from_disk(str(cache))["train"]
