"""What must not stand in a published text: places on this machine, and tokens."""

import re
from typing import Final

# Not a path: "1 / 2", "and/or", a URL's own slashes, "</s>".
_START: Final = r"(?:(?<=[\s\"'`(\[{=|,;:>*_])|^)"
_LOCAL_PLACES: Final = (
    re.compile(rf"{_START}/(?![/\s])[^\s\"'`)\]}}>|,;]+", re.MULTILINE),
    re.compile(r"(?<![A-Za-z])[A-Za-z]:[\\/](?![/\s])[^\s\"'`)\]}>|,;]*"),
    re.compile(r"\\\\[\w.$?-]+\\[^\s\"'`)\]}>|,;]*"),
    re.compile(r"\bfile:/[^\s\"'`)\]}>|,;]*", re.IGNORECASE),
    re.compile(rf"{_START}~[\w.-]*[\\/][^\s\"'`)\]}}>|,;]*", re.MULTILINE),
    re.compile(r"(?:\$\{?\w+\}?|%\w+%)[\\/][^\s\"'`)\]}>|,;]*"),
)
"""POSIX, Windows with a drive, Windows on a server, file: addresses, home folders, environment variables."""

_TOKENS: Final = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}")

_PLAIN: Final = re.compile(r"[\w .,:;+=()@|%>≤−–*&'!?-]{1,200}")


def local_places(text: str) -> list[str]:
    """Absolute paths and the like."""
    return [match.group(0) for pattern in _LOCAL_PLACES for match in pattern.finditer(text)]


def tokens(text: str) -> list[str]:
    """What looks like a token of the Hub, without most of it."""
    return [f"{match.group(0)[:6]}…" for match in _TOKENS.finditer(text)]


def is_plain(text: str) -> bool:
    """Whether a recorded text may be published as it is: short, on one line, without slashes (no path of any
    kind), tokens and HTML."""
    return _PLAIN.fullmatch(text) is not None and not tokens(text)
