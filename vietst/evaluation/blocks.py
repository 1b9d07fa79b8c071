"""Many utterances some at a time: alignments and n-grams of a block are gone before those of the next."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

Item = TypeVar("Item")

BLOCK_SIZE: Final = 500
"""Utterances; of this many, all that a score takes while it is computed is some 10 MB."""


def blocks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """The items in order, `BLOCK_SIZE` at a time; the last block may be shorter."""
    iterator = iter(items)
    while block := list(itertools.islice(iterator, BLOCK_SIZE)):
        yield block
