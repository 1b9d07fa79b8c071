"""Callbacks do what their names say."""

import json
import logging

import pytest
from transformers import TrainerControl, TrainerState

from vietst.training.callbacks import (
    ConvergenceMonitorCallback,
    MetricsSaveCallback,
)


@pytest.fixture
def records():
    """Log records of the package, whose logger does not propagate."""
    seen: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = seen.append
    logger = logging.getLogger("vietst")
    logger.addHandler(handler)
    yield seen
    logger.removeHandler(handler)


def test_convergence_monitor_warns_once_when_the_loss_stalls_for_its_patience(records):
    callback = ConvergenceMonitorCallback(patience_steps=100)
    for step in range(0, 400, 50):
        state = TrainerState(global_step=step)
        callback.on_log(None, state, TrainerControl(), logs={"loss": 1.0 if step else 0.9})
    assert len([record for record in records if "not improved" in record.getMessage()]) == 1


def test_convergence_monitor_is_silent_while_the_loss_falls(records):
    callback = ConvergenceMonitorCallback(patience_steps=100)
    for step in range(0, 1000, 50):
        callback.on_log(None, TrainerState(global_step=step), TrainerControl(), logs={"loss": 1 / (step + 1)})
    assert not records


def test_metrics_history_is_saved_at_every_evaluation(tmp_path):
    callback = MetricsSaveCallback(tmp_path / "run", "trial")
    state = TrainerState(log_history=[{"loss": 2.0, "step": 1}], is_world_process_zero=True)
    callback.on_evaluate(None, state, TrainerControl())
    record = json.loads((tmp_path / "run" / "metrics" / "trial_metrics.json").read_text(encoding="utf-8"))
    assert record["history"] == [{"loss": 2.0, "step": 1}]
    assert record["run"] == "run"
    other_rank = TrainerState(log_history=[], is_world_process_zero=False)
    callback.on_evaluate(None, other_rank, TrainerControl())
    assert json.loads(callback.path.read_text(encoding="utf-8"))["history"], "only rank 0 writes"
