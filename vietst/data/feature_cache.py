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
import math
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vietst.data.audio_facts import AudioFactsFile
from vietst.data.build_members import BuildMember, one_at_a_time
from vietst.data.feature_card import (
    COMPLETE_MARK,
    cache_directories,
    has_same_features,
    num_bytes,
    read_cards,
    what_differs,
)
from vietst.data.feature_files import (
    damaged_shards,
    delete_changed_shards,
    finish,
    is_complete,
    is_written,
)
from vietst.data.feature_plan import CachePlan, make_plan, plan_without_measuring
from vietst.data.feature_reuse import ReusableRows
from vietst.data.features import InputKind
from vietst.data.shard_processes import MissingShards, write_shards
from vietst.errors import FeatureCacheError
from vietst.quantities import size_in_words
from vietst.runtime import get_logger, local_world_size

if TYPE_CHECKING:
    import datasets

FACTS_FILE_NAME: Final = "audio_facts.tsv"

_LOOK_AGAIN_S: Final = 0.5

logger = get_logger(__name__)


def build_feature_cache(splits_dir: Path, features_dir: Path, kind: InputKind, **options: Any) -> Path:
    """`build_feature_caches` for one kind; `options` are its keywords. Returns the cache's folder."""
    return build_feature_caches(splits_dir, features_dir, [kind], **options)[0]


