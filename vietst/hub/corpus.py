"""A corpus without its audio, as a `datasets` dataset in a folder: who publishes it leaves no clip behind.

    outputs/corpus/
        README.md                             the dataset's card
        data/train-00000-of-00001.parquet …   one file for each split

A row holds what the splits know of an utterance: id, video and where it lies in it, texts, whether a person
has verified them, and the signals of an audit; in a joined corpus also source and language. The same splits
and audit give the same bytes.
"""

import math
import re
import string
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from vietst.audit.audit import SIGNALS_NAME
from vietst.audit.signals import SIGNALS, Kind, Signal
from vietst.constants import SPLITS
from vietst.data.sources import LANGUAGE_COLUMN, SOURCE_COLUMN
from vietst.data.splits import (
    AUDIT_NAME,
    RULES_VERSION,
    any_taken_down,
    open_split_file,
    read_audit,
    split_path,
    split_rows,
)
from vietst.data.tables import Table, open_table
from vietst.data.takedown_list import read_takedown
from vietst.data.verified import VERIFIED_COLUMN, read_verified
from vietst.errors import HubError
from vietst.hub.private_text import local_places, tokens
from vietst.runtime import get_logger

if TYPE_CHECKING:
    import datasets

    from vietst.config_schema import PathsSection

FOLDER_NAME: Final = "corpus"
"""Of the dataset, below `paths.output_dir`."""

SIGNAL_PREFIX: Final = "audit_"

_URL_COLUMNS: Final = ("source_url", "video_url", "url")
"""Where a manifest may say it; the first that is there counts."""
_ROWS_AT_ONCE: Final = 10_000

logger = get_logger(__name__)


@dataclass(frozen=True)
class Column:
    """One column of the dataset."""

    name: str
    kind: str
    """Its type, as `datasets.Value` names it."""
    description: str
    value: Callable[[dict[str, Any]], Any]
    """From a row of a split."""
    unit: str = ""


@dataclass(frozen=True)
class Corpus:
    """A dataset that lies in a folder, and what is known of it."""

    folder: Path
    columns: list[Column]
    audit: dict[str, Any]
    """`audit.json` of the splits."""
    num_with_signals: int | None
    """Rows that an audit has looked at; None: there was none."""
    left_out: list[str]
    """Columns of the splits that are not published."""

    @property
    def num_rows(self) -> int:
        return sum(facts["num_utterances"] for facts in self.audit["splits"].values())

    def has(self, column: str) -> bool:
        return any(known.name == column for known in self.columns)


def data_file(split: str) -> str:
    """Where a split lies in the folder, and in a repository."""
    return f"data/{split}-00000-of-00001.parquet"


def write_corpus(
    paths: "PathsSection", folder: Path, *, audit_dir: Path | None, source_url: str | None
) -> Corpus:
    """Writes the data files.

    Args:
        folder: made if it is not there; other files in it are left alone.
        audit_dir: of `scripts/audit_manifest.py`; None: without signals.
        source_url: an address with a column's name in braces, as https://example.org/watch?v={video_id};
            None: what the manifest has in `source_url`, `video_url` or `url`, if anything.

    Raises:
        ManifestError: missing or broken splits.
        HubError: rows that are on the takedown list, splits that somebody changed, or a text that names a
            place on this machine.
    """
    audit = read_audit(paths.splits_dir)
    _refuse_taken_down(paths)
    tables = {split: open_split_file(split_path(paths.splits_dir, split)) for split in SPLITS}
    _require_described(audit, tables)
    known = tuple(dict.fromkeys(name for table in tables.values() for name in table.columns))
    signals = None
    if audit_dir is not None:
        ids = {row["id"] for table in tables.values() for row in split_rows(table)}
        signals = _Signals(audit_dir / SIGNALS_NAME, ids)
    columns = [
        column
        for column in (*_columns(known, source_url), *(signals.columns() if signals else ()))
        if not _is_empty(column, audit)
    ]
    for split, table in tables.items():
        _write_split(folder / data_file(split), columns, split_rows(table))
    published = {"duration", *_URL_COLUMNS, *(column.name for column in columns)}
    return Corpus(
        folder,
        columns,
        audit,
        num_with_signals=signals.num_found if signals else None,
        left_out=[name for name in known if name not in published],
    )


