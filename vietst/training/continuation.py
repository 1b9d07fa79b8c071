"""What a checkpoint says about its run, and what is different in the run that goes on from it.

A training that goes on as it was configured, with as many processes, takes the steps of an undisturbed one.
Where something differs, it says what, and what comes of it; where it cannot go on, what can be done instead.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from vietst import __version__
from vietst.config_schema import RunConfig
from vietst.errors import CheckpointError
from vietst.runtime import world_size
from vietst.training.checkpoints import RECORD_FILE, read_record
from vietst.training.resharing import RESHARABLE_OPTIMIZERS

_LANGUAGES = "data.sources: languages"
"""What `language` of the sources is called here: it changes prompts, not the order of utterances."""

_EFFECTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "utterances come in another order from here on; in this epoch some may come twice, others not at all",
        ("training.seed", "data.sources", "training.batch_size", "training.batch_seconds", "batches_per_step",
         "split_hash", "num_train_utterances", "model.task", "audio.context"),
    ),
    (
        "the learning rate follows the new schedule from here on",
        ("training.max_steps", "training.num_train_epochs", "training.lr_scheduler_type",
         "training.warmup_steps", "training.warmup_ratio"),
    ),
    (
        "without effect: the optimizer goes on with what the checkpoint says",
        ("training.learning_rate", "training.encoder_learning_rate", "training.adaptor_learning_rate",
         "training.weight_decay", "training.adam_beta1", "training.adam_beta2", "training.adam_epsilon",
         "training.early_stopping_patience"),
    ),
    (
        "without effect: the checkpoint's weights replace those of the base model",
        ("model.name", "model.encoder", "model.decoder"),
    ),
    (
        "the steps from here on are others than in the run before",
        ("training.freeze_encoder_epochs", "training.freeze_encoder_updates", "training.max_grad_norm",
         "training.bf16", "training.fp16", "training.compile", "model.dropout", "model.language",
         "lora.alpha", "lora.dropout", "loss", "augmentation", "text", "audio.context_windows_s",
         "audio.context_margin_s", "audio.context_longer_share", _LANGUAGES),
    ),
    (
        "from here on checkpoints are compared by it, with the score that the best one so far has by it",
        ("training.metric_for_best_model",),
    ),
    (
        "dev is scored otherwise from here on; the best checkpoint so far keeps its score",
        ("evaluation.max_dev_utterances", "evaluation.num_beams", "evaluation.max_new_tokens_per_second",
         "evaluation.max_new_tokens_base", "evaluation.context"),
    ),
)  # fmt: skip
"""What follows from a difference in these keys, or in all keys of a section. Other keys decide nothing."""

_REFUSED = (
    "training.optim",
    "model.type",
    "model.finetune",
    "model.freeze_encoder",
    "model.length_adaptor",
    "training.freeze_feature_encoder",
    "lora.rank",
    "lora.target_modules",
    "ctc_units",
    "num_parameters",
    "num_trained_parameters",
)
"""A checkpoint's weights and optimizer state do not fit where these differ."""


def make_record(
    config: RunConfig, facts: dict[str, Any], *, parallelism: str, gradient_accumulation_steps: int
) -> dict[str, Any]:
    """What every checkpoint of a run says about it.

    Args:
        facts: of the data and the model, see `run_facts.json`.
        parallelism: see `parallelism_of`.
    """
    return {
        "vietst_version": __version__,
        "num_processes": world_size(),
        "parallelism": parallelism,
        "batches_per_step": world_size() * gradient_accumulation_steps,
        **{key: facts[key] for key in ("split_hash", "num_train_utterances", "ctc_units", "num_parameters",
                                       "num_trained_parameters", "extra_sets")},
        "config": config.model_dump(mode="json"),
    }  # fmt: skip


def parallelism_of(trainer: Any) -> str:
    """How a Trainer shares out its state: `data` (not at all: one process, or DDP), `zero-N`, `fsdp`."""
    if trainer.is_deepspeed_enabled:
        return f"zero-{trainer.accelerator.state.deepspeed_plugin.zero_stage}"
    return "fsdp" if trainer.is_fsdp_enabled else "data"


