"""What all importers share: rows, or the reasons why they are none, and the manifest that is written."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from vietst.data.records import format_record
from vietst.data.tables import atomic_writer, delimiter_of, file_digest, refuse_folder, write_json
from vietst.errors import ManifestError
from vietst.runtime import get_logger

FIRST_COLUMNS: Final = ("audio_path", "transcript", "translation")
"""Every manifest has them; `translation` is empty where the source has none."""

REASONS: Final = {
    "bad_row": "the row can be read, and has the fields that the others have",
    "bad_time": "times are seconds or [HH:]MM:SS, none is negative, and the end comes after the start",
    "no_transcript": "the utterance has a transcript",
    "no_audio": "the utterance has audio",
    "outside_data_root": "the audio lies below --data_root",
}
"""Reason code of a row that could not be imported, and the rule that it breaks."""

_NUM_SHOWN: Final = 3
_NO_TEXT: Final = re.compile("[\0\ud800-\udfff]")

_logger = get_logger(__name__)


class Refusal(Exception):  # noqa: N818 - a verdict on a row, not an error
    """The row cannot be imported. `reason` is a key of `REASONS`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class ImportedRow:
    """One row of the source."""

    place: str
    """Where it stands there: a line, an utterance id."""
    content: Mapping[str, str] | Refusal
    """Manifest column → value; or why there is none."""


class Importer(Protocol):
    """A source of rows."""

    source: str
    """What is imported, as the user named it."""

    @property
    def columns(self) -> Sequence[str]:
        """Of the manifest, known before the first row; those of `FIRST_COLUMNS` may be among them."""
        ...

    def rows(self) -> Iterator[ImportedRow]: ...


