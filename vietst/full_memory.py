"""Memory that runs out, of a GPU or of the machine: an error that the user can mend, and no traceback.

A training says more about it: `vietst.training.out_of_memory`.
"""

import sys
from typing import Final

from vietst.errors import VietstError

_WORDS: Final = (
    "out of memory",  # MPS
    "DefaultCPUAllocator",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "is killed by signal: Killed",  # a data loader's worker, by the system
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the device or in the machine."""
    torch = sys.modules.get("torch")  # where nobody has imported it, it is not its error
    kinds = (MemoryError,) if torch is None else (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)
    )


def full_memory_error(error: BaseException) -> VietstError:
    """What to raise instead of an error that `is_out_of_memory`."""
    return VietstError(
        where="memory of the GPU, or of the machine where there is none",
        rule="it holds the model and a batch",
        found=str(error).strip().partition("\n")[0] or type(error).__name__,
        do="end what else uses it (nvidia-smi lists that of a GPU), take a smaller --batch_size where this "
        "command has one, or compute on the CPU: set CUDA_VISIBLE_DEVICES=-1",
    )
