"""The memory that training will take, from configurations alone: no weights, no data, no device needed.

    plan = plan_memory(whisper_step(config, TrainingScope(), Workload()), StepSettings(device="cuda"))
    print(format_plan(plan, memory_gb=4))

What a step holds besides the optimizer's state is found out by running it on fake tensors
(`vietst.training.memory_trace`); the state follows from the trained parameters. The forecast is for one
process in the middle of training: loading, evaluation and the room that DDP always keeps for the gradients
are not in it. On a GPU it is what PyTorch allocates; its allocator wants some room to move in besides.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Final, Literal

import torch
from torch import nn

from vietst.models.trainable import part_of
from vietst.training.memory_trace import (
    GRADIENTS,
    WEIGHTS,
    Build,
    Device,
    Precision,
    StepTrace,
    trace_training_step,
)

Optimizer = Literal["adamw_torch", "adamw_torch_fused", "adafactor", "adamw_bnb_8bit", "paged_adamw_8bit"]

GIBIBYTE: Final = 2**30
"""What the seller of a graphics card calls a gigabyte."""

CUDA_CONTEXT_BYTES: Final = 512 * 2**20
"""Kernels, handles and workspaces of CUDA, cuBLAS and cuDNN: a round figure, not measured here."""

TIGHT_SHARE: Final = 0.9
"""A plan that takes more than this share of the memory may fail on the allocator's unused blocks."""

MIN_8BIT_VALUES: Final = 4096
"""bitsandbytes keeps the state of smaller parameters, and transformers that of embeddings, in 32 bits."""


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """How a step is computed, in the words of the configuration's `training` section.

    `accumulates_gradients`: more than one micro batch makes a step.
    """

    optimizer: Optimizer = "adamw_torch"
    precision: Precision = "fp32"
    device: Device = "cpu"
    gradient_checkpointing: bool = False
    accumulates_gradients: bool = False


@dataclasses.dataclass(frozen=True)
class PartSize:
    """Numbers of parameters of one part of a model."""

    name: str
    num_trained: int
    num_frozen: int


Items = tuple[tuple[str, int], ...]
"""(what, bytes) of all that is held at a moment."""


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """What a model's training holds: always, and at the fullest moment of each half of a step.

    Activations that are freed before the fullest moment of forward and backward pass are not in its items.
    """

    parts: tuple[PartSize, ...]
    always: Items
    in_passes: Items
    in_optimizer_step: Items

    @property
    def total_bytes(self) -> int:
        """At the fullest moment of all."""
        return _sum(self.always) + max(_sum(self.in_passes), _sum(self.in_optimizer_step))

    @property
    def num_parameters(self) -> int:
        return sum(part.num_trained + part.num_frozen for part in self.parts)

    @property
    def num_trained(self) -> int:
        return sum(part.num_trained for part in self.parts)

    def rows(self) -> list[tuple[str, str]]:
        """The lines of `format_plan`: what, and how much of it."""
        rows = [
            (part.name, f"{_millions(part.num_trained)} trained, {_millions(part.num_frozen)} frozen")
            for part in self.parts
        ]
        rows.append(
            ("all parameters", f"{_millions(self.num_parameters)}, {_millions(self.num_trained)} trained")
        )
        rows += _item_rows("always", self.always, 0)
        rows += _item_rows("forward and backward pass", self.in_passes, _sum(self.always))
        rows += _item_rows("optimizer step", self.in_optimizer_step, _sum(self.always))
        return [*rows, ("fullest moment", gigabytes(self.total_bytes))]

    def verdict(self, memory_gb: float) -> Literal["fits", "tight", "does not fit"]:
        """Whether it fits a device of so many GB (of 2^30 bytes)."""
        share = self.total_bytes / (memory_gb * GIBIBYTE)
        return "fits" if share <= TIGHT_SHARE else "tight" if share <= 1 else "does not fit"


