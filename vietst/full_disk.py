"""A disk that fills up, or a quota that is used up, while something is written: an error that the user can
mend, and no traceback."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from vietst.errors import VietstError

_ERRNOS: Final = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_WORDS: Final = ("No space left", "File too large", "Disk quota exceeded", "Not enough disk space")
"""The system's own, in exceptions without a number, as those of safetensors; and what datasets says before it
writes."""


def is_full_disk(error: Exception) -> bool:
    """Whether a file could not be written because there was no room, and nobody has said so yet."""
    if isinstance(error, VietstError):
        return False
    number = error.errno if isinstance(error, OSError) else None
    return number in _ERRNOS or any(word in str(error) for word in _WORDS)


def full_disk_error(
    error: Exception,
    where: Path | str,
    kind: type[VietstError] = VietstError,
    *,
    rule: str = "the disk keeps room for what is written",
    do: str = "free some space, and run the same command again",
) -> VietstError:
    """What to raise instead of an error that `is_full_disk`."""
    return kind(where=str(where), rule=rule, found=str(error).splitlines()[0], do=do)


@contextlib.contextmanager
def full_disk_is_an_error(
    where: Path | str, kind: type[VietstError] = VietstError, **words: str
) -> Iterator[None]:
    """Raises `full_disk_error` with these words where the block fails for want of room."""
    try:
        yield
    except Exception as error:
        if not is_full_disk(error):
            raise
        raise full_disk_error(error, where, kind, **words) from error
