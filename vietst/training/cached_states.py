"""Training on cached states of a frozen encoder: when that is right, and the data sets that carry them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vietst.config_rules import encoder_stays_frozen
from vietst.config_schema import RunConfig
from vietst.data.encoder_state_cache import (
    StatesPlan,
    build_states,
    describe_states_plan,
    plan_states,
)
from vietst.data.encoder_states import EncodedUtteranceDataset, FrozenEncoder, module_digest
from vietst.errors import CheckpointError
from vietst.models.trainable import describe_training_scope
from vietst.runtime import get_logger, rank, warn_once, world_size
from vietst.training.arguments import weights_become_float16
from vietst.training.preparation import Preparation

logger = get_logger(__name__)


def with_cached_states(
    config: RunConfig, preparation: Preparation, model: Any, device: torch.device
) -> tuple[Preparation, list[TrainerCallback]]:
    """The same preparation, whose data sets carry encoder states; builds what is missing of their cache.

    Args:
        model: as it will be trained.
        device: where states are computed.

    Returns:
        The preparation, and callbacks for the trainer. Where the states cannot be cached, a warning says why,
        and the preparation comes back as it was.

    Raises:
        FeatureCacheError: the states do not fit the disk, or half precision.
    """
    from accelerate import PartialState

    encoder = _cacheable_encoder(config, preparation, model)
    if encoder is None:
        return preparation, []
    plans = _plans(config, preparation, encoder)
    model_device = model.device
    model.to(device)
    encoded: dict[str, EncodedUtteranceDataset] = {}
    for split, plan in plans.items():
        logger.info(describe_states_plan(plan))
        rows = getattr(preparation, split).rows
        states = build_states(
            plan,
            {split: rows},
            encoder,
            batch_size=config.training.eval_batch_size or config.training.batch_size,
            rank=rank(),
            num_processes=world_size(),
            wait_for_all=PartialState().wait_for_everyone,
        )
        encoded[split] = EncodedUtteranceDataset(rows, states[split])
    model.to(model_device)
    # DeepSpeed leaves the weights, frozen ones too, no more than half precision.
    rounded_to = torch.float16 if weights_become_float16(config) else torch.bfloat16

    def weights_digest(model: Any) -> str:
        module = preparation.architecture.frozen_encoder(model, preparation.input_kind).module
        return module_digest(module, {}, rounded_to=rounded_to)

    preparation.facts["encoder_states"] = {split: plan.directory.name for split, plan in plans.items()}
    return dataclasses.replace(preparation, train=encoded["train"], dev=encoded["dev"]), [
        SameEncoderCallback(weights_digest(model), weights_digest)
    ]


def describe_cached_states(config: RunConfig, preparation: Preparation, model: Any) -> str | None:
    """What a training would compute and store; None where it would not.

    Raises:
        FeatureCacheError: it does not fit the disk.
    """
    encoder = _cacheable_encoder(config, preparation, model)
    if encoder is None:
        return None
    return "\n".join(map(describe_states_plan, _plans(config, preparation, encoder).values()))


def _plans(config: RunConfig, preparation: Preparation, encoder: FrozenEncoder) -> dict[str, StatesPlan]:
    """One cache for each split, so that another sample of dev leaves that of train alone."""
    features_dir = config.paths.local_features_dir
    train = plan_states({"train": preparation.train.rows}, features_dir, encoder)
    reserved_bytes = train.num_bytes(train.missing())
    dev = plan_states({"dev": preparation.dev.rows}, features_dir, encoder, reserved_bytes=reserved_bytes)
    return {"train": train, "dev": dev}


def _cacheable_encoder(config: RunConfig, preparation: Preparation, model: Any) -> FrozenEncoder | None:
    """The encoder whose states can be cached; None, and a warning why, if they must be computed."""
    if encoder_stays_frozen(config):
        encoder: FrozenEncoder = preparation.architecture.frozen_encoder(model, preparation.input_kind)
        reason = why_states_change(model, encoder)
        if reason is None:
            return encoder
    else:
        reason = f"the encoder does not stay frozen (trained: {describe_training_scope(config)})"
    warn_once(logger, "encoder states are computed in every step, not cached: %s", reason)
    return None


def why_states_change(model: torch.nn.Module, encoder: FrozenEncoder) -> str | None:
    """Why an utterance's states are not the same in every step of a training; None if they are."""
    from transformers.integrations import is_deepspeed_zero3_enabled

    if is_deepspeed_zero3_enabled():
        return "under ZeRO-3 no process holds the whole encoder"
    if any(parameter.requires_grad for parameter in encoder.module.parameters()):
        return "a part of the encoder is trained"
    was_training = model.training
    model.train()
    noisy = any(module.training for module in encoder.module.modules())
    model.train(was_training)
    return "the encoder runs in training mode, with dropout and masking" if noisy else None


class SameEncoderCallback(TrainerCallback):
    """Refuses to go on from a checkpoint whose encoder is not the one that made the cached states.

    The decoder would learn from one encoder, and be saved with another.
    """

    def __init__(self, digest: str, digest_of: Callable[[Any], str]) -> None:
        self.digest, self.digest_of = digest, digest_of

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        if state.global_step > 0 and self.digest_of(model) != self.digest:
            raise CheckpointError(
                where=f"checkpoint of step {state.global_step}",
                rule="with model.cache_encoder_states, its encoder is the base model's",
                found="other weights: it was trained before, or the base model is another one",
                do="set model.cache_encoder_states=false, or name the base model that the run began with",
            )
