"""torch.compile for training: the layers of encoder and decoder, each by itself.

All layers of a stack share compiled code, so that compiling takes as long for 32 as for one ("regional
compilation" in PyTorch's tutorials). Sizes are symbols: other lengths, numbers of clips and windows run the
same code, except that batches of a single clip have code of their own. Modules keep their names, and
checkpoints are those of eager training. Evaluation stays eager: the caches of generation grow with every
token.

On an H100 (PyTorch 2.11, transformers 5.17) steps of both architectures had the losses and gradient norms of
eager training, in float32 and bfloat16. What compiling gains there: vietst/benchmarks/README.md.
"""

from contextlib import AbstractContextManager
from typing import Any, Final

import torch
from torch import nn

from vietst.errors import ConfigError
from vietst.training.arguments import fsdp_is_launched

BACKEND: Final = "inductor"

MAX_COMPILATIONS: Final = 64
"""Of a layer's code, beyond which it would run eagerly. All layers of encoder and decoder share what PyTorch
counts, and its 8 do not do: with and without masks, the encoder frozen and not, one clip and several."""

_STACKS: Final = ("encoder.layers", "decoder.layers")
"""How the names of the modules end whose children are compiled, in both architectures."""


def compile_layers(model: nn.Module) -> None:
    """Have a model's layers compiled at their first call.

    Raises:
        ConfigError: the launch, or this machine, cannot do it.
    """
    require_compilable()
    for name, module in model.named_modules():
        if name.endswith(_STACKS):
            for layer in module.children():
                layer.compile(backend=BACKEND, dynamic=True, recompile_limit=MAX_COMPILATIONS)


def eager() -> AbstractContextManager[Any]:
    """In it, compiled layers run as they are written."""
    return torch.compiler.set_stance("force_eager")


def require_compilable() -> None:
    """Refuse here what would fail in the first step, and say less about it.

    Raises:
        ConfigError: the launch, or this machine, cannot compile layers.
    """
    _require_whole_weights()
    _require_compiler()


def _require_whole_weights() -> None:
    from transformers.integrations import is_deepspeed_zero3_enabled

    is_fsdp = fsdp_is_launched()
    if is_fsdp or is_deepspeed_zero3_enabled():
        raise ConfigError(
            where="training.compile",
            rule="every process holds whole weights (one process, DDP, ZeRO-1, ZeRO-2)",
            found="FSDP" if is_fsdp else "ZeRO-3",
            do="set training.compile=false, or launch with accelerate_configs/h100x8.yaml",
        )


def _require_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler
    from torch.utils._triton import has_triton

    missing = None
    if torch.cuda.is_available():
        missing = None if has_triton() else "no Triton that knows this GPU"
    else:
        try:
            get_cpp_compiler()
        except (InvalidCxxCompiler, RuntimeError):
            missing = "no C++ compiler"
    if missing is not None:
        raise ConfigError(
            where="training.compile",
            rule="compiling needs Triton on a GPU, a C++ compiler on a CPU",
            found=missing,
            do="set training.compile=false, or install what is missing",
        )
