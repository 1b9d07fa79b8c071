"""The memory plan of a configured run: of its own model's sizes, on the fullest batches of its own data."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from vietst.config_rules import encoder_stays_frozen
from vietst.config_schema import RunConfig
from vietst.data.context import num_window_positions
from vietst.data.usable_rows import longest_label_lengths
from vietst.models import e2e
from vietst.models.multitask import LossWeights
from vietst.models.trainable import training_scope
from vietst.runtime import world_size
from vietst.training.arguments import mixed_precision
from vietst.training.memory_plan import (
    GIBIBYTE,
    MemoryPlan,
    StepSettings,
    format_plan,
    gigabytes,
    plan_memory,
)
from vietst.training.memory_steps import StepOptions, Workload, e2e_step, whisper_step
from vietst.training.memory_trace import Build
from vietst.training.preparation import Preparation


def describe_memory(
    config: RunConfig, preparation: Preparation, accumulation: int, memory_gb: float | None
) -> str:
    """What the run will hold in memory, and whether it fits.

    Args:
        accumulation: micro batches of an optimizer step.
        memory_gb: of the GPU that is meant; None: the one that is here. Without one, the plan is that of a
            training on the CPU, and has no verdict.
    """
    if memory_gb is None:
        memory_gb = gpu_memory_gb()
    settings = step_settings(config, accumulation, on_gpu=memory_gb is not None)
    workload, plan = plan_fullest_batch(config, preparation, settings)
    lines = [_heading(settings, workload), format_plan(plan, memory_gb)]
    if world_size() > 1:
        lines.append(
            f"of {world_size()} processes: DDP takes up to {gigabytes(4 * plan.num_trained)} more on each, "
            "as room that it always keeps for gradients; ZeRO and FSDP take less, since they share states out"
        )
    return "\n".join(lines)


def plan_fullest_batch(
    config: RunConfig, preparation: Preparation, settings: StepSettings
) -> tuple[Workload, MemoryPlan]:
    """The micro batch of the run that takes the most memory, and its plan."""
    table = preparation.ctc_table
    step = functools.partial(
        run_step,
        config,
        preparation.architecture.load_model_config(config.model.name),
        num_ctc_symbols=0 if table is None else len(table),
    )
    workloads = fullest_workloads(preparation, config.training.batch_size)
    plans = {workload: plan_memory(step(workload), settings) for workload in workloads}
    workload = max(plans, key=lambda workload: plans[workload].total_bytes)
    return workload, plans[workload]


def _heading(settings: StepSettings, workload: Workload) -> str:
    device = "GPU" if settings.device == "cuda" else "CPU"
    return (
        f"memory of one process on a {device} in {settings.precision}, with the fullest batch: "
        f"{workload.num_utterances} × {workload.duration_s:.1f} s, {workload.num_tasks} target(s) each, of "
        f"{workload.num_label_tokens} tokens"
    )


def gpu_memory_gb() -> float | None:
    """Of the GPU that is here; None without one."""
    if not torch.cuda.is_available():
        return None
    return float(torch.cuda.get_device_properties(0).total_memory) / GIBIBYTE


# --- the step ----------------------------------------------------------------------------------------


def step_settings(config: RunConfig, accumulation: int, *, on_gpu: bool) -> StepSettings:
    """How the run computes a step. On a GPU that is not here, precision `auto` means 16 bits."""
    training = config.training
    bf16, fp16 = mixed_precision(config)
    if on_gpu and not torch.cuda.is_available() and not (bf16 or fp16):
        bf16, fp16 = training.bf16 == "auto", training.fp16 == "auto"
    return StepSettings(
        optimizer=training.optim,
        precision="bf16" if bf16 else "fp16" if fp16 else "fp32",
        device="cuda" if on_gpu else "cpu",
        gradient_checkpointing=training.gradient_checkpointing,
        accumulates_gradients=accumulation > 1,
    )


def run_step(config: RunConfig, model_config: Any, workload: Workload, *, num_ctc_symbols: int) -> Build:
    """A step of the run when nothing is frozen any more that is frozen for a time only.

    Args:
        model_config: of the base model.
        num_ctc_symbols: outputs of the CTC head; 0: there is none.
    """
    options = StepOptions(
        lora=config.lora,
        losses=LossWeights(ctc=config.loss.ctc_weight, label_smoothing=config.loss.label_smoothing),
        num_ctc_symbols=num_ctc_symbols,
        cached_states=config.model.cache_encoder_states and encoder_stays_frozen(config),
    )
    make: Callable[..., Build] = {"whisper": whisper_step, "e2e": e2e_step}[config.model.type]
    return make(_as_configured(config, model_config), training_scope(config), workload, options)


def _as_configured(config: RunConfig, model_config: Any) -> Any:
    changed = copy.deepcopy(model_config)
    if config.model.type == "e2e":
        e2e.set_dropout(changed, config.model.dropout)
    if config.model.attention != "auto":
        for part in (changed, *(getattr(changed, name, None) for name in ("encoder", "decoder"))):
            if part is not None:
                part._attn_implementation = config.model.attention
    return changed


# --- the data ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Clip:
    """What an utterance asks of a batch; `num_label_tokens` of its longest target, prompt included."""

    duration_s: float
    num_frames: int
    num_label_tokens: int
    num_ctc_labels: int


def fullest_workloads(preparation: Preparation, batch_size: int) -> list[Workload]:
    """The micro batches of which one takes the most memory.

    Of batches by seconds, they are the ones with the most padded audio, with the most of its square
    (attention), and with the most padded label tokens. Of `batch_size` clips in random order, it is the worst
    that may come together: the longest clip and the longest target.
    """
    clips, sampler = _clips(preparation), preparation.train_batches
    if sampler is None:
        length_s = _longest_input_s(clips, preparation)
        return [_workload(clips, min(batch_size, len(clips)), length_s, preparation)]
    workloads = {
        _workload([clips[index] for index in batch], len(batch), length_s, preparation)
        for batch, length_s in zip(sampler.batches(0), sampler.padded_lengths_s(0), strict=True)
    }
    measures: tuple[Callable[[Workload], float], ...] = (
        lambda workload: workload.num_utterances * workload.duration_s,
        lambda workload: workload.num_utterances * workload.duration_s**2,
        lambda workload: workload.num_utterances * workload.num_label_tokens,
    )
    return list(dict.fromkeys(max(workloads, key=measure) for measure in measures))


def _workload(
    clips: Sequence[_Clip], num_utterances: int, length_s: float, preparation: Preparation
) -> Workload:
    """So many utterances padded to `length_s`, each with texts as long as the longest of the clips."""
    kind = preparation.input_kind
    return Workload(
        num_utterances=num_utterances,
        duration_s=length_s,
        num_label_tokens=max(clip.num_label_tokens for clip in clips),
        num_tasks=len(preparation.tasks),
        num_ctc_labels=max(clip.num_ctc_labels for clip in clips),
        num_positions=num_window_positions(length_s, kind) if kind.kind == "log_mel" else None,
    )


def _longest_input_s(clips: Sequence[_Clip], preparation: Preparation) -> float:
    """What the clips of a batch may be padded to: their longest, its window, or one that is drawn."""
    if preparation.input_kind.kind == "waveform":
        return max(clip.duration_s for clip in clips)
    context = preparation.context
    if preparation.longer_share > 0:
        return context.input_kind.window_s
    return context.of_clip(max(clip.num_frames for clip in clips)).window_s


def _clips(preparation: Preparation) -> list[_Clip]:
    """All of train."""
    columns = ["id", "transcript", "translation", "duration_s", "num_frames"]
    rows = preparation.train.rows.select_columns(columns).to_list()
    longest = longest_label_lengths(
        rows, preparation.tasks, preparation.architecture.label_lengths, preparation.processor.tokenizer
    )
    table = preparation.ctc_table
    return [
        _Clip(
            row["duration_s"],
            row["num_frames"],
            length,
            0 if table is None else len(table.encode(row["transcript"])),
        )
        for row, length in zip(rows, longest, strict=True)
    ]
