"""What happens beside the training steps: logging, saving the metrics history, watching for trouble."""

import json
import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vietst.evaluation.history import extra_set_names, wer_key
from vietst.runtime import get_logger, warn_once
from vietst.training.throughput import describe_throughput

logger = get_logger(__name__)

CONVERGENCE_PATIENCE_STEPS = 500
"""The guide's: a loss that has not improved for so many steps is worth a warning."""


class LoggingCallback(TrainerCallback):
    """One readable line per log: loss, gradient norm, learning rate, throughput; or dev and extra scores."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero or not logs:
            return
        if "loss" in logs:
            logger.info(
                "step %d/%d  loss %.4f  gradient norm %.3f  learning rate %.2e  %s",
                state.global_step,
                state.max_steps,
                logs["loss"],
                logs.get("grad_norm", math.nan),
                logs["learning_rate"],
                describe_throughput(logs),
            )
        elif "eval_loss" in logs:
            shown = ("loss", "wer", "cer", "bleu", "chrf")
            scores = "  ".join(
                f"{name} {logs[f'eval_{name}']:.3f}" for name in shown if f"eval_{name}" in logs
            )
            extra = "".join(f"  {name} wer {logs[wer_key(name)]:.3f}" for name in extra_set_names([logs]))
            logger.info("step %d/%d  dev  %s%s", state.global_step, state.max_steps, scores, extra)


class MetricsSaveCallback(TrainerCallback):
    """Keeps `metrics/<experiment>_metrics.json` up to date: the whole history, for charts drawn later.

    It is written after every evaluation and at the end, so that a killed run still has its curve.
    """

    def __init__(self, run_dir: Path, experiment_name: str) -> None:
        self.path = run_dir / "metrics" / f"{experiment_name}_metrics.json"
        self.run_name, self.experiment_name = run_dir.name, experiment_name

    def _save(self, state: TrainerState) -> None:
        if not state.is_world_process_zero:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "experiment_name": self.experiment_name,
            "run": self.run_name,
            "best_metric": state.best_metric,
            "best_step": state.best_global_step,
            "history": state.log_history,
        }
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8", newline="\n")
        partial.replace(self.path)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._save(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._save(state)


class ConvergenceMonitorCallback(TrainerCallback):
    """Warns, once per stall, when the training loss has not improved for `patience_steps`."""

    def __init__(self, patience_steps: int = CONVERGENCE_PATIENCE_STEPS) -> None:
        self.patience_steps = patience_steps
        self.best_loss, self.best_step, self.warned = math.inf, 0, False

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        if logs["loss"] < self.best_loss:
            self.best_loss, self.best_step, self.warned = logs["loss"], state.global_step, False
        elif state.global_step - self.best_step >= self.patience_steps and not self.warned:
            self.warned = True
            warn_once(
                logger,
                "the loss has not improved for %d steps (best %.4f at step %d): consider another learning "
                "rate, and look at the data",
                state.global_step - self.best_step,
                self.best_loss,
                self.best_step,
            )
