"""Train, dev and test: made from the cleaned manifest by groups, kept when the manifest grows, read back.

`split_manifest` writes `train.csv`, `dev.csv`, `test.csv` (the manifest's columns, sorted by id) and
`audit.json`. Splits that exist already are the memory: their rows stay where they are.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from vietst.constants import SPLITS
from vietst.data.records import format_record
from vietst.data.split_audit import describe_groups, describe_splits, split_hash
from vietst.data.split_plan import OldSplits, SplitPlan, Utterance, keys_of, plan_splits
from vietst.data.tables import Table, atomic_writer, file_digest, open_table, write_json
from vietst.data.text_overlap import SplitText, text_overlap
from vietst.errors import ManifestError
from vietst.runtime import get_logger
from vietst.text import NORMALIZER_ID

AUDIT_NAME: Final = "audit.json"
REQUIRED_COLUMNS: Final = ("id", "audio_path", "transcript", "translation", "duration", "video_id")

RULES_VERSION: Final = 1
"""Goes up when the same manifest, seed and old splits would give another audit or other splits."""

_MAKE_SPLITS: Final = "make the splits: python scripts/split_data.py"
_CLEAN_FIRST: Final = "clean the manifest first: python scripts/preprocess_manifest.py"
_US_PER_S: Final = 1_000_000

_logger = get_logger(__name__)


def split_manifest(
    clean_manifest_path: Path,
    splits_dir: Path,
    *,
    ratios: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 42,
    fresh: bool = False,
) -> dict[str, Any]:
    """Splits the cleaned manifest by groups; utterances of existing splits keep theirs.

    Args:
        ratios: shares of train, dev and test in hours; only what is new can follow them.
        seed: decides the order in which new groups are placed.
        fresh: forget the existing splits.

    Returns:
        What also stands in `audit.json`. If the existing splits are already those of this manifest, nothing
        is written.

    Raises:
        ManifestError: a manifest or old splits that cannot be used, or fewer groups than splits.
    """
    shares = _shares(ratios)
    if not fresh and splits_are_current(clean_manifest_path, splits_dir):
        audit = read_audit(splits_dir)
        _logger.info("%s: already the splits of %s", splits_dir, clean_manifest_path)
        if (audit["seed"], audit["ratios"]) != (seed, shares):
            _logger.warning("seed or ratios differ from when they were made; --fresh splits anew")
        return audit
    table = open_table(
        clean_manifest_path, REQUIRED_COLUMNS, if_missing=_CLEAN_FIRST, if_columns_missing=_CLEAN_FIRST
    )
    rows, utterances = _read_manifest(table)
    old, num_old = (OldSplits(), 0) if fresh else _read_old_splits(splits_dir)
    _logger.info("%s: %d utterances to split, %d of old splits", table.path, len(rows), num_old)
    plan = plan_splits(utterances, old, shares, seed)
    _refuse_empty_splits(table.path, utterances, plan, has_old=num_old > 0)
    digests = {split: _write_split(splits_dir, split, table.columns, rows, plan) for split in SPLITS}
    audit = {
        "made_by": "scripts/split_data.py",
        "rules_version": RULES_VERSION,
        "seed": seed,
        "ratios": shares,
        "manifest": {"path": table.path.as_posix(), "digest": table.digest, "num_utterances": len(rows)},
        "split_hash": split_hash(digests),
        "splits": describe_splits(utterances, plan, shares, digests),
        "num_utterances_kept": plan.num_kept,
        "num_utterances_new": len(rows) - plan.num_kept,
        "num_utterances_gone": num_old - plan.num_kept,
        "groups": describe_groups(utterances, plan, shares),
        "text_overlap": _text_overlap(table.columns, rows, utterances, plan),
    }
    write_json(splits_dir / AUDIT_NAME, audit)
    _report(audit, splits_dir)
    return audit


def splits_are_current(clean_manifest_path: Path, splits_dir: Path) -> bool:
    """Whether the splits were made from this cleaned manifest and not changed since."""
    try:
        audit = read_audit(splits_dir)
        return bool(
            audit["rules_version"] == RULES_VERSION
            and audit["text_overlap"]["normalizer"] == NORMALIZER_ID
            and audit["manifest"]["digest"] == file_digest(clean_manifest_path)
            and all(audit["splits"][s]["digest"] == file_digest(split_path(splits_dir, s)) for s in SPLITS)
        )
    except (OSError, ManifestError, KeyError, TypeError):
        return False


def split_path(splits_dir: Path, split: str) -> Path:
    """Where a split lies."""
    return splits_dir / f"{split}.csv"


def read_audit(splits_dir: Path) -> dict[str, Any]:
    """The content of `audit.json`; its `split_hash` names the splits. Raises ManifestError without one."""
    path = splits_dir / AUDIT_NAME
    try:
        audit = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(
            where=str(path), rule="splits have an audit", found=str(error), do=_MAKE_SPLITS
        ) from error
    if not isinstance(audit, dict):
        raise ManifestError(
            where=str(path), rule="a JSON object", found=type(audit).__name__, do=_MAKE_SPLITS
        )
    return audit


def read_split(splits_dir: Path, split: str) -> list[dict[str, Any]]:
    """The rows of `train`, `dev` or `test`; see `read_split_file`."""
    return read_split_file(split_path(splits_dir, split))


def read_split_file(path: Path) -> list[dict[str, Any]]:
    """The rows of a split file: text by column, but `duration`, which is a number of seconds.

    Raises:
        ManifestError: no such file, or a row without id, audio_path, transcript, video_id or duration, or
            an id that stands there twice.
    """
    return list(split_rows(open_split_file(path)))


def open_split_file(path: Path) -> Table:
    """A split file, looked through once. Raises ManifestError if it is missing or no such file."""
    return open_table(path, REQUIRED_COLUMNS, if_missing=_MAKE_SPLITS, if_columns_missing=_MAKE_SPLITS)


def split_rows(table: Table) -> Iterator[dict[str, Any]]:
    """The rows that `read_split_file` gives, one at a time. Raises ManifestError at a row with a fault."""
    ids: set[str] = set()
    for line_number, row in table.rows():
        _check_row(table, line_number, row, ids)
        yield {**row, "duration": float(row["duration"])}


# --- reading ----------------------------------------------------------------------------------------------


def _shares(ratios: Sequence[float]) -> dict[str, float]:
    values = [float(ratio) for ratio in ratios]
    total = sum(values)
    is_whole = any(math.isclose(total, whole, rel_tol=1e-6) for whole in (1, 100))
    if len(values) != len(SPLITS) or not is_whole or not min(values) > 0:
        raise ManifestError(
            where="ratios",
            rule="three shares above 0, of train, dev and test, that sum to 1 (or to 100)",
            found=" ".join(f"{value:g}" for value in values),
            do="for example --ratios 0.8 0.1 0.1",
        )
    return {split: value / total for split, value in zip(SPLITS, values, strict=True)}


def _check_row(table: Table, line_number: int, row: dict[str, str], ids: set[str]) -> None:
    """Raises ManifestError for what cleaning would have filled in or taken out; adds to `ids`."""
    empty = [column for column in ("id", "audio_path", "transcript", "video_id") if not row[column]]
    if empty:
        found = f"no {' and no '.join(empty)}"
    elif row["id"] in ids:
        found = f"{row['id']!r} a second time"
    elif not _is_duration(row["duration"]):
        found = f"duration {row['duration']!r}"
    else:
        ids.add(row["id"])
        return
    raise ManifestError(
        where=f"{table.path}, line {line_number}",
        rule="a row has an id of its own, audio_path, transcript, video_id and a duration above 0 s",
        found=found,
        do=_CLEAN_FIRST,
    )


def _is_duration(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def _read_manifest(table: Table) -> tuple[list[tuple[str, ...]], list[Utterance]]:
    """Rows as tuples in the order of the table's columns, and what the plan needs, both sorted by id."""
    entries = []
    ids: set[str] = set()
    for line_number, row in table.rows():
        _check_row(table, line_number, row, ids)
        duration_us = max(1, round(float(row["duration"]) * _US_PER_S))
        utterance = Utterance(row["id"], row["audio_path"], keys_of(row), duration_us)
        entries.append((tuple(row.values()), utterance))
    entries.sort(key=lambda entry: entry[1].id)
    return [row for row, _ in entries], [utterance for _, utterance in entries]


