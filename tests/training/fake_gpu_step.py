"""Training steps as a GPU would run them, without one: which operations have the host wait for it.

Tensors are PyTorch's fake ones, which have a device but no numbers, and refuse to be mixed with those of
another. A PyTorch without CUDA cannot differentiate fake CUDA tensors, so they are on a device that PyTorch
leaves to be defined in Python. That is for the whole process, therefore this is a script. Autocast does not
know that device: half precision is that of the weights, as under DeepSpeed.

Not seen are two waits, which there were on an H100: PyTorch's CTC loss fetches its lengths; and before E2E's
encoder and decoder, transformers looks three times in all whether a mask leaves anything out, except in fake
tensors.

    python -m tests.training.fake_gpu_step      prints {step: [operation, …]}
"""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend
from transformers import MBartConfig, SpeechEncoderDecoderConfig, Wav2Vec2Config, WhisperConfig

from vietst.data.packed_clips import PackedClips, padded_batch
from vietst.models.multitask import LossWeights
from vietst.models.trainable import ENCODER_PARTS, TrainingScope
from vietst.training import memory_steps
from vietst.training.memory_steps import StepOptions, Workload, e2e_step, whisper_step
from vietst.training.memory_trace import _CtcStandIn
from vietst.training.nonfinite import spread

GPU = "fakegpu"
_WAITS_FOR_SIZES = ("nonzero", "masked_select", "_unique2", "unique_dim", "repeat_interleave", "bincount")
"""Operations whose results have a size that only the device knows."""

WHISPER = WhisperConfig(
    vocab_size=51_865, d_model=32, encoder_layers=1, decoder_layers=1,
    encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
)  # fmt: skip
E2E = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
    Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        conv_dim=[16] * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
        feat_extract_norm="group", add_adapter=True,
    ),
    MBartConfig(
        vocab_size=120, d_model=48, decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=64,
        is_decoder=True, add_cross_attention=True,
    ),
)  # fmt: skip
WORKLOAD = Workload(num_utterances=3, duration_s=2.0, num_label_tokens=9, num_ctc_labels=5)
OPTIONS = StepOptions(num_ctc_symbols=20, losses=LossWeights(ctc=0.3, label_smoothing=0.1))
FROZEN = TrainingScope("full", frozenset(ENCODER_PARTS))


class _Waits(TorchDispatchMode):
    """Notes what the host has to wait for: numbers, sizes, and copies from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        name = operation.name().removeprefix("aten::").partition(".")[0]
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors}
        if GPU in devices and (
            name in _WAITS_FOR_SIZES or (name in ("_to_copy", "copy_") and len(devices) > 1)
        ):
            self.found.append(name)
        return result


class _StandIns(TorchFunctionMode):
    """What would be computed: CTC reads its lengths, and numbers of the host are copied to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.copied: list[str] = []

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is nn.functional.ctc_loss:
            assert {tensor.device.type for tensor in args[:4]} == {GPU}
            return _CtcStandIn.apply(*args[:2])
        if function is torch.tensor and kwargs and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            made = function(*args, **kwargs)
            self.copied.append("tensor")
            return torch.empty(made.shape, dtype=made.dtype, device=device)
        return function(*args, **(kwargs or {}))


def waits_of_step(
    build: memory_steps.Build, dtype: torch.dtype, checkpointing: bool = False
) -> Mapping[str, Any]:
    """What a forward and backward pass waits for, and parameters whose gradients are elsewhere or missing."""
    with FakeTensorMode(), _StandIns() as stand_ins, contextlib.ExitStack() as stack:
        with torch.device(GPU):
            model, batch = build()
        for module in model.modules():  # made by a constructor that takes no default device
            for name, parameter in list(module._parameters.items()):
                if parameter is not None:
                    moved = parameter.detach().to(GPU, dtype)
                    module._parameters[name] = nn.Parameter(moved, parameter.requires_grad)
        model.tie_weights()
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        num_items = torch.ones((), dtype=torch.int64, device=GPU)
        inputs = {
            key: value.to(dtype) if value.is_floating_point() else value for key, value in batch.items()
        }
        stand_ins.copied.clear()
        waits = stack.enter_context(_Waits())
        loss = spread(model(**inputs, num_items_in_batch=num_items).loss)
        loss.backward()
        torch.where(loss.isfinite(), loss, 0.0)
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or parameter.grad.device.type != GPU)
    ]
    return {
        "waits": waits.found + stand_ins.copied,
        "without_gradient": without,
        "loss": str(loss.dtype),
    }


def waits_of_padding() -> Mapping[str, Any]:
    """The same for a packed batch, after it was moved."""
    with FakeTensorMode():
        values = torch.empty(7, 80, dtype=torch.float16, device=GPU)
        clips = PackedClips(values, (4, 3), (0.0, -1.0), 10, time_is_last=True, mask_name="mask")
        with _Waits() as waits:
            batch = padded_batch({"input_features": clips})
    assert {tensor.device.type for tensor in batch.values()} == {GPU}
    return {"waits": waits.found, "without_gradient": [], "loss": "torch.float32"}


def _with_masking(config: Any) -> Any:
    """In place of `memory_steps._without_chance`: a GPU draws SpecAugment's masks."""
    part = getattr(config, "encoder", config)
    part.apply_spec_augment, part.layerdrop = True, 0.0
    part.mask_time_prob = part.mask_feature_prob = 0.1
    part.mask_time_length = part.mask_feature_length = 5
    return config


def main() -> None:
    _setup_privateuseone_for_python_backend(GPU)
    getattr(torch, GPU).get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    memory_steps._without_chance = _with_masking
    full, short = TrainingScope(), {"num_positions": 100}
    cached = StepOptions(OPTIONS.lora, OPTIONS.losses, OPTIONS.num_ctc_symbols, cached_states=True)
    one_task = Workload(num_utterances=3, duration_s=2.0, num_label_tokens=9, num_tasks=1, **short)
    bfloat16, float32 = torch.bfloat16, torch.float32
    steps = {
        "padding": waits_of_padding(),
        "Whisper": waits_of_step(whisper_step(WHISPER, full, WORKLOAD, OPTIONS), float32),
        "Whisper, bfloat16, checkpointing, one task in a short window": waits_of_step(
            whisper_step(WHISPER, full, one_task), bfloat16, checkpointing=True
        ),
        "Whisper, frozen encoder": waits_of_step(whisper_step(WHISPER, FROZEN, WORKLOAD), bfloat16),
        "Whisper, cached states": waits_of_step(whisper_step(WHISPER, FROZEN, WORKLOAD, cached), bfloat16),
        "Whisper, LoRA": waits_of_step(whisper_step(WHISPER, TrainingScope("lora"), WORKLOAD), float32),
        "E2E": waits_of_step(e2e_step(E2E, full, WORKLOAD, OPTIONS), float32),
        "E2E, bfloat16, checkpointing": waits_of_step(
            e2e_step(E2E, full, WORKLOAD, OPTIONS), bfloat16, checkpointing=True
        ),
        "E2E, frozen encoder": waits_of_step(e2e_step(E2E, FROZEN, WORKLOAD, OPTIONS), float32),
    }
    print(json.dumps(steps))


if __name__ == "__main__":
    main()