def _require_described(audit: dict[str, Any], tables: Mapping[str, Table]) -> None:
    """Refuses splits that their `audit.json` is not about: the card tells what stands there."""
    described = audit.get("splits", {}) if audit.get("rules_version") == RULES_VERSION else {}
    for split, table in tables.items():
        if described.get(split, {}).get("digest") != table.digest:
            raise HubError(
                where=str(table.path),
                rule="splits are published as split_data.py of this version wrote them",
                found=f"another file than {table.path.with_name(AUDIT_NAME)} describes",
                do="python scripts/split_data.py; utterances stay in their splits",
            )


def _refuse_taken_down(paths: "PathsSection") -> None:
    takedown = read_takedown(paths.takedown_path)
    if any_taken_down(paths.splits_dir, takedown):
        raise HubError(
            where=str(paths.splits_dir),
            rule=f"nothing is published that the takedown list {takedown.path} names",
            found="rows of it in the splits",
            do="python scripts/take_down.py",
        )


# --- columns ----------------------------------------------------------------------------------------------


def _columns(known: Sequence[str], source_url: str | None) -> list[Column]:
    """What there is of the columns that may be published, in their order."""
    columns = [
        _text("id", "unique in the corpus"),
        _text("video_id", "the recording that it was cut from"),
        *_source_url(known, source_url),
        *(
            Column(name, "float64", f"where it {verb}s in {of}", _number_of(name), "s")
            for of, prefix in (("its recording", ""), ("the video", "video_"))
            for verb, name in (("begin", f"{prefix}start_s"), ("end", f"{prefix}end_s"))
        ),
        Column("duration_s", "float64", "its length", lambda row: row["duration"], "s"),
        _text("channel_id", "who published the recording"),
        _text("speaker_id", "who speaks, as the corpus names speakers"),
        _text(SOURCE_COLUMN, "which of the joined corpora it is from, as its makers call them"),
        _text(LANGUAGE_COLUMN, "code of the transcript's language; null: not stated, that of the corpus"),
        _text("transcript", "what was said"),
        _text("translation", "the same in Vietnamese"),
        Column(
            VERIFIED_COLUMN,
            "bool",
            "whether a person has compared the texts with the audio; null: not known",
            lambda row: read_verified(row[VERIFIED_COLUMN]),
        ),
    ]
    made = ("source_url", "duration_s")
    return [column for column in columns if column.name in known or column.name in made]


def _is_empty(column: Column, audit: dict[str, Any]) -> bool:
    """Cleaning adds these columns where a manifest has none."""
    counted_as = {"speaker_id": "num_speakers", "channel_id": "num_channels"}.get(column.name)
    return counted_as is not None and not any(facts[counted_as] for facts in audit["splits"].values())


def _text(name: str, description: str) -> Column:
    return Column(name, "string", description, lambda row: row[name] or None)


def _number_of(name: str) -> Callable[[dict[str, Any]], float | None]:
    def number(row: dict[str, Any]) -> float | None:
        try:
            value = float(row[name] or "nan")
        except ValueError:
            raise HubError(
                where=f"{name} of {row['id']}",
                rule="seconds, or nothing where they are not known",
                found=row[name],
                do="correct the manifest, and clean and split it again; or give the column another name",
            ) from None
        return None if math.isnan(value) else value

    return number


def _source_url(known: Sequence[str], template: str | None) -> list[Column]:
    description = "where the recording is"
    if template is None:
        name = next((name for name in _URL_COLUMNS if name in known), None)
        return [Column("source_url", "string", description, lambda row: row[name] or None)] if name else []
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
    except ValueError:  # a brace without the other
        fields = set()
    if not fields or not fields <= set(known) or not re.match(r"https?://", template):
        raise HubError(
            where=f"--source_url {template}",
            rule="an address with a column of the splits in braces, by which each row has its own",
            found=f"the columns {', '.join(sorted(fields)) or 'none'}; there are {', '.join(known)}",
            do="for example --source_url 'https://www.youtube.com/watch?v={video_id}'",
        )
    return [
        Column(
            "source_url",
            "string",
            description,
            lambda row: template.format(**{field: quote(row[field], safe="") for field in fields}),
        )
    ]


