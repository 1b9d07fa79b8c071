"""Groups of parameters for the optimizer: each part of the model with its learning rate and weight decay."""

import dataclasses
from collections.abc import Collection
from typing import Any

from torch import nn

from vietst.models.trainable import ENCODER_PARTS, TrainingScope, part_of


@dataclasses.dataclass(frozen=True)
class LearningRates:
    """Peak learning rates: of the encoder, of the length adaptor and projection, of all else."""

    encoder: float
    adaptor: float
    decoder: float


def parameter_groups(
    model: nn.Module,
    scope: TrainingScope,
    rates: LearningRates,
    *,
    weight_decay: float,
    decayed_names: Collection[str],
) -> list[dict[str, Any]]:
    """What an optimizer takes. Schedulers scale the rates of all groups alike.

    All that the run trains at some time is in the groups, frozen now or not: parameters without a gradient
    cost an optimizer nothing, neither an update nor state, until they get one.

    Args:
        decayed_names: parameters that weight decay applies to.

    Returns:
        Groups with `params`, `lr`, `weight_decay`, `part` ("decoder", "adaptor" or "encoder") and
        `is_decayed`, without empty ones; the decoder's come first, since the first group's rate is logged.
    """
    groups: dict[tuple[str, bool], dict[str, Any]] = {
        (part, is_decayed): {
            "params": [],
            "lr": getattr(rates, part),
            "weight_decay": weight_decay if is_decayed else 0.0,
            "part": part,
            "is_decayed": is_decayed,
        }
        for part in ("decoder", "adaptor", "encoder")
        for is_decayed in (True, False)
    }
    for name, parameter in model.named_parameters():
        if scope.trains(name):
            part = part_of(name)
            group = "encoder" if part in ENCODER_PARTS else "adaptor" if part == "adaptor" else "decoder"
            groups[group, name in decayed_names]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]