def _read_old_splits(splits_dir: Path) -> tuple[OldSplits, int]:
    """The splits that lie there, and how many utterances they have."""
    old = OldSplits()
    missing = [split for split in SPLITS if not split_path(splits_dir, split).exists()]
    if len(missing) == len(SPLITS):
        return old, 0
    if missing:
        raise ManifestError(
            where=str(splits_dir),
            rule="old splits are kept, and there are three of them",
            found=f"no {' and no '.join(f'{split}.csv' for split in missing)}",
            do="put the missing files back, or forget the others with --fresh",
        )
    num_old = 0
    for split in SPLITS:
        path = split_path(splits_dir, split)
        columns = ("id", "audio_path", "video_id")
        do = "put the old file back, or forget the old splits with --fresh"
        table = open_table(path, columns, if_missing=do, if_columns_missing=do)
        for line_number, row in table.rows():
            in_other = old.split_of(Utterance(row["id"], row["audio_path"], (), 0))
            if in_other not in (None, split):
                raise ManifestError(
                    where=f"{path}, line {line_number}",
                    rule="every utterance is in one split",
                    found=f"{row['id']!r} is also in {in_other}.csv",
                    do=do,
                )
            old.add(split, row["id"], row["audio_path"], keys_of(row))
            num_old += 1
    return old, num_old


