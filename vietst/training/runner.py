"""A training run from configuration to released model, the same for every architecture."""

import functools
import json
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback, Seq2SeqTrainingArguments

from vietst import __version__, rank_faults
from vietst.config import LoadedConfig
from vietst.config_rules import accumulation_steps, encoder_stays_frozen
from vietst.config_schema import RunConfig
from vietst.environment import environment_record
from vietst.evaluation.decode import TextDecoder
from vietst.hub.licenses import model_license
from vietst.models.languages import generate_in_languages
from vietst.models.model_record import record_of, write_model_record
from vietst.models.multitask import EncoderStates, LossWeights
from vietst.models.trainable import starts_with_frozen_encoder, training_scope
from vietst.runtime import get_logger, rank, set_seed, warn_once, world_size
from vietst.script_end import Preempted, leave_process_group
from vietst.training.arguments import training_arguments
from vietst.training.cached_states import with_cached_states
from vietst.training.callbacks import (
    ConvergenceMonitorCallback,
    LoggingCallback,
    MetricsSaveCallback,
)
from vietst.training.checkpoint_writing import flush_to_disk, full_disk_is_an_error, remove_leftovers
from vietst.training.checkpoints import checkpoint_to_start_from, read_record, require_same_tokenizer
from vietst.training.compiled_layers import compile_layers, eager
from vietst.training.continuation import check_continuation, make_record, parallelism_of
from vietst.training.dev_scores import REFERENCE_COLUMNS, make_compute_metrics
from vietst.training.extra_sets import ForgettingGuard, scored_sets
from vietst.training.model_flops import flops_of_batches, peak_flops
from vietst.training.out_of_memory import out_of_memory_is_an_error
from vietst.training.parameter_groups import LearningRates
from vietst.training.preemption import PreemptionCallback, noted_stop_signals, remove_note
from vietst.training.preparation import Preparation, prepare, run_folder
from vietst.training.pushing import ModelPusher, PushCallback, pushing
from vietst.training.release_check import record_release
from vietst.training.run_plan import describe_plan
from vietst.training.sole_training import sole_training
from vietst.training.throughput import ThroughputMeter
from vietst.training.trainer import SpeechTrainer
from vietst.training.unfreezing import EncoderUnfreezeCallback
from vietst.training.windows import TrainingWindows

logger = get_logger(__name__)


def run_training(loaded: LoadedConfig, *, resume: str | None = None) -> Path:
    """Train as configured, and leave the model in the run folder.

    Args:
        resume: a checkpoint folder, `checkpoints.LATEST`, `checkpoints.AUTO`, or None to start afresh.

    Returns:
        The run folder, with the model's files, the resolved configuration, the environment record, the run's
        facts, `metrics/`, `logs/`, the kept checkpoints, and `train_results.json`, which is written last.

    Raises:
        VietstError: whatever the user can mend: before training starts, a full disk, memory that runs out,
            losses that are no numbers.
        Preempted: a signal asked to stop, and a checkpoint was saved.
    """
    rank_faults.watch()
    run_dir = run_folder(loaded.config)
    with sole_training(run_dir):
        checkpoint = checkpoint_to_start_from(run_dir, resume)
        with pushing(run_dir, loaded.config.hub) as pusher:
            _train(loaded, run_dir, checkpoint, pusher)
    return run_dir


def _train(loaded: LoadedConfig, run_dir: Path, checkpoint: Path | None, pusher: ModelPusher | None) -> None:
    config = loaded.config
    accumulation = accumulation_steps(config.training, world_size())
    # Before the model: under DeepSpeed ZeRO-3 the arguments decide how weights are created.
    arguments = training_arguments(config, accumulation)
    preparation = prepare(config)
    if checkpoint is not None:
        require_same_tokenizer(checkpoint, preparation.architecture, preparation.processor.tokenizer)
    if config.hub.pushes:  # what may not be published as stated is said now, not after the training
        model_license(config.hub, preparation.facts["base_origin"], preparation.facts["base_hub_ids"])
    set_seed(config.training.seed)
    with out_of_memory_is_an_error(config, preparation, accumulation):
        trainer = build_trainer(config, arguments, preparation)
        facts = _run_facts(preparation, trainer)
        trainer.run_record = make_record(
            config,
            facts,
            parallelism=parallelism_of(trainer),
            gradient_accumulation_steps=accumulation,
        )
        if checkpoint is not None:
            logger.info("going on from %s", checkpoint)
            for line in check_continuation(checkpoint, trainer.run_record):
                warn_once(logger, "different from the run before: %s", line)
            for line in trainer.guard.go_on(read_record(checkpoint) or {}):
                warn_once(logger, "%s", line)
            trainer.run_record["extra_sets"] = trainer.guard.digests_before
        elif preparation.extra_sets:
            arguments.eval_on_start = True  # what they are compared with; checkpoints keep it
        _open_run_folder(run_dir, loaded, facts, trainer)
        logger.info(describe_plan(config, preparation, accumulation))
        if pusher is not None:
            trainer.add_callback(PushCallback(pusher))
        if pusher is not None and checkpoint is not None:
            pusher.add_earlier(checkpoint)
        _train_and_save(trainer, preparation, checkpoint)
    logger.info("model, metrics and logs: %s", run_dir)
    if config.hub.pushes:
        leave_process_group()  # the other processes need not wait for the Hub
    if pusher is not None:
        pusher.add(run_dir, "the final model")


