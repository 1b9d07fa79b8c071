"""Training the encoder from a certain step on, so that it reaches the optimizer, DDP and ZeRO.

Flipping `requires_grad` alone is not enough: all three are built from the parameters that train at the start.
Here the optimizer holds the encoder from the beginning (it ignores what has no gradient), DDP's reducer is
built anew when the encoder joins, and ZeRO partitions the encoder from the beginning. One schedule runs over
all steps, and checkpoints before and after look alike, so that resuming needs to know nothing but the step.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vietst.runtime import get_logger

logger = get_logger(__name__)


class EncoderUnfreezeCallback(TrainerCallback):
    """Calls `unfreeze` before the first step that trains the encoder.

    Args:
        unfreeze: is told whether the encoder was frozen in the step before, rather than in one before the
            checkpoint that training goes on from.
        after_updates: how many steps leave the encoder alone.
        after_epochs: the same in epochs, rounded up to steps.
    """

    def __init__(
        self,
        unfreeze: Callable[[bool], None],
        *,
        after_updates: int | None = None,
        after_epochs: float | None = None,
    ) -> None:
        self.unfreeze, self.after_updates, self.after_epochs = unfreeze, after_updates, after_epochs
        self.is_frozen = True

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        if self.after_updates is None:
            assert self.after_epochs is not None
            updates_per_epoch = math.ceil(len(train_dataloader) / args.gradient_accumulation_steps)
            # 0.1 epochs of 30 updates are 3, whatever the last bit of 0.1 × 30 says
            self.after_updates = math.ceil(round(self.after_epochs * updates_per_epoch, 6))
        if self.after_updates >= state.max_steps:
            logger.info("the encoder stays frozen: this training ends before update %d", self.after_updates)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        assert self.after_updates is not None
        if self.is_frozen and state.global_step >= self.after_updates:
            self.unfreeze(state.global_step == self.after_updates)
            self.is_frozen = False
            logger.info("from step %d on the encoder is trained too", state.global_step + 1)


def rebuild_reducer(model: DistributedDataParallel, settings: dict[str, Any]) -> None:
    """Let DDP reduce the gradients of all parameters that require them now.

    It is initialized anew in place, because the training loop holds this very object; the reducer that knew
    the old set of parameters goes, with its hooks.

    Args:
        settings: what it was first made with.
    """
    DistributedDataParallel.__init__(
        model, model.module, device_ids=model.device_ids, output_device=model.output_device, **settings
    )


def set_encoder_decay(optimizer: Any, weight_decay: float) -> None:
    """Change the weight decay of those encoder parameters that have one."""
    for group in optimizer.param_groups:
        if group["part"] == "encoder" and group["is_decayed"]:
            group["weight_decay"] = weight_decay


def restart_adam(optimizer: Any) -> None:
    """Let Adam count the encoder's steps from now on, under DeepSpeed.

    ZeRO steps with zero gradients for what is frozen. They leave weights and moments as they are, but count;
    Adam's bias correction would then take the first real gradients for the mean of many, and the first steps
    would be several times too long.

    Args:
        optimizer: DeepSpeed's own, of any ZeRO stage.
    """
    for group, partition in _partitions(optimizer):
        state = optimizer.state.get(partition, {})
        if group["part"] == "encoder" and "step" in state:
            state["step"] = torch.zeros_like(torch.as_tensor(state["step"]))


def _partitions(optimizer: Any) -> Iterator[tuple[dict[str, Any], torch.Tensor]]:
    """This process's shares of the parameters, each with its group."""
    groups = optimizer.param_groups
    if not hasattr(optimizer, "sub_group_to_group_id"):
        yield from ((group, partition) for group in groups for partition in group["params"])
        return
    # ZeRO-3 keeps them apart, and puts them into the groups for the moment of a step only.
    for sub_group, group in optimizer.sub_group_to_group_id.items():
        yield groups[group], optimizer.fp32_partitioned_groups_flat[sub_group]
