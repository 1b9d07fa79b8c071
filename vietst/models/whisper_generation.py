"""Whisper without learning: encoder states, and hypotheses from them. Order of `e2e_generation.py`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)
from transformers.modeling_outputs import BaseModelOutput

from vietst.data.encoder_states import FrozenEncoder, module_digest
from vietst.data.features import InputKind
from vietst.models.multitask import EncoderStates
from vietst.models.own_caps import Caps, ends_at_own_caps
from vietst.models.shared_states import SharedStatesCache, by_task
from vietst.models.whisper_inputs import decoder_prompt, input_batch

_MAX_CPU_FRAMES = 3000
"""What a CPU encodes at once: one window of 30 s. The intermediate tensors of more are so large that the C
library asks the system for new pages for each of them (4 clips at tiny's dimensions: 4 % more time; 8: 10 to
20 %, one thread)."""


@torch.no_grad()
def encode(model: WhisperForConditionalGeneration, inputs: dict[str, torch.Tensor]) -> EncoderStates:
    """Encoder states of an `input_batch`, with stock or our class."""
    features = inputs["input_features"].to(device=model.device, dtype=model.dtype)
    num_at_once = len(features)
    if model.device.type == "cpu":
        num_at_once = max(1, _MAX_CPU_FRAMES // features.shape[-1])
    states = [model.model.encoder(some).last_hidden_state for some in features.split(num_at_once)]
    return EncoderStates(torch.cat(states))


def frozen_encoder(model: WhisperForConditionalGeneration, input_kind: InputKind) -> FrozenEncoder:
    """The encoder as the cache of its states needs it. Every clip has all positions of the window: the
    decoder attends to the silence behind its end too."""
    config = model.config
    settings = {
        "model_type": config.model_type,
        "attention_heads": config.encoder_attention_heads,
        "activation_function": config.activation_function,
    }

    def encode_batch(rows: Sequence[dict[str, Any]]) -> list[np.ndarray]:
        return list(encode(model, input_batch(rows, input_kind)).last_hidden_state.float().cpu().numpy())

    return FrozenEncoder(
        module=model.model.encoder,
        digest=module_digest(model.model.encoder, settings),
        input_kind=input_kind,
        width=config.d_model,
        num_positions=lambda num_frames: config.max_source_positions,
        encode_batch=encode_batch,
    )


class _Suppressed(LogitsProcessor):
    """Tokens that are never said, and tokens that are not said first.

    transformers' own processors look up the whole vocabulary in these lists in every step.
    """

    def __init__(
        self, always: Sequence[int], at_first: Sequence[int], prompt_length: int, device: Any
    ) -> None:
        self._always, self._at_first = (
            torch.tensor(token_ids, dtype=torch.int64, device=device) for token_ids in (always, at_first)
        )
        self._prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [rows, vocabulary], changed in place: `generate` has copied them."""
        scores.index_fill_(1, self._always, -torch.inf)
        if input_ids.shape[1] == self._prompt_length:
            scores.index_fill_(1, self._at_first, -torch.inf)
        return scores


@torch.no_grad()
def generate(
    model: WhisperForConditionalGeneration,
    tokenizer: WhisperTokenizer,
    encoder_states: EncoderStates,
    tasks: Sequence[str],
    *,
    language: str,
    max_new_tokens: Caps,
    num_beams: int = 1,
    synced_gpus: bool = False,
    cache: SharedStatesCache | None = None,
) -> torch.Tensor:
    """Hypotheses for every task from one encoder pass.

    Args:
        model: from `load_model`, or a `MultitaskWhisper`.
        encoder_states: of the utterances, from `encode` or a training forward.
        tasks: which targets to generate for every utterance.
        max_new_tokens: cap on the hypotheses, of all or of each utterance; what one says beyond its own is
            left to be cut. The decoder's positions cap it too.
        cache: of these states, to be used again; None: made here.

    Returns:
        int64 [len(tasks) × num_utterances, length] of generated ids, task by task, without the prompt,
        padded with the pad token.
    """
    prompts = [decoder_prompt(tokenizer, task, language) for task in tasks]
    prompt_length, defaults = len(prompts[0]), model.generation_config
    no_timestamps_id = tokenizer.convert_tokens_to_ids("<|notimestamps|>")
    # A timestamp would start Whisper's segment loop, which has no audio here. What else a model suppresses
    # stays so: OpenAI's do signs that nobody says, those trained here nothing.
    suppressed = _Suppressed(
        [*(defaults.suppress_tokens or ()), *range(no_timestamps_id + 1, model.config.vocab_size)],
        defaults.begin_suppress_tokens or (),
        prompt_length,
        model.device,
    )
    max_length, ends = ends_at_own_caps(
        max_new_tokens,
        num_tasks=len(tasks),
        num_beams=num_beams,
        prompt_length=prompt_length,
        end_token_id=tokenizer.eos_token_id,
        device=model.device,
    )
    if cache is None:
        cache = SharedStatesCache(encoder_states)
    # Utterance by utterance, as the cache wants them.
    decoder_input_ids = torch.tensor(prompts, device=model.device).repeat(cache.num_utterances, 1)
    generated = model.generate(
        encoder_outputs=BaseModelOutput(cache.stand_in(len(decoder_input_ids))),
        decoder_input_ids=decoder_input_ids,
        # The prompt decides; without these two, Whisper would run a language detection pass of its own.
        language=language,
        task=tasks[0],
        suppress_tokens=None,  # `suppressed` does both
        begin_suppress_tokens=None,
        logits_processor=LogitsProcessorList([suppressed, *ends]),
        force_unique_generate_call=True,
        # Whisper adds the prompt's length itself, and keeps to the decoder's positions.
        max_length=max_length,
        num_beams=num_beams,
        synced_gpus=synced_gpus,
        past_key_values=cache.for_decoder(),
        use_cache=True,  # whatever the model's files say of it: the states are in there
    )
    return by_task(generated[:, prompt_length:], len(tasks))
