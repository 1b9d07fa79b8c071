"""Cross-attention of all targets of an utterance to its encoder states at once.

The states of an utterance are the same for its transcript and its translation, and for all beams of a
search. Stock decoders want them once for every target, and make keys and values of each copy. Here they come
once for every utterance and are projected once, and the queries of all its targets stand side by side in one
attention: it knows no order.
"""

import copy
from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.mbart.modeling_mbart import MBartAttention, eager_attention_forward
from transformers.models.whisper.modeling_whisper import WhisperAttention

from vietst.constants import TASKS
from vietst.models.multitask import EncoderStates


class SharedStatesCache(DynamicCache):
    """Keys and values of the encoder states of utterances, for decoding with `past_key_values`.

    The decoder's rows are those of the first utterance, then those of the second, equally many each: all its
    tasks, each with all its beams. Beam search reorders rows of one utterance only, for which nothing has to
    move here; transformers' own cache has a copy for every beam, and copies them all in every step.

    Args:
        states: of the utterances.
    """

    def __init__(self, states: EncoderStates) -> None:
        super().__init__()  # its layers stay empty: nothing to reorder
        self.states = states
        self._is_projected = False
        self._of_layer: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def of(self, utterances: slice) -> "SharedStatesCache":
        """Of some utterances, without copying keys and values: these are gigabytes."""
        some = copy.copy(self)
        some.states = EncoderStates(**{name: tensor[utterances] for name, tensor in self.states.items()})
        some._of_layer = {
            layer: (keys[utterances], values[utterances]) for layer, (keys, values) in self._of_layer.items()
        }
        return some

    def update(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Stock cross-attention would write here, and attend to the stand-in: nothing that was said.

        Raises:
            TypeError: always; the model's layers need `share_states`, which `load_model` does.
        """
        raise TypeError("cross-attention that cannot read a SharedStatesCache: call share_states first")

    @property
    def num_utterances(self) -> int:
        return len(self.states.last_hidden_state)

    def for_decoder(self) -> EncoderDecoderCache:
        """For one generation: with a new cache of what the decoder itself says."""
        return EncoderDecoderCache(DynamicCache(), self)

    def stand_in(self, num_rows: int) -> torch.Tensor:
        """States [num_rows, 1, width] that only say how many rows there are: `generate` asks for that."""
        return self.states.last_hidden_state[:1, :1].expand(num_rows, -1, -1)

    def project(self, projection: Callable[[EncoderStates], torch.Tensor]) -> EncoderStates:
        """The states, projected to the decoder's width by the first call."""
        if not self._is_projected:
            projected = projection(self.states)
            self.states = EncoderStates(projected, self.states.position_mask)
            self._is_projected = True
        return self.states

    def keys_and_values(self, attention: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Of a layer, made when first asked for: [num_utterances, heads, num_positions, head width]."""
        layer = attention.layer_idx
        if layer not in self._of_layer:
            states = self.states.last_hidden_state
            keys, values = attention.k_proj(states), attention.v_proj(states)
            # Every step reads them head by head: twice as fast where a head's lie together.
            self._of_layer[layer] = (
                by_head(attention, keys).contiguous(),
                by_head(attention, values).contiguous(),
            )
        return self._of_layer[layer]


def shared_states_in(past_key_values: Any) -> SharedStatesCache | None:
    """The cache of shared states among a decoder's `past_key_values`, if there is one."""
    cache = getattr(past_key_values, "cross_attention_cache", None)
    return cache if isinstance(cache, SharedStatesCache) else None


def by_head(attention: Any, projected: torch.Tensor) -> torch.Tensor:
    """[rows, length, width] → [rows, heads, length, head width]."""
    return projected.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)


def by_utterance(rows: torch.Tensor, num_tasks: int) -> torch.Tensor:
    """[num_tasks × num_utterances, …], task by task → the same utterance by utterance."""
    return rows.unflatten(0, (num_tasks, -1)).transpose(0, 1).flatten(0, 1)


def by_task(rows: torch.Tensor, num_tasks: int) -> torch.Tensor:
    """[num_utterances × num_tasks, …], utterance by utterance → the same task by task."""
    return rows.unflatten(0, (-1, num_tasks)).transpose(0, 1).flatten(0, 1)


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
        """The stock class's attention, or that of targets which share their states.

        They share them with `target_slots` (training) or a `SharedStatesCache` (generation).

        Args:
            hidden_states: [num_targets, length, width].
            key_value_states: [num_utterances, num_positions, width]; with a cache, it has the states.
            attention_mask: None, or [num_utterances, 1, length, num_positions], the same for every query.
            target_slots: int64 [num_targets] from `states_for_targets`.

        Returns:
            [num_targets, length, width], and None.
        """
        cache = shared_states_in(past_key_values)
        if cache is not None:
            keys, values = cache.keys_and_values(self)
            attended = self._attend(self.q_proj(hidden_states), keys, values, attention_mask, **kwargs)
        elif target_slots is not None and key_value_states is not None:
            num_slots = len(key_value_states) * len(TASKS)
            queries = self.q_proj(hidden_states)
            slots = queries.new_zeros(num_slots, *queries.shape[1:])
            queries = slots.index_copy(0, target_slots, queries)
            keys, values = (
                by_head(self, projection(key_value_states)) for projection in (self.k_proj, self.v_proj)
            )
            attended = self._attend(queries, keys, values, attention_mask, **kwargs)
            attended = attended.index_select(0, target_slots)
        else:
            return super().forward(  # type: ignore[misc]
                hidden_states,
                key_value_states=key_value_states,
                past_key_values=past_key_values,
                attention_mask=attention_mask,
                **kwargs,
            )
        return self.out_proj(attended), None

    def _attend(
        self: Any,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Queries [rows, length, width], equally many rows for each utterance, one utterance after the other.

        Keys and values are [num_utterances, heads, num_positions, head width].
        """
        if attention_mask is not None:
            attention_mask = attention_mask[:, :, :1]
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        # [rows, length, width] → [num_utterances, heads, rows of each × length, head width]
        side_by_side = by_head(self, queries.reshape(len(keys), -1, queries.shape[2]))
        attended, _ = attend(
            self,
            side_by_side,
            keys,
            values,
            attention_mask,
            dropout=self.dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        # [num_utterances, rows of each × length, heads, head width] → [rows, length, width]
        return attended.reshape(queries.shape)


class _SharedWhisperAttention(_SharedStatesAttention, WhisperAttention):
    pass


class _SharedMBartAttention(_SharedStatesAttention, MBartAttention):
    pass


_SHARED: Final = {WhisperAttention: _SharedWhisperAttention, MBartAttention: _SharedMBartAttention}


def share_states(decoder_layers: Iterable[Any]) -> None:
    """Let the cross-attention of these layers take `target_slots` and a `SharedStatesCache`.

    Parameters and names stay as they are.
    """
    for layer in decoder_layers:
        attention = layer.encoder_attn
        attention.__class__ = _SHARED.get(type(attention), type(attention))


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
