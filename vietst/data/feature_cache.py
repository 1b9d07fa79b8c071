"""The feature cache: one folder per input kind and content, which `datasets.load_from_disk` opens.

    features/log_mel-80-3f9c0a51d2e47b86/
        train/ dev/ test/          data-00000-of-00007.arrow …, state.json, dataset_info.json
        feature_card.json          what made it
        dataset_dict.json          written last: a folder without it is an unfinished build
    features/audio_facts.tsv       digests of the audio files (see `audio_facts`), so that opening is fast

A row holds the strings of the split's row (id, audio_path, video_id, transcript, translation, and what else
the manifest carries) and `audio_digest`, `duration_s` (float64), `features` (half-precision little-endian
bytes, length-true: see `features_of`), `num_frames` (int32: frames; samples for the waveform), `pad_value`
(float32).
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vietst.constants import SPLITS
from vietst.data.audio_facts import AudioFactsFile
from vietst.data.feature_card import (
    CARD_FILE_NAME,
    COMPLETE_MARK,
    cache_directories,
    has_same_features,
    make_card,
    num_bytes,
    read_cards,
    what_differs,
)
from vietst.data.feature_plan import CachePlan, Shard, make_plan
from vietst.data.feature_shards import (
    TEMPORARY_PREFIX,
    CachedRow,
    cache_features,
    make_jobs,
    shard_num_rows,
    write_shards,
)
from vietst.data.features import InputKind
from vietst.errors import FeatureCacheError
from vietst.runtime import get_logger

if TYPE_CHECKING:
    import datasets

FACTS_FILE_NAME: Final = "audio_facts.tsv"

logger = get_logger(__name__)


def build_feature_cache(
    splits_dir: Path,
    features_dir: Path,
    kind: InputKind,
    *,
    audio_root: Path,
    num_proc: int | None = None,
    measured: Path | None = None,
    progress: bool = True,
) -> Path:
    """Builds what is missing of the cache for these splits; does nothing when it is there.

    An interrupted build is continued at the first missing shard, with the same bytes in the end. Features of
    audio that another cache of this kind holds already are copied from it.

    Args:
        num_proc: processes; None: one for each CPU core.
        measured: an audio facts file (as preprocessing leaves it) whose entries need not be measured again.

    Returns:
        The cache's folder.

    Raises:
        FeatureCacheError: unusable audio, or too little disk space.
        ManifestError: missing or broken splits.
    """
    num_proc = num_proc or num_usable_cores()
    facts_file = AudioFactsFile(features_dir / FACTS_FILE_NAME)
    if measured is not None:
        facts_file.add_from(AudioFactsFile(measured))
    plan = make_plan(
        splits_dir,
        kind,
        audio_root=audio_root,
        facts_file=facts_file,
        num_threads=num_proc,
        progress=progress,
    )
    facts_file.save()
    directory = features_dir / plan.directory_name
    if _is_complete(directory, plan):
        logger.info("%s: nothing to do, it is built: %s", kind.name, directory)
        return directory
    missing = [shard for shard in plan.shards if not _is_written(directory, plan, shard)]
    _refuse_full_disk(features_dir, plan, missing)
    _say_what_is_to_do(plan, missing, num_proc)
    (directory / COMPLETE_MARK).unlink(missing_ok=True)
    reusable = _reusable_rows(features_dir, plan)
    if reusable:
        num_reused = sum(
            (row.audio_digest, row.duration_s) in reusable for shard in missing for row in plan.rows_of(shard)
        )
        logger.info("%s: %d utterances are copied from another cache", kind.name, num_reused)
    jobs = make_jobs(plan, directory, audio_root=audio_root, shards=missing, reusable=reusable)
    write_shards(jobs, num_proc=num_proc, description=kind.name, progress=progress)
    _finish(directory, plan)
    _say_what_came_out(features_dir, directory, plan)
    return directory


def open_feature_cache(
    splits_dir: Path,
    features_dir: Path,
    kind: InputKind,
    *,
    audio_root: Path,
    build_command: str | None = None,
) -> "datasets.DatasetDict":
    """Opens the cache that fits the splits as they are now. Decodes nothing; hashes files that changed.

    Audio files that are gone are taken as they were measured: a cache may be used without its audio.

    Args:
        build_command: the command that a missing cache's error names; None: `scripts/build_features.py`.

    Raises:
        FeatureCacheError: there is no such cache; says what differs, and the command that builds it.
        ManifestError: missing or broken splits.
    """
    import datasets

    facts_file = AudioFactsFile(features_dir / FACTS_FILE_NAME)
    plan = make_plan(splits_dir, kind, audio_root=audio_root, facts_file=facts_file, progress=False)
    directory = features_dir / plan.directory_name
    if not _is_complete(directory, plan):
        raise FeatureCacheError(
            where=str(features_dir),
            rule=f"it holds the features of kind {kind.name} for the splits in {splits_dir}",
            found=what_differs(features_dir, plan),
            do=build_command or f"python scripts/build_features.py --kinds {kind.name}",
        )
    return datasets.load_from_disk(str(directory))


def features_of(row: dict[str, Any], kind: InputKind) -> np.ndarray:
    """The features of a cached row, without copying: float16 [num_frames, num_mel_bins] or [num_samples]."""
    values = np.frombuffer(row["features"], dtype="<f2")
    return values.reshape(-1, kind.num_mel_bins) if kind.kind == "log_mel" else values


def num_usable_cores() -> int:
    """CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- what is there ----------------------------------------------------------------------------------------


