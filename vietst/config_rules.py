"""What must hold between the keys of a run configuration, and gradient accumulation from the effective batch.

Each rule names the keys it is about, so that a file with a wrong value in one place still gets the rules
about all other places checked, and all of its errors are reported together.
"""

import math
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from vietst.config_schema import RunConfig, TrainingSection
from vietst.constants import SAMPLE_RATE_HZ
from vietst.errors import ConfigError


@dataclass(frozen=True)
class Problem:
    """One fault of a configuration: `found` at `key`, against `rule`."""

    key: str
    found: str
    rule: str
    other_keys: tuple[str, ...] = ()
    """Keys whose values take part in the fault."""


@dataclass(frozen=True)
class _Rule:
    """`check` yields what was found, if it is wrong. The problem is reported at the first of `keys`."""

    keys: tuple[str, ...]
    text: str
    check: Callable[[RunConfig], Iterator[str]]


def rule_problems(config: RunConfig, unusable_keys: Collection[str] = ()) -> list[Problem]:
    """All broken rules that do not touch `unusable_keys` (a key, or a section as a whole)."""
    unusable = set(unusable_keys)
    problems = []
    for rule in _RULES:
        touched = {key for full_key in rule.keys for key in (full_key, full_key.partition(".")[0])}
        if not touched & unusable:
            problems += [
                Problem(rule.keys[0], found, rule.text, rule.keys[1:]) for found in rule.check(config)
            ]
    return problems


