"""Caps on the tokens of hypotheses that differ from clip to clip of a batch, in beam search."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

Caps = int | Sequence[int]
"""On the tokens of a hypothesis, end token included: one for all, or one for each utterance."""


class EndAtOwnCap(LogitsProcessor):
    """Ends the hypotheses of a beam search at the cap of their own utterance.

    Under the largest cap of a batch the search would go on for the others, too, and might then prefer another
    hypothesis of theirs: what is said in a clip would depend on what stands beside it. Greedy search says the
    same up to a cap whatever follows, and needs no more than to be cut there.

    Args:
        caps: of each utterance. The end token that is forced stands behind them.
        num_rows: of each utterance: its tasks, each with all its beams.
    """

    def __init__(
        self, caps: Sequence[int], num_rows: int, prompt_length: int, end_token_id: int, device: Any
    ) -> None:
        self._caps = torch.tensor(caps, device=device).repeat_interleave(num_rows)
        self._prompt_length, self._end_token_id = prompt_length, end_token_id

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [rows, vocabulary], changed in place: `generate` has made them for this."""
        is_over = input_ids.shape[1] - self._prompt_length >= self._caps
        scores.masked_fill_(is_over[:, None], -torch.inf)
        scores[:, self._end_token_id].masked_fill_(is_over, 0.0)
        return scores


def ends_at_own_caps(
    caps: Caps, *, num_tasks: int, num_beams: int, prompt_length: int, end_token_id: int, device: Any
) -> tuple[int, LogitsProcessorList]:
    """The cap of a whole generation, and what ends its hypotheses before."""
    if isinstance(caps, int):
        return caps, LogitsProcessorList()
    if num_beams == 1:
        return max(caps), LogitsProcessorList()
    end = EndAtOwnCap(caps, num_tasks * num_beams, prompt_length, end_token_id, device)
    return max(caps) + 1, LogitsProcessorList([end])
