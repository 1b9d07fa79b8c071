"""`pinned.tsv`: the split of every video, speaker and channel, also while none of its rows is there.

    column    value      split
    video_id  video_018  test

The split files remember rows; this file remembers groups, so that a video that left the manifest and comes
back does not come back into training. A person may add lines, to say where a group goes that is to come.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from vietst.constants import SPLITS
from vietst.data.split_plan import GROUP_COLUMNS, Key
from vietst.data.tables import has_rows, open_table, write_table
from vietst.errors import ManifestError

PINS_NAME: Final = "pinned.tsv"
_COLUMNS: Final = ("column", "value", "split")

SplitsOfKey = Mapping[Key, Iterable[str]]


def read_pins(splits_dir: Path) -> dict[Key, set[str]]:
    """The splits of each key: one, or several where a person's old rows lie so. Empty without a file.

    Raises:
        ManifestError: a line that names no column or split there is.
    """
    path = splits_dir / PINS_NAME
    pins: dict[Key, set[str]] = defaultdict(set)
    if not path.exists() or not has_rows(path):
        return pins
    for line_number, row in open_table(path, _COLUMNS).rows():
        if row["column"] not in GROUP_COLUMNS or row["split"] not in SPLITS or not row["value"]:
            raise ManifestError(
                where=f"{path}, line {line_number}",
                rule=f"column is {' or '.join(GROUP_COLUMNS)}, split {' or '.join(SPLITS)}, value not empty",
                found=" ".join(map(repr, row.values())),
                do="correct the line, or take it out",
            )
        value = " ".join(unicodedata.normalize("NFC", row["value"]).split())  # as `row_rules.clean_keys`
        pins[row["column"], value].add(row["split"])
    return pins


def write_pins(splits_dir: Path, pins: SplitsOfKey) -> None:
    """Writes the file, in alphabetical order."""
    lines = [
        {"column": column, "value": value, "split": split}
        for (column, value), splits in sorted(pins.items())
        for split in SPLITS
        if split in splits
    ]
    write_table(splits_dir / PINS_NAME, lines, _COLUMNS)


def require_agreement(splits_dir: Path, pins: SplitsOfKey, splits_of_key: SplitsOfKey) -> None:
    """Refuses split files that somebody changed without the pins, or the other way round.

    Args:
        splits_of_key: by the rows of the split files.

    Raises:
        ManifestError: a key whose rows lie in a split that it is not pinned to.
    """
    disputed = [
        (key, split)
        for key, splits in sorted(splits_of_key.items())
        for split in splits
        if key in pins and split not in pins[key]
    ]
    if disputed:
        (column, value), split = disputed[0]
        pinned = " and ".join(sorted(pins[column, value]))
        raise ManifestError(
            where=str(splits_dir / PINS_NAME),
            rule="a video, speaker or channel is pinned to the split that its rows are in",
            found=f"{column} {value} is pinned to {pinned} and has rows in {split}.csv"
            + (f", and {len(disputed) - 1} more" if len(disputed) > 1 else ""),
            do=f"correct one of the two; without {PINS_NAME} the split files count; --fresh forgets both",
        )
