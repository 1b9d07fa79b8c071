"""The file of a shard: whatever bit of it flips, it is not taken for what was written, and no traceback."""

from pathlib import Path

import numpy as np
import pyarrow

from vietst.data.shard_files import CacheRow, cache_features, is_as_written, shard_num_rows, write_shard_file

COLUMNS = ("id", "transcript", "translation")


def values_of(path: Path) -> list[list[object]]:
    with pyarrow.memory_map(str(path)) as file, pyarrow.ipc.open_stream(file) as stream:
        return [column.to_pylist() for column in stream.read_all().columns]


def test_a_flipped_bit_anywhere_is_found_or_changes_no_value(tmp_path: Path) -> None:
    path = tmp_path / "data-00000-of-00001.arrow"
    features = np.arange(6, dtype="<f2")
    rows = [CacheRow((f"u{n}", "câu", ""), "ab" * 16, 1.5, features[n:], 6 - n, -1.5) for n in range(4)]
    write_shard_file(path, COLUMNS, [rows[:2], rows[2:]])
    content, values = path.read_bytes(), values_of(path)
    assert shard_num_rows(path) == 4
    schema = cache_features(COLUMNS).arrow_schema
    assert is_as_written(path, schema)
    assert is_as_written(path, cache_features(("id", "transcript", "other")).arrow_schema) is False
    num_found = 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        num_rows, verdict = shard_num_rows(path), is_as_written(path, schema)
        if num_rows == 4 and verdict:
            assert values_of(path) == values, position
        else:
            num_found += 1
    assert num_found > len(content) / 3, "the others are padding, and what Arrow does not read"
