"""What a user makes of an audit: rows that go, with their reasons, and a manifest of those that stay."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from vietst.audit.audit import RECORD_NAME, SIGNALS_NAME
from vietst.audit.drop_expression import DropExpression
from vietst.audit.signals import SIGNALS
from vietst.data.audited_manifest import summary_path
from vietst.data.manifest import REJECTED_NAME
from vietst.data.records import format_record
from vietst.data.rejections import Journal
from vietst.data.tables import Table, atomic_writer, delimiter_of, file_digest, open_table, write_json
from vietst.errors import ManifestError
from vietst.runtime import get_logger

REASON: Final = "audit"

_logger = get_logger(__name__)


def apply_drop(
    record: dict[str, Any], output_dir: Path, expression: DropExpression, kept_path: Path
) -> dict[str, Any]:
    """Writes the rows that an expression keeps, the others with its reasons, and which audit decided.

    Args:
        record: of the audit, as `audit_manifest` returns it.
        output_dir: of the audit; `rejected.tsv` is written there, with lines of the audited manifest.
        kept_path: the audited manifest, TSV or CSV; its summary lies beside it.

    Returns:
        What also stands in the summary.

    Raises:
        ManifestError: no row is left (`rejected.tsv` is written), or the manifest changed meanwhile.
    """
    table = open_table(Path(record["manifest"]["path"]))
    if kept_path.resolve() == table.path.resolve() or table.digest != record["manifest"]["digest"]:
        raise ManifestError(
            where=str(kept_path),
            rule="the rows that are kept go into a file of their own, and the audited ones stay as they were",
            found="the audited manifest itself"
            if table.digest == record["manifest"]["digest"]
            else "a change",
            do="name another file, or audit the manifest again",
        )
    rejected_path = output_dir / REJECTED_NAME
    num_kept, seconds = 0, [0.0, 0.0]
    with atomic_writer(kept_path) as kept:
        kept.write(format_record(table.columns, delimiter_of(kept_path)))
        with atomic_writer(rejected_path) as rejected:
            journal = Journal(rejected)
            for line_number, row, cells in _rows_with_signals(table, output_dir):
                is_dropped = expression.drops(cells)
                seconds[is_dropped] += float(cells["duration"] or 0)
                if is_dropped:
                    journal.remove(line_number, row, REASON, expression.reasons(cells))
                    continue
                num_kept += 1
                kept.write(format_record(list(row.values()), delimiter_of(kept_path)))
        if num_kept == 0:
            raise ManifestError(
                where=f"--drop {expression.text!r}",
                rule="at least one row is kept",
                found=f"all {journal.removed.total()} rows are dropped",
                do=f"see the signals of each row in {rejected_path}",
            )
    summary = {
        "made_by": "scripts/audit_manifest.py",
        "audit": {
            "path": (output_dir / RECORD_NAME).as_posix(),
            "key": record["key"],
            "model": record["model"],
        },
        "drop": expression.text,
        "input": record["manifest"],
        "output": {
            "path": kept_path.as_posix(),
            "digest": file_digest(kept_path),
            "num_rows": num_kept,
            "hours": round(seconds[False] / 3600, 6),
        },
        "dropped": {"num_rows": journal.removed.total(), "hours": round(seconds[True] / 3600, 6)},
        "rejected": rejected_path.as_posix(),
    }
    write_json(summary_path(kept_path), summary)
    _logger.info(
        "dropped %d of %d rows, %.2f of %.2f hours: %s",
        journal.removed.total(), record["manifest"]["num_rows"], seconds[True] / 3600,
        record["manifest"]["hours"], rejected_path,
    )  # fmt: skip
    _logger.info("kept rows: %s; split them: python scripts/split_data.py --input %s", kept_path, kept_path)
    return summary


def _rows_with_signals(
    table: Table, output_dir: Path
) -> Iterator[tuple[int, dict[str, str], dict[str, str]]]:
    signals = open_table(output_dir / SIGNALS_NAME, [signal.name for signal in SIGNALS])
    for (line_number, row), (_, cells) in zip(table.rows(), signals.rows(), strict=True):
        yield line_number, row, cells
