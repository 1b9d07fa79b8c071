"""States of a frozen encoder in place of features: what computes them, cached rows, packed batches.

How they come to lie on disk: `vietst.data.encoder_state_cache`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vietst.data.batching import UtteranceDataset
from vietst.data.features import InputKind
from vietst.data.packed_clips import PackedClips

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class FrozenEncoder:
    """What an architecture tells about an encoder whose states may be cached."""

    module: torch.nn.Module
    """All that computes them."""

    digest: str
    """Of its weights and settings: see `module_digest`."""

    input_kind: InputKind
    """What it reads."""

    width: int
    """Of a state."""

    num_positions: Callable[[int], int]
    """How many states a clip of so many feature frames (samples, for the waveform) gets."""

    encode_batch: Callable[[Sequence[dict[str, Any]]], list[np.ndarray]]
    """Rows of the feature cache → for each its states, float [num_positions, width], without padding. The
    other rows of the batch must not matter."""


def module_digest(
    module: torch.nn.Module, settings: Mapping[str, object], *, rounded_to: torch.dtype | None = None
) -> str:
    """BLAKE2b-128 (hexadecimal) of all weights and buffers, and of settings that no weight shows.

    Args:
        rounded_to: the type that weights and buffers of floating point are compared in; None: their own.
    """
    hasher = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16)
    for name, tensor in sorted(module.state_dict().items()):
        if rounded_to is not None and tensor.is_floating_point():
            tensor = tensor.to(rounded_to)
        hasher.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        # FSDP leaves each process a share of it, to be put together by all of them
        whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        flat = whole.detach().cpu().contiguous().reshape(-1)
        hasher.update(flat.view(torch.uint8).numpy().data)
    return hasher.hexdigest()


class EncodedUtteranceDataset(UtteranceDataset):
    """A split whose rows carry the encoder's states instead of features."""

    def __init__(self, rows: "datasets.Dataset", states: "datasets.Dataset") -> None:
        super().__init__(rows.remove_columns(["features", "pad_value"]))
        self.states = states

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**super().__getitem__(index), **self.states[index]}


def has_states(row: Mapping[str, Any]) -> bool:
    """Whether a row comes from an `EncodedUtteranceDataset`."""
    return "encoder_states" in row


def states_of(row: Mapping[str, Any]) -> np.ndarray:
    """The states of a cached row, without copying: float16 [num_positions, width]."""
    return np.frombuffer(row["encoder_states"], dtype="<f2").reshape(row["num_positions"], -1)


def pack_states(rows: Sequence[Mapping[str, Any]], mask_name: str | None = None) -> PackedClips:
    """States of a batch: float16 [num_utterances, longest, width] with zeros behind them, when padded."""
    return PackedClips.of([states_of(row) for row in rows], dtype=torch.float16, mask_name=mask_name)
