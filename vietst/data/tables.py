"""Table files, TSV and CSV: read the way people write them, written so that equal rows give equal bytes."""

import codecs
import contextlib
import difflib
import hashlib
import itertools
import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, TextIO

from vietst.data.records import format_record, split_records
from vietst.errors import ManifestError
from vietst.full_disk import full_disk_is_an_error

_DELIMITER_NAMES: Final = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "vertical bars"}

_UTF16_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def delimiter_of(path: Path) -> str:
    """A comma for `.csv`, a tab for every other name."""
    return "," if path.suffix.lower() == ".csv" else "\t"


def file_digest(path: Path) -> str:
    """`sha256:` and the hexadecimal SHA-256 of a file's bytes."""
    hasher = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return f"sha256:{hasher.hexdigest()}"


# --- reading ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A table file that was looked through once: it is UTF-8 and has a usable header and a line below it."""

    path: Path
    delimiter: str
    columns: tuple[str, ...]
    header_line_number: int
    num_data_lines: int
    """Lines below the header that are not blank; more than rows where quoted fields hold line ends."""
    digest: str

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Yields (line number in the file, fields) per row, however many fields it has."""
        with self.path.open(encoding="utf-8-sig", newline="\n") as file:
            records = split_records(file, self.delimiter, len(self.columns))
            for line_number, fields in records:
                if line_number > self.header_line_number:
                    yield line_number, fields

    def named_records(self) -> Iterator[tuple[int, dict[str, str], str]]:
        """Yields (line number, fields by column, what is wrong with their number or nothing) per row."""
        for line_number, fields in self.records():
            is_whole = len(fields) == len(self.columns)
            fault = "" if is_whole else f"{len(fields)} fields, the header names {len(self.columns)}"
            yield line_number, dict(zip(self.columns, fields, strict=False)), fault

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yields (line number, fields by column).

        Raises:
            ManifestError: at a row whose number of fields is not the header's.
        """
        for line_number, fields in self.records():
            if len(fields) != len(self.columns):
                raise ManifestError(
                    where=f"{self.path}, line {line_number}",
                    rule=f"every row has the header's {len(self.columns)} fields",
                    found=f"{len(fields)} fields",
                    do="mend the line, or make the file again",
                )
            yield line_number, dict(zip(self.columns, fields, strict=True))


def open_table(
    path: Path,
    required_columns: Sequence[str] = (),
    *,
    if_missing: str = "check the path",
    if_columns_missing: str = "rename or add the column",
) -> Table:
    """Looks a TSV or CSV file (by its suffix) through and reads its header.

    Args:
        required_columns: names that must stand in the header, in any order.
        if_missing: what to do when there is no such file, for the message.
        if_columns_missing: what to do when a required column is not there.

    Raises:
        ManifestError: no such file, nothing in it, not UTF-8, NUL bytes, or a header that cannot be used.
    """
    digest, num_filled_lines = _look_through(path, if_missing)
    delimiter = delimiter_of(path)
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        line_number, header = next(split_records(file, delimiter, None), (0, []))
    if line_number == 0:
        _refuse(path, "a table has a header and rows", "an empty file", "make the file again")
    columns = tuple(unicodedata.normalize("NFC", name).strip() for name in header)
    where = f"{path}, line {line_number}"
    _check_delimiter(where, delimiter, columns, required_columns)
    _check_columns(where, columns, required_columns, if_columns_missing)
    if num_filled_lines == 1:
        _refuse(path, "a table has rows below its header", "a header only", "make the file again")
    return Table(path, delimiter, columns, line_number, num_filled_lines - 1, digest)


def has_rows(path: Path) -> bool:
    """Whether there is anything below a table's header."""
    with path.open("rb") as file:
        return len(list(itertools.islice((line for line in file if line.strip()), 2))) == 2


def read_table(
    path: Path, required_columns: Sequence[str] = (), *, if_missing: str = "check the path"
) -> list[dict[str, str]]:
    """All rows of a TSV or CSV file. Raises ManifestError as `open_table` does, and at rows of odd length."""
    return [row for _, row in open_table(path, required_columns, if_missing=if_missing).rows()]


def _look_through(path: Path, if_missing: str) -> tuple[str, int]:
    """(digest, number of lines that are not blank); refuses what cannot be a UTF-8 text file."""
    if not path.exists():
        _refuse(path, "the file exists", "no such file", if_missing)
    hasher, num_filled_lines = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            for line_number, line in enumerate(file, 1):
                if line_number == 1:
                    _check_line_ends_and_width(path, line)
                hasher.update(line)
                _check_text(path, line_number, line)
                num_filled_lines += bool(line.removeprefix(codecs.BOM_UTF8).strip(b"\r\n"))
    except OSError as error:
        _refuse(
            path, "the file can be read", error.strerror or str(error), "check the path and its permissions"
        )
    return f"sha256:{hasher.hexdigest()}", num_filled_lines


