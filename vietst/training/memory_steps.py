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
from vietst.models.multitask import LossWeights
from vietst.models.trainable import NEW_PARTS, TrainingScope, part_of
from vietst.training.memory_trace import Build


@dataclasses.dataclass(frozen=True)
class Workload:
    """One micro batch.

    `duration_s` is the longest clip's (of Whisper's, `num_positions` decides), `num_label_tokens` the longest
    target's, prompt included. `num_tasks` targets are decoded from one encoder pass.
    """

    num_utterances: int = 1
    duration_s: float = 15.0
    num_label_tokens: int = 64
    num_tasks: int = len(TASKS)
    num_ctc_labels: int = 0
    """Of the longest transcript, in the CTC head's symbols."""
    num_positions: int | None = None
    """Of the window that Whisper's encoder hears. None: all 1,500, 30 s, whatever `duration_s` says."""


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """What else a run's configuration decides.

    `num_ctc_symbols` of 0: no CTC head. `cached_states`: batches carry the frozen encoder's states.
    """

    lora: LoraSection = dataclasses.field(default_factory=LoraSection)
    losses: LossWeights = dataclasses.field(default_factory=LossWeights)
    num_ctc_symbols: int = 0
    cached_states: bool = False


DEFAULT_OPTIONS: Final = StepOptions()


def whisper_step(
    config: Any, scope: TrainingScope, workload: Workload, options: StepOptions = DEFAULT_OPTIONS
) -> Build:
    """A step of Whisper.

    Args:
        config: a `WhisperConfig`.
    """

    def build() -> tuple[nn.Module, Mapping[str, torch.Tensor]]:
        from vietst.models.whisper import MultitaskWhisper

        num_utterances = workload.num_utterances
        num_positions = workload.num_positions or config.max_source_positions
        if options.cached_states:
            states = torch.randn(num_utterances, num_positions, config.d_model).half()
            batch = {"encoder_states": states}
        else:
            batch = {"input_features": torch.randn(num_utterances, config.num_mel_bins, 2 * num_positions)}
        if options.num_ctc_symbols:
            batch["num_positions"] = torch.full((num_utterances,), num_positions)
        model = MultitaskWhisper(_without_chance(config))
        return _as_trained(model, scope, options), batch | _targets(workload, options)

    return build


def e2e_step(
    config: Any, scope: TrainingScope, workload: Workload, options: StepOptions = DEFAULT_OPTIONS
) -> Build:
    """A step of wav2vec2 + mBART.

    Args:
        config: a `SpeechEncoderDecoderConfig`.
    """

    def build() -> tuple[nn.Module, Mapping[str, torch.Tensor]]:
        from vietst.models.e2e import MultitaskE2E

        shape = workload.num_utterances, round(workload.duration_s * SAMPLE_RATE_HZ)
        if options.cached_states:
            shape = shape[0], _num_frames(config.encoder, shape[1])
            batch = {
                "encoder_states": torch.randn(*shape, config.encoder.hidden_size).half(),
                "encoder_states_mask": torch.ones(shape, dtype=torch.int64),
            }
        else:
            batch = {
                "input_values": torch.randn(shape),
                "attention_mask": torch.ones(shape, dtype=torch.int64),
            }
        model = MultitaskE2E(_without_chance(config))
        return _as_trained(model, scope, options), batch | _targets(workload, options)

    return build


def _num_frames(encoder_config: Any, num_samples: int) -> int:
    """Frames of wav2vec2's feature encoder."""
    for kernel, stride in zip(encoder_config.conv_kernel, encoder_config.conv_stride, strict=True):
        num_samples = (num_samples - kernel) // stride + 1
    return num_samples


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


def _targets(workload: Workload, options: StepOptions) -> dict[str, torch.Tensor]:
    num_targets = workload.num_utterances * workload.num_tasks
    ids = torch.ones(num_targets, workload.num_label_tokens, dtype=torch.int64)
    targets = {
        "decoder_input_ids": ids,
        "labels": ids.clone(),
        "label_positions": torch.arange(ids.numel()),
        "utterance_index": torch.arange(workload.num_utterances).repeat(workload.num_tasks),
        "task_index": torch.arange(workload.num_tasks).repeat_interleave(workload.num_utterances),
    }
    if options.num_ctc_symbols:
        targets["ctc_labels"] = torch.ones(
            workload.num_utterances, workload.num_ctc_labels, dtype=torch.int64
        )
    return targets


def _as_trained(model: Any, scope: TrainingScope, options: StepOptions) -> nn.Module:
    model.loss_weights = options.losses
    if options.num_ctc_symbols:
        model.add_ctc_head(options.num_ctc_symbols)
    if scope.finetune == "lora":
        _add_adapters(model, scope, options.lora)
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
