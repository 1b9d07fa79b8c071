"""The Hub's lists of licenses, tasks, libraries and metrics: data beside this file, with their sources."""

import functools
import json
from importlib import resources
from typing import Any, Final

OTHER: Final = "other"
"""The Hub's license for those that are not in its list; it then has a name and a link."""


@functools.cache
def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((resources.files("vietst.hub") / name).read_text(encoding="utf-8"))
    return content


def license_terms() -> dict[str, list[str]]:
    """The Hub's license identifiers, and what each asks for (`licenses.Term`)."""
    terms: dict[str, list[str]] = _read("hub_lists.json")["licenses"]["terms"]
    return terms


def names(kind: str) -> frozenset[str]:
    """What the Hub knows of `pipeline_tags`, `libraries` or `metrics`."""
    return frozenset(_read("hub_lists.json")[kind]["names"])


def base_licenses() -> dict[str, str]:
    """License by Hub id of well-known base models."""
    licenses: dict[str, str] = _read("base_licenses.json")["licenses"]
    return licenses
