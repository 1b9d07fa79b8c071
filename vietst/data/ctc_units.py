"""What the auxiliary CTC loss spells transcripts with: characters or the tokenizer's pieces; id 0 is blank.

Only the units of the training transcripts get an id, so that the head stays small: some hundred outputs
instead of a tokenizer's fifty or two hundred and fifty thousand. A unit without an id is skipped: it only
teaches the encoder a little less.
"""

import hashlib
import json
from collections.abc import Callable, Iterable


class CharacterTable:
    """Lower-cased characters."""

    name = "characters"

    def __init__(self, characters: Iterable[str]) -> None:
        self.units = sorted(set(characters))
        self._ids = {character: position + 1 for position, character in enumerate(self.units)}

    @classmethod
    def of_texts(cls, texts: Iterable[str]) -> "CharacterTable":
        characters: set[str] = set()
        for text in texts:
            characters.update(text.lower())
        return cls(characters)

    def __len__(self) -> int:
        """How many outputs a CTC head needs: the characters and the blank."""
        return len(self.units) + 1

    def encode(self, text: str) -> list[int]:
        return [self._ids[character] for character in text.lower() if character in self._ids]


class SubwordTable:
    """Pieces of the model's own tokenizer, those that the decoder learns too (Watanabe et al. 2017).

    Args:
        token_ids: ids of the tokenizer that may occur.
        tokenize: a text into ids of the tokenizer, without special tokens. Data loaders send it to their
            processes, so it is no lambda.
    """

    name = "subwords"

    def __init__(self, token_ids: Iterable[int], tokenize: Callable[[str], list[int]]) -> None:
        self.units = sorted(set(token_ids))
        self._ids = {token_id: position + 1 for position, token_id in enumerate(self.units)}
        self._tokenize = tokenize

    @classmethod
    def of_texts(cls, texts: Iterable[str], tokenize: Callable[[str], list[int]]) -> "SubwordTable":
        token_ids: set[int] = set()
        for text in texts:
            token_ids.update(tokenize(text))
        return cls(token_ids, tokenize)

    def __len__(self) -> int:
        """How many outputs a CTC head needs: the pieces and the blank."""
        return len(self.units) + 1

    def encode(self, text: str) -> list[int]:
        return [self._ids[token_id] for token_id in self._tokenize(text) if token_id in self._ids]


CtcTable = CharacterTable | SubwordTable


def describe_table(table: CtcTable) -> str:
    """Number and kind of the units, and a digest of them in order: what each output of a head stands for."""
    digest = hashlib.blake2b(json.dumps(table.units).encode(), digest_size=8).hexdigest()
    return f"{len(table.units)} {table.name} ({digest})"
