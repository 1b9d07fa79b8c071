"""Feature caches and encoder states that hold what the takedown list names: found, made anew, deleted.

A cache is for one set of rows, and its name is a hash of them. So a cache without the named rows is another
folder: its features are copied from the old one, which is then deleted, file by file.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vietst.data.abandoned import is_abandoned
from vietst.data.audio_facts import AudioFactsFile
from vietst.data.audio_pieces import PIECE_COLUMNS
from vietst.data.encoder_state_cache import FOLDER_NAME as STATES_FOLDER
from vietst.data.feature_cache import FACTS_FILE_NAME, build_feature_cache
from vietst.data.feature_card import COMPLETE_MARK, has_same_features, read_card, read_cards
from vietst.data.feature_plan import CachePlan, make_plan
from vietst.data.feature_reuse import ReusableRows, forget_opened, only_sound
from vietst.data.feature_shards import TEMPORARY_PREFIX
from vietst.data.features import InputKind
from vietst.data.takedown_list import NAMING_COLUMNS, Takedown
from vietst.data.takedown_tables import NamedRows
from vietst.errors import FeatureCacheError, ManifestError
from vietst.runtime import get_logger

if TYPE_CHECKING:
    import datasets
    import pyarrow  # type: ignore[import-untyped]

_CACHE_NAME: Final = re.compile(r"(.+)-[0-9a-f]{16}")

logger = get_logger(__name__)


@dataclass(frozen=True)
class NamedCache:
    """A folder with Arrow files that hold named rows."""

    directory: Path
    num_rows: int
    """Named ones."""


def find_caches(features_dir: Path, takedown: Takedown, named: NamedRows) -> list[NamedCache]:
    """The feature caches, finished or not, that hold rows which the list names; adds these to `named`."""
    found = []
    for directory in _cache_directories(features_dir) if takedown else ():
        num_rows = 0
        for batch in _batches(directory):
            for position in np.flatnonzero(named_rows(batch, takedown)).tolist():
                row = {
                    column: batch.column(column)[position].as_py()
                    for column in (*NAMING_COLUMNS, *PIECE_COLUMNS, "audio_digest")
                    if column in batch.schema.names
                }
                entry = takedown.entry_for(row)
                if entry is not None:
                    named.add(entry, row)
                    named.digests.add(row["audio_digest"])
                    num_rows += 1
        if num_rows:
            found.append(NamedCache(directory, num_rows))
    return found


def find_states(features_dir: Path, digests: set[str]) -> list[NamedCache]:
    """The encoder state caches that hold states of clips with these digests."""
    import pyarrow
    from pyarrow import compute

    wanted, found = pyarrow.array(sorted(digests), pyarrow.string()), []
    for directory in _cache_directories(features_dir / STATES_FOLDER) if digests else ():
        num_rows = sum(
            compute.sum(compute.is_in(batch.column("audio_digest"), value_set=wanted)).as_py() or 0
            for batch in _batches(directory)
        )
        if num_rows:
            found.append(NamedCache(directory, num_rows))
    return found


def find_leftovers(features_dir: Path) -> list[Path]:
    """What killed builds left half written: nobody can tell what it holds. None that is being written."""
    found = (
        Path(parent, name)
        for parent, folders, files in os.walk(features_dir)  # goes on where a folder vanishes
        for name in (*folders, *files)
        if name.startswith(TEMPORARY_PREFIX)
    )
    return sorted(filter(is_abandoned, found))


def named_rows(table: "pyarrow.Table | pyarrow.RecordBatch", takedown: Takedown) -> np.ndarray:
    """Which rows the list names: bool [num_rows]. Their names are spelled as cleaning does."""
    import pyarrow
    from pyarrow import compute

    named = np.zeros(table.num_rows, dtype=bool)
    for column in NAMING_COLUMNS:
        values = takedown.values_of(column)
        if values and column in table.schema.names:
            # A path is spelled as its file is called, perhaps with decomposed letters.
            spelled = compute.utf8_normalize(table.column(column), form="NFC")
            is_in = compute.is_in(spelled, value_set=pyarrow.array(values, pyarrow.string()))
            named |= np.asarray(is_in.to_numpy(zero_copy_only=False), dtype=bool)
    return named


def refuse_taken_down(cache: "datasets.DatasetDict", takedown: Takedown, *, where: str, do: str) -> None:
    """Refuses features among which there are rows that the list names.

    Args:
        where, do: for the message.

    Raises:
        FeatureCacheError: names the first such row.
    """
    if not takedown:
        return
    for split, rows in cache.items():
        columns = [column for column in NAMING_COLUMNS if column in rows.column_names]
        positions = np.flatnonzero(named_rows(rows.data.table.select(columns), takedown)).tolist()
        if positions:
            raise FeatureCacheError(
                where=where,
                rule=f"nothing is trained on or published that the takedown list {takedown.path} names",
                found=f"{len(positions)} utterances in {split} (the first: {rows[positions[0]]['id']})",
                do=do,
            )


def make_without(
    caches: Sequence[NamedCache], splits_dir: Path, features_dir: Path, *, audio_root: Path, measured: Path
) -> list[Path]:
    """Builds the caches for the splits as they are now out of the old ones, kind by kind.

    Only where copying is enough: where audio would have to be read, the next build does it. Returns the new
    caches' folders.

    Raises:
        FeatureCacheError: too little disk space.
    """
    made = []
    for kind in _kinds_of(caches):
        plan = _plan(splits_dir, features_dir, kind, audio_root, measured)
        cards = read_cards(features_dir, kind)
        finished = [directory for directory, card in cards.items() if has_same_features(card, kind)]
        reusable = ReusableRows(finished)
        is_all_there = plan is not None and all(
            None not in only_sound(reusable.find(rows)) for rows in plan.rows.values()
        )
        if is_all_there:
            options: dict[str, Any] = {"audio_root": audio_root, "measured": measured, "num_proc": 1}
            made.append(build_feature_cache(splits_dir, features_dir, kind, **options, progress=False))
        else:
            logger.info("%s: not all features are there to copy; build_features.py builds them", kind.name)
    forget_opened()
    return made


def delete(caches: Sequence[NamedCache], leftovers: Sequence[Path]) -> None:
    """Deletes the folders; one that a kill leaves half there is no finished cache, and found again."""
    for path in leftovers:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for cache in caches:
        (cache.directory / COMPLETE_MARK).unlink(missing_ok=True)
        shutil.rmtree(cache.directory.resolve())
        if cache.directory.is_symlink():  # to a disk with more room
            cache.directory.unlink()


def _plan(
    splits_dir: Path, features_dir: Path, kind: InputKind, audio_root: Path, measured: Path
) -> CachePlan | None:
    """The plan for the splits as they are; audio that was touched since is compared by its hash. None: there
    can be none."""
    facts_file = AudioFactsFile(features_dir / FACTS_FILE_NAME)
    facts_file.add_from(measured)
    # No splits, or audio that cannot be used: building says which.
    with contextlib.suppress(FeatureCacheError, ManifestError):
        return make_plan(splits_dir, kind, audio_root=audio_root, facts_file=facts_file, progress=False)
    return None


def _kinds_of(caches: Sequence[NamedCache]) -> list[InputKind]:
    """Of the finished ones that this code can still read."""
    kinds: dict[InputKind, None] = {}
    for cache in caches:
        card = read_card(cache.directory)
        if card is not None and has_same_features(card, kind := InputKind(**card["input_kind"])):
            kinds[kind] = None
    return list(kinds)


def _cache_directories(folder: Path) -> list[Path]:
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in paths if path.is_dir() and _CACHE_NAME.fullmatch(path.name))


def _batches(directory: Path) -> Iterator["pyarrow.RecordBatch"]:
    """All rows of a folder's shards, also where not all of them are there; features are not read."""
    import pyarrow

    for path in sorted(directory.glob("*/data-*.arrow")):
        try:
            with pyarrow.memory_map(str(path)) as file, pyarrow.ipc.open_stream(file) as stream:
                for batch in stream:
                    batch.validate(full=True)  # in a damaged text nobody finds a name
                    yield batch
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            raise FeatureCacheError(
                where=str(path),
                rule="a shard is a whole Arrow file, so that what it holds can be told",
                found=str(error),
                do=f"delete the folder {directory}, and run the same command again",
            ) from error
