"""How the workers of a training on a CPU hand their batches over: in memory that is found by its name.

PyTorch's way on Linux passes a file descriptor for each batch: the training asks the worker for it, which has
to answer between two steps of the batch that it is making. A step of nano_whisper waited 1.1 ms for that on
two cores, and waits 0.5 ms for a name. Names need a process beside each worker, which removes what a killed
worker leaves, takes 0.1 s and 60 MB and lives as long as the training: this is for workers that do so, too,
not for those that an evaluation starts anew. On a GPU a thread takes the batches over beside the training.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch


def share_batches_by_name(loader: Any) -> None:
    """Have the workers that this loader will start share batches by name.

    Args:
        loader: as accelerate prepares it, a wrapper around a `torch.utils.data.DataLoader`.
    """
    wrapped = loader.base_dataloader
    wrapped.worker_init_fn = functools.partial(_share_by_name, then=wrapped.worker_init_fn)


def _share_by_name(worker_id: int, *, then: Callable[[int], None] | None) -> None:
    """Elsewhere than on Linux there is one way only."""
    if sys.platform == "linux":
        torch.multiprocessing.set_sharing_strategy("file_system")
    if then is not None:
        then(worker_id)
