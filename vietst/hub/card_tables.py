"""The tables of a model card about model and training: from recorded facts, with no place on a disk."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from vietst.constants import TRANSCRIBE, TRANSLATE
from vietst.evaluation.results_table import SCORE_LABELS
from vietst.hub.card_limits import short_windows_s, window_s
from vietst.hub.card_records import RunRecords
from vietst.hub.licenses import OWN
from vietst.hub.private_text import is_plain
from vietst.text_style import TextStyle

NOT_RECORDED: Final = "not recorded"

Rows = list[tuple[str, str]]


def shown(value: Any, form: str = "{}") -> str:
    """A recorded value as text. What may hold a path, or more than a word or two, is not shown at all."""
    if value is None or value == "":
        return NOT_RECORDED
    if isinstance(value, str) and not is_plain(value):
        return NOT_RECORDED
    try:
        return form.format(value)
    except (TypeError, ValueError):  # no number where one was recorded
        return NOT_RECORDED


def data_rows(records: RunRecords, datasets: Sequence[str], dataset_license: str | None) -> Rows:
    """What the model was trained on."""
    facts = records.facts
    links = [f"[{name}](https://huggingface.co/datasets/{name})" for name in datasets]
    return [
        ("data sets", ", ".join(links) or NOT_RECORDED),
        ("their license", "the authors' own" if dataset_license == OWN else shown(dataset_license)),
        ("training", _amount(facts.get("num_train_utterances"), facts.get("train_hours"))),
        ("dev, scored during training", shown(facts.get("num_dev_utterances"), "{:,} utterances")),
        ("split hash", shown(facts.get("split_hash"), "`{}`")),
        ("input features", shown(facts.get("input_kind"), "`{}`")),
    ]


def _amount(num_utterances: int | None, hours: float | None) -> str:
    return f"{shown(num_utterances, '{:,} utterances')}, {shown(hours, '{:,.2f} hours')}"


def prompts_of(records: RunRecords) -> Rows:
    """What the decoder begins with for each task, and what it writes then; none where no task is recorded."""
    if records.model is None:
        return []
    if records.model.architecture == "whisper":
        before = f"<|startoftranscript|> <|{records.model.language}|>"
        prompts = {task: f"`{before} <|{task}|> <|notimestamps|>`" for task in records.model.tasks}
    else:
        codes = {number: code for code, number in records.generation_config.get("lang_to_id", {}).items()}
        code = shown(codes.get(records.generation_config.get("decoder_start_token_id")))
        prompts = {task: f"`{code} <2{task}>`" for task in records.model.tasks}
    outputs = {
        TRANSCRIBE: "what was said, English words in English",
        TRANSLATE: "the same **in Vietnamese**",
    }
    return [(prompts[task], outputs[task]) for task in records.model.tasks]


def training_rows(records: RunRecords) -> Rows:
    """How it was trained, and on what."""
    facts, results, state = records.facts, records.train_results, records.trainer_state
    return [
        ("parameters", shown(facts.get("num_parameters"), "{:,}")),
        ("of them trained", shown(facts.get("num_trained_parameters"), "{:,}")),
        ("what was trained", _what_was_trained(records)),
        ("optimizer steps", _steps(records)),
        ("passes over the data", shown(state.get("epoch"), "{:.2f}")),
        ("batch", _batch(records)),
        ("learning rate", _learning_rate(records)),
        ("optimizer", _optimizer(records)),
        ("precision", _precision(records)),
        ("loss", _loss(records)),
        ("writing", _writing(records)),
        ("masking (SpecAugment)", _masking(records)),
        *_window_rows(records),
        ("seed", shown(records.setting("training", "seed"))),
        ("hardware", _hardware(records)),
        ("time", _time(results)),
        ("peak memory of a process", shown(results.get("peak_memory_gb"), "{:.1f} GB")),
    ]


_WRITING: Final[Mapping[TextStyle, str]] = {
    "as_is": "case and punctuation of the training texts",
    "lower_nopunct": "lower case, no punctuation",
}


def _writing(records: RunRecords) -> str:
    return NOT_RECORDED if records.model is None else _WRITING[records.model.text_style]


def _of_section(section: str) -> Callable[[Callable[[Mapping[str, Any]], str]], Callable[[RunRecords], str]]:
    """For texts from one section of the configuration, as far as that is recorded."""

    def decorate(text_of: Callable[[Mapping[str, Any]], str]) -> Callable[[RunRecords], str]:
        def text(records: RunRecords) -> str:
            try:
                return text_of(records.config[section])
            except (KeyError, TypeError, ValueError):  # of a version that had other keys
                return NOT_RECORDED

        return text

    return decorate


@_of_section("model")
def _what_was_trained(model: Mapping[str, Any]) -> str:
    names = {
        "full": "all weights",
        "lna": "layer norms and attention",
        "lora": "low-rank adapters, merged into the weights",
    }
    return shown(names.get(model["finetune"])) + (", encoder frozen" if model["freeze_encoder"] else "")


def _steps(records: RunRecords) -> str:
    last, step = records.trainer_state.get("global_step"), records.step
    if step is None or step == last:
        return shown(last, "{:,}")
    metric = str(records.setting("training", "metric_for_best_model")).removeprefix("eval_")
    label = SCORE_LABELS[metric].removesuffix(" %") if metric in SCORE_LABELS else shown(metric)
    return f"{last:,}; the weights are those of step {step:,}, the best by {label} on dev"


def _batch(records: RunRecords) -> str:
    training, num_processes = records.config.get("training"), records.environment.get("world_size")
    if not training or num_processes is None:
        return NOT_RECORDED
    if training["effective_batch_seconds"] is not None:
        return f"{training['effective_batch_seconds']:g} s of audio in each step, padding counted"
    if training["effective_batch"] is not None:
        return f"{training['effective_batch']} utterances in each step"
    times = num_processes * (training["gradient_accumulation_steps"] or 1)
    if training["batch_seconds"] is not None:
        return f"{training['batch_seconds'] * times:g} s of audio in each step, padding counted"
    return f"{training['batch_size'] * times} utterances in each step"


def _window_rows(records: RunRecords) -> Rows:
    """In which windows a Whisper heard its clips; others hear them as long as they are."""
    if records.model is None or records.model.architecture != "whisper":
        return []
    whole = f"the whole one ({shown(window_s(records), '{:g} s')})"
    shorter = short_windows_s(records)
    if not shorter:
        return [("windows", whole)]
    share = shown(records.setting("audio", "context_longer_share"), "{:.0%} of the training")
    return [
        ("windows", f"the shortest that a batch fits: {listed_seconds(shorter)} or {whole}"),
        ("longer windows than a batch needs", share),
    ]


def listed_seconds(seconds: Sequence[float]) -> str:
    """Windows as text."""
    return ", ".join(f"{window_s:g}" for window_s in seconds) + " s"


@_of_section("training")
def _learning_rate(training: Mapping[str, Any]) -> str:
    warm_up = training["warmup_steps"]
    rise = f"{warm_up} steps" if warm_up is not None else f"{training['warmup_ratio']:.0%} of the steps"
    text = f"{training['learning_rate']:g}, {shown(training['lr_scheduler_type'])} after a warm-up of {rise}"
    for part in ("encoder", "adaptor"):
        if (rate := training[f"{part}_learning_rate"]) is not None:
            text += f"; {part} {rate:g}"
    return text


@_of_section("training")
def _optimizer(training: Mapping[str, Any]) -> str:
    return (
        f"{shown(training['optim'])}, betas {training['adam_beta1']:g} and {training['adam_beta2']:g}, "
        f"weight decay {training['weight_decay']:g}, gradients clipped to {training['max_grad_norm']:g}"
    )


@_of_section("training")
def _precision(training: Mapping[str, Any]) -> str:
    if training["bf16"] is True:
        return "bfloat16 mixed precision"
    if training["fp16"] is True:
        return "float16 mixed precision"
    if "auto" in (training["bf16"], training["fp16"]):
        return "automatic: bfloat16 or float16 where a GPU has it"
    return "float32"


@_of_section("loss")
def _loss(loss: Mapping[str, Any]) -> str:
    text = (
        f"cross-entropy: transcripts {loss['transcribe_weight']:g}, translations {loss['translate_weight']:g}"
    )
    if loss["ctc_weight"]:
        text += f"; CTC on the encoder {loss['ctc_weight']:g}, its head not released"
    return text + (f"; label smoothing {loss['label_smoothing']:g}" if loss["label_smoothing"] else "")


@_of_section("augmentation")
def _masking(augmentation: Mapping[str, Any]) -> str:
    of_time, of_features = augmentation["mask_time_prob"], augmentation["mask_feature_prob"]
    return f"{of_time:.0%} of time, {of_features:.0%} of features" if of_time or of_features else "none"


def _hardware(records: RunRecords) -> str:
    environment = records.environment
    if not environment:
        return NOT_RECORDED
    # Without their number: a process sees all of its machine's, and uses one.
    gpus = dict.fromkeys(shown(gpu.get("name")) for gpu in environment.get("gpus") or ())
    machine = ", ".join(gpus) or shown(environment.get("cpu"), "CPU: {}")
    num_processes = environment.get("world_size")
    return f"{machine}; {shown(num_processes)} {'process' if num_processes == 1 else 'processes'}"


def _time(train_results: Mapping[str, Any]) -> str:
    runtime_s = train_results.get("train_runtime")
    if runtime_s is None:
        return NOT_RECORDED
    return f"{runtime_s / 60:.1f} minutes since training was started for the last time"


def version_rows(records: RunRecords) -> Rows:
    """Of what the model was trained with."""
    environment = records.environment
    packages = environment.get("packages") or {}
    named = ("vietst", "torch", "transformers", "accelerate", "datasets", "deepspeed", "tokenizers")
    return [
        *((name, shown(packages.get(name))) for name in named),
        ("Python", shown(environment.get("python"))),
        ("commit of vietst", shown(environment.get("git_commit"))),
    ]
