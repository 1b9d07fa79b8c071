"""A training run from configuration to released model, the same for every architecture."""

import dataclasses
import json
import math
import random
import shlex
import types
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback, Seq2SeqTrainingArguments

from vietst import __version__
from vietst.config import LoadedConfig
from vietst.config_rules import accumulation_steps, encoder_stays_frozen
from vietst.config_schema import PathsSection, RunConfig
from vietst.constants import TASKS
from vietst.data.batching import CharacterTable, UtteranceDataset, targets_of
from vietst.data.duration_batches import DurationBatchSampler, fixed_length_s
from vietst.data.feature_cache import open_feature_cache
from vietst.data.features import InputKind, input_kind_of
from vietst.data.splits import read_audit, read_split
from vietst.errors import CheckpointError, ConfigError, VietstError
from vietst.evaluation.decode import TextDecoder
from vietst.models.architectures import ARCHITECTURES
from vietst.models.base_models import make_base_model
from vietst.models.multitask import LossWeights
from vietst.models.trainable import describe_training_scope, starts_with_frozen_encoder, training_scope
from vietst.runtime import environment_record, get_logger, rank, set_seed, world_size
from vietst.training.arguments import mixed_precision, require_optimizer, training_arguments
from vietst.training.cached_states import describe_cached_states, with_cached_states
from vietst.training.callbacks import (
    ConvergenceMonitorCallback,
    LoggingCallback,
    MetricsSaveCallback,
    NonFiniteGradientCallback,
)
from vietst.training.checkpoints import complete_checkpoints, find_checkpoint
from vietst.training.parameter_groups import LearningRates
from vietst.training.trainer import SpeechTrainer, make_compute_metrics
from vietst.training.unfreezing import EncoderUnfreezeCallback

logger = get_logger(__name__)


@dataclasses.dataclass
class Preparation:
    """What a run needs before its weights: processor, data, and the facts that are recorded about them."""

    architecture: types.ModuleType
    processor: Any
    input_kind: InputKind
    tasks: tuple[str, ...]
    train: UtteranceDataset
    dev: UtteranceDataset
    ctc_characters: CharacterTable | None
    train_batches: DurationBatchSampler | None
    """Batches by seconds; None: `training.batch_size` utterances each."""
    facts: dict[str, Any]


def run_training(loaded: LoadedConfig, *, resume: str | None = None) -> Path:
    """Train as configured, and leave the model in the run folder.

    Args:
        resume: a checkpoint folder, `checkpoints.LATEST`, or None to start afresh.

    Returns:
        The run folder, with the model's files, the resolved configuration, the environment record, the run's
        facts, `train_results.json`, `metrics/`, `logs/` and the kept checkpoints.

    Raises:
        VietstError: whatever the user can mend, before training starts.
    """
    config = loaded.config
    run_dir = run_folder(config)
    checkpoint = _checkpoint_to_resume(run_dir, resume)
    accumulation = accumulation_steps(config.training, world_size())
    # Before the model: under DeepSpeed ZeRO-3 the arguments decide how weights are created.
    arguments = training_arguments(config, accumulation)
    preparation = prepare(config)
    set_seed(config.training.seed)
    trainer = build_trainer(config, arguments, preparation)
    _write_run_record(run_dir, loaded, preparation, trainer)
    logger.info(describe_plan(config, preparation, accumulation))
    result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_metrics("train", result.metrics)
    trainer.save_state()
    save_model(trainer, preparation)
    logger.info("done: %d steps, training loss %.4f", result.global_step, result.training_loss)
    logger.info("model, metrics and logs: %s", run_dir)
    return run_dir


def run_folder(config: RunConfig) -> Path:
    assert config.output.dir is not None  # filled in by load_config
    return config.output.dir


def _checkpoint_to_resume(run_dir: Path, resume: str | None) -> Path | None:
    if resume is not None:
        return find_checkpoint(run_dir, resume)
    finished = complete_checkpoints(run_dir)
    if finished:
        raise CheckpointError(
            where=f"run folder {run_dir}",
            rule="a new training starts in a folder without checkpoints, so that none is overwritten",
            found=f"{len(finished)} checkpoint(s), the newest {finished[-1].name}",
            do="go on with --resume, choose another folder with output.dir=…, or delete this one",
        )
    return None


# --- data and processor ------------------------------------------------------------------------------


