"""Guide: `TypeError: num_items_in_batch` (E2E), mended by a wrapper that filters what forward does not take.

Today both stock classes take that argument and ignore it, without an error; transformers then divides neither
by the accumulated batches nor by the processes, and gradients are so many times too large (STACK S1). Two
processes against one: `tests/training/test_launch.py`.
"""

import pytest

from tests.tiny_runs import history
from vietst.training.runner import run_training


def test_accumulation_changes_neither_loss_nor_gradients(tiny_config):
    """8 × 1 equals 2 × 4: the loss is divided once, by the label tokens of the whole step."""
    common = (
        "training.effective_batch=8",
        "training.max_steps=3",
        "training.eval_strategy=no",
        "training.load_best_model_at_end=false",
        "training.save_steps=100",
    )
    whole = run_training(tiny_config("training.batch_size=8", *common))
    folder = whole.with_name("accumulated")
    accumulated = run_training(
        tiny_config("training.batch_size=2", f"output.dir={folder.as_posix()}", *common)
    )
    assert history(whole, "loss") == pytest.approx(history(accumulated, "loss"), rel=1e-5)
    assert history(whole, "grad_norm") == pytest.approx(history(accumulated, "grad_norm"), rel=1e-4)
