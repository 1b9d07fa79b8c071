"""When the memory runs out: an error that names the settings to change, by the memory plan."""

import contextlib
import traceback
from collections.abc import Iterator

from vietst.config_rules import encoder_stays_frozen
from vietst.config_schema import RunConfig
from vietst.errors import TrainingError
from vietst.full_memory import is_out_of_memory
from vietst.training.memory_plan import MemoryPlan, gigabytes
from vietst.training.memory_trace import GRADIENTS
from vietst.training.preparation import Preparation
from vietst.training.run_memory import gpu_memory_gb, plan_fullest_batch, step_settings


@contextlib.contextmanager
def out_of_memory_is_an_error(
    config: RunConfig, preparation: Preparation, accumulation: int
) -> Iterator[None]:
    """While the block runs, memory that runs out raises what the user can do about it.

    Args:
        accumulation: micro batches of an optimizer step.

    Raises:
        TrainingError: instead of the exception for that.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        found = str(error).strip().partition("\n")[0] or type(error).__name__
        traceback.clear_frames(error.__traceback__)  # they hold the activations
        raise _error(config, preparation, accumulation, found) from None


def _error(config: RunConfig, preparation: Preparation, accumulation: int, found: str) -> TrainingError:
    memory_gb = gpu_memory_gb()
    settings = step_settings(config, accumulation, on_gpu=memory_gb is not None)
    try:
        workload, plan = plan_fullest_batch(config, preparation, settings)
        forecast = (
            f"; the plan forecasts {gigabytes(plan.total_bytes)} for a process and its fullest batch, "
            f"{workload.num_utterances} × {workload.duration_s:.1f} s"
        )
    except (RuntimeError, MemoryError):  # there may be too little left for that, too
        plan, forecast = None, ""
    return TrainingError(
        where="memory of the machine" if memory_gb is None else f"memory of the GPU, {memory_gb:.2f} GB",
        rule=f"a training fits it{forecast}",
        found=found,
        do=f"what helps: {'; '.join(advice(config, plan))}. --dry_run shows the whole plan",
    )


def advice(config: RunConfig, plan: MemoryPlan | None) -> list[str]:
    """Settings that would take less memory than the configuration, those that help most first."""
    by_batch, by_model = _smaller_batches(config), _less_to_train(config)
    if plan is not None and _bytes_of_training(plan) > plan.total_bytes / 2:
        return by_model + by_batch
    return by_batch + by_model


def _bytes_of_training(plan: MemoryPlan) -> int:
    """What a step holds whatever its batch: weights, gradients and the optimizer's state."""
    gradients = dict(plan.in_optimizer_step).get(GRADIENTS, 0)
    return sum(size for _, size in plan.always) + gradients


def _smaller_batches(config: RunConfig) -> list[str]:
    training, found = config.training, []
    if training.batch_seconds is not None:
        found.append(f"a lower training.batch_seconds (now {training.batch_seconds:g})")
    elif training.batch_size > 1:
        found.append(f"a lower training.batch_size (now {training.batch_size})")
    if training.eval_strategy != "no":
        now = training.eval_batch_size or training.batch_size
        found.append(f"a lower training.eval_batch_size (now {now}) if it was an evaluation")
    if not training.gradient_checkpointing:
        found.append("training.gradient_checkpointing=true")
    if config.dataloader.num_workers > 1:
        found.append(
            f"fewer dataloader.num_workers (now {config.dataloader.num_workers}) if it was the machine's"
        )
    return found


def _less_to_train(config: RunConfig) -> list[str]:
    model, found = config.model, []
    if config.training.optim.startswith("adamw_torch"):
        found.append("training.optim=adamw_bnb_8bit or adafactor")
    if not encoder_stays_frozen(config):
        found.append("model.freeze_encoder=true")
    if model.finetune == "full":
        found.append("model.finetune=lna or lora")
    return found