def prepare(config: RunConfig) -> Preparation:
    """Open what training reads: the base model's processor and the feature cache that fits it."""
    architecture = ARCHITECTURES[config.model.type]
    _make_base_model(config)
    processor = architecture.load_processor(config.model.name)
    model_config = architecture.load_model_config(config.model.name)
    input_kind = input_kind_of(processor.feature_extractor)
    cache = open_feature_cache(
        config.paths.splits_dir,
        config.paths.features_dir,
        input_kind,
        audio_root=config.paths.data_root,
        build_command=build_command(config, input_kind),
    )
    tasks = TASKS if config.model.task == "both" else (config.model.task,)
    limit = architecture.max_label_length(model_config)
    kept: dict[str, UtteranceDataset] = {}
    rejected: list[dict[str, Any]] = []
    for split in ("train", "dev"):
        positions, left_out = usable_rows(
            cache[split], tasks, architecture, processor.tokenizer, limit, input_kind
        )
        rejected += [{"split": split, **row} for row in left_out]
        if not positions:
            raise ConfigError(
                where=f"split {split}",
                rule=f"at least one utterance with a text for {' or '.join(tasks)} that fits the model",
                found=f"none of {len(cache[split])}",
                do=f"see the reasons in {run_folder(config) / 'rejected_rows.tsv'}",
            )
        if split == "dev":
            positions = evaluation_sample(
                cache[split], positions, config.evaluation.max_dev_utterances, config.training.seed
            )
        kept[split] = UtteranceDataset(cache[split].select(positions))
    _report_rejected(run_folder(config), rejected)
    characters = None
    if config.loss.ctc_weight > 0:
        characters = CharacterTable.of_texts(kept["train"].rows["transcript"])
    return Preparation(
        architecture=architecture,
        processor=processor,
        input_kind=input_kind,
        tasks=tasks,
        train=kept["train"],
        dev=kept["dev"],
        ctc_characters=characters,
        train_batches=_batches_by_seconds(config, kept["train"], input_kind),
        facts={
            "base_model": config.model.name,
            "architecture": config.model.type,
            "tasks": list(tasks),
            "language": config.model.language,
            "input_kind": input_kind.name,
            **_data_facts(config, kept),
        },
    )


def _batches_by_seconds(
    config: RunConfig, train: UtteranceDataset, input_kind: InputKind
) -> DurationBatchSampler | None:
    training, num_processes = config.training, world_size()
    if training.batch_seconds is None:
        return None
    return DurationBatchSampler(
        train.rows["duration_s"][:],
        training.batch_seconds,
        seed=training.seed,
        batches_per_step=accumulation_steps(training, num_processes) * num_processes,
        num_processes=num_processes,
        fixed_length_s=fixed_length_s(input_kind),
    )


def build_command(config: RunConfig, kind: InputKind) -> str:
    """The one command that builds the features this run needs, in the folders of this run."""
    paths, defaults = config.paths, PathsSection()
    changed = [
        f"paths.{key}={getattr(paths, key)}"
        for key in ("data_root", "manifest_path", "clean_manifest_path", "splits_dir", "features_dir")
        if getattr(paths, key) != getattr(defaults, key)
    ]
    return shlex.join(["python", "scripts/build_features.py", "--kinds", kind.name, *changed])


def _data_facts(config: RunConfig, kept: dict[str, UtteranceDataset]) -> dict[str, Any]:
    return {
        "split_hash": read_audit(config.paths.splits_dir)["split_hash"],
        "num_train_utterances": len(kept["train"]),
        "num_dev_utterances": len(kept["dev"]),
        "train_hours": round(sum(kept["train"].rows["duration_s"]) / 3600, 4),
    }


def _make_base_model(config: RunConfig) -> None:
    """Make the base model where it is to be made and missing, on one process while the others wait."""
    from accelerate import PartialState

    def training_texts() -> list[str]:
        rows = read_split(config.paths.splits_dir, "train")
        return [row[column] for row in rows for column in ("transcript", "translation") if row[column]]

    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():
        for made in make_base_model(config, training_texts):
            logger.info("made %s", made)


