"""Manifests of several sources (`data.sources`), cleaned, split and cached as one.

Each row says in `data_source` which source it is from. They are joined before cleaning, not only after, for
two reasons: an utterance that two sources have is found, and what ties rows together (video, speaker,
channel) does so across sources, so that no split of one leaks into a split of another. One cache holds them
all; where a source is added, features that an older cache has are copied (`feature_reuse`), and a weight
changes none.
"""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from vietst.data.records import split_records
from vietst.data.tables import Table, delimiter_of, file_digest, open_table
from vietst.errors import ManifestError

if TYPE_CHECKING:
    from vietst.config_schema import RunConfig

SOURCE_COLUMN: Final = "data_source"
LANGUAGE_COLUMN: Final = "language"
"""Of a row's transcript, where it is not that of `model.language`; may be empty or absent."""

_ROWS_LOOKED_AT: Final = 1000

Manifests: TypeAlias = Path | Mapping[str, Path]
"""The manifest; or by name those of several sources, in their order."""


def manifests_of(config: "RunConfig") -> Manifests:
    """What a configuration's data come from."""
    sources = config.data.sources
    return {name: source.manifest for name, source in sources.items()} or config.paths.manifest_path


def paths_of(manifests: Manifests) -> list[Path]:
    return [manifests] if isinstance(manifests, Path) else list(manifests.values())


def is_monolingual(manifest: Path) -> bool:
    """Whether none of a manifest's first rows has a translation. Not if it cannot be read."""
    delimiter = delimiter_of(manifest)
    try:
        with manifest.open(encoding="utf-8-sig", newline="\n") as file:
            _, columns = next(split_records(file, delimiter, None), (0, []))
            if "translation" not in columns:
                return bool(columns)
            rows = itertools.islice(split_records(file, delimiter, len(columns)), _ROWS_LOOKED_AT)
            position = columns.index("translation")
            return not any(text.strip() for _, fields in rows for text in fields[position : position + 1])
    except (OSError, UnicodeDecodeError):
        return False


def name_of(manifests: Manifests) -> str:
    """How messages call them."""
    return ", ".join(map(str, paths_of(manifests)))


def recorded(manifests: Manifests) -> str | dict[str, str]:
    """Paths, for a record."""
    if isinstance(manifests, Path):
        return manifests.as_posix()
    return {name: path.as_posix() for name, path in manifests.items()}


def digest_of(manifests: Manifests) -> str:
    """Of the files' bytes, and of the names of sources."""
    if isinstance(manifests, Path):
        return file_digest(manifests)
    return _joined_digest({name: file_digest(path) for name, path in manifests.items()})


def _joined_digest(digests: Mapping[str, str]) -> str:
    text = "".join(f"{name}\t{digest}\n" for name, digest in digests.items())
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def open_manifests(
    manifests: Manifests, required_columns: Sequence[str], *, if_missing: str = "check the path"
) -> "Table | JoinedTables":
    """The manifest, or those of all sources as one; see `tables.open_table`."""
    if isinstance(manifests, Path):
        return open_table(manifests, required_columns, if_missing=if_missing)
    return JoinedTables(
        {name: open_table(path, required_columns, if_missing=if_missing) for name, path in manifests.items()}
    )


class JoinedTables:
    """Tables of several sources as one, with the columns of all of them; what one does not have is empty.

    Raises:
        ManifestError: a table has a column `data_source` of its own.
    """

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables = tables
        for table in tables.values():
            if SOURCE_COLUMN in table.columns:
                raise ManifestError(
                    where=str(table.path),
                    rule=f"{SOURCE_COLUMN} says which of data.sources a row comes from",
                    found="a column of this name",
                    do="rename it",
                )
        columns = dict.fromkeys(column for table in tables.values() for column in table.columns)
        self.columns = (*columns, SOURCE_COLUMN)
        self.num_data_lines = sum(table.num_data_lines for table in tables.values())
        self.digest = _joined_digest({name: table.digest for name, table in tables.items()})

    def named_records(self) -> Iterator[tuple[str, dict[str, str], str]]:
        """As `Table.named_records`; a line is `SOURCE:NUMBER`."""
        empty = dict.fromkeys(self.columns, "")
        for name, table in self._tables.items():
            for line, fields, fault in table.named_records():
                yield f"{name}:{line}", {**empty, **fields, SOURCE_COLUMN: name}, fault