def _check_line_ends_and_width(path: Path, first_line: bytes) -> None:
    if first_line.startswith(_UTF16_MARKS):
        _refuse(
            path,
            "the text is UTF-8",
            "UTF-16 (what Excel calls Unicode text)",
            "save it as UTF-8 (CSV UTF-8)",
        )
    if b"\r" in first_line and not first_line.endswith(b"\n"):
        _refuse(path, "lines end with LF or CR LF", "CR alone (old Mac)", "save it with another line end")


def _check_text(path: Path, line_number: int, line: bytes) -> None:
    if b"\0" in line:
        _refuse(
            f"{path}, line {line_number}",
            "the text holds no NUL bytes",
            f"a NUL at byte {line.index(0) + 1} of the line (UTF-16 text, or no text at all?)",
            "save it as UTF-8",
        )
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse(
            f"{path}, line {line_number}",
            "the text is UTF-8",
            f"byte {error.start + 1} of the line is 0x{line[error.start]:02x}: {error.reason}",
            "save it as UTF-8 (Windows-1258 or another encoding?)",
        )


def _check_delimiter(where: str, delimiter: str, columns: Sequence[str], required: Sequence[str]) -> None:
    """If the header makes more sense when split at another character, says so."""
    num_known = len(set(required).intersection(columns))
    whole = delimiter.join(columns)
    for other, name in _DELIMITER_NAMES.items():
        names = {part.strip().strip('"') for part in whole.split(other)}
        if other != delimiter and len(names.intersection(required)) > max(num_known, 1):
            suffix = ".csv" if other == "," else ".tsv" if other == "\t" else None
            rename = f"name the file {suffix}, or " if suffix else ""
            _refuse(
                where,
                f"columns are separated by {_DELIMITER_NAMES[delimiter]} (.csv: commas, all others: tabs)",
                f"they seem to be separated by {name}",
                f"{rename}save it with {_DELIMITER_NAMES[delimiter]}",
            )


def _check_columns(where: str, columns: Sequence[str], required: Sequence[str], if_missing: str) -> None:
    if "" in columns:
        _refuse(
            where,
            "every column has a name",
            f"column {columns.index('') + 1} has none",
            "name or remove it (pandas: to_csv(..., index=False))",
        )
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled:
        _refuse(where, "column names differ", f"{', '.join(doubled)} more than once", "rename or remove one")
    missing = [name for name in required if name not in columns]
    if missing:
        others = [name for name in columns if name not in required]
        _refuse(
            where,
            f"the columns {', '.join(required)} are there",
            f"no {' and no '.join(_with_nearest(name, others) for name in missing)}; "
            f"the header names: {', '.join(columns)}",
            if_missing,
        )


def _with_nearest(missing: str, columns: Sequence[str]) -> str:
    by_lower_case = {name.lower(): name for name in columns}
    nearest = difflib.get_close_matches(missing, by_lower_case, n=1)
    return f"{missing} (nearest: {by_lower_case[nearest[0]]})" if nearest else missing


def _refuse(where: Path | str, rule: str, found: str, do: str) -> NoReturn:
    raise ManifestError(where=str(where), rule=rule, found=found, do=do)


# --- writing ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[TextIO]:
    """A UTF-8 text file that takes the place of `path` when the block ends, and is dropped when it fails.

    Raises:
        ManifestError: the file cannot be made, or cannot take the place.
        VietstError: the disk is full.
    """
    refuse_folder(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        _refuse(path, "the file can be written", f"{error.filename}: {error.strerror}", "name another place")
    try:
        with full_disk_is_an_error(path):
            with file:
                yield file
            _put_in_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_folder(path: Path) -> None:
    """Raises ManifestError where a file shall be written and there is a folder."""
    if path.is_dir():
        _refuse(path, "the file can be written", "a folder", "name a file in it, or another place")


def _put_in_place(temporary: Path, path: Path) -> None:
    try:
        temporary.replace(path)
    except PermissionError as error:
        # On Windows, whatever another program has open: a table in Excel.
        do = "close the program that has it open, and run the same command again"
        _refuse(path, "the file can be replaced", str(error.strerror), do)


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Writes a JSON file atomically: readable UTF-8, keys in the given order."""
    with atomic_writer(path) as file:
        json.dump(content, file, ensure_ascii=False, indent=2)
        file.write("\n")


def write_table(path: Path, rows: Iterable[Mapping[str, str]], columns: Sequence[str]) -> None:
    """Writes a TSV or CSV file (by its suffix) atomically; a row's other keys are left out."""
    delimiter = delimiter_of(path)
    with atomic_writer(path) as file:
        file.write(format_record(columns, delimiter))
        for row in rows:
            file.write(format_record([row[column] for column in columns], delimiter))
