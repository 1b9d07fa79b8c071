"""Train, dev and test: made from the cleaned manifest by groups, kept when the manifest grows, read back.

`split_manifest` writes `train.csv`, `dev.csv`, `test.csv` (the manifest's columns, sorted by id),
`audit.json` and `pinned.tsv`. Splits that exist already are the memory: their rows stay where they are, and
groups that `pinned.tsv` knows come back to their split. `set_aside.csv` holds what is in none of them (see
`data.eval_from`).
"""

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from vietst.constants import SPLITS
from vietst.data.audio_pieces import locator_of
from vietst.data.records import format_record
from vietst.data.sources import SOURCE_COLUMN
from vietst.data.split_audit import describe_groups, describe_set_aside, describe_splits, split_hash
from vietst.data.split_checks import refuse_empty_splits, refuse_unverified, report, shares_of
from vietst.data.split_pins import read_pins, require_agreement, write_pins
from vietst.data.split_plan import Key, OldSplits, SplitPlan, Utterance, keys_of, plan_splits
from vietst.data.tables import Table, atomic_writer, file_digest, has_rows, open_table, write_json
from vietst.data.takedown_list import Takedown
from vietst.data.text_overlap import SplitText, text_overlap
from vietst.data.verified import VERIFIED_COLUMN, read_verified
from vietst.errors import ManifestError
from vietst.runtime import get_logger
from vietst.text import NORMALIZER_ID

AUDIT_NAME: Final = "audit.json"
REQUIRED_COLUMNS: Final = ("id", "audio_path", "transcript", "translation", "duration", "video_id")

SET_ASIDE_NAME: Final = "set_aside.csv"

EvalFrom = Literal["all", "verified"]

RULES_VERSION: Final = 2
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
    eval_from: EvalFrom | None = None,
    takedown: Takedown | None = None,
) -> dict[str, Any]:
    """Splits the cleaned manifest by groups; utterances of existing splits keep theirs.

    Args:
        ratios: shares of train, dev and test in hours; only what is new can follow them.
        seed: decides the order in which new groups are placed.
        fresh: forget the existing splits, and what is pinned.
        eval_from: what dev and test are drawn from, see `data.eval_from`; None: as the existing splits were,
            else all.
        takedown: its rows go into no split, whatever the manifest holds.

    Returns:
        What also stands in `audit.json`. If the existing splits are already those of this manifest, nothing
        is written.

    Raises:
        ManifestError: a manifest or old splits that cannot be used, or fewer groups than splits.
    """
    shares, takedown = shares_of(ratios), takedown or Takedown()
    eval_from = eval_from or _recorded_eval_from(splits_dir, fresh=fresh)
    if not fresh and splits_are_current(
        clean_manifest_path, splits_dir, eval_from=eval_from, takedown=takedown
    ):
        audit = read_audit(splits_dir)
        _logger.info("%s: already the splits of %s", splits_dir, clean_manifest_path)
        if (audit["seed"], audit["ratios"]) != (seed, shares):
            _logger.warning("seed or ratios differ from when they were made; --fresh splits anew")
        return audit
    table = open_table(
        clean_manifest_path, REQUIRED_COLUMNS, if_missing=_CLEAN_FIRST, if_columns_missing=_CLEAN_FIRST
    )
    rows, utterances, taken_down = _read_manifest(table, takedown)
    if eval_from == "verified":
        refuse_unverified(table, utterances)
    old, num_old = (OldSplits(), 0) if fresh else _read_old_splits(splits_dir, takedown)
    _logger.info("%s: %d utterances to split, %d of old splits", table.path, len(rows), num_old)
    plan = plan_splits(utterances, old, shares, seed, only_verified=eval_from == "verified")
    refuse_empty_splits(table.path, utterances, plan, has_old=num_old > 0)
    digests = {
        split: _write_rows(
            split_path(splits_dir, split),
            table.columns,
            (rows[index] for index in plan.positions_in(split)),
        )
        for split in SPLITS
    }
    _write_set_aside(splits_dir, table.columns, rows, plan)
    pins = _pins(old, utterances, plan)
    write_pins(splits_dir, pins)
    audit = {
        "made_by": "scripts/split_data.py",
        "rules_version": RULES_VERSION,
        "seed": seed,
        "ratios": shares,
        "eval_from": eval_from,
        "manifest": {"path": table.path.as_posix(), "digest": table.digest, "num_utterances": len(rows)},
        "split_hash": split_hash(digests),
        "splits": describe_splits(utterances, plan, shares, digests),
        "set_aside": describe_set_aside(utterances, plan),
        "num_utterances_kept": plan.num_kept,
        "num_utterances_new": sum(not aside for aside in plan.is_set_aside) - plan.num_kept,
        "num_utterances_gone": num_old - plan.num_kept,
        "num_utterances_taken_down": taken_down,
        "num_keys_pinned": len(pins),
        "groups": describe_groups(utterances, plan, shares),
        "text_overlap": _text_overlap(table.columns, rows, utterances, plan),
    }
    write_json(splits_dir / AUDIT_NAME, audit)
    report(audit)
    _logger.info("splits and what may leak between them: %s", splits_dir / AUDIT_NAME)
    return audit


def splits_are_current(
    clean_manifest_path: Path,
    splits_dir: Path,
    *,
    eval_from: EvalFrom = "all",
    takedown: Takedown | None = None,
) -> bool:
    """Whether the splits were made from this cleaned manifest and not changed since."""
    try:
        audit = read_audit(splits_dir)
        return bool(
            audit["rules_version"] == RULES_VERSION
            and audit["eval_from"] == eval_from
            and audit["text_overlap"]["normalizer"] == NORMALIZER_ID
            and audit["manifest"]["digest"] == file_digest(clean_manifest_path)
            and all(audit["splits"][s]["digest"] == file_digest(split_path(splits_dir, s)) for s in SPLITS)
            and not any_taken_down(splits_dir, takedown or Takedown())
        )
    except (OSError, ManifestError, KeyError, TypeError):
        return False


