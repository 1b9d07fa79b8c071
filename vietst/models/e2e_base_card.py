"""What an E2E base folder was made from, in a file inside it: is it the one that a run asks for?"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vietst.models.e2e_inputs import load_processor
from vietst.models.nano import texts_digest
from vietst.runtime import get_logger, rank

logger = get_logger(__name__)

CARD_NAME: Final = "e2e_base_card.json"

_TRIMMING: Final = "trimmed_to"


@dataclasses.dataclass(frozen=True)
class Trimming:
    """What a vocabulary was trimmed to: for which texts, and how many of its pieces were kept."""

    texts_digest: str
    num_pieces: int
    num_pieces_before: int


def write_card(folder: Path, inputs: Mapping[str, Any], trimming: Trimming | None) -> None:
    """Write down what a base was made from, besides texts: plain data; and what it was trimmed to, if so."""
    card = {**inputs, _TRIMMING: None if trimming is None else dataclasses.asdict(trimming)}
    (folder / CARD_NAME).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8", newline="\n")


def trimming_of(folder: Path) -> Trimming | None:
    """What the vocabulary of a base was trimmed to; None: to nothing, or the folder is no base made here."""
    values = _read_card(folder).get(_TRIMMING)
    return None if values is None else Trimming(**values)


def is_made_of(folder: Path, inputs: Mapping[str, Any], trim_to_texts: Sequence[str] | None) -> bool:
    """Whether the folder holds a base made from `inputs`, and trimmed if `trim_to_texts` are given.

    It may be trimmed to other texts: a warning says so. It is not made anew for that, since the token ids of
    every run that began from it are its ids, and new texts can be spelled with the pieces it has.
    """
    card, trimming = _read_card(folder), trimming_of(folder)
    if {**card, _TRIMMING: None} != {**inputs, _TRIMMING: None}:
        return False
    if trim_to_texts is None or trimming is None:
        return trim_to_texts is None and trimming is None
    if trimming.texts_digest != texts_digest(trim_to_texts) and rank() == 0:
        _warn_of_other_texts(folder, trim_to_texts)
    return True


def _read_card(folder: Path) -> dict[str, Any]:
    path = folder / CARD_NAME
    card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return card


def _warn_of_other_texts(folder: Path, texts: Sequence[str]) -> None:
    tokenizer = load_processor(str(folder)).tokenizer
    encodings = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    num_unknown = sum(tokenizer.unk_token_id in encoding.ids for encoding in encodings)
    logger.warning(
        "the vocabulary of %s was trimmed to other training texts than today's. It stays as it is, for the "
        "runs that began from it, and spells what is new with the pieces it has; %d of %d texts have "
        "characters that it lacks. To trim it anew, state another model.name, or delete the folder",
        folder,
        num_unknown,
        len(texts),
    )
