"""A file name that no file can have: an error that the user can mend, and no traceback."""

import errno
from typing import Final

from vietst.errors import VietstError

_NUL_IN_NAME: Final = ("embedded null byte", "embedded null character")
"""Python's words for a path that holds the character 0, as a YAML file can."""

_WINDOWS_ERRORS: Final = (123, 206)
"""Of Windows: a name with signs that it does not allow, and a path that is too long."""


def unusable_name_error(error: Exception) -> VietstError | None:
    """What to raise instead of an error that the system has for a name alone. None: it is another error."""
    number = getattr(error, "winerror", None)
    if isinstance(error, OSError) and (error.errno == errno.ENAMETOOLONG or number in _WINDOWS_ERRORS):
        found, rule = error.strerror or str(error), "a name that the file system takes"
    elif isinstance(error, ValueError) and str(error).startswith(_NUL_IN_NAME):
        found, rule = str(error), "a name without the character 0"
    else:
        return None
    return VietstError(
        where=str(getattr(error, "filename", None) or "a file or folder"),
        rule=rule,
        found=found,
        do="check the arguments, the configuration and the paths in tables; mostly names end at 255 bytes",
    )
