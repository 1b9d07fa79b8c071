"""The training steps whose memory is planned: a model as it is trained, and a batch of the planned size.

Each function here returns a `Build` for `vietst.training.memory_trace`. Called in the usual way, outside of a
trace, it makes a real model with random weights, with which the forecast is checked.
"""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import nn

from vietst.config_schema import LoraSection
from vietst.constants import SAMPLE_RATE_HZ, TASKS
from vietst.models.trainable import NEW_PARTS, TrainingScope, part_of
from vietst.training.memory_trace import Build

DEFAULT_LORA: Final = LoraSection()


@dataclasses.dataclass(frozen=True)
class Workload:
    """One micro batch.

    `duration_s` is the longest clip's (Whisper always takes its window's 30 s), `num_label_tokens` the
    longest target's, prompt included. `num_tasks` targets are decoded from one encoder pass.
    """

    num_utterances: int = 1
    duration_s: float = 15.0
    num_label_tokens: int = 64
    num_tasks: int = len(TASKS)


def whisper_step(
    config: Any, scope: TrainingScope, workload: Workload, *, lora: LoraSection = DEFAULT_LORA
) -> Build:
    """A step of Whisper.

    Args:
        config: a `WhisperConfig`.
        lora: the adapters, where `scope.finetune` is lora.
    """

    def build() -> tuple[nn.Module, Mapping[str, torch.Tensor]]:
        from vietst.models.whisper import MultitaskWhisper

        features = torch.randn(workload.num_utterances, config.num_mel_bins, 2 * config.max_source_positions)
        model = MultitaskWhisper(_without_chance(config))
        return _as_trained(model, scope, lora), {"input_features": features, **_targets(workload)}

    return build


def e2e_step(
    config: Any, scope: TrainingScope, workload: Workload, *, lora: LoraSection = DEFAULT_LORA
) -> Build:
    """A step of wav2vec2 + mBART.

    Args:
        config: a `SpeechEncoderDecoderConfig`.
        lora: the adapters, where `scope.finetune` is lora.
    """

    def build() -> tuple[nn.Module, Mapping[str, torch.Tensor]]:
        from vietst.models.e2e import MultitaskE2E

        shape = workload.num_utterances, round(workload.duration_s * SAMPLE_RATE_HZ)
        batch = {
            "input_values": torch.randn(shape),
            "attention_mask": torch.ones(shape, dtype=torch.int64),
            **_targets(workload),
        }
        return _as_trained(MultitaskE2E(_without_chance(config)), scope, lora), batch

    return build


def _without_chance(config: Any) -> Any:
    """The same without SpecAugment, whose masks are drawn as real numbers, and without skipped layers."""
    changed = copy.deepcopy(config)
    for part in (changed, getattr(changed, "encoder", None), getattr(changed, "decoder", None)):
        for name, value in (
            ("apply_spec_augment", False),
            ("layerdrop", 0.0),
            ("encoder_layerdrop", 0.0),
            ("decoder_layerdrop", 0.0),
        ):
            if hasattr(part, name):
                setattr(part, name, value)
    return changed


def _targets(workload: Workload) -> dict[str, torch.Tensor]:
    num_targets = workload.num_utterances * workload.num_tasks
    ids = torch.ones(num_targets, workload.num_label_tokens, dtype=torch.int64)
    rows = torch.zeros(num_targets, dtype=torch.int64)
    return {
        "decoder_input_ids": ids,
        "labels": ids.clone(),
        "utterance_index": rows,
        "task_index": rows.clone(),
    }


def _as_trained(model: nn.Module, scope: TrainingScope, lora: LoraSection) -> nn.Module:
    if scope.finetune == "lora":
        _add_adapters(model, scope, lora)
    model.train()
    scope.apply(model)
    return model


def _add_adapters(model: nn.Module, scope: TrainingScope, lora: LoraSection) -> None:
    """Where `vietst.models.trainable.make_trainable` has peft put them."""
    for name, module in list(model.named_modules()):
        parent, _, child = name.rpartition(".")
        may_adapt = part_of(name) not in scope.frozen_parts | NEW_PARTS
        if may_adapt and child in lora.target_modules and isinstance(module, nn.Linear):
            setattr(model.get_submodule(parent), child, _AdaptedLinear(module, lora))


class _AdaptedLinear(nn.Module):
    """A linear layer with a low-rank adapter: peft's, in names, shapes and what autograd keeps of it.

    peft itself is needed for training only, and a plan is made before anything is installed.
    """

    def __init__(self, base_layer: nn.Linear, lora: LoraSection) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.lora_dropout = nn.Dropout(lora.dropout)
        self.scale = lora.alpha / lora.rank
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base_layer.in_features, lora.rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(lora.rank, base_layer.out_features, bias=False)})

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        change = self.lora_B["default"](self.lora_A["default"](self.lora_dropout(values)))
        return self.base_layer(values) + change * self.scale
