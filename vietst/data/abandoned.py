"""Files that a killed process left half written, told from those that another one writes at this moment."""

import time
from pathlib import Path
from typing import Final

_ABANDONED_AFTER_S: Final = 60.0
"""A file that is still being written grows more often than that."""


def is_abandoned(path: Path) -> bool:
    """Whether nobody writes it any more; who finishes it may move it away at this moment."""
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S
    except FileNotFoundError:
        return False
