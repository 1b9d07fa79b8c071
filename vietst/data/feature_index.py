"""What is known of a cache's rows but their features, and where these lie: to read single rows from afar.

    log_mel-80-3f9c0a51d2e47b86/rows/train.arrow …

A file has the columns of the cache without `features`, and instead of them `shard` (int32: number of the
split's file) and `offset` (int64: where the row's features begin in it, in bytes). Shards are not compressed,
so these bytes are the features as they are.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from vietst.errors import FeatureCacheError

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

INDEX_FOLDER: Final = "rows"
PLACE_COLUMNS: Final = ("shard", "offset")


def index_path(split: str) -> str:
    """Where a split's index lies in its cache's folder."""
    return f"{INDEX_FOLDER}/{split}.arrow"


def write_index(cache_directory: Path, split: str, path: Path) -> None:
    """Writes the index of a finished cache's split."""
    import pyarrow

    shards = sorted((cache_directory / split).glob("data-*.arrow"))
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = None
    with path.open("wb") as file:
        for number, shard in enumerate(shards):
            for batch in _indexed_batches(shard, number):
                writer = writer or pyarrow.ipc.new_stream(file, batch.schema)
                writer.write_batch(batch)
        if writer is not None:
            writer.close()


def _indexed_batches(shard: Path, number: int) -> Iterator["pyarrow.RecordBatch"]:
    import pyarrow

    with pyarrow.memory_map(os.fspath(shard)) as file:
        content = file.read_buffer()
        for batch in pyarrow.ipc.open_stream(content):
            features = batch.column("features")
            _, value_offsets, values = features.buffers()
            starts = np.frombuffer(value_offsets, np.int32)[features.offset : features.offset + len(features)]
            offsets = starts.astype(np.int64) + (values.address - content.address)
            first = int(offsets[0])
            if content[first : first + len(features[0].as_buffer())] != features[0].as_buffer():
                raise FeatureCacheError(
                    where=str(shard),
                    rule="features lie in the file as they are",
                    found="other bytes (a compressed file?)",
                    do="build the cache again",
                )
            known = batch.drop_columns(["features"])
            columns = [*known.columns, np.full(len(offsets), number, np.int32), offsets]
            schema = known.schema.remove_metadata()
            for name, kind in zip(PLACE_COLUMNS, (pyarrow.int32(), pyarrow.int64()), strict=True):
                schema = schema.append(pyarrow.field(name, kind))
            yield pyarrow.RecordBatch.from_arrays(
                [pyarrow.array(column) for column in columns], schema=schema
            )
