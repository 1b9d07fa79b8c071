"""What a feature cache will hold, decided before anything is computed: its rows, key, shards and size.

The key is a hash of everything that decides the cached bytes and of nothing else: the input kind's settings,
the version of the feature code, and of every row in order the texts and carried columns, the content of the
audio file and how much of it counts. Touching or copying files does not change it.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vietst.constants import SAMPLE_RATE_HZ, SPLITS
from vietst.data.audio import AudioFacts
from vietst.data.audio_facts import AudioFactsFile
from vietst.data.audio_paths import normalize_audio_path
from vietst.data.features import FEATURE_CODE_VERSION, InputKind
from vietst.data.row_rules import TRUNCATED_COLUMN
from vietst.data.split_audit import split_hash
from vietst.data.splits import read_split, split_path
from vietst.data.tables import file_digest
from vietst.errors import AudioError, FeatureCacheError

CACHE_FORMAT_VERSION: Final = 1
"""Raise it with every change of the cached columns or files."""

TEXT_COLUMNS: Final = ("id", "audio_path", "video_id", "transcript", "translation")
FEATURE_COLUMNS: Final = ("audio_digest", "duration_s", "features", "num_frames", "pad_value")

MAX_SHARD_DURATION_S: Final = 1200.0
"""Audio in a shard: some 20 MB of log-mel, a second or two of work, which is what a killed build loses."""
MIN_SHARD_DURATION_S: Final = 120.0
MIN_NUM_SHARDS: Final = 48
"""Small corpora are cut finer, down to `MIN_SHARD_DURATION_S`, so that all processes end about together."""
MAX_SHARD_ROWS: Final = 2048

_ROW_OVERHEAD_BYTES: Final = 96
_NUM_ERRORS_SHOWN: Final = 3


@dataclass(frozen=True)
class PlannedRow:
    """One utterance of the cache-to-be."""

    columns: tuple[str, ...]
    """Values of `CachePlan.columns`."""
    audio_digest: str
    num_audio_bytes: int
    duration_s: float
    """How much of the audio counts, from its start."""
    is_cut: bool
    """The audio goes on after that (the manifest was made with `too_long: truncate`)."""

    @property
    def num_samples(self) -> int:
        """At 16 kHz."""
        return round(self.duration_s * SAMPLE_RATE_HZ)


@dataclass(frozen=True)
class Shard:
    """A run of rows of one split, written as one file."""

    split: str
    index: int
    num_shards: int
    """Of this split."""
    start: int
    stop: int

    @property
    def file_name(self) -> str:
        """The name that `datasets.Dataset.save_to_disk` would give it."""
        return f"data-{self.index:05d}-of-{self.num_shards:05d}.arrow"

    @property
    def path_in_cache(self) -> Path:
        return Path(self.split) / self.file_name


@dataclass(frozen=True)
class CachePlan:
    kind: InputKind
    columns: tuple[str, ...]
    """String columns: `TEXT_COLUMNS`, then what else the splits carry."""
    rows: dict[str, list[PlannedRow]]
    """By split, in the order of the split's file."""
    shards: list[Shard]
    split_hash: str
    """Of the splits' files, as `audit.json` has it."""
    rows_digest: str
    """Of all texts and carried columns of all splits."""
    audio_digest: str
    """Of the content and used length of all audio files."""
    key: str

    @property
    def directory_name(self) -> str:
        return f"{self.kind.name}-{self.key}"

    def num_rows(self) -> int:
        return sum(map(len, self.rows.values()))

    def duration_s(self) -> float:
        return sum(row.duration_s for rows in self.rows.values() for row in rows)

    def rows_of(self, shard: Shard) -> list[PlannedRow]:
        return self.rows[shard.split][shard.start : shard.stop]

    def forecast_bytes(self, shards: Iterable[Shard]) -> int:
        """Bytes that these shards will take on disk, within a few per cent."""
        return sum(
            self.kind.num_bytes(row.num_samples)
            + sum(len(value.encode()) + 5 for value in row.columns)
            + _ROW_OVERHEAD_BYTES
            for shard in shards
            for row in self.rows_of(shard)
        )


def make_plan(
    splits_dir: Path,
    kind: InputKind,
    *,
    audio_root: Path,
    facts_file: AudioFactsFile,
    num_threads: int = 1,
    progress: bool = True,
) -> CachePlan:
    """Reads the splits and what is known of their audio; measures only files that are new or changed.

    Raises:
        ManifestError: a split's file is missing or broken.
        FeatureCacheError: an audio file cannot be used.
    """
    tables = {split: read_split(splits_dir, split) for split in SPLITS}
    columns = _string_columns(tables.values())
    facts = _facts_of_rows(
        [row["audio_path"] for table in tables.values() for row in table],
        audio_root=audio_root,
        facts_file=facts_file,
        num_threads=num_threads,
        progress=progress,
    )
    remaining_facts = iter(facts)
    rows = {
        split: [_planned_row(row, columns, next(remaining_facts)) for row in table]
        for split, table in tables.items()
    }
    rows_digest = _digest([columns, *([split, row.columns] for split in SPLITS for row in rows[split])])
    audio_digest = _digest([row.audio_digest, row.duration_s] for split in SPLITS for row in rows[split])
    settings = [dataclasses.asdict(kind), FEATURE_CODE_VERSION, CACHE_FORMAT_VERSION]
    return CachePlan(
        kind=kind,
        columns=tuple(cached_name(column) for column in columns),
        rows=rows,
        shards=_plan_shards(rows),
        split_hash=split_hash({split: file_digest(split_path(splits_dir, split)) for split in SPLITS}),
        rows_digest=rows_digest,
        audio_digest=audio_digest,
        key=_digest([settings, rows_digest, audio_digest]),
    )


