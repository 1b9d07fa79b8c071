"""Cross-attention of all targets of an utterance to its encoder states at once.

The states of an utterance are the same for its transcript and its translation. Stock decoders want them once
for every target, and make keys and values of each copy. Here they come once for every utterance and are
projected once, and the queries of all its targets stand side by side in one attention: it knows no order.
"""

from collections.abc import Iterable
from typing import Any, Final

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.mbart.modeling_mbart import MBartAttention, eager_attention_forward
from transformers.models.whisper.modeling_whisper import WhisperAttention

from vietst.constants import TASKS
from vietst.models.multitask import EncoderStates


class _SharedStatesAttention:
    """What is added to the cross-attention of a stock decoder; its parameters stay as they are."""

    def forward(
        self: Any,
        hidden_states: torch.Tensor,
        key_value_states: torch.Tensor | None = None,
        past_key_values: Any = None,
        attention_mask: torch.Tensor | None = None,
        target_slots: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The stock class's attention, or with `target_slots` that of targets which share their states.

        Args:
            hidden_states: [num_targets, length, width].
            key_value_states: [num_utterances, num_positions, width].
            attention_mask: None, or [num_utterances, 1, length, num_positions], the same for every query.
            target_slots: int64 [num_targets] from `states_for_targets`.

        Returns:
            [num_targets, length, width], and None.
        """
        if target_slots is None or key_value_states is None:
            return super().forward(  # type: ignore[misc]
                hidden_states,
                key_value_states=key_value_states,
                past_key_values=past_key_values,
                attention_mask=attention_mask,
                **kwargs,
            )
        num_utterances, (_, length, width) = len(key_value_states), hidden_states.shape
        queries = self.q_proj(hidden_states)
        slots = queries.new_zeros(num_utterances * len(TASKS), length, width)
        queries = slots.index_copy(0, target_slots, queries)
        keys, values = self.k_proj(key_value_states), self.v_proj(key_value_states)
        if attention_mask is not None:
            attention_mask = attention_mask[:, :, :1]
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        by_head = (num_utterances, -1, self.num_heads, self.head_dim)
        attended, _ = attend(
            self,
            queries.view(by_head).transpose(1, 2),  # [num_utterances, heads, slots × length, head width]
            keys.view(by_head).transpose(1, 2),
            values.view(by_head).transpose(1, 2),
            attention_mask,
            dropout=self.dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        # [num_utterances, slots × length, heads, head width] → [num_targets, length, width]
        attended = attended.reshape(-1, length, width).index_select(0, target_slots)
        return self.out_proj(attended), None


class _SharedWhisperAttention(_SharedStatesAttention, WhisperAttention):
    pass


class _SharedMBartAttention(_SharedStatesAttention, MBartAttention):
    pass


_SHARED: Final = {WhisperAttention: _SharedWhisperAttention, MBartAttention: _SharedMBartAttention}


def share_states(decoder_layers: Iterable[Any]) -> None:
    """Let the cross-attention of these layers take `target_slots`; parameters and names stay as they are."""
    for layer in decoder_layers:
        layer.encoder_attn.__class__ = _SHARED[type(layer.encoder_attn)]


def states_for_targets(
    states: EncoderStates, utterance_index: torch.Tensor | None, task_index: torch.Tensor
) -> tuple[EncoderStates, torch.Tensor | None]:
    """What the targets attend to, and which of its rows is whose.

    Args:
        utterance_index: [num_targets], the utterance that each target belongs to; None: one each.
        task_index: [num_targets], position of its task in `TASKS`.

    Returns:
        Where there are more targets than utterances, the states of the utterances, and `target_slots` int64
        [num_targets]: where the targets stand among all pairs of utterance and task. Otherwise states of
        num_targets rows, and None.
    """
    if utterance_index is None:
        return states, None
    if len(task_index) > len(states.last_hidden_state):
        return states, utterance_index * len(TASKS) + task_index
    rows = {name: tensor.index_select(0, utterance_index) for name, tensor in states.items()}
    return EncoderStates(**rows), None