class _Signals:
    """The signals of an audit, by the id of a row; texts that a model wrote are not among them."""

    def __init__(self, path: Path, published_ids: Set[str]) -> None:
        table = open_table(
            path, ("id", "audio_path"), if_missing="audit the manifest: python scripts/audit_manifest.py"
        )
        self._signals = [s for s in SIGNALS if s.name in table.columns and s.kind is not Kind.TEXT]
        self._row_of: dict[tuple[str, str], int] = {}
        self._numbers = {s.name: array("d") for s in self._signals if s.is_number}
        self._names: dict[str, dict[int, str]] = {s.name: {} for s in self._signals if not s.is_number}
        self.num_found = 0
        for index, (_, row) in enumerate(table.rows()):
            self._row_of[row["id"], row["audio_path"]] = index
            for name, values in self._numbers.items():
                values.append(float(row[name]) if row[name] else math.nan)
            for name, texts in self._names.items():
                # An audit names also rows that were dropped or taken down since.
                if row[name] and (name != "duplicate_of" or row[name] in published_ids):
                    texts[index] = row[name]

    def columns(self) -> list[Column]:
        """Those that say something of any row."""
        said = {name for name, values in self._numbers.items() if not all(map(math.isnan, values))}
        said |= {name for name, texts in self._names.items() if texts}
        columns = [self._column(signal) for signal in self._signals if signal.name in said]
        return [Column("is_audited", "bool", "whether the audit has seen it", self._is_audited), *columns]

    def _is_audited(self, row: dict[str, Any]) -> bool:
        is_audited = self._index(row) is not None
        self.num_found += is_audited
        return is_audited

    def _index(self, row: dict[str, Any]) -> int | None:
        return self._row_of.get((row["id"], row["audio_path"]))

    def _column(self, signal: Signal) -> Column:
        def number(row: dict[str, Any]) -> float | None:
            index = self._index(row)
            value = math.nan if index is None else self._numbers[signal.name][index]
            return None if math.isnan(value) else value

        def name(row: dict[str, Any]) -> str | None:
            index = self._index(row)
            return None if index is None else self._names[signal.name].get(index)

        kind, value = ("float64", number) if signal.is_number else ("string", name)
        return Column(f"{SIGNAL_PREFIX}{signal.name}", kind, signal.description, value, signal.unit)


# --- writing ----------------------------------------------------------------------------------------------


def _write_split(path: Path, columns: Sequence[Column], rows: Iterator[dict[str, Any]]) -> None:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    schema = _features(columns).arrow_schema
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HubError(
            where=str(path.parent),
            rule="the dataset is written into a folder",
            found=str(error),
            do="name another --output",
        ) from error
    partial = path.with_name(f".{path.name}.tmp")
    try:
        with parquet.ParquetWriter(partial, schema, compression="zstd") as writer:
            while values := _values_of_next(columns, rows):
                arrays = [
                    pyarrow.array(of_column, field.type)
                    for of_column, field in zip(zip(*values, strict=True), schema, strict=True)
                ]
                writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _features(columns: Sequence[Column]) -> "datasets.Features":
    from datasets import Features, Value

    return Features({column.name: Value(column.kind) for column in columns})


def _values_of_next(columns: Sequence[Column], rows: Iterator[dict[str, Any]]) -> list[list[Any]]:
    values = []
    for row in rows:
        values.append([column.value(row) for column in columns])
        _refuse_private(row["id"], columns, values[-1])
        if len(values) == _ROWS_AT_ONCE:
            break
    return values


def _refuse_private(utterance_id: str, columns: Sequence[Column], values: Sequence[Any]) -> None:
    for column, value in zip(columns, values, strict=True):
        if not isinstance(value, str):
            continue
        is_name = column.name not in ("transcript", "translation")  # what was said may look like a path
        found = [f"a token: {token}" for token in tokens(value)]
        found += [f"a local place: {place}" for place in local_places(value) if is_name]
        if found:
            raise HubError(
                where=f"{column.name} of {utterance_id}",
                rule="nothing is published that tells about the machine or the account",
                found="; ".join(found),
                do="correct the manifest, and clean and split it again",
            )
