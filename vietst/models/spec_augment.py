"""SpecAugment's masks (Park et al. 2019, arXiv 1904.08779), drawn where the features are.

transformers draws them on the host, for which training has to wait for a GPU and for copies in every step.
The law is transformers', so that stock users who train on find what the saved configuration says: of a clip
of n real frames, ⌊share · n / length + ε⌋ spans of `length` frames are masked, ε uniform from 0 to 1, their
first frames drawn without replacement among those from which a span stays within the clip. Spans may overlap,
so that the masked share is a little smaller. Here every clip has an ε of its own; there a batch shares one.

Draws come from PyTorch's generator of the device, which checkpoints keep.
"""

from typing import Any

import torch
from torch.nn import functional


def span_mask(
    num_real: torch.Tensor, num_frames: int, share: float, length: int, min_spans: int
) -> torch.Tensor:
    """Which frames are masked: bool [num_clips, num_frames].

    Args:
        num_real: int64 [num_clips], frames of each clip that are no padding; they come first.
        share: expected share of a clip's frames in spans, overlaps counted twice; from 0 to 1.
        length: frames of a span.
        min_spans: spans of each clip at least, as far as they fit.
    """
    num_clips, device = len(num_real), num_real.device
    num_fitting = num_frames // length
    most = min(max(int(share * num_frames / length) + 1, min_spans), num_fitting)
    if share == 0 or most == 0:
        return torch.zeros(num_clips, num_frames, dtype=torch.bool, device=device)
    chance = torch.rand(num_clips, device=device)
    num_spans = (share * num_real / length + chance).long().clamp(min=min_spans, max=num_fitting)
    num_starts = (num_real - length + 1).clamp(min=0)
    num_spans = torch.minimum(num_spans, num_starts)
    # Of all frames in random order, those that cannot start a span come last.
    order = torch.rand(num_clips, num_frames, device=device)
    order.masked_fill_(torch.arange(num_frames, device=device) >= num_starts[:, None], 2.0)
    starts = order.topk(most, dim=1, largest=False).indices
    is_drawn = torch.arange(most, device=device) < num_spans[:, None]
    # [num_clips, num_frames]: how many spans have started, and how many of these have ended
    started = torch.zeros_like(order, dtype=torch.int64).scatter_(1, starts, is_drawn.long()).cumsum(1)
    ended = functional.pad(started, (length, 0))[:, :num_frames]
    return started > ended


def time_mask(config: Any, num_real: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Masked frames, bool [num_clips, num_frames], as the model's configuration says."""
    return span_mask(
        num_real,
        num_frames,
        config.mask_time_prob,
        config.mask_time_length,
        config.mask_time_min_masks,
    )


def feature_mask(config: Any, num_clips: int, num_features: int, device: torch.device) -> torch.Tensor:
    """Masked mel bins or channels, bool [num_clips, num_features], as the model's configuration says."""
    return span_mask(
        torch.full((num_clips,), num_features, device=device),
        num_features,
        config.mask_feature_prob,
        config.mask_feature_length,
        config.mask_feature_min_masks,
    )
