"""What a feature cache will hold, decided before anything is computed: its rows, key, shards and size.

The key is a hash of everything that decides the cached bytes and of nothing else: the input kind's settings,
the version of the feature code, and of every row in order the texts and carried columns, the content of the
audio file and how much of it counts. Touching or copying files does not change it.

A plan holds numbers only, some 60 bytes for each utterance; texts are read twice, when the key is computed
and when a shard is written.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from vietst.constants import SAMPLE_RATE_HZ, SPLITS
from vietst.data.audio import AudioFacts
from vietst.data.audio_facts import AudioFactsFile
from vietst.data.audio_paths import normalize_audio_path
from vietst.data.audio_pieces import locator_of, split_locator
from vietst.data.features import FEATURE_CODE_VERSION, InputKind
from vietst.data.row_rules import TRUNCATED_COLUMN
from vietst.data.split_audit import split_hash
from vietst.data.splits import open_split_file, split_path, split_rows
from vietst.data.tables import Table
from vietst.errors import AudioError, FeatureCacheError

CACHE_FORMAT_VERSION: Final = 1
"""Raise it with every change of the cached columns or files. Not for checksums, without which shards are read
alike."""

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

ROW_NUMBERS: Final = np.dtype(
    [
        ("audio_digest", "S32"),
        ("duration_s", "<f8"),
        ("num_audio_bytes", "<i8"),
        ("num_text_bytes", "<i4"),
        ("is_cut", "?"),
    ]
)
"""What a plan knows of an utterance; see `PlannedRow`. `num_text_bytes`: about what its strings take."""


@dataclass(frozen=True)
class PlannedRow:
    """One utterance of the cache-to-be, with its texts."""

    columns: tuple[str, ...]
    """Values of the plan's columns."""
    audio_digest: str
    num_audio_bytes: int
    duration_s: float
    """How much of the audio counts, from its start."""
    is_cut: bool
    """The audio goes on after that (the manifest was made with `too_long: truncate`)."""


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
        return shard_name(self.index, self.num_shards)

    @property
    def path_in_cache(self) -> Path:
        return Path(self.split) / self.file_name


@dataclass(frozen=True)
class CachePlan:
    kind: InputKind
    columns: tuple[str, ...]
    """String columns as the splits name them: `TEXT_COLUMNS`, then what else they carry."""
    rows: dict[str, np.ndarray]
    """By split, in the order of the split's file: `ROW_NUMBERS` [num_rows]."""
    shards: list[Shard]
    splits_dir: Path
    split_digests: dict[str, str]
    """Of the splits' files."""
    rows_digest: str
    """Of all texts and carried columns of all splits."""
    audio_digest: str
    """Of the content and used length of all audio files."""

    @property
    def key(self) -> str:
        return cache_key(self.kind, self.rows_digest, self.audio_digest)

    @property
    def split_hash(self) -> str:
        """Of the splits' files, as `audit.json` has it."""
        return split_hash(self.split_digests)

    @property
    def directory_name(self) -> str:
        return f"{self.kind.name}-{self.key}"

    @property
    def num_rows(self) -> dict[str, int]:
        """By split."""
        return {split: len(rows) for split, rows in self.rows.items()}

    @property
    def duration_s(self) -> dict[str, float]:
        """By split."""
        return {split: float(rows["duration_s"].sum()) for split, rows in self.rows.items()}

    @property
    def cached_columns(self) -> tuple[str, ...]:
        """The string columns as the cache names them."""
        return tuple(map(cached_name, self.columns))

    def numbers_of(self, shard: Shard) -> np.ndarray:
        """`ROW_NUMBERS` of a shard's rows."""
        return self.rows[shard.split][shard.start : shard.stop]

    def planned_row(self, row: Mapping[str, Any], numbers: tuple[bytes, float, int, int, bool]) -> PlannedRow:
        """A row of the split's file, and what `ROW_NUMBERS` says of it."""
        digest, duration_s, num_audio_bytes, _, is_cut = numbers
        return PlannedRow(_strings(row, self.columns), digest.decode(), num_audio_bytes, duration_s, is_cut)

    def forecast_bytes(self, shards: Iterable[Shard]) -> int:
        """Bytes that these shards will take on disk, within a few per cent."""
        rows = np.concatenate([self.numbers_of(shard) for shard in shards])
        durations_s, counts = np.unique(rows["duration_s"].round(2), return_counts=True)
        num_feature_bytes = sum(
            count * self.kind.num_bytes(num_samples(duration_s))
            for duration_s, count in zip(durations_s.tolist(), counts.tolist(), strict=True)
        )
        return num_feature_bytes + int(rows["num_text_bytes"].sum()) + len(rows) * _ROW_OVERHEAD_BYTES


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
    plan = plan_without_measuring(splits_dir, kind, audio_root=audio_root, facts_file=facts_file)
    if plan is None:
        tables = _open_splits(splits_dir)
        _measure_new_audio(tables, audio_root, facts_file, num_threads=num_threads, progress=progress)
        plan = _plan(tables, kind, facts_file.remembered)
        assert plan is not None
    return plan