def check_continuation(checkpoint: Path, current: dict[str, Any]) -> list[str]:
    """What differs between the run of a checkpoint and the one that goes on from it, a line for each.

    Args:
        current: record of the run that goes on.

    Raises:
        CheckpointError: the run cannot go on from there.
    """
    before = read_record(checkpoint) or _record_by_files(checkpoint)
    _refuse_other_parallelism(checkpoint, before, current)
    old, new = _flat(before), _flat(current)
    # A key that one of the two does not know is of another version; it decides nothing that is not said.
    changed = {key: f"{key}: {old[key]} → {new[key]}" for key in new if key in old and old[key] != new[key]}
    refused = [line for key, line in changed.items() if _is_one_of(key, _REFUSED)]
    if refused:
        raise CheckpointError(
            where=f"resuming from {checkpoint}",
            rule="a training goes on with the model and the optimizer that it began with",
            found="; ".join(refused),
            do="set it as it was; or start a new training from the checkpoint's weights: without --resume, "
            f"with model.name={checkpoint} and another output.dir",
        )
    lines = [
        f"{line} ({effect})"
        for effect, keys in _EFFECTS
        for key, line in changed.items()
        if _is_one_of(key, keys)
    ]
    if before["num_processes"] != current["num_processes"]:
        lines.insert(0, _other_processes(before, current))
    return lines


def _other_processes(before: dict[str, Any], current: dict[str, Any]) -> str:
    goes_on = "weights, optimizer and learning rate go on; dropout and masks are drawn anew"
    if current["parallelism"].startswith("zero"):
        goes_on += f"; what {current['parallelism']} shares out is shared out anew"
    if current["parallelism"] == "zero-3":
        goes_on += ", and weights that are always frozen are the base model's"
    return f"processes: {before['num_processes']} → {current['num_processes']} ({goes_on})"


def _refuse_other_parallelism(checkpoint: Path, before: dict[str, Any], current: dict[str, Any]) -> None:
    was, now = before["parallelism"], current["parallelism"]
    num_was, num_now = before["num_processes"], current["num_processes"]
    can_be_reshared = "files" in before and current["config"]["training"]["optim"] in RESHARABLE_OPTIMIZERS
    if was == now and (num_was == num_now or not now.startswith("zero") or can_be_reshared):
        return
    raise CheckpointError(
        where=f"resuming from {checkpoint}",
        rule="ZeRO's optimizer state goes on with another number of processes where it is of "
        f"{' or '.join(RESHARABLE_OPTIMIZERS)}, in a checkpoint with {RECORD_FILE}"
        if was == now
        else "a training goes on with the kind of launch configuration that it began with",
        found=f"{num_was} process(es), {was} → {num_now} process(es), {now}",
        do="start it as before; or start a new training from the checkpoint's weights: without --resume, "
        f"with model.name={checkpoint} and another output.dir",
    )


def _is_one_of(key: str, keys: Sequence[str]) -> bool:
    return any(key == wanted or key.startswith(f"{wanted}.") for wanted in keys)


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """The record's entries, and those of its configuration as `section.key`."""
    flat = {key: value for key, value in record.items() if key != "config"}
    for section, values in (record.get("config") or {}).items():
        if isinstance(values, dict):
            flat |= {f"{section}.{key}": value for key, value in values.items()}
    if sources := flat.get("data.sources"):
        # Records of versions whose sources had none do not know the key.
        flat[_LANGUAGES] = {name: source.get("language") for name, source in sources.items()}
        flat["data.sources"] = {
            name: {key: value for key, value in source.items() if key != "language"}
            for name, source in sources.items()
        }
    return flat


def _record_by_files(checkpoint: Path) -> dict[str, Any]:
    """For a checkpoint without a record: what its files tell, and its run folder's resolved configuration."""
    parallelism = "data"
    if any(checkpoint.glob("pytorch_model_fsdp*")):
        parallelism = "fsdp"
    elif any(checkpoint.glob("global_step*")):
        is_stage_3 = any(checkpoint.glob("global_step*/zero_pp_rank_*_model_states.pt"))
        parallelism = "zero-3" if is_stage_3 else "zero-2"
    record: dict[str, Any] = {
        "num_processes": max(1, len(list(checkpoint.glob("rng_state_*.pth")))),
        "parallelism": parallelism,
    }
    resolved = checkpoint.parent / "resolved_config.yaml"
    if resolved.is_file():
        record["config"] = yaml.safe_load(resolved.read_text(encoding="utf-8"))
    return record
