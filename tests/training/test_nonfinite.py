"""Steps with losses or gradients that are no numbers: left out in every process, or the end of the run."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import REPO_ROOT
from tests.patience import HANGS_AFTER_S
from tests.tiny_runs import tiny_run_overrides
from tests.training.damage import damaged_copy
from tests.training.known_batches import BY_SECONDS, assert_figures, ids_of_batches
from vietst.errors import TrainingError
from vietst.training.nonfinite import MAX_CONSECUTIVE_SKIPS, NonFiniteSteps, spread
from vietst.training.runner import run_training

EVERY_STEP_KEPT = (
    "training.eval_strategy=no",
    "training.load_best_model_at_end=false",
    "training.save_steps=1",
    "training.save_total_limit=null",
    "training.learning_rate=1e-2",
    "training.warmup_ratio=0",
)


def not_a_number(row: dict[str, Any]) -> dict[str, Any]:
    """The row with a NaN among its features, as a damaged disk may leave it."""
    features = np.frombuffer(row["features"], dtype="<f2").copy()
    features[100] = np.nan
    return {**row, "features": features.tobytes()}


@pytest.fixture
def with_nan(tiny_corpus, tmp_path) -> Callable[[str], str]:
    """`with_nan(id)`: the override for features in which this training utterance has a NaN."""

    def override(utterance_id: str) -> str:
        folder = damaged_copy(tiny_corpus, tmp_path / "features", not_a_number, {utterance_id})
        return f"paths.features_dir={folder.as_posix()}"

    return override


def history(run_dir: Path) -> list[dict[str, float]]:
    text = next((run_dir / "metrics").glob("*_metrics.json")).read_text(encoding="utf-8")
    assert "NaN" not in text
    return json.loads(text)["history"]


def state_after(run_dir: Path, step: int) -> dict[str, torch.Tensor]:
    """Weights and optimizer moments."""
    folder = run_dir / f"checkpoint-{step}"
    moments = torch.load(folder / "optimizer.pt", weights_only=True)["state"]
    return load_file(folder / "model.safetensors") | {
        f"{number} {name}": value for number, state in moments.items() for name, value in state.items()
    }


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_row_with_nan_costs_its_step_and_nothing_else(nano_config, tiny_corpus, with_nan):
    """Batches 2 and 3 are accumulated to step 2; the fourth utterance of batch 3 has a NaN."""
    batches = ids_of_batches(tiny_corpus, num_processes=1, batches_per_step=2)
    options = (
        *EVERY_STEP_KEPT,
        *BY_SECONDS,
        "training.gradient_accumulation_steps=2",
        "training.max_steps=3",
    )
    sound = run_training(nano_config(*options))
    run_dir = run_training(
        nano_config(*options, f"output.dir={sound.with_name('nan').as_posix()}", with_nan(batches[3][-1]))
    )
    states = [state_after(run_dir, step) for step in (1, 2, 3)]
    assert same(states[0], state_after(sound, 1))
    assert same(states[0], states[1])
    assert not any(torch.equal(states[1][name], states[2][name]) for name in states[1] if "exp_avg" in name)
    first, second, third, end = history(run_dir)
    assert [entry["skipped_steps"] for entry in (first, second, third, end)] == [0, 1, 0, 1]
    assert "loss" not in second
    assert "grad_norm" not in second
    assert first["loss"] == history(sound)[0]["loss"]
    assert end["train_loss"] == pytest.approx((first["loss"] + third["loss"]) / 2)
    results = json.loads((run_dir / "train_results.json").read_text(encoding="utf-8"))
    assert results["skipped_steps"] == 1
    assert results["train_loss"] == pytest.approx(end["train_loss"])


def test_stop_names_step_rank_and_the_utterances_of_the_micro_batch(nano_config, tiny_corpus, with_nan):
    batches = ids_of_batches(tiny_corpus, num_processes=1)
    config = nano_config(*EVERY_STEP_KEPT, *BY_SECONDS, "training.on_nonfinite=stop", with_nan(batches[1][0]))
    with pytest.raises(TrainingError) as stopped:
        run_training(config)
    assert stopped.value.where == "step 2"
    assert stopped.value.found.endswith(f"rank 0: {', '.join(batches[1])}")
    assert config.config.output.dir is not None
    assert not (config.config.output.dir / "checkpoint-2").exists()


def test_a_logged_loss_is_the_mean_of_the_steps_that_were_taken(nano_config, tiny_corpus, with_nan):
    """The step that is left out has a sound micro batch, too."""
    batches = ids_of_batches(tiny_corpus, num_processes=1, batches_per_step=2)
    options = (
        *EVERY_STEP_KEPT,
        *BY_SECONDS,
        "training.gradient_accumulation_steps=2",
        "training.max_steps=2",
    )
    by_step = run_training(nano_config(*options))
    together = run_training(
        nano_config(
            *options,
            "training.logging_steps=2",
            f"output.dir={by_step.with_name('nan').as_posix()}",
            with_nan(batches[3][0]),
        )
    )
    assert history(together)[0]["loss"] == pytest.approx(history(by_step)[0]["loss"])


# --- several processes -------------------------------------------------------------------------------

TWO_PROCESSES = (
    *EVERY_STEP_KEPT,
    *BY_SECONDS,
    "training.gradient_accumulation_steps=2",
    "training.max_steps=3",
    "training.lr_scheduler_type=constant",
)


def launch(config: Path, program: Path, *arguments: str, **environment: str) -> str:
    """What the processes have said."""
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)),
            *(str(program), *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
        cwd=REPO_ROOT,
        env={**os.environ, "PYTHONPATH": str(REPO_ROOT), **environment},
    )
    return f"{ended.stderr}\nended with {ended.returncode}"


def zero_2(folder: Path) -> Path:
    """The shipped ZeRO-2 for two CPU processes, with buffers that do not take longer than the training."""
    settings = json.loads((REPO_ROOT / "ds_configs" / "zero2.json").read_text(encoding="utf-8"))
    settings["zero_optimization"] |= {"reduce_bucket_size": 10**5, "allgather_bucket_size": 10**5}
    (folder / "zero2.json").write_text(json.dumps(settings), encoding="utf-8")
    config = folder / "zero2.yaml"
    config.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: DEEPSPEED\nnum_machines: 1\nnum_processes: 2\n"
        "machine_rank: 0\nmain_process_port: 0\nuse_cpu: false\ndeepspeed_config:\n"
        f"  deepspeed_config_file: {folder / 'zero2.json'}\n",
        encoding="utf-8",
    )
    return config


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "zero2"])
def test_a_nan_of_one_rank_costs_all_ranks_the_step_and_nothing_else(mode, tiny_corpus, tmp_path, with_nan):
    """Rank 1 has it in the first of two micro batches."""
    if mode == "zero2" and find_spec("deepspeed") is None:
        pytest.skip("DeepSpeed is not installed")
    batches = ids_of_batches(tiny_corpus, num_processes=2, batches_per_step=4)
    culprits = batches[5]
    said = launch(
        zero_2(tmp_path) if mode == "zero2" else REPO_ROOT / "accelerate_configs" / "cpu_x2.yaml",
        REPO_ROOT / "tests" / "training" / "ranks_run.py",
        str(tmp_path),
        *tiny_run_overrides(tiny_corpus, tmp_path),
        *TWO_PROCESSES,
        with_nan(culprits[0]),
        **({"DS_ACCELERATOR": "cpu"} if mode == "zero2" else {}),
    )
    assert said.endswith("ended with 0"), said
    found = f"the loss is NaN or infinite for these utterances: rank 1: {', '.join(culprits)}"
    assert said.count(f"step 2 left out (1 so far): {found}") == 1
    run_dir = tmp_path / "run"
    weights = [load_file(run_dir / f"checkpoint-{step}" / "model.safetensors") for step in (1, 2, 3)]
    assert same(weights[0], weights[1])
    assert not same(weights[1], weights[2])
    assert all(tensor.isfinite().all() for tensor in weights[2].values())
    assert same(*(load_file(tmp_path / f"rank-{rank}.safetensors") for rank in (0, 1)))
    if mode == "ddp":
        assert same(state_after(run_dir, 1), state_after(run_dir, 2))
    entries = history(run_dir)
    assert [entry["skipped_steps"] for entry in entries] == [0, 1, 0, 1]
    assert ["loss" in entry for entry in entries] == [True, False, True, False]
    assert_figures(entries[0], tiny_corpus, batches[:4])
    assert_figures(entries[-1], tiny_corpus, batches[:12])


@pytest.mark.slow
def test_stop_ends_all_ranks_with_one_message_about_the_rank_that_met_it(tiny_corpus, tmp_path, with_nan):
    culprits = ids_of_batches(tiny_corpus, num_processes=2)[3]
    said = launch(
        REPO_ROOT / "accelerate_configs" / "cpu_x2.yaml",
        REPO_ROOT / "scripts" / "train_whisper.py",
        *("--config", "nano_whisper"),
        *tiny_run_overrides(tiny_corpus, tmp_path),
        *EVERY_STEP_KEPT,
        *BY_SECONDS,
        "training.on_nonfinite=stop",
        with_nan(culprits[0]),
    )
    assert said.count("error: step 2\n  rule:") == 1, said
    assert said.count(f"for these utterances: rank 1: {', '.join(culprits)}\n") == 1
    assert "rank 1 of 2" not in said


# --- the decision ------------------------------------------------------------------------------------


def steps(policy: str = "skip", *, has_gradient_scaler: bool = False) -> NonFiniteSteps:
    return NonFiniteSteps(
        policy, lambda rows: [f"utterance {row}" for row in rows], has_gradient_scaler=has_gradient_scaler
    )


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_spreads_to_all_gradients(poison):
    """An infinite loss alone would not: the gradient of a sum is 1 whatever its terms."""
    weights = torch.ones(3, requires_grad=True)
    spread(weights.sum() + poison).backward()
    assert weights.grad.isnan().all()
    weights.grad = None
    spread(weights.sum()).backward()
    assert weights.grad.tolist() == [1, 1, 1]


def test_too_many_steps_in_a_row_end_the_run_and_single_ones_do_not():
    watched = steps()
    loss, row = torch.tensor(1.0), torch.tensor([7])
    for step in range(1, 60):
        watched.note_micro_batch(loss, row)
        assert watched.accepts(math.inf if step % 2 else 1.0, step) is (step % 2 == 0)
    for step in range(60, 60 + MAX_CONSECUTIVE_SKIPS - 2):
        watched.note_micro_batch(loss, row)
        assert not watched.accepts(math.nan, step)
    watched.note_micro_batch(loss, row)
    with pytest.raises(TrainingError, match="in a row"):
        watched.accepts(math.nan, 100)


def test_a_gradient_scaler_may_search_its_scale_under_stop_but_a_loss_must_be_finite():
    watched = steps("stop", has_gradient_scaler=True)
    watched.note_micro_batch(torch.tensor(1.0), torch.tensor([7]))
    assert not watched.accepts(math.inf, 1)
    watched.note_micro_batch(torch.tensor(math.inf), torch.tensor([7]))
    with pytest.raises(TrainingError, match="rank 0: utterance 7"):
        watched.accepts(math.inf, 2)
    watched = steps("stop")
    watched.note_micro_batch(torch.tensor(1.0), torch.tensor([7]))
    with pytest.raises(TrainingError, match="from finite losses"):
        watched.accepts(math.inf, 1)


@pytest.mark.parametrize("fused", [False, True])
def test_a_gradient_scaler_skips_and_lowers_its_scale_though_the_gradients_are_dropped(fused):
    weights = torch.zeros(2, requires_grad=True)
    optimizer, scaler = torch.optim.AdamW([weights], lr=1.0, fused=fused), torch.amp.GradScaler("cpu")
    scaler.scale(-weights.sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert weights.tolist() == pytest.approx([1, 1])
    taken, state = weights.tolist(), {name: value.clone() for name, value in optimizer.state[weights].items()}
    optimizer.zero_grad()
    scaler.scale(spread(weights.sum() + math.inf)).backward()
    scaler.unscale_(optimizer)
    optimizer.zero_grad(set_to_none=True)
    scaler.step(optimizer)
    before = scaler.get_scale()
    scaler.update()
    assert weights.tolist() == taken
    for name, value in state.items():
        assert torch.equal(optimizer.state[weights][name], value), name
    assert scaler.get_scale() == before / 2
