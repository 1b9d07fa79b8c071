"""Vocabulary trimming: an mBART-50 tokenizer and its embeddings cut down to what a corpus needs.

mBART-50 knows 250,054 pieces of 50 languages; a Vietnamese–English corpus uses some thousand of them. The
other rows cost 4 bytes of weights and 12 bytes of gradients and optimizer state for each of their 1,024
values, and as many columns of logits. Trimming selects pieces and their rows; nothing is learned anew:

- the kept rows keep their values and their order, so that logits of kept pieces do not change;
- a text whose pieces were all kept is cut into the same pieces as before;
- any other text in Latin script (Vietnamese and English are written in it) is spelled with the pieces that
  are left, down to single characters, and never becomes `<unk>` where it was not before.
"""

import dataclasses
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from vietst.errors import ModelError

SPELLING_RANGES: Final = (
    (0x0020, 0x007E),  # ASCII
    (
        0x00A0,
        0x024F,
    ),  # Latin-1, Latin Extended-A and -B: à, đ, ơ, ư
    (0x0300, 0x036F),  # combining marks, where a tokenizer does not compose them
    (0x1E00, 0x1EFF),  # Latin Extended Additional: the Vietnamese letters with two marks
    (0x2010, 0x205E),  # dashes, quotation marks, ellipsis
    (0x20A0, 0x20BF),  # currencies, đồng among them
)
"""Code points (first, last) that every trimmed vocabulary can still spell."""

WORD_START: Final = "▁"
"""SentencePiece's mark for the space before a word."""


@dataclasses.dataclass(frozen=True)
class TrimmedVocabulary:
    """A tokenizer with fewer pieces, and where its pieces stood before.

    `kept_ids` is int64 [new size], ascending: the old id of each new id. `trim_embeddings` takes it.
    """

    tokenizer: Any
    kept_ids: np.ndarray


def trim_vocabulary(
    tokenizer: Any, texts: Iterable[str], *, extra_texts: Sequence[str] = (), fill_up_to: int = 0
) -> TrimmedVocabulary:
    """The tokenizer with nothing but the pieces that the texts need, and the means to spell all others.

    Args:
        tokenizer: one backed by a Unigram model, as MBart50Tokenizer; special tokens may have been added.
        texts: transcripts and translations of the corpus; every piece of theirs is kept.
        extra_texts: of the same languages beyond the corpus, those first whose pieces are wanted most. Their
            pieces are kept too, until there are `fill_up_to` in all.

    Returns:
        A new tokenizer of the same class, and the kept ids. The given tokenizer is left as it was.

    Raises:
        ModelError: the tokenizer has no Unigram model.
    """
    kept_ids = needed_ids(tokenizer, texts, extra_texts, fill_up_to)
    trimmed = _cut(_backend_description(tokenizer), kept_ids)
    with tempfile.TemporaryDirectory(prefix="vietst-vocabulary-") as folder:
        # What is returned is what anybody will load, not an object patched in memory.
        tokenizer.save_pretrained(folder)
        (Path(folder) / "tokenizer.json").write_text(
            json.dumps(trimmed, ensure_ascii=False), encoding="utf-8", newline="\n"
        )
        reloaded = type(tokenizer).from_pretrained(folder)
    reloaded.name_or_path = tokenizer.name_or_path
    return TrimmedVocabulary(tokenizer=reloaded, kept_ids=kept_ids)


def needed_ids(
    tokenizer: Any, texts: Iterable[str], extra_texts: Sequence[str] = (), fill_up_to: int = 0
) -> np.ndarray:
    """Ids that `trim_vocabulary` keeps, int64 [new size], ascending.

    These are all special and added tokens (mBART-50's language codes cost 52 rows, and its tokenizer class
    would add them again), the pieces of the texts, the pieces that spell Latin script and the texts' other
    characters, and the least likely piece: the penalty of an unknown character is derived from it.
    """
    description = _backend_description(tokenizer)
    pieces: list[list[Any]] = description["model"]["vocab"]
    used = set(_pieces_of(tokenizer, sorted(set(texts))))
    kept = {description["model"]["unk_id"], min(range(len(pieces)), key=lambda index: pieces[index][1])}
    kept.update(token["id"] for token in description["added_tokens"])
    kept.update(used)
    kept.update(_spelling_ids([piece for piece, _ in pieces], {pieces[index][0] for index in used}))
    for index in _pieces_of(tokenizer, extra_texts):
        if len(kept) >= fill_up_to:
            break
        kept.add(index)
    return np.array(sorted(kept), dtype=np.int64)


