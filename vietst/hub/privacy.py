"""The last look at a release before it goes up: nothing in it may tell about the machine, or hold a token."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from vietst.errors import HubError
from vietst.hub.private_text import local_places, tokens
from vietst.inference.self_check import EXPECTED_NAME, FOLDER

_TEXTS: Final = (".json", ".yaml", ".md", ".txt")
_OF_THE_TOKENIZER: Final = ("tokenizer.json", "vocab.json", "merges.txt", "normalizer.json")
"""Pieces of words, among which anything may look like a path."""
_BY_THE_MODEL: Final = f"{FOLDER}/{EXPECTED_NAME}"
"""What an untrained one says of the synthetic clip may look like a path, too."""


def refuse_private_text(release: Mapping[str, Path]) -> None:
    """Refuse a release that names a place on this machine, or holds a token.

    Args:
        release: path in the repository → file.

    Raises:
        HubError: names the file and what was found in it, of a token only the beginning.
    """
    for path, file in release.items():
        if not path.endswith(_TEXTS) or path in _OF_THE_TOKENIZER:
            continue
        text = file.read_text(encoding="utf-8")
        places = [] if path == _BY_THE_MODEL else local_places(text)
        found = [f"a local place: {place}" for place in places]
        found += [f"a token: {token}" for token in tokens(text)]
        if found:
            raise HubError(
                where=f"{path} of the release",
                rule="nothing is published that tells about the machine or the account",
                found="; ".join(found),
                do="take it out of what the file is made from, and push again",
            )
