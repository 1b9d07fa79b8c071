"""One shard of a feature cache, for one or several caches at once: whole, or not there at all.

A shard is written into a temporary file and moved into place in one step, so that a killed build leaves whole
shards and rubbish that the next build removes. Its bytes depend on the plan alone.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from vietst.data.audio import load_waveform
from vietst.data.audio_paths import resolve_below
from vietst.data.audio_pieces import Piece, locator_of, split_locator
from vietst.data.feature_plan import PlannedRow, Shard, num_samples
from vietst.data.feature_reuse import CachedRow, only_sound, open_cached_split
from vietst.data.features import InputKind, extract, half_precision
from vietst.data.shard_files import CacheRow, write_shard_file
from vietst.errors import AudioError, FeatureCacheError

TEMPORARY_PREFIX: Final = ".tmp-"
_ROWS_PER_BATCH: Final = 64
"""Rows computed and written at once; `datasets`' 1000 would hold hundreds of MB in memory."""


@dataclass(frozen=True)
class ShardJob:
    """All that one process needs to write one shard of one cache."""

    cache_directory: Path
    shard: Shard
    kind: InputKind
    columns: tuple[str, ...]
    rows: list[PlannedRow]
    reusable: list[CachedRow | None]
    """One per row: copied from there instead of computed."""
    real_root: str
    """`os.path.realpath` of the audio root."""

    @property
    def target(self) -> Path:
        """Where the shard belongs."""
        return self.cache_directory / self.shard.path_in_cache


class _Clip(NamedTuple):
    """The audio of a row."""

    locator: str
    path: Path
    piece: Piece | None
    num_file_bytes: int
    """As it was measured."""
    num_samples: int | None
    """How much of it counts, at 16 kHz; None: all."""


LoadClip = Callable[[_Clip], np.ndarray]
"""`_load_clip`, or it with a memory."""


def write_shard(jobs: Sequence[ShardJob]) -> list[Path]:
    """Writes the same shard of several caches beside their places; each clip is decoded once.

    With several, the shard's waveforms are kept meanwhile: 77 MB for `MAX_SHARD_DURATION_S`.

    Returns:
        A file for each job, to be moved into place.
    """
    jobs = [dataclasses.replace(job, reusable=only_sound(job.reusable)) for job in jobs]
    load_clip: LoadClip = functools.cache(_load_clip) if len(jobs) > 1 else _load_clip
    # All paths first and all sizes last: between two clips the same code runs from a cold cache.
    clips = _find_clips(jobs)
    partial = [_partial_file(job) for job in jobs]
    try:
        for job, file in zip(jobs, partial, strict=True):
            _compute_shard(job, clips, load_clip, file)
        _check_sizes(clips)
    except BaseException:
        for file in partial:
            file.unlink(missing_ok=True)
        raise
    return partial


def _partial_file(job: ShardJob) -> Path:
    """Where this process writes the shard. What another one left there half written is deleted."""
    target = job.target
    target.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in target.parent.glob(f"{TEMPORARY_PREFIX}{target.name}-*"):
        with contextlib.suppress(OSError):  # Windows deletes no file that somebody writes to
            abandoned.unlink()
    return target.with_name(f"{TEMPORARY_PREFIX}{target.name}-{os.getpid()}")


def move_into_place(jobs: Sequence[ShardJob], partial: Sequence[Path]) -> int:
    """Brings written shards to the disk, and to their places. Returns their number of rows."""
    for job, file in zip(jobs, partial, strict=True):
        try:
            with file.open("rb+") as written:
                os.fsync(written.fileno())
            file.replace(job.target)
        except FileNotFoundError as error:
            raise FeatureCacheError(
                where=str(job.target),
                rule="one process writes a shard",
                found="another one took it for abandoned: the same part of the build was started twice",
                do="run the same command again, once",
            ) from error
    return sum(len(job.rows) for job in jobs)


def _compute_shard(job: ShardJob, clips: Sequence[_Clip | None], load_clip: LoadClip, file: Path) -> None:
    rows = (
        _cache_row(row, reusable, clip, job.kind, load_clip)
        for row, reusable, clip in zip(job.rows, job.reusable, clips, strict=True)
    )
    write_shard_file(file, job.columns, iter(lambda: list(itertools.islice(rows, _ROWS_PER_BATCH)), []))


def _cache_row(
    row: PlannedRow, reusable: CachedRow | None, clip: _Clip | None, kind: InputKind, load_clip: LoadClip
) -> CacheRow:
    if reusable is not None:
        cached = open_cached_split(reusable.cache_directory, reusable.split)[reusable.index]
        values, num_frames = np.frombuffer(cached["features"], "<f2"), cached["num_frames"]
        pad_value = cached["pad_value"]
    else:
        assert clip is not None  # there is one wherever a cache has nothing to copy
        extracted = extract(load_clip(clip), kind)
        values, num_frames = half_precision(extracted.values, kind), len(extracted.values)
        pad_value = extracted.pad_value
    return CacheRow(row.columns, row.audio_digest, row.duration_s, values, num_frames, pad_value)


def _find_clips(jobs: Sequence[ShardJob]) -> list[_Clip | None]:
    """The clip of each row of the shard; None where all caches copy the features."""
    columns, real_root = jobs[0].columns, jobs[0].real_root
    return [
        _find_clip(row, columns, real_root) if None in reusable else None
        for row, *reusable in zip(jobs[0].rows, *(job.reusable for job in jobs), strict=True)
    ]


real_folder: Final = functools.lru_cache(maxsize=4096)(os.path.realpath)
"""Remembers where links lead; forgotten after a build, since they may be changed."""


def _find_clip(row: PlannedRow, columns: Sequence[str], real_root: str) -> _Clip:
    locator = locator_of(dict(zip(columns, row.columns, strict=True)))
    audio_path, piece = split_locator(locator)
    try:
        path = Path(resolve_below(real_root, audio_path, real_folder))
    except AudioError as error:
        raise _changed_audio(locator, f"{error.code}: {error.found}") from error
    num_counted = num_samples(row.duration_s) if row.is_cut else None
    return _Clip(locator, path, piece, row.num_audio_bytes, num_counted)


def _load_clip(clip: _Clip) -> np.ndarray:
    """As much of the waveform as counts: float32 [num_samples] at 16 kHz."""
    try:
        return load_waveform(clip.path, clip.piece)[: clip.num_samples]
    except AudioError as error:
        raise _changed_audio(clip.locator, f"{error.code}: {error.found}") from error


def _check_sizes(clips: Iterable[_Clip | None]) -> None:
    for clip in filter(None, clips):
        try:
            is_as_measured = clip.path.stat().st_size == clip.num_file_bytes
        except OSError:
            is_as_measured = False
        if not is_as_measured:
            raise _changed_audio(clip.locator, "a file of another size, or none")


def _changed_audio(locator: str, found: str) -> FeatureCacheError:
    return FeatureCacheError(
        where=locator,
        rule="the audio stays as it was measured while features are built",
        found=found,
        do="run the same command again; if the file is broken, scripts/preprocess_manifest.py first",
    )
