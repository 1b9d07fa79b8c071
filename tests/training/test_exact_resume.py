"""A resumed training takes the steps of the undisturbed one, wherever that was, and reads nothing twice."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny_runs import history, tiny_e2e_run_overrides, tiny_run_overrides
from vietst.config import load_config
from vietst.data.batching import UtteranceDataset
from vietst.training.checkpoints import LATEST
from vietst.training.runner import run_training

NUM_STEPS = 13
COMMON = (
    f"training.max_steps={NUM_STEPS}",
    "training.save_steps=1",
    "training.save_total_limit=null",
    "training.eval_steps=4",
    "training.load_best_model_at_end=false",
    "evaluation.max_dev_utterances=4",
    "augmentation.mask_time_prob=0.1",
    "training.batch_size=4",
    "training.learning_rate=1e-3",
)
KINDS: dict[str, tuple[str, Callable[[Path, Path], list[str]], tuple[str, ...]]] = {
    "whisper": ("nano_whisper", tiny_run_overrides, ("training.effective_batch=8",)),
    "e2e": ("nano_e2e", tiny_e2e_run_overrides, ("training.effective_batch=8", "model.dropout=0.1")),
    "e2e by seconds": (
        "nano_e2e",
        tiny_e2e_run_overrides,
        (
            "training.effective_batch=null",
            "training.batch_seconds=10",
            "training.effective_batch_seconds=20",
            "model.dropout=0.1",
        ),
    ),
}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows that all trainings of the test have read from the cache in this process, train and dev."""
    rows: list[int] = []
    original = UtteranceDataset.__getitem__
    monkeypatch.setattr(
        UtteranceDataset, "__getitem__", lambda self, index: (rows.append(index), original(self, index))[1]
    )
    return rows


@pytest.mark.parametrize(
    ("kind", "num_workers"), [("whisper", 0), ("e2e", 2), ("e2e by seconds", 0), ("e2e by seconds", 2)]
)
def test_going_on_inside_an_epoch_and_between_two(tiny_corpus, tmp_path, seen, read, kind, num_workers):
    config, base, options = KINDS[kind]

    def train(name: str, resume: str | None = None) -> Path:
        overrides = [*base(tiny_corpus, tmp_path / "base"), *COMMON, *options]
        overrides += [f"dataloader.num_workers={num_workers}", f"output.dir={(tmp_path / name).as_posix()}"]
        return run_training(load_config(config, overrides), resume=resume)

    straight = train("straight")
    all_batches, all_read = seen.copy(), read.copy()
    batches_per_epoch = epoch_length(all_batches)
    steps_per_epoch = math.ceil(batches_per_epoch / 2)
    assert 2 < steps_per_epoch < NUM_STEPS - 2
    for step in (2, steps_per_epoch, steps_per_epoch + 1):
        # the last step of an epoch may have one batch instead of two
        num_done = batches_per_epoch * (step // steps_per_epoch) + 2 * (step % steps_per_epoch)
        run_dir = tmp_path / f"from-{step}"
        shutil.copytree(straight / f"checkpoint-{step}", run_dir / f"checkpoint-{step}")
        seen.clear()
        read.clear()
        train(run_dir.name, resume=LATEST)
        assert seen == all_batches[num_done:]
        for key in ("loss", "learning_rate", "grad_norm", "eval_loss"):
            assert history(run_dir, key) == history(straight, key), key
        weights = [(folder / "model.safetensors").read_bytes() for folder in (run_dir, straight)]
        assert weights[0] == weights[1]
        if num_workers:
            continue  # they read, in processes of their own
        assert read == all_read[-len(read) :], "in this order, and nothing of what was seen before"
        assert len(read) <= len(all_read) - sum(map(len, all_batches[:num_done]))


def epoch_length(batches: list[list[int]]) -> int:
    """In batches: until every row has come."""
    rows = {row for batch in batches for row in batch}
    return next(n for n in range(len(batches)) if rows == {row for batch in batches[:n] for row in batch})