def _train_and_save(trainer: SpeechTrainer, preparation: Preparation, checkpoint: Path | None) -> None:
    run_dir = Path(trainer.args.output_dir)
    with noted_stop_signals() as request, full_disk_is_an_error(run_dir):
        trainer.add_callback(PreemptionCallback(request, run_dir))
        try:
            result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except Preempted:
            trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)  # closes logs
            raise
        save_model(trainer, preparation)
        trainer.save_state()
        if trainer.is_world_process_zero():
            record_release(run_dir)
            flush_to_disk(run_dir)
            remove_note(run_dir)
        # Last, since it says that the run is finished.
        trainer.save_metrics("train", result.metrics)
    logger.info("done: %d steps, training loss %.4f", result.global_step, result.metrics["train_loss"])


# --- model and trainer -------------------------------------------------------------------------------


def build_trainer(
    config: RunConfig, arguments: Seq2SeqTrainingArguments, preparation: Preparation
) -> SpeechTrainer:
    """Model, collator, evaluation and callbacks, put together."""
    architecture, processor = preparation.architecture, preparation.processor
    weights = LossWeights(
        per_task=(config.loss.transcribe_weight, config.loss.translate_weight),
        ctc=config.loss.ctc_weight,
        label_smoothing=config.loss.label_smoothing,
    )
    model = architecture.build_for_training(
        config, weights, len(preparation.ctc_table) if preparation.ctc_table else None
    )
    write_model_record(model, record_of(config))
    if config.training.compile:
        compile_layers(model)
    callbacks = _callbacks(config)
    if config.model.cache_encoder_states:
        with eager():  # the encoder runs here only
            preparation, its_callbacks = with_cached_states(config, preparation, model, arguments.device)
        callbacks += its_callbacks

    def generate(
        model: Any, encoder_states: EncoderStates, tasks: tuple[str, ...], **options: Any
    ) -> torch.Tensor:
        return generate_in_languages(
            functools.partial(architecture.generate, model, processor.tokenizer),
            encoder_states,
            tasks,
            model_language=config.model.language,
            all_languages=set(preparation.dev_languages),
            pad_token_id=processor.tokenizer.pad_token_id,
            **options,
        )

    trainer = SpeechTrainer(
        model=model,
        args=arguments,
        data_collator=preparation.collator(preparation.tasks, config.model.language, preparation.ctc_table),
        train_dataset=preparation.train,
        eval_dataset=preparation.dev,
        processing_class=processor,
        compute_metrics=make_compute_metrics(
            preparation.dev.rows.select_columns(list(REFERENCE_COLUMNS)),
            TextDecoder(processor.tokenizer),
            preparation.tasks,
        ),
        callbacks=callbacks,
        tasks=preparation.tasks,
        language=preparation.dev_languages,
        generate=generate,
        tokens_per_second=config.evaluation.max_new_tokens_per_second,
        tokens_base=config.evaluation.max_new_tokens_base,
        num_beams=config.evaluation.num_beams,
        extra_sets=scored_sets(preparation),
        guard=ForgettingGuard.of_run(config, preparation),
        train_batches=preparation.train_batches,
        drawn=preparation.drawn,
        on_nonfinite=config.training.on_nonfinite,
        meter=_throughput_meter(config, arguments, preparation, model),
        windows=_training_windows(config, preparation),
        evaluates_in_full_window=config.evaluation.context == "full",
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


def _throughput_meter(
    config: RunConfig, arguments: Seq2SeqTrainingArguments, preparation: Preparation, model: Any
) -> ThroughputMeter:
    half_precision = arguments.bf16 or arguments.fp16
    peak = peak_flops(torch.cuda.get_device_name()) if half_precision and torch.cuda.is_available() else None
    if peak is None:
        return ThroughputMeter()
    return ThroughputMeter(peak, flops_of_batches(config, model, preparation.input_kind))


def _training_windows(config: RunConfig, preparation: Preparation) -> TrainingWindows | None:
    if preparation.windows is None:
        return None
    return TrainingWindows(
        context=preparation.context,
        longer_share=preparation.longer_share,
        seed=config.training.seed,
        by_seconds=preparation.train_batches,
        batches_per_step=accumulation_steps(config.training, world_size()) * world_size(),
        num_processes=world_size(),
        rank=rank(),
    )


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


def _run_facts(preparation: Preparation, trainer: SpeechTrainer) -> dict[str, Any]:
    return {
        "vietst_version": __version__,
        **preparation.facts,
        "num_parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "num_trained_parameters": trainer.scope.num_trained(trainer.model),
    }


def _open_run_folder(
    run_dir: Path, loaded: LoadedConfig, facts: dict[str, Any], trainer: SpeechTrainer
) -> None:
    """Clear what an earlier training did not come to the end of, and record what this one is."""
    if not trainer.is_world_process_zero():
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    remove_leftovers(run_dir)
    remove_note(run_dir)
    resolved = yaml.safe_dump(loaded.config.model_dump(mode="json"), allow_unicode=True, sort_keys=False)
    for name, text in (
        ("resolved_config.yaml", resolved),
        ("environment.json", json.dumps(environment_record(), indent=2)),
        ("run_facts.json", json.dumps(facts, indent=2, ensure_ascii=False)),
    ):
        (run_dir / name).write_text(text.rstrip() + "\n", encoding="utf-8", newline="\n")
