"""Which parameters of a model are trained: all, layer norms and attention (LNA) or LoRA, less what is frozen.

Everything is decided by parameter names, which tell the parts of both architectures apart, so the same
answer comes from a model without memory (on the meta device), before and after a checkpoint, on every rank.
"""

import dataclasses
import re
from typing import Any, Final, Literal

import torch

from vietst.config_rules import encoder_stays_frozen
from vietst.config_schema import RunConfig
from vietst.models import lora
from vietst.runtime import get_logger, warn_once

logger = get_logger(__name__)

Part = Literal["encoder", "feature_encoder", "adaptor", "decoder", "ctc_head"]

_PART_OF_PREFIX: Final[dict[str, Part]] = {
    # E2E; the length adaptor lives inside transformers' encoder
    "encoder.adapter.": "adaptor",
    "enc_to_dec_proj.": "adaptor",
    "encoder.feature_extractor.": "feature_encoder",
    "encoder.": "encoder",
    # Whisper
    "model.encoder.": "encoder",
    # both
    "ctc_head.": "ctc_head",
}

LOW_LORA_RATE: Final = 1e-4
"""Below it, adapters that start from zero hardly move (judgement; rates for whole models lie there)."""

NEW_PARTS: Final[frozenset[Part]] = frozenset({"adaptor", "ctc_head"})
"""Layers that no pretraining has seen: they always train, whatever is frozen beside them."""

ENCODER_PARTS: Final[frozenset[Part]] = frozenset({"encoder", "feature_encoder"})
"""What `freeze_encoder` freezes."""

_CONSTANTS = re.compile(r"^model\.encoder\.embed_positions\.|\.masked_spec_embed$")
"""Parameters that never train. Whisper's sinusoids are constants, which `from_pretrained` forgets. wav2vec2's
mask vector is not used in steps that happen to draw no mask, which DistributedDataParallel does not allow."""

_ATTENTION_OR_LAYER_NORM = re.compile(r"(^|\.)(self_attn|encoder_attn|attention)\.|layer_?norm")


def part_of(name: str) -> Part:
    """The part of a model that a parameter or module belongs to."""
    for prefix, part in _PART_OF_PREFIX.items():
        if name.startswith(prefix):
            return part
    return "decoder"


def lna_trains(name: str) -> bool:
    """Whether LNA trains a parameter: layer norms and attention, of encoder and decoder.

    This is LNA-E,D of Li et al. 2021 (arXiv 2010.12829): all layer norms, self-attention of the encoder,
    self-attention and encoder attention of the decoder. Frozen are the feed-forward layers, the embeddings
    (task tokens that were added to a vocabulary, too: they only have to differ, and attention learns the
    rest), and wav2vec2's feature encoder with its norms. New layers are trained, as the paper's length
    adaptor is.
    """
    part = part_of(name)
    if part in NEW_PARTS:
        return True
    return part != "feature_encoder" and _ATTENTION_OR_LAYER_NORM.search(name) is not None


@dataclasses.dataclass(frozen=True)
class TrainingScope:
    """What is trained of a model.

    `finetune` is the configuration's `model.finetune`; `frozen_parts` are not trained whatever it says.
    """

    finetune: Literal["full", "lna", "lora"] = "full"
    frozen_parts: frozenset[Part] = frozenset()

    def trains(self, name: str) -> bool:
        """Whether the parameter of that name is trained."""
        part = part_of(name)
        if part in self.frozen_parts or _CONSTANTS.search(name):
            return False
        if part in NEW_PARTS or self.finetune == "full":
            return True
        return lora.is_adapter(name) if self.finetune == "lora" else lna_trains(name)

    def num_trained(self, model: torch.nn.Module) -> int:
        """How many numbers of a model are trained, now or when nothing is frozen for a time any more."""
        return sum(parameter.numel() for name, parameter in model.named_parameters() if self.trains(name))

    def apply(self, model: Any) -> None:
        """Let exactly these parameters require gradients; a frozen encoder runs in eval mode, unmasked.

        The model has the attribute `encoder_is_frozen`, which its `train` and `forward` obey.
        """
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(self.trains(name))
        for module in model.modules():
            # wav2vec2's feature encoder keeps activations for its gradients unless it is told so.
            if hasattr(module, "_requires_grad"):
                module._requires_grad = any(parameter.requires_grad for parameter in module.parameters())
        model.encoder_is_frozen = self.frozen_parts >= ENCODER_PARTS
        model.train(model.training)


def training_scope(config: RunConfig) -> TrainingScope:
    """What a run trains, as soon as nothing is frozen any more that is frozen for a time only."""
    frozen_parts: frozenset[Part] = frozenset()
    if config.training.freeze_feature_encoder:
        frozen_parts |= {"feature_encoder"}
    if encoder_stays_frozen(config):
        frozen_parts |= ENCODER_PARTS
    return TrainingScope(config.model.finetune, frozen_parts)


def starts_with_frozen_encoder(config: RunConfig) -> bool:
    """Whether the first step leaves the encoder alone."""
    training = config.training
    return encoder_stays_frozen(config) or bool(
        training.freeze_encoder_epochs or training.freeze_encoder_updates
    )


def with_frozen_encoder(scope: TrainingScope) -> TrainingScope:
    """The same without the encoder."""
    return dataclasses.replace(scope, frozen_parts=scope.frozen_parts | ENCODER_PARTS)


def describe_training_scope(config: RunConfig) -> str:
    """What a run trains, in words."""
    trained = {
        "full": "all layers",
        "lna": "layer norms and attention (LNA)",
        "lora": f"LoRA adapters of rank {config.lora.rank} at {', '.join(config.lora.target_modules)}",
    }[config.model.finetune]
    updates, epochs = config.training.freeze_encoder_updates, config.training.freeze_encoder_epochs
    if encoder_stays_frozen(config):
        return f"{trained}; the encoder is frozen, unmasked and without dropout"
    if updates or epochs:
        return f"{trained}; the encoder from {f'step {updates + 1}' if updates else f'epoch {epochs:g}'} on"
    return trained


def make_trainable(model: torch.nn.Module, config: RunConfig) -> None:
    """Prepare a model for the first training step: adapters where LoRA is asked for, and what is frozen.

    Raises:
        ConfigError: LoRA fits nothing in this model, or `peft` is not installed.
    """
    scope = training_scope(config)
    if scope.finetune == "lora":
        if config.training.learning_rate < LOW_LORA_RATE:
            warn_once(
                logger,
                "LoRA learns little at a learning rate of %g: 5e-4 to 1e-3 is usual",
                config.training.learning_rate,
            )
        # An encoder that stays frozen needs no adapters, and new layers train as they are.
        lora.add_adapters(
            model, config.lora, lambda name: part_of(name) not in scope.frozen_parts | NEW_PARTS
        )
    (with_frozen_encoder(scope) if starts_with_frozen_encoder(config) else scope).apply(model)
