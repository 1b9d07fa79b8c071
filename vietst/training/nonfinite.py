"""Losses and gradients that are NaN or infinite: the step is left out, or the training stops; by policy.

One such step would destroy the weights. It is decided once per optimizer step, from the norm of all
gradients, which every launch mode computes for all processes together. So that this one number also tells of
a loss, `spread` has a loss that is not finite give gradients that are not, in whatever process it was.

Who leaves the step out:

    one process, DDP, FSDP   this module's caller drops the gradients; optimizers pass over what has none
    fp16                     the gradient scaler, which then also lowers its scale
    DeepSpeed ZeRO 1 to 3    its engine, in any precision; the norm that it reports is then infinite

The last two also hold the learning rate's schedule back for the steps left out. The scaler lets
adamw_torch_fused find out by itself, and accelerate does not see it: as in the first line, the schedule goes
on with `global_step`, and is over when the training is. Weights and moments stay the same in all of them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import torch
from accelerate.utils import gather_object

from vietst.errors import TrainingError
from vietst.runtime import get_logger, rank, warn_once

logger = get_logger(__name__)

Policy = Literal["skip", "stop"]

MAX_CONSECUTIVE_SKIPS: Final = 20
"""A training that has left out so many steps in a row stops. A gradient scaler starts at 2¹⁶ and may need 16
steps to come down to 1; DeepSpeed's waits for one more."""

_MAX_SHOWN_IDS: Final = 8


def spread(loss: torch.Tensor) -> torch.Tensor:
    """The same loss; one that is not finite becomes NaN, and so do all gradients of its backward pass."""
    return loss * torch.where(loss.detach().isfinite(), 1.0, math.nan)


class NonFiniteSteps:
    """Watches the steps of a training, without waiting for the device more than once per step.

    Args:
        policy: of `training.on_nonfinite`.
        utterance_ids: of utterances by their row numbers.
        has_gradient_scaler: gradients beyond float16 belong to its search for a scale: they are left out
            whatever the policy, as long as the losses are finite.

    Attributes:
        num_steps, num_skipped: optimizer steps, and those among them that were left out.
        skipped_loss: sum of the finite losses of the step that was left out last.
    """

    def __init__(
        self,
        policy: Policy,
        utterance_ids: Callable[[Sequence[int]], list[str]],
        *,
        has_gradient_scaler: bool,
    ) -> None:
        self.policy, self.has_gradient_scaler = policy, has_gradient_scaler
        self._utterance_ids = utterance_ids
        self.num_steps = self.num_skipped = self._num_consecutive = 0
        self._num_logged = self._num_logged_skipped = 0
        self.skipped_loss: torch.Tensor | float = 0.0
        self._micro_batches: list[tuple[torch.Tensor, torch.Tensor]] = []

    def note_micro_batch(self, loss: torch.Tensor, row_index: torch.Tensor) -> torch.Tensor:
        """Keep a micro batch of the current step in mind.

        Returns:
            Its loss for the log: 0 where it is not finite.
        """
        self._micro_batches.append((loss, row_index))
        return torch.where(loss.isfinite(), loss, 0.0)

    def accepts(self, gradient_norm: Any, step: int) -> bool:
        """Whether the optimizer may take this step, the same in every process.

        Args:
            gradient_norm: of all gradients of all processes.
            step: number of the step, from 1.

        Raises:
            TrainingError: the policy, or too many such steps in a row.
        """
        if hasattr(gradient_norm, "full_tensor"):  # FSDP's is in parts
            gradient_norm = gradient_norm.full_tensor()
        micro_batches, self._micro_batches = self._micro_batches, []
        self.num_steps += 1
        if math.isfinite(gradient_norm):
            self._num_consecutive = 0
            return True
        self.num_skipped += 1
        self._num_consecutive += 1
        losses = torch.stack([loss for loss, _ in micro_batches])
        self.skipped_loss = torch.where(losses.isfinite(), losses, 0.0).sum()
        culprits = self._culprits(losses, [rows for _, rows in micro_batches])
        self._warn_or_stop(step, culprits)
        return False

    def corrected_log(self, logs: dict[str, float]) -> dict[str, float]:
        """An entry of the log in which transformers counted the steps left out as steps.

        Returns:
            The mean `loss` of the steps that were taken, and `skipped_steps`, those that were not, since the
            entry before. A mean over no step is left out, and so is a gradient norm that is no number.
        """
        num_steps, num_skipped = (
            self.num_steps - self._num_logged,
            self.num_skipped - self._num_logged_skipped,
        )
        self._num_logged, self._num_logged_skipped = self.num_steps, self.num_skipped
        loss = _mean_of_taken(logs["loss"], num_steps, num_skipped)
        changed = {**logs, "loss": loss, "skipped_steps": num_skipped}
        return {key: value for key, value in changed.items() if math.isfinite(value)}

    def corrected_train_loss(self, train_loss: float) -> float:
        """The same for the mean over the whole training."""
        return _mean_of_taken(train_loss, self.num_steps, self.num_skipped)

    def _culprits(self, losses: torch.Tensor, rows: Sequence[torch.Tensor]) -> list[str]:
        """For each process with losses that are not finite: the utterances of their micro batches."""
        ids = [
            utterance_id
            for loss, row_index in zip(losses.tolist(), rows, strict=True)
            if not math.isfinite(loss)
            for utterance_id in self._utterance_ids(row_index.tolist())
        ]
        mine = [f"rank {rank()}: {_shortened(ids)}"] if ids else []
        # Every process comes here, since the norm is that of all.
        return list(gather_object(mine))

    def _warn_or_stop(self, step: int, culprits: Sequence[str]) -> None:
        searches_scale = self.has_gradient_scaler and not culprits
        found = (
            f"the loss is NaN or infinite for these utterances: {'; '.join(culprits)}"
            if culprits
            else "gradients that exceed float16 at this scale"
            if searches_scale
            else "NaN or infinite gradients from finite losses"
        )
        if self.policy == "stop" and not searches_scale:
            raise TrainingError(
                where=f"step {step}",
                rule="losses and gradients are finite numbers (training.on_nonfinite=stop)",
                found=found,
                do="look at the audio and texts of these utterances, or lower training.learning_rate; with "
                "training.on_nonfinite=skip such steps are left out and counted",
            )
        if self._num_consecutive >= MAX_CONSECUTIVE_SKIPS:
            raise TrainingError(
                where=f"step {step}",
                rule=f"no {MAX_CONSECUTIVE_SKIPS} steps in a row have NaN or infinite losses or gradients",
                found=f"{found}; and {MAX_CONSECUTIVE_SKIPS - 1} such steps before",
                do="start again with a lower training.learning_rate or more training.warmup_steps; with "
                "training.bf16=true instead of fp16 where the GPU has it",
            )
        warn_once(logger, "step %d left out (%d so far): %s", step, self.num_skipped, found)


def _shortened(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:_MAX_SHOWN_IDS])
    return shown if len(ids) <= _MAX_SHOWN_IDS else f"{shown} and {len(ids) - _MAX_SHOWN_IDS} more"


def _mean_of_taken(mean: float, num_steps: int, num_skipped: int) -> float:
    num_taken = num_steps - num_skipped
    return mean * num_steps / num_taken if num_taken else math.nan
