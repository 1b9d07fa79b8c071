"""The file of one shard of a feature cache: an Arrow stream that `datasets.load_from_disk` maps into memory.

It is what the writer of `datasets` leaves, but for a fingerprint in the schema that nothing reads. Written
here, the features are copied once on their way, and the schema is made once for all shards.
"""

import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import datasets
    import pyarrow  # type: ignore[import-untyped]


class CacheRow(NamedTuple):
    """A row of the cache, in the order of its columns."""

    strings: tuple[str, ...]
    """Of the splits' columns."""
    audio_digest: str
    duration_s: float
    features: np.ndarray
    """Little-endian float16 of any shape."""
    num_frames: int
    pad_value: float


def write_shard_file(path: Path, columns: tuple[str, ...], batches: Iterable[Sequence[CacheRow]]) -> None:
    """Writes the rows batch by batch; more than one batch is never in memory.

    Args:
        columns: the string columns, by the cache's names for them.
    """
    import pyarrow

    schema = _schema(columns)
    with path.open("wb") as file, pyarrow.ipc.new_stream(file, schema) as stream:
        for rows in batches:
            stream.write_batch(_record_batch(rows, schema))


def shard_num_rows(path: Path) -> int | None:
    """Rows of a written shard; None if there is none, or not a whole one. Reads no values."""
    import pyarrow

    try:
        with pyarrow.memory_map(os.fspath(path)) as file, pyarrow.ipc.open_stream(file) as stream:
            return sum(batch.num_rows for batch in stream)
    except (OSError, pyarrow.ArrowInvalid):
        return None


def cache_features(columns: Sequence[str]) -> "datasets.Features":
    """Types of the cached columns: strings, then what was computed."""
    from datasets import Features, Value

    return Features(
        {column: Value("string") for column in columns}
        | {
            "audio_digest": Value("string"),
            "duration_s": Value("float64"),
            "features": Value("binary"),
            "num_frames": Value("int32"),
            "pad_value": Value("float32"),
        }
    )


@functools.lru_cache(maxsize=8)
def _schema(columns: tuple[str, ...]) -> "pyarrow.Schema":
    return cache_features(columns).arrow_schema


def _record_batch(rows: Sequence[CacheRow], schema: "pyarrow.Schema") -> "pyarrow.RecordBatch":
    import pyarrow

    strings, *computed = zip(*rows, strict=True)
    columns = [*zip(*strings, strict=True), *computed]
    arrays = [
        _as_binary(values) if field.name == "features" else pyarrow.array(values, field.type)
        for values, field in zip(columns, schema, strict=True)
    ]
    return pyarrow.RecordBatch.from_arrays(arrays, schema=schema)


def _as_binary(features: Sequence[np.ndarray]) -> "pyarrow.Array":
    """Each array's bytes as one value."""
    import pyarrow

    ends = np.cumsum([0, *(values.nbytes for values in features)], dtype=np.int32)
    content = np.concatenate([values.reshape(-1) for values in features])
    buffers = [None, pyarrow.py_buffer(ends), pyarrow.py_buffer(content)]
    return pyarrow.Array.from_buffers(pyarrow.binary(), len(features), buffers)
