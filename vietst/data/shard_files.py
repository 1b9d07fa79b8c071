"""The file of one shard of a cache: an Arrow stream that `datasets.load_from_disk` maps into memory.

It is what the writer of `datasets` leaves, but for a fingerprint in the schema that nothing reads. Written
here, the features are copied once on their way, and the schema is made once for all shards. Each batch has a
checksum of its values, in its metadata: a disk or a copy may change them, and nothing else tells.
"""

import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from vietst.runtime import get_logger

if TYPE_CHECKING:
    import datasets
    import pyarrow  # type: ignore[import-untyped]


_CHECKSUM: Final = b"xxh3_64"

logger = get_logger(__name__)


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
            write_batch(stream, _record_batch(rows, schema))


def write_batch(stream: "pyarrow.RecordBatchStreamWriter", batch: "pyarrow.RecordBatch") -> None:
    """Writes a batch with its checksum, which `is_as_written` compares."""
    stream.write_batch(batch, custom_metadata={_CHECKSUM: _checksum(batch)})


def shard_num_rows(path: Path) -> int | None:
    """Rows of a written shard; None if there is none, or not a whole one. Reads no values."""
    import pyarrow

    try:
        with pyarrow.memory_map(os.fspath(path)) as file, pyarrow.ipc.open_stream(file) as stream:
            return sum(batch.num_rows for batch in stream)
    except (OSError, ValueError, pyarrow.ArrowException):
        return None


def is_as_written(path: Path, schema: "pyarrow.Schema") -> bool | None:
    """Whether a shard holds the values that were written; None: it has no checksums. Reads all of it.

    Args:
        schema: that it should have, by which its bytes are read.
    """
    import pyarrow

    checksums = []
    try:
        with pyarrow.memory_map(os.fspath(path)) as file, pyarrow.ipc.open_stream(file) as stream:
            if not stream.schema.equals(schema):
                return False
            for batch, metadata in stream.iter_batches_with_custom_metadata():
                batch.validate(full=True)  # lengths that point out of the file
                written = None if metadata is None else metadata.get(_CHECKSUM)
                checksums.append((written, _checksum(batch)))
    except (OSError, ValueError, pyarrow.ArrowException):
        return False
    if all(written is None for written, _ in checksums):
        return None
    return all(written == found for written, found in checksums)


def delete_changed(shards: Sequence[Path], schema: "pyarrow.Schema", name: str) -> int:
    """Deletes what a disk or a copy has changed; whoever builds the cache finds it missing. Reads all values.

    Args:
        schema: of the cache.
        name: of the cache, for the log.

    Returns:
        How many were deleted.
    """
    verdicts = [is_as_written(path, schema) for path in shards]
    for path, verdict in zip(shards, verdicts, strict=True):
        if verdict is False:
            logger.warning("other values than were written, to be built again: %s", path)
            path.unlink()
    logger.info(
        "%s: %d of %d shards hold what was written; %d are older than the checksums that tell it",
        *(name, verdicts.count(True), len(shards), verdicts.count(None)),
    )
    return verdicts.count(False)


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


def _checksum(batch: "pyarrow.RecordBatch") -> bytes:
    """Of all values, as Arrow holds them: numbers, or the ends of strings and then their bytes."""
    from xxhash import xxh3_64

    hasher = xxh3_64()
    for column in batch.columns:
        _, numbers, *strings = column.buffers()
        num_bytes = (len(column) + 1) * 4 if strings else column.nbytes
        hasher.update(numbers[:num_bytes])  # a file has zeros behind them
        for content in strings:
            ends = np.frombuffer(numbers, np.int32, len(column) + 1)
            hasher.update(content[: int(ends[-1])])
    return hasher.hexdigest().encode()


def _as_binary(features: Sequence[np.ndarray]) -> "pyarrow.Array":
    """Each array's bytes as one value."""
    import pyarrow

    ends = np.cumsum([0, *(values.nbytes for values in features)], dtype=np.int32)
    content = np.concatenate([values.reshape(-1) for values in features])
    buffers = [None, pyarrow.py_buffer(ends), pyarrow.py_buffer(content)]
    return pyarrow.Array.from_buffers(pyarrow.binary(), len(features), buffers)
