"""How many floating-point operations training steps need, and how many a GPU could do.

Model FLOPs utilization is the share of the two, as in PaLM (Chowdhery et al. 2022, appendix B): what forward
and backward pass of the model need, without what activation checkpointing computes again. PyTorch's
`FlopCounterMode` counts the matrix products and convolutions of the real model, on fake tensors; what is
frozen is missing from its backward pass.

With U utterances of s seconds and T targets of L tokens each, padding counted, and K labels, a batch needs

    U (c₀ + c₁ s + c₂ s²)  for the encoder: its layers, and its attention
    U c₃ s                 for keys and values of its states, which the targets of an utterance share
    T (c₄ L + c₅ L²)       for the decoder's layers and self-attention
    T c₆ s L               for its cross-attention
    K c₇                   for the logits

The coefficients come from a few counted batches.
"""

import copy
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from vietst.config_schema import RunConfig
from vietst.constants import SAMPLE_RATE_HZ
from vietst.data.context import num_window_positions
from vietst.data.features import InputKind
from vietst.models.trainable import TrainingScope, training_scope, with_frozen_encoder
from vietst.training.memory_steps import StepOptions, Workload, e2e_step, whisper_step
from vietst.training.memory_trace import Build

HALF_PRECISION_PEAK_FLOPS: Final = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,  # SXM
    "H200 NVL": 835e12,
    "H200": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
    # no figure by NVIDIA: 64 tensor cores × 128 operations (those of the RTX 3090) × 1.477 GHz
    "RTX 2050": 12e12,
}
"""Dense bfloat16 or float16 products with sums in float32, per second, from NVIDIA's data sheets and white
papers. The first name that is part of the device's name holds, if it is not that of a variant."""

_VARIANTS: Final = (" Ti", " D", " Laptop GPU")
"""What follows on a GPU's name where it is another one: an RTX 4090 Laptop GPU has 0.6 of the cores."""

_LABEL_TOKENS: Final = (16, 32, 64)
_DURATIONS_S: Final = (4.0, 10.0, 16.0)
_SHARES_OF_WINDOW: Final = (0.2, 0.5, 1.0)
"""Whisper's clips, where they are heard in windows of several lengths."""


def peak_flops(device_name: str) -> float | None:
    """Of a GPU in half precision, by PyTorch's name for it; None: not known."""
    for name, peak in HALF_PRECISION_PEAK_FLOPS.items():
        _, found, rest = device_name.partition(name)
        if found:
            return None if rest.startswith(_VARIANTS) else peak
    return None


def flops_of_batches(
    config: RunConfig, model: Any, input_kind: InputKind
) -> Callable[[Mapping[str, Any]], float]:
    """The operations of this training's batches, for a model that may unfreeze its encoder on the way.

    Counting takes some seconds.
    """
    is_log_mel = input_kind.kind == "log_mel"
    durations_s: Sequence[float] = _DURATIONS_S
    if is_log_mel:
        shares = _SHARES_OF_WINDOW if config.audio.context == "bucketed" else (1.0,)
        durations_s = [share * input_kind.window_s for share in shares]
    step = whisper_step if config.model.type == "whisper" else e2e_step
    scope = training_scope(config)
    eager = copy.deepcopy(model.config)
    eager._attn_implementation = "eager"

    def planned_step(scope_now: TrainingScope, workload: Workload, cached: bool) -> Build:
        if is_log_mel:
            num_positions = num_window_positions(workload.duration_s, input_kind)
            workload = dataclasses.replace(workload, num_positions=num_positions)
        return step(eager, scope_now, workload, StepOptions(lora=config.lora, cached_states=cached))

    def fitted(encoder_is_frozen: bool) -> BatchFlops:
        scope_now = with_frozen_encoder(scope) if encoder_is_frozen else scope
        return BatchFlops.fit(functools.partial(planned_step, scope_now), durations_s)

    def padded_s(batch: Mapping[str, Any]) -> float:
        if is_log_mel and "encoder_states" in batch:
            return input_kind.window_s
        if is_log_mel:
            num_frames = batch["input_features"].padded_length
            return float(num_frames * input_kind.hop_length_samples / SAMPLE_RATE_HZ)
        if "encoder_states" in batch:
            num_samples = batch["encoder_states"].padded_length * math.prod(model.config.encoder.conv_stride)
        else:
            num_samples = batch["input_values"].padded_length
        return float(num_samples / SAMPLE_RATE_HZ)

    now_and_later = {model.encoder_is_frozen, with_frozen_encoder(scope) == scope}
    by_frozen_encoder = {frozen: fitted(frozen) for frozen in now_and_later}
    return lambda batch: by_frozen_encoder[model.encoder_is_frozen].of_batch(batch, padded_s(batch))


