"""An encoder that is frozen for a time: when it joins, what moves, resuming around it, several processes."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.launches import launch
from tests.tiny_runs import history, tiny_run_overrides
from vietst.training.checkpoints import LATEST
from vietst.training.runner import run_training
from vietst.training.unfreezing import EncoderUnfreezeCallback

EVERY_STEP_KEPT = (
    "training.eval_strategy=no",
    "training.load_best_model_at_end=false",
    "training.max_steps=5",
    "training.save_steps=1",
    "training.save_total_limit=null",
    "training.learning_rate=1e-2",
)


def weights_after(run_dir: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run_dir / f"checkpoint-{step}" / "model.safetensors")


def names_that_moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


# --- when --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_batches", "accumulation", "timing", "expected"),
    [
        (30, 1, {"after_epochs": 0.1}, 3),
        (30, 1, {"after_epochs": 0.11}, 4),
        (30, 4, {"after_epochs": 1}, 8),  # the last step of an epoch has what is left
        (30, 1, {"after_epochs": 2.5}, 75),
        (30, 1, {"after_updates": 7}, 7),
    ],
)
def test_the_first_step_that_trains_the_encoder(num_batches, accumulation, timing, expected):
    told: list[tuple[int, bool]] = []
    state = SimpleNamespace(global_step=0, max_steps=1000)
    callback = EncoderUnfreezeCallback(
        lambda was_frozen: told.append((state.global_step, was_frozen)), **timing
    )
    arguments = SimpleNamespace(gradient_accumulation_steps=accumulation)
    callback.on_train_begin(arguments, state, None, train_dataloader=[None] * num_batches)
    for state.global_step in range(100):
        callback.on_step_begin(arguments, state, None)
    assert told == [(expected, True)]


def test_going_on_from_a_later_step_unfreezes_at_once_and_says_that_it_was_not_frozen_any_more():
    told: list[bool] = []
    callback = EncoderUnfreezeCallback(told.append, after_updates=3)
    state = SimpleNamespace(global_step=5, max_steps=10)
    callback.on_step_begin(None, state, None)
    assert told == [False]


# --- what moves --------------------------------------------------------------------------------------


@pytest.mark.parametrize("finetune", ["full", "lna", "lora"])
def test_the_encoder_moves_from_that_step_on_and_what_is_frozen_for_good_never(nano_config, finetune):
    options = (
        *EVERY_STEP_KEPT,
        "training.freeze_encoder_updates=3",
        "training.gradient_accumulation_steps=2",
        "training.warmup_ratio=0",
        "training.weight_decay=0.01",
        f"model.finetune={finetune}",
        "training.batch_size=2",
    )
    run_dir = run_training(nano_config(*options))
    steps = {step: weights_after(run_dir, step) for step in range(1, 6)}
    first, frozen, free = (names_that_moved(steps[i], steps[i + 1]) for i in (1, 2, 4))
    is_encoder = "model.encoder.".__eq__
    assert not {name for name in first | frozen if is_encoder(name[:14])}
    joined = free - frozen
    assert joined == {name for name in joined if is_encoder(name[:14])}
    assert joined
    if finetune == "full":
        assert joined == {
            name for name in free if is_encoder(name[:14]) and name != "model.encoder.embed_positions.weight"
        }
        assert {name for name in steps[1] if is_encoder(name[:14])} - joined == {
            "model.encoder.embed_positions.weight"
        }
    elif finetune == "lna":
        assert all("self_attn" in name or "layer_norm" in name for name in joined)
        assert any("self_attn" in name for name in joined)
        assert any("final_layer_norm" in name for name in joined)
    else:
        assert {name.split(".lora_")[0] for name in joined if ".lora_" in name} == {
            "model.encoder.layers.0.self_attn.q_proj",
            "model.encoder.layers.0.self_attn.v_proj",
        }
        assert not any("base_layer" in name for name in joined)


def test_a_frozen_encoder_costs_no_optimizer_state_and_the_schedule_runs_over_all_steps(nano_config):
    frozen = run_training(nano_config(*EVERY_STEP_KEPT, "training.freeze_encoder_updates=3"))
    never = run_training(nano_config(*EVERY_STEP_KEPT, f"output.dir={frozen.with_name('never').as_posix()}"))
    assert history(frozen, "learning_rate") == history(never, "learning_rate")
    for step, expects_state in ((3, False), (4, True)):
        state = torch.load(frozen / f"checkpoint-{step}" / "optimizer.pt", weights_only=True)
        of_encoder = [
            i for group in state["param_groups"] if group["part"] == "encoder" for i in group["params"]
        ]
        assert of_encoder
        assert {index in state["state"] for index in of_encoder} == {expects_state}


def test_epochs_and_updates_say_the_same_and_999_epochs_say_never(nano_config):
    def losses(*overrides: str) -> list[float]:
        folder = Path(nano_config().config.output.dir).with_name(overrides[0].replace("=", "-"))
        options = (*EVERY_STEP_KEPT, "training.max_steps=4", f"output.dir={folder.as_posix()}")
        return history(run_training(nano_config(*options, *overrides)), "loss")

    # 35 utterances in batches of 12 are 3 steps
    by_epochs = losses("training.freeze_encoder_epochs=0.5", "training.batch_size=12")
    assert by_epochs == losses("training.freeze_encoder_updates=2", "training.batch_size=12")
    never = losses("training.freeze_encoder_epochs=999", "training.batch_size=12")
    assert never == losses("model.freeze_encoder=true", "training.batch_size=12")
    assert never[:3] == by_epochs[:3]
    assert never[3] != by_epochs[3]


# --- resuming ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def straight(tiny_corpus, tmp_path_factory) -> tuple[Path, Callable[[Path], list[str]]]:
    """A run that unfreezes after 2 of 5 steps, in the middle of an epoch; and its overrides for a folder."""
    from vietst.config import load_config

    root = tmp_path_factory.mktemp("straight")
    options = [
        *EVERY_STEP_KEPT,
        "training.freeze_encoder_updates=2",
        "training.gradient_accumulation_steps=2",
        "augmentation.mask_time_prob=0.1",
    ]

    def overrides(folder: Path) -> list[str]:
        base = f"model.name={(root / 'nano').as_posix()}"
        return [*tiny_run_overrides(tiny_corpus, folder), *options, base]

    return run_training(load_config("nano_whisper", overrides(root))), overrides


@pytest.mark.parametrize("step", [1, 2, 3])
def test_resuming_before_at_and_after_the_unfreezing_gives_the_undisturbed_run(straight, tmp_path, step):
    from vietst.config import load_config

    run_dir, overrides = straight
    shutil.copytree(run_dir / f"checkpoint-{step}", tmp_path / "run" / f"checkpoint-{step}")
    resumed = run_training(load_config("nano_whisper", overrides(tmp_path)), resume=LATEST)
    assert history(resumed, "loss") == history(run_dir, "loss")
    for name, tensor in weights_after(run_dir, 5).items():
        assert torch.equal(tensor, weights_after(resumed, 5)[name]), name


# --- several processes -------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_hold_the_same_unfrozen_encoder(tiny_corpus, tmp_path):
    """STACK S6: DDP's reducer does not know what was frozen when it was made, and the ranks drift apart."""
    options = (
        "training.freeze_encoder_updates=2",
        "training.effective_batch=8",
        "training.batch_size=2",
        "training.learning_rate=1e-3",
        "training.eval_strategy=no",
        "training.load_best_model_at_end=false",
        "training.save_steps=2",
    )
    script = "tests/training/ranks_run.py"
    ran = launch("cpu_x2", script, str(tmp_path), *tiny_run_overrides(tiny_corpus, tmp_path), *options)
    assert ran.returncode == 0, ran.stderr[-3000:]
    ranks = [load_file(tmp_path / f"rank-{rank}.safetensors") for rank in (0, 1)]
    assert not names_that_moved(*ranks)
    frozen = load_file(tmp_path / "run" / "checkpoint-2" / "model.safetensors")
    moved = names_that_moved({name: frozen[name] for name in ranks[0]}, ranks[0])
    assert "model.encoder.layers.0.fc1.weight" in moved
    notes = []
    for rank in (0, 1):
        with safe_open(tmp_path / f"rank-{rank}.safetensors", "pt") as saved:
            notes.append(saved.metadata())
    num_pieces = int(notes[0]["num_gradient_pieces"])
    assert 1 <= num_pieces <= 2, "the gradients lie in the buckets of DDP, of the encoder too"
    assert notes[0]["drawn"] != notes[1]["drawn"], "dropout and SpecAugment differ between processes"
