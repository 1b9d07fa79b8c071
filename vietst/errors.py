"""Errors that a user can mend: each says where, what rule, what was found, and what to do.

Scripts turn a `VietstError` into a message and exit code 2 (`vietst.script_end.run_script`). Any other
exception that reaches the user is a bug of ours.
"""

import re
from typing import Final

# To the last @ of the host's part: a password may hold one.
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/?#\s]+@")


def without_credentials(text: str) -> str:
    """A text whose addresses no longer name a user and a password."""
    return _CREDENTIALS.sub("", text)


class VietstError(Exception):
    """A user's mistake or a fault of the user's data.

    Args:
        where: the file, line, key or option at fault, as the user knows it.
        rule: what should hold there.
        found: what was there instead; an address in it loses its user and password.
        do: what to do about it.
    """

    def __init__(self, *, where: str, rule: str, found: str, do: str) -> None:
        found = without_credentials(found)
        self.where, self.rule, self.found, self.do = where, rule, found, do
        super().__init__(where, rule, found, do)

    def __str__(self) -> str:
        return f"{self.where}\n  rule:  {self.rule}\n  found: {self.found}\n  do:    {self.do}"

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword-only arguments do not survive pickling, and worker processes pickle theirs.
        return _rebuild, (type(self), self.__dict__)


def _rebuild(cls: type[VietstError], state: dict[str, str]) -> VietstError:
    error = cls.__new__(cls)
    Exception.__init__(error, *state.values())
    error.__dict__.update(state)
    return error


_LAST_ERROR = re.compile(
    r".*^vietst\.errors\.\w+: (.+)\n  rule:  (.+)\n  found: (.+)\n  do:    (.+?)\s*\Z",
    re.DOTALL | re.MULTILINE,
)


def error_in_text(traceback: str) -> VietstError | None:
    """The error at the end of a traceback: all that a DataLoader's worker process hands on. None: another."""
    found = _LAST_ERROR.match(traceback)
    if found is None:
        return None
    where, rule, what, do = found.groups()
    return VietstError(where=where, rule=rule, found=what, do=do)


class ConfigError(VietstError):
    """A run configuration that cannot be used: file missing, unknown key, value out of range."""


class ManifestError(VietstError):
    """A manifest or split file as a whole that cannot be used (single bad rows are rejected, not raised)."""


class AudioError(VietstError):
    """One audio file that cannot be used. `code` is the reason code written to `rejected.tsv`."""

    def __init__(self, *, code: str, where: str, rule: str, found: str, do: str) -> None:
        super().__init__(where=where, rule=rule, found=found, do=do)
        self.code = code


class FeatureCacheError(VietstError):
    """No usable feature cache for what the configuration asks."""


class ModelError(VietstError):
    """A model folder or Hub id that cannot be loaded, or does not fit the configuration."""


class CheckpointError(VietstError):
    """A checkpoint to resume from that is missing or incomplete."""


class TrainingError(VietstError):
    """A training that cannot go on as it is configured."""


class HubError(VietstError):
    """A model that cannot be published, or a Hub that does not take it."""