def plan_memory(build: Build, settings: StepSettings) -> MemoryPlan:
    """Forecast the fullest moment of a training step.

    Args:
        build: one of `vietst.training.memory_steps`, or any that makes a model and a batch like theirs.
    """
    trace = trace_training_step(
        build,
        precision=settings.precision,
        device=settings.device,
        gradient_checkpointing=settings.gradient_checkpointing,
        accumulates_gradients=settings.accumulates_gradients,
    )
    trained = {name: p for name, p in trace.model.named_parameters() if p.requires_grad}
    trained_bytes = sum(_num_bytes(p) for p in trained.values())
    state_bytes, step_bytes = optimizer_bytes(trace.model, settings.optimizer, settings.device)
    always = {
        "weights that are trained": trained_bytes,
        "weights that are frozen": trace.bytes_of[WEIGHTS] - trained_bytes,
        "optimizer state": state_bytes,
        "CUDA and its libraries": CUDA_CONTEXT_BYTES if settings.device == "cuda" else 0,
    }
    passes = {name: size for name, size in trace.bytes_of.items() if name != WEIGHTS}
    step = {GRADIENTS: trained_bytes, "temporaries of the optimizer": step_bytes}
    return MemoryPlan(_part_sizes(trace), _items(always), _items(passes), _items(step))


def _items(sizes: Mapping[str, int]) -> Items:
    return tuple((name, size) for name, size in sizes.items() if size)


def _sum(items: Items) -> int:
    return sum(size for _, size in items)


def optimizer_bytes(model: nn.Module, optimizer: Optimizer, device: Device) -> tuple[int, int]:
    """(state, temporaries of a step) in bytes.

    AdamW keeps two float32 values for each trained one; PyTorch's own computes with a third one, for all
    parameters at once on a GPU and one parameter after the other on a CPU, the fused kernel with none. In
    8 bits the two take a byte each and a float32 scale for every 256. Adafactor keeps the sums of squares of
    rows and columns.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    values, largest = sum(p.numel() for p in trained), max((p.numel() for p in trained), default=0)
    if optimizer == "adafactor":
        return sum(4 * _factored_values(p) for p in trained), 3 * 4 * largest
    if optimizer == "adamw_torch":
        return 8 * values, 4 * values if device == "cuda" else 2 * 4 * largest
    if optimizer == "adamw_torch_fused":
        return 8 * values, 0
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    small = sum(p.numel() for p in trained if p.numel() < MIN_8BIT_VALUES or id(p) in embeddings)
    return 8 * small + math.ceil((2 + 2 * 4 / 256) * (values - small)), 0


def _factored_values(parameter: torch.Tensor) -> int:
    shape = parameter.shape
    if len(shape) < 2:
        return parameter.numel()
    return math.prod(shape[:-1]) + math.prod(shape[:-2]) * shape[-1]


def _num_bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


_PART_NAMES: Final = {
    "encoder": "encoder",
    "feature_encoder": "feature encoder",
    "adaptor": "length adaptor",
    "decoder": "decoder",
    "ctc_head": "CTC head",
}


def _part_sizes(trace: StepTrace) -> tuple[PartSize, ...]:
    sizes: dict[str, list[int]] = {}
    for name, parameter in trace.model.named_parameters():
        part = _PART_NAMES[part_of(name)]
        if "embed_tokens" in name:
            part = "embeddings"
        elif name.startswith("enc_to_dec_proj"):
            part = "projection"
        counts = sizes.setdefault(part, [0, 0])
        counts[0 if parameter.requires_grad else 1] += parameter.numel()
    return tuple(PartSize(name, trained, frozen) for name, (trained, frozen) in sizes.items())


# --- text --------------------------------------------------------------------------------------------


def gigabytes(num_bytes: int) -> str:
    """Bytes as GB of 2^30 bytes, as graphics cards are sold by."""
    return f"{num_bytes / GIBIBYTE:.2f} GB"


def _millions(number: int) -> str:
    return f"{number / 1e6:.2f} M"


def _item_rows(moment: str, items: Items, others: int) -> list[tuple[str, str]]:
    return [
        (f"{moment}, in all", gigabytes(others + _sum(items))),
        *((f"  {name}", gigabytes(size)) for name, size in items),
    ]


def format_plan(plan: MemoryPlan, memory_gb: float | None = None) -> str:
    """A plan as a table for people, with the verdict for a device of `memory_gb` (None: without)."""
    rows = plan.rows()
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    if memory_gb is not None:
        lines.append(f"{plan.verdict(memory_gb)} in {memory_gb:g} GB")
    return "\n".join(lines)
