"""A batch's clips on their way to the device: one behind the other as they are cached, padded there.

Whisper's features of a 3 s clip fill a tenth of its window, and half precision is half of what the model
reads: padded by a data worker, they would be twenty times the bytes for it to hand over and to copy to a GPU.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class PackedClips:
    """Clips of different lengths, stored without padding, and how to pad them.

    Lengths stay numbers of the host, so that a GPU is told what to do without being waited for. Data loaders
    pin and move this like a tensor.
    """

    values: torch.Tensor
    """float16 [sum of lengths, …], clip by clip."""
    lengths: tuple[int, ...]
    """Frames, samples or states of each clip."""
    pad_values: tuple[float, ...]
    """What stands behind each clip."""
    padded_length: int
    dtype: torch.dtype = torch.float32
    """Of the padded tensor."""
    time_is_last: bool = False
    """Whether the padded tensor has the time behind all other dimensions, as Whisper reads features."""
    mask_name: str | None = None
    """What the mask of what is not padding is called in a batch; None: the model reads none."""

    @classmethod
    def of(
        cls,
        clips: Sequence[np.ndarray],
        *,
        pad_values: Sequence[float] | None = None,
        padded_length: int | None = None,
        **settings: Any,
    ) -> "PackedClips":
        """Pack the clips of a batch.

        Args:
            clips: float16 [length, …] each; what lies behind `padded_length` is cut.
            pad_values: None: 0.
            padded_length: None: of the longest clip.
            settings: the other fields.
        """
        kept = [clip[:padded_length] for clip in clips]
        lengths = tuple(map(len, kept))
        return cls(
            torch.from_numpy(np.concatenate(kept)),
            lengths,
            tuple(pad_values or [0.0] * len(clips)),
            max(lengths) if padded_length is None else padded_length,
            **settings,
        )

    def padded(self) -> torch.Tensor:
        """[num_clips, padded_length, …], or with the time last, on the device of the values."""
        num_clips, frame_shape = len(self.lengths), self.values.shape[1:]
        if self.time_is_last:
            padded = self.values.new_empty(num_clips, *frame_shape, self.padded_length, dtype=self.dtype)
            rows = padded.movedim(-1, 1)
        else:
            padded = rows = self.values.new_empty(
                num_clips, self.padded_length, *frame_shape, dtype=self.dtype
            )
        for row, clip, pad_value in zip(rows, self.values.split(self.lengths), self.pad_values, strict=True):
            row[: len(clip)] = clip
            row[len(clip) :] = pad_value
        return padded

    def mask(self) -> torch.Tensor:
        """int64 [num_clips, padded_length]: 1 where `padded` has a clip, 0 where padding."""
        mask = torch.zeros(
            len(self.lengths), self.padded_length, dtype=torch.int64, device=self.values.device
        )
        for row, length in zip(mask, self.lengths, strict=True):
            row[:length] = 1
        return mask

    def numel(self) -> int:
        """Of the padded tensor; transformers' Trainer estimates operations with it."""
        return len(self.lengths) * self.padded_length * self.values[:1].numel()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "PackedClips":
        return dataclasses.replace(self, values=self.values.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "PackedClips":
        return dataclasses.replace(self, values=self.values.pin_memory())


def padded_batch(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A collator's batch as models read it: its clips padded, and their masks beside them."""
    padded: dict[str, Any] = {}
    for name, value in batch.items():
        if isinstance(value, PackedClips):
            padded[name] = value.padded()
            if value.mask_name is not None:
                padded[value.mask_name] = value.mask()
        else:
            padded[name] = value
    return padded
