"""How much speech a device takes at once."""

from collections.abc import Iterator, Sequence
from typing import Final

import psutil  # type: ignore[import-untyped]
import torch

from vietst.inference.clip_decoder import ClipDecoder

_MAX_CPU_BUDGET_S: Final = 240.0
"""Eight of Whisper's windows: more is not faster on a CPU."""
_MAX_GPU_BUDGET_S: Final = 960.0
"""32 of Whisper's windows. Our judgement; no GPU was at hand."""
_SHARE_OF_FREE_MEMORY: Final = 0.5
_ENCODER_STATES_ALIVE: Final = 24
"""Tensors of the encoder's width that live at once for each position: those of a layer (its feed-forward
part counts four) and of wav2vec2's wide convolutions. Our judgement, generous."""
_POSITIONS_PER_S: Final = 50
"""Encoder positions, of both architectures."""


def batch_budget_s(decoder: ClipDecoder, num_tasks: int) -> float:
    """Seconds of audio, padding included, that a batch may hold.

    It follows from the free memory and the model's shape. What grows with a batch are the encoder's
    activations, the decoder's keys and values of every encoder position, and what it makes for each task and
    beam: they share these keys and values, but each is given the room of its own for what it says, and for
    the logits.
    """
    model, window_s = decoder.model, decoder.input_kind.window_s
    config = model.config
    decoder_config, encoder_config = getattr(config, "decoder", config), getattr(config, "encoder", config)
    num_rows = num_tasks * decoder.record.num_beams
    bytes_per_position = model.dtype.itemsize * (
        2 * decoder_config.decoder_layers * decoder_config.d_model * num_rows
        + _ENCODER_STATES_ALIVE * encoder_config.hidden_size
    )
    if model.device.type == "cuda":
        # What earlier batches left with PyTorch's allocator is free, too.
        kept_bytes = torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
        free_bytes = torch.cuda.mem_get_info(model.device)[0] + kept_bytes
        longest_s = _MAX_GPU_BUDGET_S
    else:
        free_bytes, longest_s = psutil.virtual_memory().available, _MAX_CPU_BUDGET_S
    budget_s = _SHARE_OF_FREE_MEMORY * free_bytes / (bytes_per_position * _POSITIONS_PER_S)
    return float(min(max(budget_s, window_s), longest_s))


def batches_by_length(
    costs_s: Sequence[float], budget_s: float, *, of_equal_costs: bool = False
) -> Iterator[list[int]]:
    """Positions of clips in batches, longest first; the budget counts the padding of each batch.

    Args:
        of_equal_costs: no batch holds clips of different costs.
    """
    longest_first = sorted(range(len(costs_s)), key=lambda index: (-costs_s[index], index))
    while longest_first:
        highest_s = costs_s[longest_first[0]]
        size = max(1, int(budget_s / highest_s))
        if of_equal_costs:
            size = min(size, sum(costs_s[index] == highest_s for index in longest_first[:size]))
        yield longest_first[:size]
        del longest_first[:size]
