"""E2E without learning: encoder states, and hypotheses from them. Order of `whisper_generation.py`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import MBart50Tokenizer

from vietst.data.encoder_states import FrozenEncoder, module_digest
from vietst.data.features import InputKind
from vietst.models.e2e import MultitaskE2E, num_positions
from vietst.models.e2e_inputs import decoder_prompt, input_batch
from vietst.models.multitask import EncoderStates
from vietst.models.own_caps import Caps, ends_at_own_caps
from vietst.models.shared_states import SharedStatesCache, by_task


@torch.no_grad()
def encode(model: MultitaskE2E, inputs: dict[str, torch.Tensor]) -> EncoderStates:
    """Encoder states of an `input_batch`."""
    input_values = inputs["input_values"].to(device=model.device, dtype=model.dtype)
    return model.encode(input_values, inputs["attention_mask"].to(model.device))


def frozen_encoder(model: MultitaskE2E, input_kind: InputKind) -> FrozenEncoder:
    """The encoder as the cache of its states needs it: all that comes before the length adaptor."""
    encoder, config = model.encoder, model.config.encoder
    module = nn.ModuleList(encoder.listening_modules())
    module.training = False  # a mere list of modules, which speak for themselves
    unseen_in_weights = (
        "model_type",
        "feat_extract_norm",
        "feat_extract_activation",
        "conv_stride",
        "num_attention_heads",
        "hidden_act",
        "do_stable_layer_norm",
        "layer_norm_eps",
    )

    def num_frames(num_samples: int) -> int:
        return int(encoder._get_feat_extract_output_lengths(torch.tensor(num_samples), add_adapter=False))

    @torch.no_grad()
    def encode_batch(rows: Sequence[dict[str, Any]]) -> list[np.ndarray]:
        batch = {name: tensor.to(model.device) for name, tensor in input_batch(rows, input_kind).items()}
        frames = encoder.listen(batch["input_values"].to(model.dtype), batch["attention_mask"])
        states = frames.last_hidden_state.float().cpu().numpy()
        return [clip[:length] for clip, length in zip(states, num_positions(frames).tolist(), strict=True)]

    return FrozenEncoder(
        module=module,
        digest=module_digest(module, {name: getattr(config, name) for name in unseen_in_weights}),
        input_kind=input_kind,
        width=config.hidden_size,
        num_positions=num_frames,
        encode_batch=encode_batch,
    )


@torch.no_grad()
def generate(
    model: MultitaskE2E,
    tokenizer: MBart50Tokenizer,
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
    prompt_length = len(prompts[0])
    cap, ends = ends_at_own_caps(
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
        encoder_outputs=EncoderStates(cache.stand_in(len(decoder_input_ids))),
        decoder_input_ids=decoder_input_ids,
        # Where it differs from the first token of the prompt, generate would put it before the prompt.
        decoder_start_token_id=prompts[0][0],
        logits_processor=ends,
        max_length=min(prompt_length + cap, model.config.decoder.max_position_embeddings),
        num_beams=num_beams,
        synced_gpus=synced_gpus,
        past_key_values=cache.for_decoder(),
        use_cache=True,  # whatever the model's files say of it: the states are in there
    )
    return by_task(generated[:, prompt_length:], len(tasks))