def plan_without_measuring(
    splits_dir: Path, kind: InputKind, *, audio_root: Path, facts_file: AudioFactsFile
) -> CachePlan | None:
    """As `make_plan`; None if there is audio to measure."""
    return _plan(
        _open_splits(splits_dir),
        kind,
        lambda locator: _known_facts(locator, audio_root, facts_file),
    )


def planned_rows(plan: CachePlan, shards: Sequence[Shard]) -> Iterator[tuple[Shard, list[PlannedRow]]]:
    """Yields the shards with their rows; reads the splits once more for it.

    Args:
        shards: of the plan, in its order.

    Raises:
        FeatureCacheError: a split has changed since it was planned.
    """
    tables = _open_splits(plan.splits_dir)
    for split, table in tables.items():
        if table.digest != plan.split_digests[split]:
            raise FeatureCacheError(
                where=str(table.path),
                rule="the splits stay as they are while features are built",
                found="another content than a moment ago",
                do="run the same command again",
            )
        rows, position = split_rows(table), 0
        for shard in shards:
            if shard.split == split:
                texts = itertools.islice(rows, shard.start - position, shard.stop - position)
                position = shard.stop
                yield shard, list(map(plan.planned_row, texts, plan.numbers_of(shard).tolist()))


def shard_name(index: int, num_shards: int) -> str:
    """As `datasets` names them."""
    return f"data-{index:05d}-of-{num_shards:05d}.arrow"


def cached_name(column: str) -> str:
    """The cache's name for a column of the splits: its own, unless the cache has another use for it."""
    return f"manifest_{column}" if column in FEATURE_COLUMNS else column


def original_name(cached: str) -> str:
    """What the splits call a string column of the cache."""
    name = cached.removeprefix("manifest_")
    return name if name in FEATURE_COLUMNS else cached


def cache_key(kind: InputKind, rows_digest: str, audio_digest: str) -> str:
    """What tells caches of a kind apart, hexadecimal: a hash of settings, code, texts and audio."""
    settings = [dataclasses.asdict(kind), FEATURE_CODE_VERSION, CACHE_FORMAT_VERSION]
    return Digest([settings, rows_digest, audio_digest]).hexdigest()


def num_samples(duration_s: float) -> int:
    """At 16 kHz."""
    return round(duration_s * SAMPLE_RATE_HZ)


_to_json: Final = json.JSONEncoder(ensure_ascii=True).encode


class Digest:
    """BLAKE2b-64 of a list as JSON, item by item."""

    def __init__(self, values: Iterable[object] = ()) -> None:
        self._hasher = hashlib.blake2b(digest_size=8)
        for value in values:
            self.add(value)

    def add(self, value: object) -> None:
        self._hasher.update(_to_json(value).encode() + b"\n")

    def hexdigest(self) -> str:
        return self._hasher.hexdigest()


# --- reading ----------------------------------------------------------------------------------------------


def _open_splits(splits_dir: Path) -> dict[str, Table]:
    return {split: open_split_file(split_path(splits_dir, split)) for split in SPLITS}


def _string_columns(tables: Iterable[Table]) -> tuple[str, ...]:
    """All columns of all splits but `duration`, which becomes the cache's `duration_s`."""
    carried = dict.fromkeys(column for table in tables for column in table.columns)
    return (*TEXT_COLUMNS, *(name for name in carried if name not in TEXT_COLUMNS and name != "duration"))