# --- writing and reporting --------------------------------------------------------------------------------


def _refuse_empty_splits(
    manifest_path: Path, utterances: Sequence[Utterance], plan: SplitPlan, *, has_old: bool
) -> None:
    empty = [split for split in SPLITS if split not in plan.split_of]
    if not empty:
        return
    num_videos = len({utterance.keys[0] for utterance in utterances})
    groups = f"{len(plan.groups)} group{'s' * (len(plan.groups) > 1)}"
    videos = f"{num_videos} video{'s' * (num_videos > 1)}"
    hint = (
        "add videos; or, if these clips come from more of them, name the video in a column video_id or by "
        "preprocess_manifest.py --video_id_pattern"
    )
    if num_videos >= len(SPLITS):
        hint = "add videos, or correct the speaker_id and channel_id that tie these together"
    if has_old:
        hint += "; or split anew with --fresh"
    raise ManifestError(
        where=str(manifest_path),
        rule="train, dev and test get a group each (a video, with all that shares its speaker or channel)",
        found=f"{groups} in {videos} (one is {plan.groups[0].name!r}): nothing for {' and '.join(empty)}",
        do=hint,
    )


def _write_split(
    splits_dir: Path, split: str, columns: Sequence[str], rows: Sequence[Sequence[str]], plan: SplitPlan
) -> str:
    """Writes the rows of one split; returns the file's digest."""
    path = split_path(splits_dir, split)
    with atomic_writer(path) as file:
        file.write(format_record(columns, ","))
        for row, its_split in zip(rows, plan.split_of, strict=True):
            if its_split == split:
                file.write(format_record(row, ","))
    return file_digest(path)


def _text_overlap(
    columns: Sequence[str], rows: Sequence[Sequence[str]], utterances: Sequence[Utterance], plan: SplitPlan
) -> dict[str, Any]:
    overlap: dict[str, Any] = {"normalizer": NORMALIZER_ID}
    for column in ("transcript", "translation"):
        position = columns.index(column)
        overlap[column] = text_overlap(
            SplitText(split, utterance.id, row[position])
            for split, utterance, row in zip(plan.split_of, utterances, rows, strict=True)
        )
    return overlap


def _report(audit: dict[str, Any], splits_dir: Path) -> None:
    for split, facts in audit["splits"].items():
        _logger.info(
            "%-5s %6d utterances, %4d videos, %7.2f hours, %.1f %% (target %.1f %%)",
            split, facts["num_utterances"], facts["num_videos"], facts["hours"],
            100 * facts["share_reached"], 100 * facts["share_target"],
        )  # fmt: skip
    groups = audit["groups"]
    for group in groups["larger_than_their_split"]:
        _logger.warning(
            "group %s holds %.1f %% of all hours, more than its split %s should: it was not cut",
            group["group"], 100 * group["share_of_hours"], group["split"],
        )  # fmt: skip
    if groups["keys_in_several_splits"]["num_keys"]:
        _logger.warning(
            "%d videos, speakers or channels stand in several splits: old utterances stay where they are",
            groups["keys_in_several_splits"]["num_keys"],
        )
    for column in ("transcript", "translation"):
        for kind in ("exact", "near"):
            counts = audit["text_overlap"][column][kind]["num_utterances"]
            if any(counts.values()):
                told = ", ".join(f"{where}: {count}" for where, count in counts.items() if count)
                _logger.info("%s duplicates (%s): %s", kind, column, told)
    _logger.info("splits and what may leak between them: %s", splits_dir / AUDIT_NAME)