def trim_embeddings(model: PreTrainedModel, kept_ids: np.ndarray) -> None:
    """Select the kept rows of input embeddings and output projection, in place; they stay tied.

    Args:
        model: `MBartForCausalLM`, `MBartForConditionalGeneration` or any model with one vocabulary.
        kept_ids: int64 [new size], from `trim_vocabulary`.

    `config.vocab_size` and the special token ids of the config and generation config follow.

    Raises:
        ModelError: the embeddings have fewer rows than the tokenizer that was trimmed had.
    """
    embeddings, projection = model.get_input_embeddings(), model.get_output_embeddings()
    if kept_ids[-1] >= embeddings.weight.shape[0]:
        raise ModelError(
            where=f"embeddings of {type(model).__name__}",
            rule="one row for each token of the tokenizer that was trimmed",
            found=f"{embeddings.weight.shape[0]} rows, token id {kept_ids[-1]}",
            do="trim the tokenizer that belongs to these weights; add tokens and resize after that",
        )
    rows = torch.from_numpy(kept_ids).to(embeddings.weight.device)
    if projection is not None and projection.weight is not embeddings.weight:
        projection.weight = _selected(projection.weight, rows)
        projection.out_features = len(kept_ids)
    embeddings.weight = _selected(embeddings.weight, rows)
    embeddings.num_embeddings = len(kept_ids)
    if getattr(model, "final_logits_bias", None) is not None:
        model.final_logits_bias = model.final_logits_bias[:, rows]
    new_ids = {int(old): new for new, old in enumerate(kept_ids)}
    model.config.vocab_size = len(kept_ids)
    for config in (model.config, getattr(model, "generation_config", None)):
        _renumber_special_tokens(config, new_ids)
    model.tie_weights()


# --- which pieces ------------------------------------------------------------------------------------


def _backend_description(tokenizer: Any) -> dict[str, Any]:
    """What `tokenizer.json` holds.

    Raises:
        ModelError: not a Unigram tokenizer.
    """
    backend = tokenizer.backend_tokenizer if isinstance(tokenizer, TokenizersBackend) else None
    description: dict[str, Any] = json.loads(backend.to_str()) if backend is not None else {}
    kind = description.get("model", {}).get("type", "no `tokenizers` backend")
    if kind != "Unigram":
        raise ModelError(
            where=f"tokenizer of {tokenizer.name_or_path}",
            rule="vocabularies of Unigram (SentencePiece) tokenizers can be trimmed, as mBART-50's",
            found=kind,
            do="set model.trim_vocabulary: false for this model",
        )
    return description


def _pieces_of(tokenizer: Any, texts: Sequence[str]) -> Iterator[int]:
    """The ids that the texts are cut into, text by text."""
    for encoding in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False):
        yield from encoding.ids


def _spelling_ids(pieces: Sequence[str], used_pieces: set[str]) -> set[int]:
    """Pieces with which Latin script and the texts' own characters can be spelled.

    These are the single characters, each also as the start of a word. For a character that the vocabulary
    has only inside longer pieces, all of these are kept, or it would become unknown.
    """
    alphabet = {chr(code) for first, last in SPELLING_RANGES for code in range(first, last + 1)}
    alphabet.update("".join(used_pieces), WORD_START)
    position = {piece: index for index, piece in enumerate(pieces)}
    spelling = {position[piece] for piece in alphabet if piece in position}
    spelling |= {position[WORD_START + piece] for piece in alphabet if WORD_START + piece in position}
    only_inside = {character for character in alphabet if character not in position}
    return spelling | {index for index, piece in enumerate(pieces) if not only_inside.isdisjoint(piece)}


# --- cutting -----------------------------------------------------------------------------------------


def _cut(description: dict[str, Any], kept_ids: np.ndarray) -> dict[str, Any]:
    """`tokenizer.json` with the kept pieces alone. Added tokens that are no pieces stay behind them."""
    new_ids = {int(old): new for new, old in enumerate(kept_ids)}
    model = description["model"]
    pieces = [model["vocab"][old] for old in new_ids if old < len(model["vocab"])]
    added = [token | {"id": new_ids[token["id"]]} for token in description["added_tokens"]]
    cut = description | {
        "model": model | {"vocab": pieces, "unk_id": new_ids[model["unk_id"]]},
        "added_tokens": added,
    }
    if (description.get("post_processor") or {}).get("special_tokens"):
        special = {
            name: token | {"ids": [new_ids[old] for old in token["ids"]]}
            for name, token in description["post_processor"]["special_tokens"].items()
        }
        cut["post_processor"] = description["post_processor"] | {"special_tokens": special}
    return cut


def _selected(weight: torch.nn.Parameter, rows: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(weight.detach()[rows], requires_grad=weight.requires_grad)


def _renumber_special_tokens(config: Any, new_ids: dict[int, int]) -> None:
    if config is None:
        return
    for key, value in config.to_dict().items():
        if key.endswith("_token_id") and isinstance(value, int):
            setattr(config, key, new_ids[value])