def accumulation_steps(training: TrainingSection, num_processes: int) -> int:
    """Forward passes per optimizer step, such that batch x steps x num_processes = effective batch.

    Batches count utterances (`batch_size`, `effective_batch`) or seconds (`batch_seconds`,
    `effective_batch_seconds`).

    Raises:
        ConfigError: no whole number of steps does; the message names batches that work.
    """
    by_seconds = training.batch_seconds is not None
    batch: float = training.batch_size if training.batch_seconds is None else training.batch_seconds
    effective: float | None = training.effective_batch_seconds if by_seconds else training.effective_batch
    stated = training.gradient_accumulation_steps
    if effective is None:
        return stated or 1
    per_forward = batch * num_processes
    steps = round(effective / per_forward)
    # Whole seconds are not asked for: 3 x 0.1 is 0.3 here.
    if steps > 0 and math.isclose(steps * per_forward, effective, rel_tol=1e-9) and stated in (None, steps):
        return steps
    batch_key, effective_key = (
        ("batch_seconds", "effective_batch_seconds") if by_seconds else ("batch_size", "effective_batch")
    )
    formula = f"{batch_key} {batch:.10g} x {num_processes} process{'es' if num_processes > 1 else ''}"
    rule = f"{effective_key} = {batch_key} x gradient_accumulation_steps x number of processes"
    if stated is not None:
        raise ConfigError(
            where="training.gradient_accumulation_steps",
            rule=rule,
            found=f"{formula} x accumulation {stated} = {per_forward * stated:.10g}, not {effective:.10g}",
            do=f"state one of the two: gradient_accumulation_steps=null, or {effective_key}=null",
        )
    lower = int(effective // per_forward) * per_forward
    lower_or = f"{lower:.10g} or " if lower else ""
    batches = "" if by_seconds else ", ".join(map(str, _fitting_batch_sizes(int(effective), num_processes)))
    raise ConfigError(
        where=f"training.{effective_key}",
        rule=rule,
        found=f"{formula} = {per_forward:.10g}, of which {effective:.10g} is no multiple",
        do=f"set training.{effective_key} to {lower_or}{lower + per_forward:.10g}"
        + (f", or training.batch_size to one of {batches}" if batches else ""),
    )


NEVER_UNFREEZE_EPOCHS = 999
"""The guide's way to say that the encoder is never unfrozen, whatever the length of the training."""


def encoder_stays_frozen(config: RunConfig) -> bool:
    """Whether the encoder is frozen from the first step to the last, by what the configuration says."""
    epochs = config.training.freeze_encoder_epochs
    return config.model.freeze_encoder or (epochs is not None and epochs >= NEVER_UNFREEZE_EPOCHS)


def _fitting_batch_sizes(effective_batch: int, num_processes: int) -> list[int]:
    """Batch sizes that reach the effective batch on so many processes, the largest last."""
    if effective_batch % num_processes:
        return []
    share = effective_batch // num_processes
    return [size for size in range(1, share + 1) if share % size == 0]


# --- the rules ---------------------------------------------------------------------------------------


def _features_address(config: RunConfig) -> Iterator[str]:
    # What has not the form of an address is read as a path, where `//` is `/`.
    place = config.paths.features_dir
    if not isinstance(place, str) and place.as_posix().startswith("hf:"):
        yield place.as_posix()


def _streaming_needs_the_hub(config: RunConfig) -> Iterator[str]:
    if config.data.stream_features and not isinstance(config.paths.features_dir, str):
        yield f"true, with paths.features_dir {config.paths.features_dir.as_posix()}"


def _streamed_or_cached(config: RunConfig) -> Iterator[str]:
    if config.data.stream_features and config.model.cache_encoder_states:
        yield "true, with model.cache_encoder_states true"


def _split_ratios(config: RunConfig) -> Iterator[str]:
    ratios = config.data.split_ratios
    if min(ratios) <= 0 or abs(sum(ratios) - 1) > 1e-6:
        yield str(list(ratios))


def _video_id_pattern(config: RunConfig) -> Iterator[str]:
    if config.data.video_id_pattern is not None:
        try:
            re.compile(config.data.video_id_pattern)
        except re.error as error:
            yield f"{config.data.video_id_pattern!r}: {error}"


def _durations(config: RunConfig) -> Iterator[str]:
    if config.data.min_duration_s >= config.audio.max_length_seconds:
        yield f"{config.data.min_duration_s}, with max_length_seconds {config.audio.max_length_seconds}"


def _windows_are_whispers(config: RunConfig) -> Iterator[str]:
    if config.audio.context == "bucketed" and config.model.type == "e2e":
        yield "bucketed, with model.type e2e"


def _windows_ascend(config: RunConfig) -> Iterator[str]:
    windows_s = config.audio.context_windows_s
    if list(windows_s) != sorted(set(windows_s)):
        yield str(list(windows_s))


def _one_window_for_cached_states(config: RunConfig) -> Iterator[str]:
    if config.audio.context == "bucketed" and config.model.cache_encoder_states:
        yield "bucketed, with model.cache_encoder_states true"


def _evaluated_in_known_windows(config: RunConfig) -> Iterator[str]:
    if config.evaluation.context == "bucketed" and config.audio.context == "full":
        yield "bucketed, with audio.context full"


def _one_warm_up(config: RunConfig) -> Iterator[str]:
    training = config.training
    if training.warmup_steps and training.warmup_ratio:
        yield f"{training.warmup_steps}, with warmup_ratio {training.warmup_ratio}"


def _effective_batch_counts_as_batches_do(config: RunConfig) -> Iterator[str]:
    if config.training.effective_batch is not None and config.training.batch_seconds is not None:
        yield f"{config.training.effective_batch}, with batch_seconds {config.training.batch_seconds:g}"


def _effective_seconds_need_seconds(config: RunConfig) -> Iterator[str]:
    if config.training.effective_batch_seconds is not None and config.training.batch_seconds is None:
        yield f"{config.training.effective_batch_seconds:g}, without batch_seconds"


def _one_freezing_time(config: RunConfig) -> Iterator[str]:
    updates, epochs = config.training.freeze_encoder_updates, config.training.freeze_encoder_epochs
    if updates is not None and epochs is not None:
        yield f"{updates}, with freeze_encoder_epochs {epochs:g}"


def _frozen_throughout_or_for_a_time(config: RunConfig) -> Iterator[str]:
    updates, epochs = config.training.freeze_encoder_updates, config.training.freeze_encoder_epochs
    if config.model.freeze_encoder and updates is not None:
        yield f"true, with freeze_encoder_updates {updates}"
    if config.model.freeze_encoder and epochs is not None and epochs < NEVER_UNFREEZE_EPOCHS:
        yield f"true, with freeze_encoder_epochs {epochs:g}"


def _adaptor_rate_needs_adaptor(config: RunConfig) -> Iterator[str]:
    if config.training.adaptor_learning_rate is not None and config.model.type == "whisper":
        yield f"{config.training.adaptor_learning_rate:g}, with model.type whisper"


def _parts_come_together(config: RunConfig) -> Iterator[str]:
    if (config.model.encoder is None) != (config.model.decoder is None):
        missing = "encoder" if config.model.encoder is None else "decoder"
        yield f"no {missing}"


def _keys_of_e2e(config: RunConfig) -> Iterator[str]:
    if config.model.type == "e2e":
        return
    model = config.model
    stated = {
        "model.encoder": model.encoder is not None,
        "model.decoder": model.decoder is not None,
        "model.length_adaptor": model.length_adaptor,
        "model.add_adapter": model.add_adapter is not None,
        "model.trim_vocabulary": model.trim_vocabulary,
        "model.dropout": model.dropout is not None,
        "training.freeze_feature_encoder": config.training.freeze_feature_encoder,
        "nano_e2e": config.nano_e2e is not None,
    }
    if names := [name for name, is_stated in stated.items() if is_stated]:
        yield f"{model.type}, with {', '.join(names)}"


def _trimming_needs_a_decoder(config: RunConfig) -> Iterator[str]:
    if config.model.trim_vocabulary and config.model.type == "e2e" and config.model.decoder is None:
        yield "true, without model.encoder and model.decoder"


def _untrained_parts_have_a_place(config: RunConfig) -> Iterator[str]:
    encoder, decoder = config.model.encoder, config.model.decoder
    if config.nano_e2e is None:
        return
    if encoder is None or decoder is None:
        yield "no model.encoder and model.decoder"
    elif Path(encoder) != Path(decoder).with_name("encoder") or Path(decoder).name != "decoder":
        yield f"with model.encoder {encoder} and model.decoder {decoder}"


def _one_precision(config: RunConfig) -> Iterator[str]:
    if config.training.bf16 is True and config.training.fp16 is True:
        yield "true, with bf16 true"


def _max_steps(config: RunConfig) -> Iterator[str]:
    if config.training.max_steps == 0:
        yield "0"


def _best_model_needs_evaluation(config: RunConfig) -> Iterator[str]:
    if config.training.load_best_model_at_end and config.training.eval_strategy == "no":
        yield "true, with eval_strategy no"


def _save_at_evaluations(config: RunConfig) -> Iterator[str]:
    training = config.training
    by_steps = training.load_best_model_at_end and training.eval_strategy == "steps"
    if by_steps and training.save_steps % training.eval_steps:
        yield f"{training.save_steps}, with eval_steps {training.eval_steps}"


def _direction_of_best(config: RunConfig) -> Iterator[str]:
    training = config.training
    default = TrainingSection(metric_for_best_model=training.metric_for_best_model).greater_is_better
    if training.greater_is_better != default:
        yield f"{str(training.greater_is_better).lower()}, with {training.metric_for_best_model}"


def _metric_of_task(config: RunConfig) -> Iterator[str]:
    measured_by = {
        "eval_wer": "transcribe",
        "eval_cer": "transcribe",
        "eval_bleu": "translate",
        "eval_chrf": "translate",
    }
    needed = measured_by.get(config.training.metric_for_best_model)
    if needed is not None and config.model.task not in (needed, "both"):
        yield f"{config.training.metric_for_best_model}, with model.task {config.model.task}"


def _early_stopping_needs_best(config: RunConfig) -> Iterator[str]:
    training = config.training
    if training.early_stopping_patience is not None and not training.load_best_model_at_end:
        yield f"{training.early_stopping_patience}, with load_best_model_at_end false"


def _weights_of_task(config: RunConfig) -> Iterator[str]:
    weights = {"transcribe": config.loss.transcribe_weight, "translate": config.loss.translate_weight}
    if sum(weight for task, weight in weights.items() if config.model.task in (task, "both")) == 0:
        yield f"nothing above 0 for model.task {config.model.task}"


def _head_width(config: RunConfig) -> Iterator[str]:
    if config.nano is not None and config.nano.d_model % config.nano.attention_heads:
        yield f"{config.nano.attention_heads}, with d_model {config.nano.d_model}"


def _nano_window(config: RunConfig) -> Iterator[str]:
    nano = config.nano
    # The encoder's second convolution halves the number of frames.
    if nano is not None and nano.window_s * SAMPLE_RATE_HZ % (2 * nano.hop_length_samples):
        yield f"{nano.hop_length_samples} samples, with window_s {nano.window_s}"


def _push_needs_a_repository(config: RunConfig) -> Iterator[str]:
    if config.hub.push and config.hub.repo_id is None:
        yield "true, without hub.repo_id"


def _repository_name(config: RunConfig) -> Iterator[str]:
    if config.hub.repo_id is None:
        return
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(config.hub.repo_id)
    except HFValidationError as error:
        yield str(error)


def _extra_sets_are_evaluated(config: RunConfig) -> Iterator[str]:
    if config.evaluation.extra_sets and config.training.eval_strategy == "no":
        yield f"{', '.join(config.evaluation.extra_sets)}, with eval_strategy no"


def _best_is_known(config: RunConfig) -> Iterator[str]:
    if config.hub.pushes and config.hub.push_when == "best" and config.training.eval_strategy == "no":
        yield "best, with eval_strategy no"


_RULES: tuple[_Rule, ...] = (
    _Rule(
        ("paths.features_dir",),
        "a folder, or hf://datasets/OWNER/NAME with @REVISION if wanted",
        _features_address,
    ),
    _Rule(
        ("data.stream_features", "paths.features_dir"),
        "features are streamed from a dataset on the Hub: paths.features_dir=hf://datasets/OWNER/NAME",
        _streaming_needs_the_hub,
    ),
    _Rule(
        ("data.stream_features", "model.cache_encoder_states"),
        "where there is room for encoder states there is room for features: use one of the two",
        _streamed_or_cached,
    ),
    _Rule(("data.split_ratios",), "three shares above 0 that sum to 1", _split_ratios),
    _Rule(("data.video_id_pattern",), "a regular expression", _video_id_pattern),
    _Rule(
        ("data.min_duration_s", "audio.max_length_seconds"), "less than audio.max_length_seconds", _durations
    ),
    _Rule(
        ("audio.context", "model.type"),
        "full for e2e, whose encoder hears clips as long as they are: bucketed windows are for Whisper",
        _windows_are_whispers,
    ),
    _Rule(("audio.context_windows_s",), "seconds that ascend", _windows_ascend),
    _Rule(
        ("audio.context", "model.cache_encoder_states"),
        "full where encoder states are cached, which are those of one window: use full, or compute them in "
        "every step (model.cache_encoder_states=false), which costs little in short windows",
        _one_window_for_cached_states,
    ),
    _Rule(
        ("evaluation.context", "audio.context"),
        "windows that the model is trained in: audio.context=bucketed too, or evaluation.context=full",
        _evaluated_in_known_windows,
    ),
    _Rule(
        ("training.warmup_steps", "training.warmup_ratio"),
        "state one of warmup_steps and warmup_ratio",
        _one_warm_up,
    ),
    _Rule(
        ("training.effective_batch", "training.batch_seconds"),
        "where batches are by seconds, the effective batch is too: effective_batch=null, and "
        "effective_batch_seconds instead",
        _effective_batch_counts_as_batches_do,
    ),
    _Rule(
        ("training.effective_batch_seconds", "training.batch_seconds"),
        "it counts batches by seconds: state batch_seconds too, or effective_batch instead",
        _effective_seconds_need_seconds,
    ),
    _Rule(
        ("training.freeze_encoder_updates", "training.freeze_encoder_epochs"),
        "state one of freeze_encoder_updates and freeze_encoder_epochs",
        _one_freezing_time,
    ),
    _Rule(
        ("model.freeze_encoder", "training.freeze_encoder_updates", "training.freeze_encoder_epochs"),
        "it freezes the encoder for the whole training: unset it to freeze for a time, or unset that time",
        _frozen_throughout_or_for_a_time,
    ),
    _Rule(
        ("training.adaptor_learning_rate", "model.type"),
        "for models with a length adaptor or projection, which Whisper lacks",
        _adaptor_rate_needs_adaptor,
    ),
    _Rule(
        ("model.encoder", "model.decoder"), "encoder and decoder are stated together", _parts_come_together
    ),
    _Rule(
        (
            "model.type",
            "model.encoder",
            "model.decoder",
            "model.length_adaptor",
            "model.add_adapter",
            "model.trim_vocabulary",
            "model.dropout",
            "training.freeze_feature_encoder",
            "nano_e2e",
        ),
        "e2e, for keys that only E2E models have",
        _keys_of_e2e,
    ),
    _Rule(
        ("model.trim_vocabulary", "model.decoder", "model.type"),
        "a vocabulary is trimmed when a model is put together; one that exists already keeps its own",
        _trimming_needs_a_decoder,
    ),
    _Rule(
        ("nano_e2e", "model.encoder", "model.decoder"),
        "the untrained parts are made at model.encoder and model.decoder: encoder and decoder in one folder",
        _untrained_parts_have_a_place,
    ),
    _Rule(("training.fp16", "training.bf16"), "at most one of fp16 and bf16", _one_precision),
    _Rule(
        ("training.max_steps",), "a positive number of steps, or -1 to train for num_train_epochs", _max_steps
    ),
    _Rule(
        ("training.load_best_model_at_end", "training.eval_strategy"),
        "the best model is found by evaluating: eval_strategy steps or epoch",
        _best_model_needs_evaluation,
    ),
    _Rule(
        (
            "training.save_steps",
            "training.eval_steps",
            "training.eval_strategy",
            "training.load_best_model_at_end",
        ),
        "a multiple of eval_steps, so that each checkpoint has been evaluated",
        _save_at_evaluations,
    ),
    _Rule(
        ("training.greater_is_better", "training.metric_for_best_model"),
        "true for BLEU and chrF, false for loss, WER and CER; leave it out, it follows from the metric",
        _direction_of_best,
    ),
    _Rule(
        ("training.metric_for_best_model", "model.task"),
        "a metric of a task that is trained (WER, CER: transcribe; BLEU, chrF: translate)",
        _metric_of_task,
    ),
    _Rule(
        ("training.early_stopping_patience", "training.load_best_model_at_end"),
        "stopping early needs load_best_model_at_end",
        _early_stopping_needs_best,
    ),
    _Rule(
        ("loss.transcribe_weight", "loss.translate_weight", "model.task"),
        "a weight above 0 for a task that is trained",
        _weights_of_task,
    ),
    _Rule(
        ("evaluation.extra_sets", "training.eval_strategy"),
        "extra sets are scored when dev is: eval_strategy steps or epoch",
        _extra_sets_are_evaluated,
    ),
    _Rule(
        ("hub.push", "hub.repo_id"),
        "pushing needs a repository: hub.repo_id=OWNER/NAME",
        _push_needs_a_repository,
    ),
    _Rule(("hub.repo_id",), "OWNER/NAME, or NAME in the account of the token", _repository_name),
    _Rule(
        ("hub.push_when", "hub.push", "hub.repo_id", "training.eval_strategy"),
        "the best model is found by evaluating: eval_strategy steps or epoch",
        _best_is_known,
    ),
    _Rule(("nano.attention_heads", "nano.d_model"), "a divisor of d_model", _head_width),
    _Rule(
        ("nano.hop_length_samples", "nano.window_s"),
        "an even, whole number of frames in the window",
        _nano_window,
    ),
)
