"""The rows that an audit left (scripts/audit_manifest.py --drop), and what lies beside them.

An audited manifest takes the place of the cleaned one wherever that is named: `split_data.py --input`, or
`paths.clean_manifest_path`.
"""

import json
from pathlib import Path
from typing import Any

from vietst.data.tables import file_digest
from vietst.errors import ManifestError


def summary_path(audited_manifest: Path) -> Path:
    """Which audit made it, and what it dropped: JSON, beside it under its name."""
    return audited_manifest.with_suffix(".json")


def read_audit_summary(manifest: Path) -> dict[str, Any] | None:
    """The summary of an audited manifest; None: no audit made this manifest.

    Raises:
        ManifestError: the manifest that was audited, or what is left of it, changed since.
    """
    path = summary_path(manifest)
    try:
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if summary["made_by"] != "scripts/audit_manifest.py":
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