def build_feature_caches(
    splits_dir: Path,
    features_dir: Path,
    kinds: Sequence[InputKind],
    *,
    audio_root: Path,
    num_proc: int | None = None,
    measured: Path | None = None,
    member: BuildMember | None = None,
    verify: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Builds what is missing of the caches for these splits; does nothing where they are there.

    All kinds are computed from one decoding. An interrupted build is continued at the first missing shard,
    with the same bytes in the end. Features of audio that another cache of a kind holds already are copied.

    Args:
        num_proc: processes; None: one for each CPU core, which the processes of a launch share.
        measured: an audio facts file (as preprocessing leaves it) whose entries need not be measured again.
        member: the part of the build that this process writes; None: all of it. Other parts may still be
            missing when this returns, unless the others of the launch write them.
        verify: read all that is there first, and write again what is no longer as it was written; encoder
            states that are not, or may have been computed of features that are not, are deleted.

    Returns:
        The caches' folders.

    Raises:
        FeatureCacheError: unusable audio, or too little disk space.
        ManifestError: missing or broken splits.
    """
    member = member or BuildMember()
    num_proc = num_proc or max(1, num_usable_cores() // local_world_size())
    first_plan = _plan_build(
        splits_dir, features_dir, kinds[0], audio_root, measured, num_threads=num_proc, progress=progress
    )
    plans = [dataclasses.replace(first_plan, kind=kind) for kind in kinds]
    directories = [features_dir / plan.directory_name for plan in plans]
    if verify:
        from vietst.data.encoder_state_cache import delete_changed_states, delete_states_of

        delete_changed_states(features_dir)
    unfinished = []
    for plan, directory in zip(plans, directories, strict=True):
        if verify and delete_changed_shards(directory, plan):
            delete_states_of(features_dir, plan.kind)
        if is_complete(directory, plan) and not damaged_shards(directory, plan):
            logger.info("%s: nothing to do, it is built: %s", plan.kind.name, directory)
        else:
            unfinished.append((plan, directory))
    missing = [of_cache for plan, directory in unfinished if (of_cache := _missing(plan, directory, member))]
    if missing:
        _refuse_full_disk(features_dir, missing)
        num_proc = min(num_proc, max(len(of_cache.shards) for of_cache in missing))
        for of_cache in missing:
            _say_what_is_to_do(of_cache, num_proc)
        write_shards(missing, audio_root=audio_root, num_proc=num_proc, progress=progress)
    for plan, directory in unfinished:
        if member.rank == 0:
            _wait_for_launch(directory, plan, member)
        _complete_or_say_what_is_missing(features_dir, directory, plan, member)
    return directories


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
        FeatureCacheError: there is no such cache; says what differs, and the command that builds it. Or there
            is one that cannot be read.
        ManifestError: missing or broken splits.
    """
    import datasets
    import pyarrow  # type: ignore[import-untyped]

    default_command = f"python scripts/build_features.py --kinds {kind.name}"
    facts_file = AudioFactsFile(features_dir / FACTS_FILE_NAME)
    plan = make_plan(splits_dir, kind, audio_root=audio_root, facts_file=facts_file, progress=False)
    directory = features_dir / plan.directory_name
    if not is_complete(directory, plan):
        raise FeatureCacheError(
            where=str(features_dir),
            rule=f"it holds the features of kind {kind.name} for the splits in {splits_dir}",
            found=what_differs(features_dir, plan),
            do=build_command or default_command,
        )
    try:
        return datasets.load_from_disk(str(directory))
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        damaged = damaged_shards(directory, plan)
        others = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        to_do = "write it again" if damaged else "delete this folder, and build it again"
        raise FeatureCacheError(
            where=f"{damaged[0]}{others}" if damaged else str(directory),
            rule="the shards of a feature cache are whole Arrow files",
            found=str(error),
            do=f"{to_do}: {build_command or default_command}",
        ) from error


def features_of(row: dict[str, Any], kind: InputKind) -> np.ndarray:
    """The features of a cached row, without copying: float16 [num_frames, num_mel_bins] or [num_samples].

    Raises:
        FeatureCacheError: they are not as long as the row says.
    """
    shape = (row["num_frames"], kind.num_mel_bins) if kind.kind == "log_mel" else (row["num_frames"],)
    expected, found = 2 * math.prod(shape), len(row["features"])
    if found != expected:
        raise FeatureCacheError(
            where=f"features of utterance {row['id']}",
            rule=f"{expected} bytes, for {row['num_frames']} frames",
            found=f"{found} bytes: the cache is damaged",
            do="delete the feature cache's folder, and build it again",
        )
    return np.frombuffer(row["features"], dtype="<f2").reshape(shape)


def num_usable_cores() -> int:
    """CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- building ---------------------------------------------------------------------------------------------


def _plan_build(
    splits_dir: Path,
    features_dir: Path,
    kind: InputKind,
    audio_root: Path,
    measured: Path | None,
    *,
    num_threads: int,
    progress: bool,
) -> CachePlan:
    """The plan. Only one process at a time measures audio and writes down what it found."""
    facts_file = _known_facts(features_dir, measured)
    plan = plan_without_measuring(splits_dir, kind, audio_root=audio_root, facts_file=facts_file)
    if plan is not None and facts_file.is_saved:
        return plan
    with one_at_a_time(features_dir):
        if plan is None:
            # What another process has measured meanwhile need not be measured again.
            facts_file = _known_facts(features_dir, measured)
            plan = make_plan(
                splits_dir,
                kind,
                audio_root=audio_root,
                facts_file=facts_file,
                num_threads=num_threads,
                progress=progress,
            )
        facts_file.save()
    return plan


def _known_facts(features_dir: Path, measured: Path | None) -> AudioFactsFile:
    facts_file = AudioFactsFile(features_dir / FACTS_FILE_NAME)
    if measured is not None:
        facts_file.add_from(measured)
    return facts_file


def _missing(plan: CachePlan, directory: Path, member: BuildMember) -> MissingShards | None:
    """What this process has to write of a cache; None if that is nothing."""
    shards = [
        shard
        for number, shard in enumerate(plan.shards)
        if member.owns(number) and not is_written(directory, shard)
    ]
    if not shards:
        return None
    # A cache with a damaged shard is unfinished, and nothing to copy from.
    (directory / COMPLETE_MARK).unlink(missing_ok=True)
    return MissingShards(plan, directory, shards, _reusable_rows(directory.parent, plan))


def _wait_for_launch(directory: Path, plan: CachePlan, member: BuildMember) -> None:
    """Returns when all processes of the launch have written theirs; if one dies, the launcher ends all."""
    of_launch = [s for number, s in enumerate(plan.shards) if member.part_that_owns(number) == member.part]
    for shard in of_launch:
        while not is_written(directory, shard):
            time.sleep(_LOOK_AGAIN_S)


def _complete_or_say_what_is_missing(
    features_dir: Path, directory: Path, plan: CachePlan, member: BuildMember
) -> None:
    missing = [n for n, shard in enumerate(plan.shards) if not is_written(directory, shard)]
    if not missing:
        with one_at_a_time(features_dir):
            if not is_complete(directory, plan):
                finish(directory, plan)
        _say_what_came_out(features_dir, directory, plan)
    elif member.num_parts > 1:
        parts = sorted({member.part_that_owns(number) for number in missing})
        logger.info(
            "%s: part %d of %d is written. Still missing: %d of %d shards, of part %s, which is at work, was "
            "ended early, or writes to another disk. The last to end completes the cache; without --shard, "
            "the same command does all that is missing",
            *(plan.kind.name, member.part, member.num_parts, len(missing), len(plan.shards)),
            ", ".join(map(str, parts)),
        )


def _reusable_rows(features_dir: Path, plan: CachePlan) -> ReusableRows:
    """Of the finished caches of this kind whose features are those of this code."""
    cards = read_cards(features_dir, plan.kind)
    return ReusableRows(directory for directory, card in cards.items() if has_same_features(card, plan.kind))


# --- saying -----------------------------------------------------------------------------------------------


def _refuse_full_disk(features_dir: Path, missing: Sequence[MissingShards]) -> None:
    features_dir.mkdir(parents=True, exist_ok=True)
    needed = sum(of_cache.plan.forecast_bytes(of_cache.shards) for of_cache in missing)
    free = shutil.disk_usage(features_dir).free
    if needed > free:
        names = ", ".join(of_cache.plan.kind.name for of_cache in missing)
        raise FeatureCacheError(
            where=str(features_dir),
            rule=f"the disk has room for the features of kind {names}: {size_in_words(needed)}",
            found=f"{size_in_words(free)} free",
            do="free some space, set paths.features_dir to another disk, or build fewer kinds (--kinds)",
        )


def _say_what_is_to_do(missing: MissingShards, num_proc: int) -> None:
    plan = missing.plan
    window_s = plan.kind.window_s
    num_long = sum(int((rows["duration_s"] > window_s).sum()) for rows in plan.rows.values())
    num_rows, hours = sum(plan.num_rows.values()), sum(plan.duration_s.values()) / 3600
    if num_long:
        logger.warning(
            "%s: %d of %d utterances are longer than its window of %g s; their features end there",
            *(plan.kind.name, num_long, num_rows, window_s),
        )
    logger.info(
        "%s: %d utterances, %.2f h, about %s on disk; %d of %d shards to write, %d process(es)",
        *(plan.kind.name, num_rows, hours, size_in_words(plan.forecast_bytes(plan.shards))),
        *(len(missing.shards), len(plan.shards), num_proc),
    )
    num_reused = sum(missing.reusable.num_found(plan.numbers_of(shard)) for shard in missing.shards)
    if num_reused:
        logger.info("%s: %d utterances are copied from another cache", plan.kind.name, num_reused)


def _say_what_came_out(features_dir: Path, directory: Path, plan: CachePlan) -> None:
    logger.info("%s: built, %s: %s", plan.kind.name, size_in_words(num_bytes(directory, plan)), directory)
    others = [path for path in cache_directories(features_dir, plan.kind) if path != directory]
    if others:
        logger.info(
            "%s: other splits' caches of this kind lie beside it; if nothing needs them, delete: %s",
            *(plan.kind.name, " ".join(map(str, others))),
        )
