"""The encoder state cache: what a frozen encoder makes of every clip, computed once.

    features/encoder_states/log_mel-80-3f9c0a51d2e47b86/
        train/                     data-00000-of-00007.arrow …, state.json, dataset_info.json
        encoder_states_card.json   what made it
        dataset_dict.json          written last: a folder without it is an unfinished build

`datasets.load_from_disk` opens it. A row holds `audio_digest`, `encoder_states` (half-precision little-endian
bytes, see `vietst.data.encoder_states.states_of`) and `num_positions` (int32), in the order of the utterances
that a training uses. The folder's name is a hash of all that decides these states: the encoder's weights, the
front end, the clips, and the code versions. Texts do not matter, so they are not here. Training makes a cache
for each split.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from vietst.data.abandoned import is_abandoned
from vietst.data.encoder_states import FrozenEncoder
from vietst.data.feature_card import COMPLETE_MARK, cache_directories
from vietst.data.feature_files import is_finished
from vietst.data.feature_plan import Shard
from vietst.data.feature_shards import TEMPORARY_PREFIX
from vietst.data.features import FEATURE_CODE_VERSION, InputKind
from vietst.data.shard_files import delete_changed, shard_num_rows, write_batch
from vietst.data.tables import write_json
from vietst.errors import FeatureCacheError
from vietst.full_disk import full_disk_is_an_error
from vietst.quantities import size_in_words
from vietst.runtime import get_logger

if TYPE_CHECKING:
    import datasets

STATES_CODE_VERSION: Final = 1
"""Raise it with every change of the cached states, their files, or how shards are cut. Not for checksums,
without which shards are read alike."""

FOLDER_NAME: Final = "encoder_states"
CARD_FILE_NAME: Final = "encoder_states_card.json"

MAX_SHARD_BYTES: Final = 128 * 2**20
"""What a killed build loses at most, and what a process holds in memory."""

_BYTES_PER_VALUE: Final = 2
_ROW_OVERHEAD_BYTES: Final = 96
_ROWS_PER_ARROW_BATCH: Final = 8

logger = get_logger(__name__)


# --- the plan ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StatesPlan:
    """What a cache will hold, and where."""

    directory: Path
    shards: list[Shard]
    num_positions: dict[str, list[int]]
    """By split, of every row."""
    width: int

    @property
    def num_rows(self) -> int:
        return sum(map(len, self.num_positions.values()))

    def num_bytes(self, shards: Iterable[Shard]) -> int:
        """What these shards take on disk, within a few per cent."""
        return sum(
            _row_bytes(num_positions, self.width)
            for shard in shards
            for num_positions in self.num_positions[shard.split][shard.start : shard.stop]
        )

    def missing(self) -> list[Shard]:
        """Shards that are not written yet."""
        return [
            shard
            for shard in self.shards
            if shard_num_rows(self.directory / shard.path_in_cache) != shard.stop - shard.start
        ]


def plan_states(
    splits: Mapping[str, "datasets.Dataset"],
    features_dir: Path,
    encoder: FrozenEncoder,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    reserved_bytes: int = 0,
) -> StatesPlan:
    """Decides what is to be computed, and looks at nothing but lengths and digests.

    Args:
        splits: rows of the feature cache, as selected for a training.
        reserved_bytes: of the free disk, promised to other plans.

    Raises:
        FeatureCacheError: what is missing does not fit the free disk.
    """
    hasher = hashlib.blake2b(digest_size=8)
    settings = [
        encoder.digest,
        dataclasses.asdict(encoder.input_kind),
        FEATURE_CODE_VERSION,
        STATES_CODE_VERSION,
    ]
    hasher.update(json.dumps(settings).encode())
    num_positions: dict[str, list[int]] = {}
    for split, rows in splits.items():
        clips = [rows["audio_digest"][:], rows["duration_s"][:]]
        hasher.update(json.dumps([split, *clips]).encode())
        num_positions[split] = [encoder.num_positions(num_frames) for num_frames in rows["num_frames"][:]]
    plan = StatesPlan(
        directory=features_dir / FOLDER_NAME / f"{encoder.input_kind.name}-{hasher.hexdigest()}",
        shards=_cut_into_shards(num_positions, encoder.width, max_shard_bytes),
        num_positions=num_positions,
        width=encoder.width,
    )
    _refuse_full_disk(plan, reserved_bytes)
    return plan


def describe_states_plan(plan: StatesPlan) -> str:
    """Sizes in words."""
    missing, splits = plan.missing(), ", ".join(plan.num_positions)
    longest = max(max(counts) for counts in plan.num_positions.values())
    return (
        f"encoder states of {plan.num_rows} utterances ({splits}), {plan.width} wide, at most {longest} "
        f"positions each: about {size_in_words(plan.num_bytes(plan.shards))} on disk, "
        f"{size_in_words(plan.num_bytes(missing))} of it to compute ({len(missing)} of {len(plan.shards)} "
        f"shards)"
    )


def _row_bytes(num_positions: int, width: int) -> int:
    return _BYTES_PER_VALUE * num_positions * width + _ROW_OVERHEAD_BYTES


def _cut_into_shards(num_positions: Mapping[str, list[int]], width: int, max_bytes: int) -> list[Shard]:
    shards = []
    for split, counts in num_positions.items():
        starts, filled = [0], 0
        for position, count in enumerate(counts):
            filled += _row_bytes(count, width)
            if filled > max_bytes and position > starts[-1]:
                starts.append(position)
                filled = _row_bytes(count, width)
        stops = [*starts[1:], len(counts)]
        shards += [
            Shard(split, index, len(starts), start, stop)
            for index, (start, stop) in enumerate(zip(starts, stops, strict=True))
        ]
    return shards


def _refuse_full_disk(plan: StatesPlan, reserved_bytes: int) -> None:
    existing = next(folder for folder in plan.directory.parents if folder.is_dir())
    needed = reserved_bytes + plan.num_bytes(plan.missing())
    free = shutil.disk_usage(existing).free
    if needed > free:
        of_all, of_clip = size_in_words(needed), size_in_words(plan.num_bytes(plan.shards) / plan.num_rows)
        raise FeatureCacheError(
            where=str(plan.directory.parent),
            rule=f"the disk has room for the encoder's states: {of_all}, {of_clip} for a clip",
            found=f"{size_in_words(free)} free",
            do="compute them in every step (model.cache_encoder_states=false), free some space, or set "
            "paths.features_dir to another disk",
        )


# --- building ---------------------------------------------------------------------------------------------


def build_states(
    plan: StatesPlan,
    splits: Mapping[str, "datasets.Dataset"],
    encoder: FrozenEncoder,
    *,
    batch_size: int,
    rank: int = 0,
    num_processes: int = 1,
    wait_for_all: Callable[[], None] = lambda: None,
) -> dict[str, "datasets.Dataset"]:
    """Computes what is missing, shared among the processes, and opens the cache.

    An interrupted build goes on at the first missing shard.

    Args:
        splits: as given to `plan_states`.
        batch_size: clips that are encoded at once.
        wait_for_all: returns when all processes have called it.

    Raises:
        FeatureCacheError: states beyond half precision's range, a full disk, or processes that do not share
            the folder.
    """
    import datasets
    from tqdm import tqdm

    own = [shard for shard in plan.missing() if plan.shards.index(shard) % num_processes == rank]
    num_rows = sum(shard.stop - shard.start for shard in own)
    with tqdm(
        total=num_rows, desc="encoder states", unit=" utterances", disable=rank != 0 or not own
    ) as progress:
        for shard in own:
            with full_disk_is_an_error(
                plan.directory.parent,
                FeatureCacheError,
                rule="the disk keeps room for the encoder's states while they are computed",
                do="free some space, and run the same command again: it goes on where this one stopped; or "
                "compute them in every step (model.cache_encoder_states=false)",
            ):
                _write_shard(plan, shard, splits[shard.split], encoder, batch_size)
            progress.update(shard.stop - shard.start)
    wait_for_all()
    missing = plan.missing()
    if missing:
        raise FeatureCacheError(
            where=str(plan.directory),
            rule="all processes write to the same folder",
            found=f"{len(missing)} of {len(plan.shards)} shards are not there when all are written",
            do="set paths.features_dir to a disk that all machines share",
        )
    if rank == 0 and not is_finished(plan.directory, plan.num_positions, CARD_FILE_NAME):
        _finish(plan, encoder)
    wait_for_all()
    opened = datasets.load_from_disk(str(plan.directory))
    return {split: opened[split] for split in splits}


def _write_shard(
    plan: StatesPlan, shard: Shard, rows: "datasets.Dataset", encoder: FrozenEncoder, batch_size: int
) -> None:
    """Computes one shard and moves it to its place in the cache."""
    import pyarrow  # type: ignore[import-untyped]

    target = plan.directory / shard.path_in_cache
    target.parent.mkdir(parents=True, exist_ok=True)
    schema = _features().arrow_schema
    partial = target.with_name(f"{TEMPORARY_PREFIX}{target.name}-{os.getpid()}")
    try:
        states = _encode_rows(plan, shard, rows, encoder, batch_size)
        digests = rows["audio_digest"][shard.start : shard.stop]
        with partial.open("wb") as file:
            with pyarrow.ipc.new_stream(file, schema) as stream:
                for start in range(0, len(states), _ROWS_PER_ARROW_BATCH):
                    part = states[start : start + _ROWS_PER_ARROW_BATCH]
                    columns = [
                        digests[start : start + len(part)],
                        [clip.tobytes() for clip in part],
                        [len(clip) for clip in part],
                    ]
                    arrays = [
                        pyarrow.array(column, field.type)
                        for column, field in zip(columns, schema, strict=True)
                    ]
                    write_batch(stream, pyarrow.RecordBatch.from_arrays(arrays, schema=schema))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def delete_changed_states(features_dir: Path) -> None:
    """Deletes cached states that a disk or a copy has changed; the next training computes them again."""
    for directory in sorted((features_dir / FOLDER_NAME).glob("*-*")):
        shards = sorted(directory.glob("*/data-*.arrow"))
        delete_changed(shards, _features().arrow_schema, f"encoder states {directory.name}")


def delete_states_of(features_dir: Path, kind: InputKind) -> None:
    """Deletes all states that were computed of features of a kind: some of these turned out to be wrong, and
    nothing tells which states are."""
    for directory in cache_directories(features_dir / FOLDER_NAME, kind):
        logger.warning("may have been computed of features that had changed, and is deleted: %s", directory)
        (directory / COMPLETE_MARK).unlink(missing_ok=True)
        shutil.rmtree(directory)


def _encode_rows(
    plan: StatesPlan, shard: Shard, rows: "datasets.Dataset", encoder: FrozenEncoder, batch_size: int
) -> list[np.ndarray]:
    """Half-precision states of a shard's rows. Encoded longest first, so that batches pad little."""
    num_positions = plan.num_positions[shard.split]
    longest_first = sorted(range(shard.start, shard.stop), key=lambda index: -num_positions[index])
    states: dict[int, np.ndarray] = {}
    for start in range(0, len(longest_first), batch_size):
        batch = longest_first[start : start + batch_size]
        for index, clip in zip(batch, encoder.encode_batch([rows[index] for index in batch]), strict=True):
            if clip.shape != (num_positions[index], plan.width):
                raise ValueError(f"{clip.shape} states instead of {(num_positions[index], plan.width)}")
            with np.errstate(over="ignore"):
                states[index] = clip.astype("<f2")
            if not np.isfinite(states[index]).all():
                raise FeatureCacheError(
                    where=f"encoder states of {rows[index]['id']}",
                    rule=f"numbers that half precision can hold (up to {np.finfo(np.float16).max:g})",
                    found=f"up to {np.abs(clip).max():g}",
                    do="compute them in every step: model.cache_encoder_states=false",
                )
    return [states[index] for index in range(shard.start, shard.stop)]