def write_imported(importer: Importer, output: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Writes the manifest, and beside it `<name>_import.json` (counts) and `<name>_not_imported.tsv`.

    Returns:
        The counts: what was read is what was written and what was not, by reason.

    Raises:
        ManifestError: there is a manifest already, the source cannot be used, or no row of it.
    """
    refuse_folder(output)
    if output.exists() and not overwrite:
        raise ManifestError(
            where=str(output),
            rule="an import writes a new manifest",
            found="a file that is there already",
            do="name another --output, or replace it with --overwrite",
        )
    columns = list(dict.fromkeys((*FIRST_COLUMNS, *importer.columns)))
    refused_path = output.with_name(f"{output.stem}_not_imported.tsv")
    num_written = num_without_translation = 0
    refused: Counter[str] = Counter()
    with atomic_writer(output) as manifest:
        manifest.write(format_record(columns, delimiter_of(output)))
        with atomic_writer(refused_path) as not_imported:
            not_imported.write(format_record(("place", "reason", "detail"), "\t"))
            for row in importer.rows():
                content = _as_text(row.content)
                if isinstance(content, Refusal):
                    refused[content.reason] += 1
                    record = (row.place, content.reason, content.detail)
                    not_imported.write(format_record(record, "\t"))
                    continue
                values = [content.get(column, "") for column in columns]
                manifest.write(format_record(values, delimiter_of(output)))
                num_written += 1
                num_without_translation += not content.get("translation")
        if num_written == 0:
            raise _nothing_imported(importer.source, refused, refused_path)
    summary = {
        "made_by": "scripts/import_manifest.py",
        "source": importer.source,
        "num_rows": num_written + refused.total(),
        "num_imported": num_written,
        "num_without_translation": num_without_translation,
        "not_imported": dict(sorted(refused.items())),
        "output": {"path": output.as_posix(), "digest": file_digest(output)},
    }
    write_json(output.with_name(f"{output.stem}_import.json"), summary)
    _report(summary, output, refused_path)
    return summary


def _as_text(content: Mapping[str, str] | Refusal) -> Mapping[str, str] | Refusal:
    """The row; or why not, where a manifest with it could not be read any more."""
    if isinstance(content, Refusal):
        return content
    try:
        for value in content.values():
            require_text(value)
    except Refusal as refusal:
        return refusal
    return content


def _report(summary: Mapping[str, Any], output: Path, refused_path: Path) -> None:
    _logger.info("imported %d of %d rows: %s", summary["num_imported"], summary["num_rows"], output)
    if summary["not_imported"]:
        told = ", ".join(f"{reason} {count}" for reason, count in summary["not_imported"].items())
        _logger.warning("not imported: %s; each with its reason: %s", told, refused_path)
    if summary["num_without_translation"]:
        _logger.warning(
            "%d rows have no translation: data.require_translation=false keeps them, to train the transcript "
            "alone",
            summary["num_without_translation"],
        )


def _nothing_imported(source: str, refused: Counter[str], refused_path: Path) -> ManifestError:
    told = [f"{reason} {count} ({REASONS[reason]})" for reason, count in refused.most_common(_NUM_SHOWN)]
    return ManifestError(
        where=source,
        rule="at least one row can be imported",
        found="; ".join(told) or "no rows",
        do=f"see the reason of each row in {refused_path}" if refused else "check what was named",
    )


# --- parts of importers -----------------------------------------------------------------------------------


def require_text(value: str) -> None:
    """Raises Refusal for what no UTF-8 text file holds, and JSON's escapes do."""
    if _NO_TEXT.search(value):
        raise Refusal("bad_row", f"a NUL or half of a character (a surrogate) in {value!r}")


def path_in_root(path: str, base: Path, data_root: Path) -> str:
    """A source's path as the manifest writes it: relative to `data_root`, with slashes.

    Args:
        base: what a relative path counts from.

    Raises:
        Refusal: it is empty, no text, or not below `data_root`.
    """
    require_text(path)
    if not path.strip():
        raise Refusal("no_audio", "no path")
    file = _absolute(base / path.strip())
    for name, root in ((file, _absolute(data_root)), (file.resolve(), data_root.resolve())):
        if name.is_relative_to(root):
            return name.relative_to(root).as_posix()
    raise Refusal("outside_data_root", f"{file} is not below {data_root.resolve()}")


def _absolute(path: Path) -> Path:
    """Without `..`, and with symbolic links as they are."""
    return Path(os.path.normpath(path.absolute()))


def chosen_columns(
    standard: Mapping[str, str], chosen: Mapping[str, str], available: Sequence[str], where: str
) -> dict[str, str]:
    """Manifest column → field of the source, for all fields: chosen, usual, and the others as they are.

    Args:
        standard: manifest column → the field's usual name.
        chosen: the same, as the user said.

    Raises:
        ManifestError: a chosen field is not there.
    """
    require_fields(chosen, available, where)
    mapped = dict(chosen)
    for column, name in standard.items():
        if name in available and column not in mapped and name not in mapped.values():
            mapped[column] = name
    for name in available:
        if name not in mapped.values() and name not in mapped:
            mapped[name] = name
    return mapped


def require_fields(chosen: Mapping[str, str], available: Sequence[str], where: str) -> None:
    """Raises ManifestError where a chosen field is not there."""
    missing = [name for name in chosen.values() if name not in available]
    if missing:
        raise ManifestError(
            where=where,
            rule="--columns names fields that are there",
            found=f"no {' and no '.join(missing)}; there are: {', '.join(available)}",
            do="correct --columns MANIFEST_COLUMN=FIELD",
        )


def require_columns(mapped: Mapping[str, str], where: str, available: Sequence[str]) -> None:
    """Raises ManifestError where nothing stands for the audio or the transcript."""
    missing = [column for column in ("audio_path", "transcript") if column not in mapped]
    if missing:
        raise ManifestError(
            where=where,
            rule="one field names the audio, and one holds the transcript",
            found=f"nothing for {' and '.join(missing)}; there are: {', '.join(available)}",
            do=f"say which: --columns {' '.join(f'{column}=FIELD' for column in missing)}",
        )


def seconds_of(text: str) -> float:
    """Seconds, or [HH:]MM:SS with a fraction behind a point or a comma. Raises Refusal for anything else."""
    parts = text.strip().replace(",", ".").split(":")
    try:
        seconds = float(parts[-1])
        for place, part in enumerate(reversed(parts[:-1]), 1):
            seconds += int(part) * 60**place
    except ValueError:
        seconds = -1.0
    if "-" in text or len(parts) > 3 or not 0 <= seconds < float("inf"):
        raise Refusal("bad_time", f"{text!r}")
    return seconds