def _strings(row: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    return tuple([row.get(column) or "" for column in columns])


def _plan(
    tables: Mapping[str, Table], kind: InputKind, facts_of: Callable[[str], AudioFacts | None]
) -> CachePlan | None:
    """The plan; None if the facts of a locator are not known."""
    columns = _string_columns(tables.values())
    rows_digest, audio_digest = Digest([columns]), Digest()
    numbers: dict[str, np.ndarray] = {}
    for split, table in tables.items():
        of_split = np.empty(table.num_data_lines, ROW_NUMBERS)
        num_rows = 0
        for row in split_rows(table):
            facts = facts_of(locator_of(row))
            if facts is None:
                return None
            strings = _strings(row, columns)
            limit_s = float(row.get(TRUNCATED_COLUMN) or "inf")
            duration_s, is_cut = min(limit_s, facts.duration_s), limit_s < facts.duration_s
            num_text_bytes = len("".join(strings).encode()) + 5 * len(strings)
            of_split[num_rows] = (facts.digest, duration_s, facts.num_bytes, num_text_bytes, is_cut)
            num_rows += 1
            rows_digest.add([split, strings])
            audio_digest.add([facts.digest, duration_s])
        numbers[split] = of_split[:num_rows]
    return CachePlan(
        kind=kind,
        columns=columns,
        rows=numbers,
        shards=_plan_shards({split: of_split["duration_s"].tolist() for split, of_split in numbers.items()}),
        splits_dir=next(iter(tables.values())).path.parent,
        split_digests={split: table.digest for split, table in tables.items()},
        rows_digest=rows_digest.hexdigest(),
        audio_digest=audio_digest.hexdigest(),
    )


def _known_facts(locator: str, audio_root: Path, facts_file: AudioFactsFile) -> AudioFacts | None:
    """A file that is absent (the cache was moved without its audio) is taken as remembered."""
    audio_path, _ = split_locator(locator)
    file = f"{audio_root}/{normalize_audio_path(audio_path)}"
    known = facts_file.get(locator, file)
    if known is None and not Path(file).exists():
        known = facts_file.remembered(locator)
    return known


def _measure_new_audio(
    tables: Mapping[str, Table],
    audio_root: Path,
    facts_file: AudioFactsFile,
    *,
    num_threads: int,
    progress: bool,
) -> None:
    """Leaves nothing unknown in `facts_file`.

    Raises:
        FeatureCacheError: audio that cannot be used.
    """
    from tqdm import tqdm

    num_rows, unknown = 0, []
    for table in tables.values():
        for row in split_rows(table):
            num_rows += 1
            if _known_facts(locator := locator_of(row), audio_root, facts_file) is None:
                unknown.append(locator)
    if not unknown:
        return
    num_errors, shown = 0, []
    with tqdm(total=len(unknown), desc="measure audio", unit=" files", disable=not progress) as bar:
        measured = facts_file.measure_all(audio_root, unknown, num_threads=num_threads, bar=bar)
        for locator, result in zip(unknown, measured, strict=True):
            if isinstance(result, AudioError):
                num_errors += 1
                if num_errors <= _NUM_ERRORS_SHOWN:
                    shown.append(f"{locator}: {result.code} ({result.found})")
    facts_file.save()
    if num_errors:
        raise FeatureCacheError(
            where=f"{num_errors} of {num_rows} audio files of the splits, below {audio_root}",
            rule="every row of the splits has audio that can be read",
            found="; ".join(shown) + (" …" if num_errors > len(shown) else ""),
            do="put the files back (or set paths.data_root), or run scripts/preprocess_manifest.py and "
            "scripts/split_data.py again: they leave such rows out and say why",
        )


def _plan_shards(durations_s: dict[str, list[float]]) -> list[Shard]:
    """Cuts the splits (none is empty) by seconds of audio and number of rows."""
    total_s = sum(duration_s for of_split in durations_s.values() for duration_s in of_split)
    limit_s = min(MAX_SHARD_DURATION_S, max(MIN_SHARD_DURATION_S, total_s / MIN_NUM_SHARDS))
    shards: list[Shard] = []
    for split, of_split in durations_s.items():
        starts, filled_s = [0], 0.0
        for position, duration_s in enumerate(of_split):
            is_full = filled_s + duration_s > limit_s or position - starts[-1] >= MAX_SHARD_ROWS
            if is_full and position > starts[-1]:
                starts.append(position)
                filled_s = 0.0
            filled_s += duration_s
        stops = [*starts[1:], len(of_split)]
        shards += [
            Shard(split, index, len(starts), start, stop)
            for index, (start, stop) in enumerate(zip(starts, stops, strict=True))
        ]
    return shards
