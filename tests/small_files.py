"""A disk that fills up, on purpose: this process may write small files only."""

import contextlib
import sys
from collections.abc import Iterator

import pytest

needs_limits = pytest.mark.skipif(sys.platform == "win32", reason="no limits of file sizes")


@contextlib.contextmanager
def only_files_up_to(num_bytes: int) -> Iterator[None]:
    """The limit fails as a full disk does, in whichever library writes."""
    import resource  # not on Windows

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