def count_flops(build: Build, num_labels: int) -> int:
    """Operations of a forward and a backward pass of what `build` makes; nothing is computed.

    The model's attention must be eager: fused kernels are not counted without a GPU.

    Args:
        num_labels: how many of the batch's label positions it keeps.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    with FakeTensorMode():
        model, made = build()
        batch = {**made, "label_positions": made["label_positions"][:num_labels]}
        with FlopCounterMode(display=False) as counter:
            model(**batch).loss.backward()
    return counter.get_total_flops()


@dataclass(frozen=True)
class BatchFlops:
    """Operations of any batch, from its shape."""

    coefficients: np.ndarray
    """float64 [8], c₀ to c₇."""

    @classmethod
    def fit(cls, step: Callable[[Workload, bool], Build], durations_s: Sequence[float]) -> "BatchFlops":
        """Count a few batches.

        Args:
            step: a step of the planned size, with eager attention, that brings the encoder's states or not.
            durations_s: three different ones; or one, where all clips are padded to it.
        """
        short, middle, long = _LABEL_TOKENS
        first = durations_s[0]
        # seconds, tokens and number of targets, labels, whether the encoder's states come with the batch
        sizes = [
            (s, length, t, t * length, False) for s in durations_s for length, t in ((short, 1), (middle, 2))
        ]
        sizes += [(first, middle, 1, middle, False), (first, long, 1, long, False)]
        sizes += [(first, long, 1, short, False), (first, short, 1, short, True)]
        rows, counted = [], []
        for s, length, num_targets, num_labels, cached in sizes:
            counted.append(count_flops(step(Workload(1, s, length, num_targets), cached), num_labels))
            rows.append(_terms(0 if cached else 1, 1, s, num_targets, length, num_labels))
        return cls(np.linalg.lstsq(np.array(rows), np.array(counted, dtype=np.float64))[0])

    def of_batch(self, batch: Mapping[str, Any], padded_s: float) -> float:
        """Operations of a collator's batch; without the encoder's where the batch brings its states.

        Args:
            padded_s: seconds of each clip, padding counted.
        """
        num_targets, num_label_tokens = batch["labels"].shape
        num_utterances, num_labels = len(batch["row_index"]), len(batch["label_positions"])
        num_encoded = 0 if "encoder_states" in batch else num_utterances
        terms = _terms(num_encoded, num_utterances, padded_s, num_targets, num_label_tokens, num_labels)
        return float(np.dot(self.coefficients, terms))


def _terms(
    num_encoded: int,
    num_utterances: int,
    duration_s: float,
    num_targets: int,
    num_label_tokens: int,
    num_labels: int,
) -> list[float]:
    """What the coefficients are multiplied with; hundreds of tokens and seconds keep the numbers near 1."""
    s, length = duration_s / 10, num_label_tokens / 100
    encoder = [num_encoded * term for term in (1, s, s**2)]
    decoder = [num_targets * term for term in (length, length**2, s * length)]
    return [*encoder, num_utterances * s, *decoder, num_labels / 100]
