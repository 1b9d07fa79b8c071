"""Batches by seconds in real trainings: resumed in the middle of an epoch, and in two processes as in one.

The clips of the tiny corpus are all padded to the nano model's window, so a budget of 16 s is four of them.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import HANGS_AFTER_S
from tests.tiny_runs import history, tiny_run_overrides
from vietst.config import accumulation_steps, load_config
from vietst.config_schema import TrainingSection
from vietst.errors import ConfigError
from vietst.training.checkpoints import LATEST
from vietst.training.preparation import prepare
from vietst.training.run_plan import describe_plan
from vietst.training.runner import run_training

BY_SECONDS = (
    "training.batch_seconds=16",
    "training.eval_strategy=no",
    "training.load_best_model_at_end=false",
)
TWO_EPOCHS = (*BY_SECONDS, "training.max_steps=14", "training.save_steps=3", "training.save_total_limit=20")


# --- the configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_processes", "steps"), [(1, 8), (2, 4), (4, 2), (8, 1)])
def test_accumulation_follows_from_the_effective_seconds(num_processes, steps):
    training = TrainingSection(batch_seconds=37.5, effective_batch_seconds=300.0)
    assert accumulation_steps(training, num_processes) == steps


def test_seconds_that_do_not_divide_are_refused_with_those_that_do():
    training = TrainingSection(batch_seconds=40.0, effective_batch_seconds=300.0)
    with pytest.raises(ConfigError, match="effective_batch_seconds to 280 or 320"):
        accumulation_steps(training, 1)
    with pytest.raises(ConfigError, match="effective_batch_seconds to 320"):
        accumulation_steps(training, 8)
    stated = TrainingSection(batch_seconds=40.0, effective_batch_seconds=80.0, gradient_accumulation_steps=3)
    with pytest.raises(ConfigError, match="effective_batch_seconds=null"):
        accumulation_steps(stated, 1)
    assert accumulation_steps(TrainingSection(batch_seconds=0.1, effective_batch_seconds=0.3), 1) == 3


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        (("training.batch_seconds=60", "training.effective_batch=8"), "effective_batch_seconds instead"),
        (("training.effective_batch_seconds=60",), "state batch_seconds too"),
        (("training.batch_seconds=0",), "greater than 0"),
    ],
)
def test_effective_batch_and_batch_count_the_same_thing(overrides, rule):
    with pytest.raises(ConfigError, match=rule):
        load_config("nano_whisper", overrides)


# --- one process -------------------------------------------------------------------------------------


def test_an_epoch_has_every_utterance_once_and_the_next_one_another_order(nano_config, seen):
    run_training(nano_config(*TWO_EPOCHS))
    num_train = len({index for batch in seen for index in batch})
    order = [index for batch in seen for index in batch]
    first, second = order[:num_train], order[num_train:]
    assert sorted(first) == list(range(num_train))
    assert len(second) > num_train // 2
    assert len(set(second)) == len(second)
    assert second != first[: len(second)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_resumed_in_the_middle_of_an_epoch_goes_on_exactly(nano_config, seen, num_workers):
    options = (*TWO_EPOCHS, f"dataloader.num_workers={num_workers}", "augmentation.mask_time_prob=0.1")
    straight = run_training(nano_config(*options))
    all_batches = seen.copy()
    steps_per_epoch = -(-len({index for batch in seen for index in batch}) // 4)
    for step in (3, 12):
        assert step % steps_per_epoch, "inside an epoch"
        folder = straight.with_name(f"resumed-{step}")
        folder.mkdir()
        shutil.copytree(straight / f"checkpoint-{step}", folder / f"checkpoint-{step}")
        seen.clear()
        resumed = run_training(nano_config(*options, f"output.dir={folder.as_posix()}"), resume=LATEST)
        assert seen == all_batches[step:]
        assert history(resumed, "loss") == history(straight, "loss")
        assert (resumed / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()


def test_going_on_reads_no_data_that_was_seen_before(nano_config, monkeypatch):
    from vietst.data.batching import UtteranceDataset

    options = (*TWO_EPOCHS, "training.max_steps=7")
    straight = run_training(nano_config(*options))
    folder = straight.with_name("resumed")
    folder.mkdir()
    shutil.copytree(straight / "checkpoint-6", folder / "checkpoint-6")
    read: list[int] = []
    original = UtteranceDataset.__getitem__
    monkeypatch.setattr(
        UtteranceDataset, "__getitem__", lambda self, index: (read.append(index), original(self, index))[1]
    )
    run_training(nano_config(*options, f"output.dir={folder.as_posix()}"), resume=LATEST)
    # the batch of step 7, and one that accelerate looks ahead
    assert len(read) <= 8


def test_the_plan_says_how_much_is_padding(nano_config):
    loaded = nano_config(*BY_SECONDS, "training.effective_batch_seconds=32")
    plan = describe_plan(loaded.config, prepare(loaded.config), 2)
    assert "(16 s × 2 accumulated × 1 processes)" in plan
    assert "padding share" in plan
    assert "every clip takes 4 s" in plan


# --- two processes -----------------------------------------------------------------------------------


def launch(repo_root: Path, accelerate_config: str, folder: Path, *arguments: str) -> list[list[list[int]]]:
    """Launches a recording training. Returns the batches of each process."""
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch"),
            *("--config_file", str(repo_root / "accelerate_configs" / f"{accelerate_config}.yaml")),
            *(str(repo_root / "tests" / "training" / "recording_run.py"), str(folder), *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
        env={**os.environ, "PYTHONPATH": str(repo_root)},
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("rank-*.json"))]


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_and_resume_inside_an_epoch(repo_root, tiny_corpus, tmp_path):
    def overrides(folder: Path) -> list[str]:
        return [
            *tiny_run_overrides(tiny_corpus, folder),
            *TWO_EPOCHS,
            "training.batch_seconds=8",
            "training.effective_batch_seconds=16",
            "dataloader.num_workers=1",
        ]

    runs = {}
    for config in ("cpu", "cpu_x2"):
        folder = tmp_path / config
        folder.mkdir()
        runs[config] = launch(repo_root, config, folder, *overrides(folder))
    (alone,), pair = runs["cpu"], runs["cpu_x2"]
    assert len(pair) == 2
    assert len(pair[0]) == len(pair[1]) == 14
    assert [batch for both in zip(*pair, strict=True) for batch in both] == alone
    one, two = (tmp_path / config / "run" for config in runs)
    assert history(two, "loss") == pytest.approx(history(one, "loss"), rel=1e-5)
    assert history(two, "grad_norm") == pytest.approx(history(one, "grad_norm"), rel=1e-4)

    folder = tmp_path / "resumed"
    (folder / "run").mkdir(parents=True)
    # in the middle of the second epoch, which does not have the first one's order
    shutil.copytree(two / "checkpoint-12", folder / "run" / "checkpoint-12")
    resumed = launch(repo_root, "cpu_x2", folder, "--resume", *overrides(folder))
    assert resumed == [batches[12:] for batches in pair]
    assert history(folder / "run", "loss") == history(two, "loss")