def usable_rows(
    rows: Any,
    tasks: tuple[str, ...],
    architecture: types.ModuleType,
    tokenizer: Any,
    max_label_length: int,
    kind: InputKind,
) -> tuple[list[int], list[dict[str, Any]]]:
    """Which rows the model can learn from, and why not the others. A text is never cut to fit.

    Returns:
        Positions of the usable rows, in order; and for each other row `id`, `reason`, `detail`.
    """
    texts = rows.select_columns(["id", "transcript", "translation", "duration_s"]).to_list()
    targets = targets_of(texts, tasks)
    lengths = architecture.label_lengths(tokenizer, [target.text for target in targets])
    longest = [0] * len(texts)
    for target, length in zip(targets, lengths, strict=True):
        longest[target.utterance_index] = max(longest[target.utterance_index], length)
    usable: list[int] = []
    rejected: list[dict[str, Any]] = []
    for position, (row, length) in enumerate(zip(texts, longest, strict=True)):
        if length == 0:
            reason, detail = "no_target", f"no text for {' or '.join(tasks)}"
        elif length > max_label_length:
            reason, detail = "label_too_long", f"{length} tokens, the decoder has {max_label_length}"
        elif kind.window_s is not None and row["duration_s"] > kind.window_s:
            reason, detail = (
                "longer_than_window",
                f"{row['duration_s']:.2f} s, the model hears {kind.window_s} s",
            )
        else:
            usable.append(position)
            continue
        rejected.append({"id": row["id"], "reason": reason, "detail": detail})
    return usable, rejected


def evaluation_sample(rows: Any, positions: list[int], limit: int | None, seed: int) -> list[int]:
    """At most `limit` of the positions, drawn by the seed, longest first so that batches pad little."""
    if limit is not None and len(positions) > limit:
        positions = random.Random(seed).sample(positions, limit)
    durations = rows["duration_s"][:]
    return sorted(positions, key=lambda position: (-durations[position], position))


