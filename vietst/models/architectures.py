"""The architectures by the name that `model.type` and `--model_type` give them.

What prepares, trains, evaluates and transcribes is given an `Architecture`, and need not know which one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PretrainedConfig

from vietst.data.encoder_states import FrozenEncoder
from vietst.errors import ModelError
from vietst.models import e2e, e2e_generation, e2e_inputs, whisper, whisper_generation, whisper_inputs
from vietst.models.loading import read_config
from vietst.models.multitask import EncoderStates


@dataclass(frozen=True)
class Architecture:
    """What there is of every architecture. Each function says in its module what it takes."""

    name: str
    """In `ARCHITECTURES`."""

    load_processor: Callable[[str], Any]
    prompt_length: int
    """Tokens of a decoder prompt."""
    decoder_prompt: Callable[[Any, str, str], list[int]]
    text_token_ids: Callable[[Any, str], list[int]]
    label_lengths: Callable[..., list[int]]
    max_label_length: Callable[[Any], int]
    input_batch: Callable[..., dict[str, torch.Tensor]]
    collator: Callable[..., Any]

    load_model: Callable[..., Any]
    load_model_config: Callable[[str], PretrainedConfig]
    build_for_training: Callable[..., Any]

    encode: Callable[..., EncoderStates]
    frozen_encoder: Callable[..., FrozenEncoder]
    generate: Callable[..., torch.Tensor]


WHISPER = Architecture(
    name="whisper",
    load_processor=whisper_inputs.load_processor,
    prompt_length=whisper_inputs.PROMPT_LENGTH,
    decoder_prompt=whisper_inputs.decoder_prompt,
    text_token_ids=whisper_inputs.text_token_ids,
    label_lengths=whisper_inputs.label_lengths,
    max_label_length=whisper_inputs.max_label_length,
    input_batch=whisper_inputs.input_batch,
    collator=whisper_inputs.WhisperCollator,
    load_model=whisper.load_model,
    load_model_config=whisper.load_model_config,
    build_for_training=whisper.build_for_training,
    encode=whisper_generation.encode,
    frozen_encoder=whisper_generation.frozen_encoder,
    generate=whisper_generation.generate,
)

E2E = Architecture(
    name="e2e",
    load_processor=e2e_inputs.load_processor,
    prompt_length=e2e_inputs.PROMPT_LENGTH,
    decoder_prompt=e2e_inputs.decoder_prompt,
    text_token_ids=e2e_inputs.text_token_ids,
    label_lengths=e2e_inputs.label_lengths,
    max_label_length=e2e_inputs.max_label_length,
    input_batch=e2e_inputs.input_batch,
    collator=e2e_inputs.E2ECollator,
    load_model=e2e.load_model,
    load_model_config=e2e.load_model_config,
    build_for_training=e2e.build_for_training,
    encode=e2e_generation.encode,
    frozen_encoder=e2e_generation.frozen_encoder,
    generate=e2e_generation.generate,
)

ARCHITECTURES = {architecture.name: architecture for architecture in (WHISPER, E2E)}

_OF_MODEL_TYPE = {"whisper": "whisper", "speech-encoder-decoder": "e2e"}


def architecture_of(name_or_path: str) -> str:
    """The name in `ARCHITECTURES` that the model type in a model's `config.json` belongs to.

    Raises:
        ModelError: no such folder or repository, or a model of another kind.
    """
    model_type = read_config(name_or_path, "a Whisper or E2E model").get("model_type")
    if model_type not in _OF_MODEL_TYPE:
        raise ModelError(
            where=f"model {name_or_path}",
            rule=f"a model type that can be loaded here: {', '.join(_OF_MODEL_TYPE)}",
            found="no config.json that says one"
            if model_type is None
            else f"{model_type}, in its config.json",
            do="name a Whisper or E2E model; what any other wrote can be scored from a predictions file",
        )
    return _OF_MODEL_TYPE[model_type]
