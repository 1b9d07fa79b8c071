"""The files of a feature cache: what is there, whether it is whole, and what is written last."""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from vietst.constants import SPLITS
from vietst.data.feature_card import CARD_FILE_NAME, COMPLETE_MARK, make_card
from vietst.data.feature_plan import CachePlan, Shard
from vietst.data.feature_shards import TEMPORARY_PREFIX
from vietst.data.shard_files import cache_features, delete_changed, shard_num_rows


def is_written(directory: Path, shard: Shard) -> bool:
    """Whether a shard lies there with all of its rows. Reads no values."""
    return shard_num_rows(directory / shard.path_in_cache) == shard.stop - shard.start


def is_complete(directory: Path, plan: CachePlan) -> bool:
    """Whether a cache was finished, and no file of it is missing since. Looks into no shard."""
    return is_finished(directory, SPLITS, CARD_FILE_NAME) and all(
        (directory / shard.path_in_cache).is_file() for shard in plan.shards
    )


def is_finished(directory: Path, splits: Iterable[str], card_file_name: str) -> bool:
    """Whether the files beside the shards are there and whole: those that `datasets` reads, and the card."""
    of_splits = [directory / split / name for split in splits for name in ("state.json", "dataset_info.json")]
    return all(map(_is_json, [directory / COMPLETE_MARK, directory / card_file_name, *of_splits]))


def _is_json(path: Path) -> bool:
    """They come to the disk some time after they are written, and may be empty when the power fails."""
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True


def damaged_shards(directory: Path, plan: CachePlan) -> list[Path]:
    """Of a cache that was complete: what is cut off or gone since. Values that changed are not noticed, see
    `delete_changed_shards`."""
    return [directory / shard.path_in_cache for shard in plan.shards if not is_written(directory, shard)]


def delete_changed_shards(directory: Path, plan: CachePlan) -> int:
    """Deletes what a disk or a copy has changed; building then finds it missing. Reads all values.

    Returns:
        How many shards that were.
    """
    written = [directory / shard.path_in_cache for shard in plan.shards if is_written(directory, shard)]
    return delete_changed(written, cache_features(plan.cached_columns).arrow_schema, plan.kind.name)


def finish(directory: Path, plan: CachePlan) -> None:
    """Writes the files beside the shards, as `DatasetDict.save_to_disk` does, the complete mark last."""
    from datasets import DatasetInfo

    for abandoned in [*directory.glob(f"{TEMPORARY_PREFIX}*"), *directory.glob(f"*/{TEMPORARY_PREFIX}*")]:
        if abandoned.is_dir():
            shutil.rmtree(abandoned, ignore_errors=True)
        else:
            abandoned.unlink(missing_ok=True)
    info = dataclasses.asdict(DatasetInfo(features=cache_features(plan.cached_columns)))
    for split in SPLITS:
        shards = [shard for shard in plan.shards if shard.split == split]
        kept = {shard.file_name for shard in shards}
        for path in (directory / split).iterdir():
            # Shards of a plan that cut this split otherwise.
            if path.suffix == ".arrow" and path.name not in kept:
                path.unlink()
        state: dict[str, object] = {
            "_data_files": [{"filename": shard.file_name} for shard in shards],
            "_fingerprint": hashlib.blake2b(f"{plan.key}-{split}".encode(), digest_size=8).hexdigest(),
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": split,
        }
        _write_json(directory / split / "state.json", state)
        _write_json(directory / split / "dataset_info.json", info)
    _write_json(directory / CARD_FILE_NAME, make_card(directory, plan))
    _write_json(directory / COMPLETE_MARK, {"splits": list(SPLITS)})


def _write_json(path: Path, content: object) -> None:
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8", newline="\n")
    temporary.replace(path)
