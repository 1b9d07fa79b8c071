"""The column `verified`: whether a person has compared a row's texts with its audio."""

from typing import Final

VERIFIED_COLUMN: Final = "verified"

_WORDS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def read_verified(text: str) -> bool | None:
    """What a cell says, in any case of letters; None where it is empty or says something else."""
    return _WORDS.get(text.strip().lower())


def format_verified(text: str) -> str:
    """A cell in its one spelling: `true`, `false`, or nothing where nobody can tell."""
    verified = read_verified(text)
    return "" if verified is None else str(verified).lower()