def any_taken_down(splits_dir: Path, takedown: Takedown) -> bool:
    """Whether a split, or what was set aside, holds a row that is on the takedown list. Raises ManifestError
    as reading does."""
    files, set_aside = [split_path(splits_dir, split) for split in SPLITS], splits_dir / SET_ASIDE_NAME
    if set_aside.is_file() and has_rows(set_aside):
        files.append(set_aside)
    return bool(takedown) and any(
        takedown.entry_for(row) is not None for path in files for _, row in open_split_file(path).rows()
    )


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


def _recorded_eval_from(splits_dir: Path, *, fresh: bool) -> EvalFrom:
    """What the existing splits say."""
    if not fresh:
        with contextlib.suppress(ManifestError):
            return "verified" if read_audit(splits_dir).get("eval_from") == "verified" else "all"
    return "all"


def _read_manifest(table: Table, takedown: Takedown) -> tuple[list[tuple[str, ...]], list[Utterance], int]:
    """Rows as tuples in the order of the table's columns, and what the plan needs, both sorted by id; and how
    many rows the takedown list leaves out."""
    entries = []
    ids: set[str] = set()
    num_taken_down = 0
    for line_number, row in table.rows():
        _check_row(table, line_number, row, ids)
        if takedown.entry_for(row) is not None:
            num_taken_down += 1
            continue
        duration_us = max(1, round(float(row["duration"]) * _US_PER_S))
        is_verified = read_verified(row.get(VERIFIED_COLUMN, "")) is True
        utterance = Utterance(
            row["id"], locator_of(row), keys_of(row), duration_us, is_verified, row.get(SOURCE_COLUMN, "")
        )
        entries.append((tuple(row.values()), utterance))
    if not entries:
        raise ManifestError(
            where=str(table.path),
            rule="there are utterances to split",
            found=f"the takedown list {takedown.path} names all {num_taken_down}",
            do="add videos, or correct the list",
        )
    entries.sort(key=lambda entry: entry[1].id)
    return [row for row, _ in entries], [utterance for _, utterance in entries], num_taken_down


def _read_old_splits(splits_dir: Path, takedown: Takedown) -> tuple[OldSplits, int]:
    """The splits that lie there, what is pinned, and how many utterances they have.

    What the takedown list names is forgotten, and with it the keys that no other row of the splits has.
    """
    old, pins = OldSplits(), read_pins(splits_dir)
    keys_taken_down = {key for key in pins if takedown.entry_for(dict([key])) is not None}
    missing = [split for split in SPLITS if not split_path(splits_dir, split).exists()]
    if len(missing) == len(SPLITS):
        old.add_pins({key: pins[key] for key in pins.keys() - keys_taken_down})
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
        if not has_rows(path):
            continue  # all of it was taken down
        columns = ("id", "audio_path", "video_id")
        do = "put the old file back, or forget the old splits with --fresh"
        table = open_table(path, columns, if_missing=do, if_columns_missing=do)
        for line_number, row in table.rows():
            num_old += 1
            if takedown.entry_for(row) is not None:
                keys_taken_down.update(keys_of(row))
                continue
            locator = locator_of(row)
            in_other = old.split_of(Utterance(row["id"], locator, (), 0))
            if in_other not in (None, split):
                raise ManifestError(
                    where=f"{path}, line {line_number}",
                    rule="every utterance is in one split",
                    found=f"{row['id']!r} is also in {in_other}.csv",
                    do=do,
                )
            old.add(split, row["id"], locator, keys_of(row))
    require_agreement(splits_dir, pins, old.splits_of_key)
    forgotten = keys_taken_down - old.splits_of_key.keys()
    old.add_pins({key: pins[key] for key in pins.keys() - forgotten})
    return old, num_old


def _pins(old: OldSplits, utterances: Sequence[Utterance], plan: SplitPlan) -> dict[Key, set[str]]:
    """What was pinned before, and all that has a split now."""
    pins = {key: set(splits) for key, splits in old.splits_of_key.items()}
    for utterance, split in zip(utterances, plan.split_of, strict=True):
        for key in utterance.keys:
            pins.setdefault(key, set()).add(split)
    return pins


# --- writing ----------------------------------------------------------------------------------------------


def _write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Writes a split file; returns its digest."""
    with atomic_writer(path) as file:
        file.write(format_record(columns, ","))
        for row in rows:
            file.write(format_record(row, ","))
    return file_digest(path)


def _write_set_aside(
    splits_dir: Path, columns: Sequence[str], rows: Sequence[Sequence[str]], plan: SplitPlan
) -> None:
    """The rows that are in no split; no file where there are none."""
    path = splits_dir / SET_ASIDE_NAME
    if any(plan.is_set_aside):
        _write_rows(path, columns, [row for row, aside in zip(rows, plan.is_set_aside, strict=True) if aside])
    else:
        path.unlink(missing_ok=True)


def _text_overlap(
    columns: Sequence[str], rows: Sequence[Sequence[str]], utterances: Sequence[Utterance], plan: SplitPlan
) -> dict[str, Any]:
    overlap: dict[str, Any] = {"normalizer": NORMALIZER_ID}
    for column in ("transcript", "translation"):
        position = columns.index(column)
        overlap[column] = text_overlap(
            SplitText(split, utterances[index].id, rows[index][position])
            for split in SPLITS
            for index in plan.positions_in(split)
        )
    return overlap
