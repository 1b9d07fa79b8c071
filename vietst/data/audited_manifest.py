"""The rows that an audit left (scripts/audit_manifest.py --drop), and what lies beside them.

An audited manifest takes the place of the cleaned one wherever that is named: `split_data.py --input`, or
`paths.clean_manifest_path`.
"""

import json
from pathlib import Path
from typing import Any, Final

from vietst.data.tables import file_digest
from vietst.errors import ManifestError

_MADE_BY: Final = "scripts/audit_manifest.py"


def summary_path(audited_manifest: Path) -> Path:
    """Which audit made it, and what it dropped: JSON, beside it under its name."""
    return audited_manifest.with_suffix(".json")


def is_audited(manifest: Path) -> bool:
    """Whether an audit made this manifest, whatever became of it since."""
    try:
        summary = json.loads(summary_path(manifest).read_text(encoding="utf-8"))
        return bool(summary["made_by"] == _MADE_BY)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_audit_summary(manifest: Path) -> dict[str, Any] | None:
    """The summary of an audited manifest; None: no audit made this manifest.

    Raises:
        ManifestError: the manifest that was audited, or what is left of it, changed since.
    """
    path = summary_path(manifest)
    try:
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if summary["made_by"] != _MADE_BY:
            return None
        for part in ("output", "input"):
            file = manifest if part == "output" else Path(summary[part]["path"])
            if file_digest(file) != summary[part]["digest"]:
                raise ManifestError(
                    where=str(file),
                    rule=f"it is as it was when {path} was written",
                    found="a change",
                    do=f"audit again: python scripts/audit_manifest.py … --drop '{summary['drop']}'",
                )
    except FileNotFoundError:
        return None
    return summary