def _report_rejected(run_dir: Path, rejected: list[dict[str, Any]]) -> None:
    if rank() != 0:
        return
    path = run_dir / "rejected_rows.tsv"
    path.unlink(missing_ok=True)
    if not rejected:
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    lines = [
        "split\tid\treason\tdetail",
        *("\t".join(str(value) for value in row.values()) for row in rejected),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    logger.warning("%d utterances cannot be used by this model; the reasons: %s", len(rejected), path)


# --- model and trainer -------------------------------------------------------------------------------


def build_trainer(
    config: RunConfig, arguments: Seq2SeqTrainingArguments, preparation: Preparation
) -> SpeechTrainer:
    """Model, collator, evaluation and callbacks, put together."""
    architecture, processor = preparation.architecture, preparation.processor
    characters = preparation.ctc_characters
    weights = LossWeights(
        per_task=(config.loss.transcribe_weight, config.loss.translate_weight),
        ctc=config.loss.ctc_weight,
        label_smoothing=config.loss.label_smoothing,
    )
    model = architecture.build_for_training(config, weights, len(characters) if characters else None)
    callbacks = _callbacks(config)
    if config.model.cache_encoder_states:
        preparation, its_callbacks = with_cached_states(config, preparation, model, arguments.device)
        callbacks += its_callbacks

    def generate(
        model: Any, encoder_states: torch.Tensor, tasks: tuple[str, ...], **options: Any
    ) -> torch.Tensor:
        return architecture.generate(
            model, processor.tokenizer, encoder_states, tasks, language=config.model.language, **options
        )

    trainer = SpeechTrainer(
        model=model,
        args=arguments,
        data_collator=architecture.Collator(
            processor, preparation.input_kind, preparation.tasks, config.model.language, characters
        ),
        train_dataset=preparation.train,
        eval_dataset=preparation.dev,
        processing_class=processor,
        compute_metrics=make_compute_metrics(
            preparation.dev, TextDecoder(processor.tokenizer), preparation.tasks
        ),
        callbacks=callbacks,
        tasks=preparation.tasks,
        generate=generate,
        tokens_per_second=config.evaluation.max_new_tokens_per_second,
        tokens_base=config.evaluation.max_new_tokens_base,
        num_beams=config.evaluation.num_beams,
        train_batches=preparation.train_batches,
        scope=training_scope(config),
        learning_rates=_learning_rates(config),
    )
    if starts_with_frozen_encoder(config) and not encoder_stays_frozen(config):
        trainer.add_callback(
            EncoderUnfreezeCallback(
                trainer.unfreeze_encoder,
                after_updates=config.training.freeze_encoder_updates,
                after_epochs=config.training.freeze_encoder_epochs,
            )
        )
    # LoggingCallback says the same, readably.
    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(_ProgressBarCallback)
    return trainer


def _learning_rates(config: RunConfig) -> LearningRates:
    training = config.training
    return LearningRates(
        encoder=training.encoder_learning_rate or training.learning_rate,
        adaptor=training.adaptor_learning_rate or training.learning_rate,
        decoder=training.learning_rate,
    )


class _ProgressBarCallback(ProgressCallback):
    """The progress bar without transformers' own print of every log."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        pass


def _callbacks(config: RunConfig) -> list[Any]:
    assert config.output.experiment_name is not None  # filled in by load_config
    callbacks: list[Any] = [
        LoggingCallback(),
        MetricsSaveCallback(run_folder(config), config.output.experiment_name),
        ConvergenceMonitorCallback(),
        NonFiniteGradientCallback(),
    ]
    if config.training.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(config.training.early_stopping_patience))
    return callbacks


def save_model(trainer: SpeechTrainer, preparation: Preparation) -> None:
    """The final model and its processor, as stock transformers loads them: without the CTC head."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.ctc_head = None
    trainer.save_release()
    if trainer.is_world_process_zero():
        preparation.processor.save_pretrained(trainer.args.output_dir)


# --- what is said and recorded -----------------------------------------------------------------------


def describe_plan(config: RunConfig, preparation: Preparation, accumulation: int) -> str:
    """What the training will do, in a few lines."""
    training, num_train = config.training, len(preparation.train)
    by_seconds = preparation.train_batches
    if by_seconds is None:
        effective_batch = training.batch_size * accumulation * world_size()
        steps_per_epoch = math.ceil(num_train / effective_batch)
        batch, of_batches = f"{training.batch_size}", ""
    else:
        steps_per_epoch = by_seconds.num_steps
        effective_batch = round(num_train / steps_per_epoch)
        batch, of_batches = f"{by_seconds.batch_seconds:g} s", f"\n{by_seconds.describe()}"
    steps = (
        training.max_steps
        if training.max_steps > 0
        else math.ceil(training.num_train_epochs * steps_per_epoch)
    )
    bf16, fp16 = mixed_precision(config)
    precision = "bf16 mixed precision" if bf16 else "fp16 mixed precision" if fp16 else "fp32"
    return (
        f"training {config.model.name} for {' and '.join(preparation.tasks)}: {num_train} utterances "
        f"({preparation.facts['train_hours']:.2f} h), {steps} steps of {effective_batch} utterances "
        f"({batch} × {accumulation} accumulated × {world_size()} processes), about "
        f"{steps / steps_per_epoch:.1f} epochs, {precision}; dev: {len(preparation.dev)} utterances"
        f"{of_batches}\ntrained: {describe_training_scope(config)}"
    )


def _write_run_record(
    run_dir: Path, loaded: LoadedConfig, preparation: Preparation, trainer: SpeechTrainer
) -> None:
    if not trainer.is_world_process_zero():
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    facts = {
        "vietst_version": __version__,
        **preparation.facts,
        "num_parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "num_trained_parameters": trainer.scope.num_trained(trainer.model),
    }
    resolved = yaml.safe_dump(loaded.config.model_dump(mode="json"), allow_unicode=True, sort_keys=False)
    for name, text in (
        ("resolved_config.yaml", resolved),
        ("environment.json", json.dumps(environment_record(), indent=2)),
        ("run_facts.json", json.dumps(facts, indent=2, ensure_ascii=False)),
    ):
        (run_dir / name).write_text(text.rstrip() + "\n", encoding="utf-8", newline="\n")


def dry_run(loaded: LoadedConfig) -> bool:
    """Print the resolved configuration and what training would do; load everything except to train.

    Returns:
        Whether training could start.
    """
    print(loaded.describe())
    config = loaded.config
    try:
        accumulation = accumulation_steps(config.training, world_size())
        mixed_precision(config)
        require_optimizer(config)
        preparation = prepare(config)
        weights = LossWeights(per_task=(config.loss.transcribe_weight, config.loss.translate_weight))
        model = preparation.architecture.build_for_training(config, weights, None)
        states = (
            describe_cached_states(config, preparation, model) if config.model.cache_encoder_states else None
        )
    except VietstError as error:
        print(f"\ntraining could not start:\n{error}")
        return False
    trained = training_scope(config).num_trained(model)
    total = sum(parameter.numel() for parameter in model.parameters())
    print(f"\nwould start: {describe_plan(config, preparation, accumulation)}")
    print(f"parameters: {total:,}, of which trained: {trained:,}")
    if states is not None:
        print(states)
    print(f"would write to: {run_folder(config)}")
    return True
