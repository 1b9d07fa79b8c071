"""The memory plans of all published models and ways of fine-tuning, as one table."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Final

from vietst.models.published_sizes import WAV2VEC2, WHISPER, e2e_config, whisper_config
from vietst.models.trainable import ENCODER_PARTS, Part, TrainingScope
from vietst.training.memory_plan import GIBIBYTE, MemoryPlan, StepSettings, plan_memory
from vietst.training.memory_steps import DEFAULT_OPTIONS, Workload, e2e_step, whisper_step
from vietst.training.memory_trace import Build

FEATURE_ENCODER: Final[frozenset[Part]] = frozenset({"feature_encoder"})

FINETUNING: Final[dict[str, TrainingScope]] = {
    "full": TrainingScope("full"),
    "frozen encoder": TrainingScope("full", ENCODER_PARTS),
    "LNA": TrainingScope("lna"),
    "LNA, frozen encoder": TrainingScope("lna", ENCODER_PARTS),
    f"LoRA, rank {DEFAULT_OPTIONS.lora.rank}": TrainingScope("lora"),
}
"""Ways of fine-tuning by the name that the table gives them."""


@dataclasses.dataclass(frozen=True)
class TableEntry:
    """One cell of the table before it is planned; `vocabulary` is empty where it cannot be trimmed."""

    model: str
    vocabulary: str
    finetuning: str
    build: Build


def table_entries(workload: Workload, trimmed_vocabulary: int) -> list[TableEntry]:
    """All cells, line by line: the published Whispers, and both E2E variants with full and trimmed
    vocabulary. wav2vec2's feature encoder is frozen in all of them, as it is in every recipe.
    """
    entries = [
        TableEntry(name, "", finetuning, whisper_step(whisper_config(name), scope, workload))
        for name in WHISPER
        for finetuning, scope in FINETUNING.items()
    ]
    for encoder in WAV2VEC2:
        for vocab_size in (None, trimmed_vocabulary):
            config = e2e_config(encoder, vocab_size)
            for finetuning, scope in FINETUNING.items():
                scope = dataclasses.replace(scope, frozen_parts=scope.frozen_parts | FEATURE_ENCODER)
                entries.append(
                    TableEntry(
                        f"{encoder} + mBART-50",
                        "full" if vocab_size is None else f"{vocab_size:,}",
                        finetuning,
                        e2e_step(config, scope, workload),
                    )
                )
    return entries


def describe_entries(workload: Workload, settings: StepSettings, memories_gb: Sequence[float]) -> str:
    """What the figures of the table are."""
    memories = ", ".join(f"{memory_gb:g}" for memory_gb in sorted(memories_gb))
    checkpointing = ", gradient checkpointing" if settings.gradient_checkpointing else ""
    return (
        f"GB that a training step takes on one GPU (in brackets: the smallest of {memories} GB that it fits, "
        f"with a tenth to spare).\n{workload.num_utterances} × {workload.duration_s:g} s of audio in a micro "
        f"batch (Whisper: 30 s), {workload.num_tasks} targets each, of {workload.num_label_tokens} tokens; "
        f"{settings.precision}, {settings.optimizer}{checkpointing}."
    )


def plan_entries(entries: Sequence[TableEntry], settings: StepSettings) -> Iterator[MemoryPlan]:
    """The plans of the entries, one after the other."""
    for entry in entries:
        yield plan_memory(entry.build, settings)


def format_table(
    entries: Sequence[TableEntry], plans: Sequence[MemoryPlan], memories_gb: Sequence[float]
) -> str:
    """A Markdown table: a line for each model and vocabulary, a column for each way of fine-tuning.

    A cell has the forecast in GB and, in brackets, the smallest of `memories_gb` that it fits ("–": none).
    """
    lines: dict[tuple[str, str], list[str]] = {}
    for entry, plan in zip(entries, plans, strict=True):
        line = lines.setdefault(
            (entry.model, entry.vocabulary),
            [entry.model, entry.vocabulary or "–", f"{plan.num_parameters / 1e6:.0f}"],
        )
        line.append(_cell(plan, memories_gb))
    table = [["model", "vocabulary", "parameters, M", *FINETUNING], *lines.values()]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    table.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in table
    )


def _cell(plan: MemoryPlan, memories_gb: Sequence[float]) -> str:
    fitting = [f"{memory_gb:g}" for memory_gb in sorted(memories_gb) if plan.verdict(memory_gb) == "fits"]
    return f"{plan.total_bytes / GIBIBYTE:.1f} ({fitting[0] if fitting else '–'})"
