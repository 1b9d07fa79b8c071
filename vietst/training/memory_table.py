"""The memory plan of every published model and way of fine-tuning, as one table."""

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
    """One line of the table before it is planned; `vocabulary` is empty where it cannot be trimmed."""

    model: str
    vocabulary: str
    finetuning: str
    build: Build


def table_entries(workload: Workload, trimmed_vocabulary: int) -> list[TableEntry]:
    """All lines: the published Whispers, and both E2E variants with full and trimmed vocabulary.

    wav2vec2's feature encoder is frozen in all of them, as it is in every recipe.
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


def plan_entries(entries: Sequence[TableEntry], settings: StepSettings) -> Iterator[MemoryPlan]:
    """The plans of the entries, one after the other."""
    for entry in entries:
        yield plan_memory(entry.build, settings)


def format_table(
    entries: Sequence[TableEntry], plans: Sequence[MemoryPlan], memories_gb: Sequence[float]
) -> str:
    """A Markdown table: parameters, forecast, and whether it fits devices of so many GB."""
    header = ["model", "vocabulary", "fine-tuning", "trained, M", "of, M", "GB"]
    lines = [[*header, *(f"in {memory_gb:g} GB" for memory_gb in memories_gb)]]
    for entry, plan in zip(entries, plans, strict=True):
        lines.append(
            [
                entry.model,
                entry.vocabulary or "–",
                entry.finetuning,
                f"{plan.num_trained / 1e6:.1f}",
                f"{plan.num_parameters / 1e6:.1f}",
                f"{plan.total_bytes / GIBIBYTE:.2f}",
                *(plan.verdict(memory_gb) for memory_gb in memories_gb),
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in lines
    )