def _is_written(directory: Path, plan: CachePlan, shard: Shard) -> bool:
    return shard_num_rows(directory / shard.path_in_cache) == len(plan.rows_of(shard))


def _is_complete(directory: Path, plan: CachePlan) -> bool:
    return (directory / COMPLETE_MARK).is_file() and all(
        (directory / shard.path_in_cache).is_file() for shard in plan.shards
    )


def _reusable_rows(features_dir: Path, plan: CachePlan) -> dict[tuple[str, float], CachedRow]:
    """By audio digest and used duration: the plan's audio whose features lie in another cache already."""
    import datasets

    wanted = {(row.audio_digest, row.duration_s) for rows in plan.rows.values() for row in rows}
    found: dict[tuple[str, float], CachedRow] = {}
    for directory, card in read_cards(features_dir, plan.kind).items():
        if has_same_features(card, plan.kind):
            for split in SPLITS:
                table = datasets.load_from_disk(str(directory / split)).data
                keys = zip(table["audio_digest"].to_pylist(), table["duration_s"].to_pylist(), strict=True)
                found |= {
                    key: CachedRow(directory, split, index) for index, key in enumerate(keys) if key in wanted
                }
    return found


# --- saying and finishing ---------------------------------------------------------------------------------


def _refuse_full_disk(features_dir: Path, plan: CachePlan, missing: Sequence[Shard]) -> None:
    features_dir.mkdir(parents=True, exist_ok=True)
    needed, free = plan.forecast_bytes(missing), shutil.disk_usage(features_dir).free
    if needed > free:
        raise FeatureCacheError(
            where=str(features_dir),
            rule=f"the disk has room for the features of kind {plan.kind.name}: {_size(needed)}",
            found=f"{_size(free)} free",
            do="free some space, or set paths.features_dir to another disk",
        )


def _say_what_is_to_do(plan: CachePlan, missing: Sequence[Shard], num_proc: int) -> None:
    window_s = plan.kind.window_s
    num_long = sum(row.duration_s > window_s for rows in plan.rows.values() for row in rows)
    if num_long:
        logger.warning(
            "%s: %d of %d utterances are longer than its window of %g s; their features end there",
            *(plan.kind.name, num_long, plan.num_rows(), window_s),
        )
    logger.info(
        "%s: %d utterances, %.2f h, about %s on disk; %d of %d shards to write, %d process(es)",
        *(plan.kind.name, plan.num_rows(), plan.duration_s() / 3600, _size(plan.forecast_bytes(plan.shards))),
        *(len(missing), len(plan.shards), min(num_proc, len(missing))),
    )


def _say_what_came_out(features_dir: Path, directory: Path, plan: CachePlan) -> None:
    logger.info("%s: built, %s: %s", plan.kind.name, _size(num_bytes(directory, plan)), directory)
    others = [path for path in cache_directories(features_dir, plan.kind) if path != directory]
    if others:
        logger.info(
            "%s: other splits' caches of this kind lie beside it; if nothing needs them, delete: %s",
            *(plan.kind.name, " ".join(map(str, others))),
        )


def _finish(directory: Path, plan: CachePlan) -> None:
    """Writes the files beside the shards, as `DatasetDict.save_to_disk` does, the complete mark last."""
    from datasets import DatasetInfo

    for abandoned in [*directory.glob(f"{TEMPORARY_PREFIX}*"), *directory.glob(f"*/{TEMPORARY_PREFIX}*")]:
        if abandoned.is_dir():
            shutil.rmtree(abandoned, ignore_errors=True)
        else:
            abandoned.unlink(missing_ok=True)
    info = dataclasses.asdict(DatasetInfo(features=cache_features(plan.columns)))
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


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