def cached_name(column: str) -> str:
    """The cache's name for a column of the splits: its own, unless the cache has another use for it."""
    return f"manifest_{column}" if column in FEATURE_COLUMNS else column


def _string_columns(tables: Iterable[Sequence[dict[str, str]]]) -> tuple[str, ...]:
    """All columns of all splits but `duration`, which becomes the cache's `duration_s`."""
    carried = dict.fromkeys(column for table in tables for row in table[:1] for column in row)
    return (*TEXT_COLUMNS, *(name for name in carried if name not in TEXT_COLUMNS and name != "duration"))


def _planned_row(row: dict[str, str], columns: Sequence[str], facts: AudioFacts) -> PlannedRow:
    limit_s = float(row.get(TRUNCATED_COLUMN) or "inf")
    is_cut = limit_s < facts.duration_s
    return PlannedRow(
        columns=tuple(row.get(column) or "" for column in columns),
        audio_digest=facts.digest,
        num_audio_bytes=facts.num_bytes,
        duration_s=limit_s if is_cut else facts.duration_s,
        is_cut=is_cut,
    )


def _plan_shards(rows: dict[str, list[PlannedRow]]) -> list[Shard]:
    """Cuts the splits (none is empty) by seconds of audio and number of rows."""
    total_s = sum(row.duration_s for split_rows in rows.values() for row in split_rows)
    limit_s = min(MAX_SHARD_DURATION_S, max(MIN_SHARD_DURATION_S, total_s / MIN_NUM_SHARDS))
    shards: list[Shard] = []
    for split, split_rows in rows.items():
        starts, duration_s = [0], 0.0
        for position, row in enumerate(split_rows):
            is_full = duration_s + row.duration_s > limit_s or position - starts[-1] >= MAX_SHARD_ROWS
            if is_full and position > starts[-1]:
                starts.append(position)
                duration_s = 0.0
            duration_s += row.duration_s
        stops = [*starts[1:], len(split_rows)]
        shards += [
            Shard(split, index, len(starts), start, stop)
            for index, (start, stop) in enumerate(zip(starts, stops, strict=True))
        ]
    return shards


def _facts_of_rows(
    audio_paths: Sequence[str],
    *,
    audio_root: Path,
    facts_file: AudioFactsFile,
    num_threads: int,
    progress: bool,
) -> list[AudioFacts]:
    """Facts per row. A file that is absent (the cache was moved without its audio) is taken as remembered."""
    root = os.fspath(audio_root)
    facts: list[AudioFacts | None] = []
    for audio_path in audio_paths:
        file = Path(f"{root}/{normalize_audio_path(audio_path)}")
        known = facts_file.get(audio_path, file)
        if known is None and not file.exists():
            known = facts_file.remembered(audio_path)
        facts.append(known)
    unknown = [position for position, known in enumerate(facts) if known is None]
    errors = []
    if unknown:
        measured = facts_file.measure_all(
            audio_root,
            [audio_paths[position] for position in unknown],
            num_threads=num_threads,
            progress=progress,
        )
        for position, result in zip(unknown, measured, strict=True):
            if isinstance(result, AudioError):
                errors.append(f"{audio_paths[position]}: {result.code} ({result.found})")
            else:
                facts[position] = result
    if errors:
        shown = "; ".join(errors[:_NUM_ERRORS_SHOWN]) + (" …" if len(errors) > _NUM_ERRORS_SHOWN else "")
        raise FeatureCacheError(
            where=f"{len(errors)} of {len(audio_paths)} audio files of the splits, below {audio_root}",
            rule="every row of the splits has audio that can be read",
            found=shown,
            do="put the files back (or set paths.data_root), or run scripts/preprocess_manifest.py and "
            "scripts/split_data.py again: they leave such rows out and say why",
        )
    return [known for known in facts if known is not None]


def _digest(values: Iterable[object]) -> str:
    """BLAKE2b-64 (hexadecimal) of a list as JSON."""
    hasher = hashlib.blake2b(digest_size=8)
    for value in values:
        hasher.update(json.dumps(value, ensure_ascii=True).encode() + b"\n")
    return hasher.hexdigest()