def _features() -> "datasets.Features":
    from datasets import Features, Value

    return Features(
        {"audio_digest": Value("string"), "encoder_states": Value("binary"), "num_positions": Value("int32")}
    )


def _finish(plan: StatesPlan, encoder: FrozenEncoder) -> None:
    """Writes the files beside the shards, as `DatasetDict.save_to_disk` does, the complete mark last."""
    from datasets import DatasetInfo

    info = dataclasses.asdict(DatasetInfo(features=_features()))
    for split in plan.num_positions:
        files = [shard.file_name for shard in plan.shards if shard.split == split]
        for path in (plan.directory / split).glob("*.arrow*"):
            # Of a build that cut its shards otherwise, or that was killed, and not of one beside this.
            if path.name not in files and is_abandoned(path):
                path.unlink(missing_ok=True)
        state: dict[str, object] = {
            "_data_files": [{"filename": name} for name in files],
            "_fingerprint": hashlib.blake2b(
                f"{plan.directory.name}-{split}".encode(), digest_size=8
            ).hexdigest(),
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": split,
        }
        write_json(plan.directory / split / "state.json", state)
        write_json(plan.directory / split / "dataset_info.json", info)
    num_bytes = sum((plan.directory / shard.path_in_cache).stat().st_size for shard in plan.shards)
    card: dict[str, object] = {
        "encoder_digest": encoder.digest,
        "input_kind": dataclasses.asdict(encoder.input_kind),
        "feature_code_version": FEATURE_CODE_VERSION,
        "states_code_version": STATES_CODE_VERSION,
        "width": plan.width,
        "num_utterances": {split: len(counts) for split, counts in plan.num_positions.items()},
        "num_bytes": num_bytes,
    }
    write_json(plan.directory / CARD_FILE_NAME, card)
    write_json(plan.directory / COMPLETE_MARK, {"splits": list(plan.num_positions)})
    logger.info("encoder states: built, %s: %s", size_in_words(num_bytes), plan.directory)
