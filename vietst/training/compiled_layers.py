"""torch.compile for training: the layers of encoder and decoder, each by itself.

All layers of a stack share compiled code, so that compiling takes as long for 32 as for one ("regional
compilation" in PyTorch's tutorials). Sizes are symbols: batches of other lengths and numbers of clips, and
other windows, run the same code. Modules keep their names, and checkpoints stay those of eager training.
What evaluation runs stays eager: caches of generation grow with every token.
"""

from contextlib import AbstractContextManager
from typing import Any, Final

import torch
from torch import nn

from vietst.errors import ConfigError

BACKEND: Final = "inductor"


def compile_layers(model: nn.Module) -> None:
    """Compile a model's layers, of encoder and decoder, at their first call.

    Raises:
        ConfigError: nothing on this machine compiles.
    """
    _require_compiler()
    for name, module in model.named_modules():
        if name.endswith(("encoder.layers", "decoder.layers")):
            for layer in module.children():
                layer.compile(backend=BACKEND, dynamic=True)


def eager() -> AbstractContextManager[Any]:
    """In it, compiled layers run as they are written."""
    return torch.compiler.set_stance("force_eager")


def _require_compiler() -> None:
    """Refuse what inductor would fail at in the first step, with pages of its own.

    Raises:
        ConfigError: no Triton for the GPU, or no C++ compiler for the CPU.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler
    from torch.utils._triton import has_triton

    if torch.cuda.is_available():
        missing = None if has_triton() else "no Triton that knows this GPU"
    else:
        try:
            get_cpp_compiler()
            missing = None
        except (InvalidCxxCompiler, RuntimeError):
            missing = "no C++ compiler"
    if missing is not None:
        raise ConfigError(
            where="training.compile",
            rule="compiling needs Triton on a GPU, a C++ compiler on a CPU",
            found=missing,
            do="set training.compile=false, or install what is missing",
        )
