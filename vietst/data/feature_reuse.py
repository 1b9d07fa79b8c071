"""Features that another cache holds already, found by the audio's content: copied, not computed again."""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from vietst.constants import SPLITS
from vietst.data.shard_files import is_as_written, shard_num_rows
from vietst.runtime import get_logger

if TYPE_CHECKING:
    import datasets

logger = get_logger(__name__)

_KEY: Final = np.dtype([("audio_digest", "S32"), ("duration_s", "<f8")])
"""Features are equal where the audio is, and as much of it counts."""


@dataclass(frozen=True)
class CachedRow:
    """Where the features of an audio file already lie: in a row of another cache."""

    cache_directory: Path
    split: str
    index: int


class ReusableRows:
    """The rows of finished caches of the same features, some 50 bytes for each."""

    def __init__(self, cache_directories: Iterable[Path]) -> None:
        import pyarrow  # type: ignore[import-untyped]

        self._places: list[tuple[Path, str]] = []
        keys: list[np.ndarray] = []
        for directory in cache_directories:
            try:
                keys += [_keys_of_split(directory, split) for split in SPLITS]
            except (OSError, ValueError, pyarrow.ArrowException) as error:
                logger.warning("%s is damaged, and nothing is copied from it: %s", directory, error)
            else:
                self._places += [(directory, split) for split in SPLITS]
        starts = np.cumsum([0, *map(len, keys)])
        all_keys = np.concatenate([np.empty(0, _KEY), *keys])
        # As plain bytes, which numpy sorts and searches quickly; only equality counts.
        order = np.argsort(_as_bytes(all_keys), kind="stable")
        self._keys, self._order, self._starts = _as_bytes(all_keys)[order], order, starts

    def find(self, numbers: np.ndarray) -> list[CachedRow | None]:
        """Where the features of each planned row lie.

        Args:
            numbers: `feature_plan.ROW_NUMBERS` [num_rows].
        """
        return [None if row < 0 else self._cached_row(row) for row in self._find(numbers).tolist()]

    def num_found(self, numbers: np.ndarray) -> int:
        """How many of the planned rows lie somewhere."""
        return int((self._find(numbers) >= 0).sum())

    def _find(self, numbers: np.ndarray) -> np.ndarray:
        """int64 [num_rows]: number of the row among all; -1 where there is none."""
        if len(self._keys) == 0:
            return np.full(len(numbers), -1)
        wanted = np.empty(len(numbers), _KEY)
        for name in _KEY.names or ():
            wanted[name] = numbers[name]
        position = np.searchsorted(self._keys, _as_bytes(wanted)).clip(max=len(self._keys) - 1)
        return np.where(self._keys[position] == _as_bytes(wanted), self._order[position], -1)

    def _cached_row(self, row: int) -> CachedRow:
        place = int(np.searchsorted(self._starts, row, side="right")) - 1
        directory, split = self._places[place]
        return CachedRow(directory, split, row - int(self._starts[place]))


def _keys_of_split(cache_directory: Path, split: str) -> np.ndarray:
    table = open_cached_split(cache_directory, split).data
    keys = np.empty(table.num_rows, _KEY)
    keys["audio_digest"] = table["audio_digest"].to_numpy()
    keys["duration_s"] = table["duration_s"].to_numpy()
    return keys


def _as_bytes(keys: np.ndarray) -> np.ndarray:
    return keys.view(f"S{_KEY.itemsize}")


@functools.lru_cache(maxsize=8)
def open_cached_split(cache_directory: Path, split: str) -> "datasets.Dataset":
    """A split of a finished cache."""
    import datasets

    return datasets.load_from_disk(str(cache_directory / split))


# --- copying ----------------------------------------------------------------------------------------------


def only_sound(rows: Sequence[CachedRow | None]) -> list[CachedRow | None]:
    """The rows, without those of shards that are no longer as they were written.

    A copy of values that a disk has changed would get a checksum that says they are right. So the first row
    that is copied from a shard costs reading all of it.
    """
    return [row if row is not None and _is_sound(row) else None for row in rows]


def forget_opened() -> None:
    """Closes what was opened to copy from; what is there may change from now on."""
    open_cached_split.cache_clear()
    _shards_of_split.cache_clear()
    _is_sound_shard.cache_clear()


def _is_sound(row: CachedRow) -> bool:
    shards, ends = _shards_of_split(row.cache_directory, row.split)
    shard = shards[int(np.searchsorted(ends, row.index, side="right"))]
    return _is_sound_shard(row.cache_directory, row.split, shard)


@functools.lru_cache(maxsize=8)
def _shards_of_split(cache_directory: Path, split: str) -> tuple[list[Path], np.ndarray]:
    """The files, and the numbers of the rows behind the last of each."""
    shards = sorted((cache_directory / split).glob("data-*.arrow"))
    return shards, np.cumsum([shard_num_rows(shard) or 0 for shard in shards])


@functools.cache
def _is_sound_shard(cache_directory: Path, split: str, shard: Path) -> bool:
    schema = open_cached_split(cache_directory, split).features.arrow_schema
    is_sound = is_as_written(shard, schema) is not False
    if not is_sound:
        logger.warning("other values than were written, computed again instead of copied: %s", shard)
    return is_sound
