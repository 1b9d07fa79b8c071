"""The memory plan of a run: for its own model, settings, data and device; and shipped configs fit theirs."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.patience import HANGS_AFTER_S
from vietst.config import load_config
from vietst.config_rules import accumulation_steps
from vietst.config_schema import RunConfig
from vietst.data.features import input_kind_of
from vietst.models.architectures import ARCHITECTURES
from vietst.models.multitask import LossWeights
from vietst.models.published_sizes import TRIMMED_VOCABULARY, e2e_config, whisper_config
from vietst.models.trainable import training_scope
from vietst.training.memory_plan import GIBIBYTE, MemoryPlan, plan_memory
from vietst.training.memory_steps import Workload
from vietst.training.preparation import Preparation, prepare
from vietst.training.run_memory import describe_memory, fullest_workloads, run_step, step_settings
from vietst.training.run_plan import describe_plan, dry_run

NUM_CTC_SYMBOLS = 50


def planned(config: RunConfig, workload: Workload | None = None, **options: bool) -> MemoryPlan:
    """Of a configuration whose base model is there."""
    architecture = ARCHITECTURES[config.model.type]
    step = run_step(
        config,
        architecture.load_model_config(config.model.name),
        workload or Workload(4, 4.0, 40, num_ctc_labels=30),
        num_ctc_symbols=NUM_CTC_SYMBOLS if config.loss.ctc_weight else 0,
    )
    settings = step_settings(config, accumulation_steps(config.training, 1), on_gpu=options.get("gpu", True))
    return plan_memory(step, settings)


@pytest.mark.parametrize(
    ("kind", "overrides"),
    [
        ("nano_config", ["model.finetune=full"]),
        ("nano_config", ["model.finetune=lora", "lora.rank=4", "model.freeze_encoder=true"]),
        ("nano_e2e_config", ["model.finetune=lna", "model.length_adaptor=true"]),
        ("nano_e2e_config", ["model.finetune=lora", "model.trim_vocabulary=true", "loss.ctc_weight=0"]),
        ("nano_e2e_config", ["model.freeze_encoder=true", "training.freeze_feature_encoder=true"]),
    ],
)
def test_the_planned_model_is_the_one_that_trains(kind, overrides, request):
    config = request.getfixturevalue(kind)(*overrides).config
    preparation = prepare(config)
    symbols = NUM_CTC_SYMBOLS if config.loss.ctc_weight else None
    model = preparation.architecture.build_for_training(config, LossWeights(), symbols)
    plan = planned(config)
    assert plan.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert plan.num_trained == training_scope(config).num_trained(model)


def passes(plan: MemoryPlan) -> int:
    return sum(size for _, size in plan.in_passes)


def test_every_setting_of_a_run_is_in_its_plan(nano_config):
    def size(*overrides: str) -> int:
        config = nano_config("training.fp16=false", "loss.ctc_weight=0", *overrides).config
        return passes(planned(config))

    prepare(nano_config().config)
    bare, frozen = size(), size("model.freeze_encoder=true")
    assert frozen < bare < size("loss.ctc_weight=0.5")
    assert size("model.attention=sdpa") < bare, "eager keeps attention weights"
    assert size("training.gradient_checkpointing=true") < bare
    assert size("training.gradient_accumulation_steps=2") > bare
    assert size("training.bf16=true") < bare
    assert size("model.freeze_encoder=true", "model.cache_encoder_states=true") != frozen


def test_dropout_and_smoothing_of_a_run_are_in_its_plan(nano_e2e_config, tmp_path):
    def size(*overrides: str) -> int:
        options = ("loss.ctc_weight=0", "training.freeze_feature_encoder=true", *overrides)
        return passes(planned(nano_e2e_config(*options).config))

    prepare(nano_e2e_config().config)
    bare = size()
    assert size("model.dropout=0.1") > bare
    assert size("loss.label_smoothing=0.1") >= bare, "smoothing sums over the log-probabilities"
    assert size("model.freeze_encoder=true", "model.cache_encoder_states=true") < size(
        "model.freeze_encoder=true"
    )


def test_the_optimizer_of_a_run_is_in_its_plan(nano_config):
    prepare(nano_config().config)
    states = {
        optimizer: dict(planned(nano_config(f"training.optim={optimizer}").config).always)["optimizer state"]
        for optimizer in ("adamw_torch", "adafactor", "adamw_bnb_8bit")
    }
    assert states["adafactor"] < states["adamw_bnb_8bit"] < states["adamw_torch"]


def test_ctc_keeps_what_the_stand_in_of_the_plan_keeps():
    """A log-probability for each position and each label or blank; the plan cannot run the real kernel."""
    num_positions, num_utterances, num_symbols, num_labels = 40, 3, 11, 7
    log_probabilities = torch.randn(num_positions, num_utterances, num_symbols).log_softmax(-1)
    labels = torch.ones(num_utterances, num_labels, dtype=torch.int64)
    lengths = [num_positions] * num_utterances, [num_labels] * num_utterances
    _, alpha = torch._ctc_loss(log_probabilities, labels, *lengths)
    assert alpha.shape == (num_utterances, num_positions, 2 * num_labels + 1)
    assert alpha.dtype == torch.float32


# --- data and device ---------------------------------------------------------------------------------


def longest_texts(preparation: Preparation) -> int:
    rows = preparation.train.rows
    texts = [text for column in ("transcript", "translation") for text in rows[column]]
    return max(preparation.architecture.label_lengths(preparation.processor.tokenizer, texts))


def test_a_fixed_batch_may_hold_the_longest_clip_and_the_longest_text(nano_e2e_config):
    preparation = prepare(nano_e2e_config().config)
    (workload,) = fullest_workloads(preparation, 4)
    assert workload.num_utterances == 4
    assert workload.duration_s == max(preparation.train.rows["duration_s"])
    assert workload.num_label_tokens == longest_texts(preparation)
    assert workload.num_tasks == 2
    (all_of_them,) = fullest_workloads(preparation, 10**6)
    assert all_of_them.num_utterances == len(preparation.train)


def test_whispers_clips_take_their_window_whatever_their_length(nano_config):
    preparation = prepare(nano_config().config)
    (workload,) = fullest_workloads(preparation, 4)
    assert workload.duration_s == input_kind_of(preparation.processor.feature_extractor).window_s


def test_the_window_that_may_be_drawn_is_planned(nano_config):
    windows = ("audio.context=bucketed", "audio.context_windows_s=[2,3.7]", "audio.context_margin_s=0.02")
    own = prepare(nano_config(*windows, "audio.context_longer_share=0").config)
    (shorter,) = fullest_workloads(own, 4)
    assert (shorter.duration_s, shorter.num_positions) == (pytest.approx(3.7, abs=0.04), 93)
    config = nano_config(*windows, "audio.context_longer_share=0.1").config
    drawn = prepare(config)
    assert "heard in windows of 2, 3.72, 4 s" in describe_plan(config, drawn, 1)
    (full,) = fullest_workloads(drawn, 4)
    assert (full.duration_s, full.num_positions) == (4.0, 100)
    by_seconds = prepare(nano_config(*windows, "training.batch_seconds=16").config)
    workloads = fullest_workloads(by_seconds, 4)
    assert all(workload.num_utterances * workload.duration_s <= 16 for workload in workloads)


def test_batches_by_seconds_are_planned_as_they_are(nano_e2e_config):
    preparation = prepare(nano_e2e_config("training.batch_seconds=8").config)
    workloads = fullest_workloads(preparation, 4)
    assert all(workload.num_utterances * workload.duration_s <= 8 for workload in workloads)
    assert max(workload.duration_s for workload in workloads) == max(preparation.train.rows["duration_s"])
    assert len({workload.num_utterances for workload in workloads}) > 1, "few long ones, many short ones"


@pytest.mark.parametrize(
    ("bf16", "fp16", "on_gpu", "precision"),
    [
        ("auto", "auto", True, "bf16"),
        ("auto", "auto", False, "fp32"),
        ("false", "auto", True, "fp16"),
        ("false", "false", True, "fp32"),
        ("true", "auto", False, "bf16"),
    ],
)
def test_precision_is_what_the_planned_device_would_train_in(bf16, fp16, on_gpu, precision):
    config = load_config("dev_whisper", [f"training.bf16={bf16}", f"training.fp16={fp16}"]).config
    assert step_settings(config, 1, on_gpu=on_gpu).precision == precision


def test_a_dry_run_prints_the_plan_and_whether_it_fits_the_given_gpu(nano_config, capsys):
    loaded = nano_config("training.gradient_accumulation_steps=2")
    assert dry_run(loaded, memory_gb=4)
    printed = capsys.readouterr().out
    assert "memory of one process on a GPU in fp16, with the fullest batch: 4 × 4.0 s" in printed
    assert printed.count("optimizer state") == 1
    assert "\nfits in 4 GB\n" in printed
    assert printed.index("fits in 4 GB") < printed.index("would start")
    preparation = prepare(loaded.config)
    assert describe_memory(loaded.config, preparation, 2, 0.1).endswith("does not fit in 0.1 GB")
    on_cpu = describe_memory(loaded.config, preparation, 2, None)
    assert "on a CPU" in on_cpu
    assert "fit" not in on_cpu
    assert "DDP" not in on_cpu


def test_several_processes_are_told_what_ddp_adds(nano_config, monkeypatch):
    config = nano_config().config
    preparation = prepare(config)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "of 2 processes: DDP takes up to 0.00 GB more" in describe_memory(config, preparation, 1, 4)


def test_the_plan_needs_no_weights(nano_config, capsys):
    loaded = nano_config("nano.seed=1")
    prepare(loaded.config)
    base = Path(loaded.config.model.name)
    (base / "model.safetensors").unlink()
    assert not dry_run(loaded, memory_gb=4)
    printed = capsys.readouterr().out
    assert printed.index("fits in 4 GB") < printed.index("training could not start")


@pytest.mark.parametrize("script", ["train_whisper.py", "train_e2e.py"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--memory_gb", "4"], ("error: --memory_gb", "add --dry_run")),
        (["--dry_run", "--memory_gb", "0"], ("--memory_gb", "0 is not above 0")),
    ],
)
def test_a_memory_that_means_nothing_is_refused(repo_root, script, arguments, words):
    command = [sys.executable, str(repo_root / "scripts" / script), *arguments]
    refused = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=HANGS_AFTER_S)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert all(part in refused.stderr for part in words)


# --- shipped configs ---------------------------------------------------------------------------------

LONGEST_LABELS = {"whisper": (4, 448), "e2e": (2, 256)}
"""Tokens of the prompt, and of a decoder sequence at most."""


def published_model(config: RunConfig) -> object:
    if config.model.type == "whisper":
        return whisper_config(config.model.name)
    num_task_tokens = 2
    vocab_size = TRIMMED_VOCABULARY + num_task_tokens if config.model.trim_vocabulary else None
    model_config = e2e_config(config.model.encoder, vocab_size)
    model_config.encoder.add_adapter = config.model.length_adaptor
    return model_config


def gigabytes_of(config: RunConfig, duration_s: float) -> float:
    """On one GPU, in a batch of clips of that length with the longest texts that evaluation lets through."""
    prompt, limit = LONGEST_LABELS[config.model.type]
    evaluation, training = config.evaluation, config.training
    num_tokens = evaluation.max_new_tokens_base + duration_s * evaluation.max_new_tokens_per_second
    num_utterances = (
        training.batch_size if training.batch_seconds is None else int(training.batch_seconds / duration_s)
    )
    workload = Workload(
        num_utterances,
        duration_s,
        min(limit, prompt + int(num_tokens)),
        num_ctc_labels=int(20 * duration_s),
    )
    step = run_step(
        config,
        published_model(config),
        workload,
        num_ctc_symbols=200 if config.loss.ctc_weight else 0,
    )
    settings = step_settings(config, accumulation_steps(training, 1), on_gpu=True)
    return plan_memory(step, settings).total_bytes / GIBIBYTE


@pytest.mark.parametrize(
    ("name", "overrides", "memory_gb", "durations_s"),
    [
        ("dev_whisper", [], 4, (30,)),
        ("dev_e2e", [], 4, (30,)),
        ("prod_whisper", [], 80, (30,)),
        ("prod_whisper", ["model.name=openai/whisper-large-v3", "training.batch_size=8"], 80, (30,)),
        ("prod_whisper", ["training.gradient_checkpointing=true", "training.batch_size=32"], 80, (30,)),
        # Of many short clips the logits are large. Below a second there are few tokens.
        ("prod_e2e", [], 80, (30, 5, 1)),
    ],
)
def test_every_shipped_config_fits_its_hardware_and_says_how_well(
    name, overrides, memory_gb, durations_s, repo_root
):
    text = (repo_root / "vietst" / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
    config = load_config(name, overrides).config
    sizes_gb = [gigabytes_of(config, duration_s) for duration_s in durations_s]
    assert max(sizes_gb) <= 0.9 * memory_gb, "fits, not tightly"
    for size_gb in (sizes_gb[0], max(sizes_gb)):
        assert f"{size_gb:.1f} GB" in text, "what the file says is what the plan says"


def test_all_shipped_configs_for_gpus_are_checked(repo_root):
    stated = {
        path.stem
        for path in (repo_root / "vietst" / "configs").glob("*.yaml")
        if "GB" in next((line for line in path.read_text().splitlines() if "Hardware" in line), "")
    }
    assert stated == {"dev_whisper", "dev_e2e", "prod_whisper", "prod_e2e"}
