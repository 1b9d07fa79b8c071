"""Low-rank adapters (LoRA) inside a model, through `peft`, and the plain weights that they amount to.

The adapters are injected into the model itself, without peft's wrapper: it keeps its class, its `forward` and
`generate`, and a frozen linear layer `x` becomes `x.base_layer` with `x.lora_A` and `x.lora_B` beside it.
What is saved holds the merged `x` in any case, so that every folder loads as a stock model without peft;
checkpoints hold the three as well, from which training goes on exactly.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from vietst.config_schema import LoraSection
from vietst.errors import ConfigError

_ADAPTER = "default"
_BASE, _DOWN, _UP = ".base_layer", f".lora_A.{_ADAPTER}.weight", f".lora_B.{_ADAPTER}.weight"


def is_adapter(name: str) -> bool:
    """Whether a parameter's name is that of an adapter."""
    return ".lora_A." in name or ".lora_B." in name


def is_merged_already(name: str) -> bool:
    """Whether a checkpoint's weight stands in the merged weights beside it: adapters, and what they adapt."""
    return is_adapter(name) or f"{_BASE}." in name


def add_adapters(model: nn.Module, settings: LoraSection, may_adapt: Callable[[str], bool]) -> None:
    """Put an adapter at every linear layer that `settings.target_modules` names. It starts as zero.

    All other parameters stop requiring gradients; the caller decides anew which do.

    Args:
        may_adapt: whether a layer, by its full name, may get one.

    Raises:
        ConfigError: there is no such layer, or `peft` is not installed.
    """
    linear_layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    targets = [
        name
        for name in linear_layers
        if name.rpartition(".")[2] in settings.target_modules and may_adapt(name)
    ]
    known = sorted({name.rpartition(".")[2] for name in linear_layers if may_adapt(name)})
    unknown = [name for name in settings.target_modules if name not in known]
    if unknown:
        raise ConfigError(
            where="lora.target_modules",
            rule="names of linear layers of the model, by their last part",
            found=f"no {', '.join(unknown)}",
            do=f"use some of {', '.join(known)}",
        )
    if find_spec("peft") is None:
        raise ConfigError(
            where="model.finetune",
            rule="lora needs the package peft",
            found="peft is not installed",
            do="pip install peft, or set model.finetune=lna",
        )
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(
        LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=targets,
        ),
        model,
        adapter_name=_ADAPTER,
    )


def adapted_layers(model: nn.Module) -> dict[str, Any]:
    """The layers with an adapter, by name; none in a model without LoRA."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def merged_weights(
    model: nn.Module, state_dict: dict[str, torch.Tensor], *, keep_adapters: bool
) -> dict[str, torch.Tensor]:
    """A state dict with the adapted layers' plain weights in it, base + (alpha / rank) · B · A.

    Args:
        model: tells which layers are adapted, and their scale.
        state_dict: of that model; its tensors are the ones that count, since the model may hold only a share
            of them (ZeRO-3).
        keep_adapters: leave base layers and adapters in it beside the merged weights.
    """
    merged = dict(state_dict)
    for name, layer in adapted_layers(model).items():
        base = state_dict[f"{name}{_BASE}.weight"]
        change = state_dict[name + _UP].float() @ state_dict[name + _DOWN].float()
        merged[f"{name}.weight"] = (base.float() + layer.scaling[_ADAPTER] * change).to(base.dtype)
        if f"{name}{_BASE}.bias" in state_dict:
            merged[f"{name}.bias"] = state_dict[f"{name}{_BASE}.bias"].clone()
        if not keep_adapters:
            for key in (f"{name}{_BASE}.weight", f"{name}{_BASE}.bias", name + _DOWN, name + _UP):
                merged.pop(key, None)
    return merged


def merged_names(model: nn.Module) -> set[str]:
    """Names that `merged_weights` adds to a state dict of the model, which the model itself does not have."""
    return {f"{name}.{kind}" for name in adapted_layers(model) for kind in ("weight", "bias")}
