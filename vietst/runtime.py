"""A process among those of a run: its rank, what it logs, how its chance is seeded, what memory it keeps.

Nothing heavy is imported at module level, so a script's `--help` and its argument errors stay instant.
"""

import logging
import os
import random
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch

_MAX_POOL_SIZE_ON_WINDOWS: Final = 61
"""Windows waits for 64 things at once; three of them are no processes."""

_LARGEST_KEPT_BYTES: Final = 31 << 20


def rank() -> int:
    """This process's number among all that the launcher started, on all machines (0 without a launcher)."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes the launcher started, on all machines (1 without a launcher)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world_size() -> int:
    """How many processes the launcher started on this machine (1 without a launcher)."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def pool_size(num_proc: int) -> int:
    """As many processes as were asked for, or as `ProcessPoolExecutor` takes on this system."""
    return min(num_proc, _MAX_POOL_SIZE_ON_WINDOWS) if sys.platform == "win32" else num_proc


def rank_prefix() -> str:
    """What precedes all that another process than the first says."""
    return f"rank {rank()} of {world_size()}: " if rank() > 0 else ""


class _ProgressBarSafeHandler(logging.Handler):
    """Write records to stderr, above any tqdm progress bar that is being drawn there."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            if "tqdm" in sys.modules:
                from tqdm import tqdm

                tqdm.write(line, file=sys.stderr)
            else:
                print(line, file=sys.stderr, flush=True)
        except (OSError, ValueError):
            self.handleError(record)


def get_logger(name: str) -> logging.Logger:
    """The logger for a module (pass `__name__`): INFO on rank 0, warnings only on the others, on stderr."""
    package = logging.getLogger("vietst")
    if not package.handlers:
        handler = _ProgressBarSafeHandler()
        handler.setFormatter(logging.Formatter(f"%(asctime)s {rank_prefix()}%(message)s", datefmt="%H:%M:%S"))
        package.addHandler(handler)
        package.setLevel(logging.INFO if rank() == 0 else logging.WARNING)
        package.propagate = False
    # A script's own `__name__` is "__main__", which would miss the package's handler.
    return package if name == "__main__" else package.getChild(name.removeprefix("vietst."))


def warn_once(logger: logging.Logger, message: str, *arguments: object) -> None:
    """A warning for which all processes of a run have the same reason: the first one gives it."""
    if rank() == 0:
        logger.warning(message, *arguments)


def quiet_libraries() -> None:
    """Silence what other libraries print without anything for the user to mend.

    A progress bar for every file that is written; transformers' advice on how Whisper's own generation calls
    its generation; DeepSpeed's remark, at its import, that a machine without a GPU has none, and that of
    bitsandbytes that it lacks kernels for 4 bits. So call this before anything that imports transformers'
    Trainer.
    """
    logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator to CPU" not in record.msg)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    logging.getLogger("transformers.generation").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and PyTorch, the latter on all devices."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def draw_as_process(process: int, *, seed: int, device: "torch.device") -> None:
    """Seed PyTorch on the device of one of several processes, which all were seeded alike before.

    Else dropout and SpecAugment would leave out the same places of every process's batch. Process 0 goes on
    as it is.
    """
    import numpy as np
    import torch

    if process == 0:
        return
    own_seed = int(np.random.SeedSequence((seed, process)).generate_state(1)[0])
    if device.type == "cuda":
        torch.cuda.manual_seed(own_seed)
    else:
        torch.manual_seed(own_seed)


def keep_freed_memory() -> None:
    """From now on this process keeps up to 64 MB that it frees, for what it allocates next.

    By itself glibc gives large blocks back at once, and every page of the next one is a page fault: in a loop
    over audio clips, up to half of the time. It keeps blocks up to the size of the largest one that was freed
    before (mallopt(3), M_MMAP_THRESHOLD; at most 32 MB), and twice as much in all. With other C libraries
    this changes nothing.
    """
    import numpy as np

    np.empty(_LARGEST_KEPT_BYTES, np.uint8)
