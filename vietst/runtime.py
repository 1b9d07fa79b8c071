"""The process around a run: how scripts end, who logs, how chance is seeded, on what it all ran.

Nothing heavy is imported at module level, so a script's `--help` and its argument errors stay instant.
"""

import contextlib
import faulthandler
import io
import logging
import os
import platform
import random
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from vietst import rank_faults
from vietst.errors import VietstError, error_in_text, without_credentials
from vietst.full_disk import full_disk_error, is_full_disk

if TYPE_CHECKING:
    import torch

EXIT_USER_ERROR: Final = 2
"""Exit code of a script whose user can mend what went wrong."""

EXIT_INTERRUPTED: Final = 130
"""Exit code after Ctrl-C (128 + SIGINT, as shells have it)."""

EXIT_PREEMPTED: Final = 75
"""Exit code of a script that stopped because it was asked to, and wants to be started again (EX_TEMPFAIL)."""

STOP_SIGNALS: Final = (signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))
"""Signals that ask a training to save and stop. Windows has no SIGUSR1."""

EXIT_FAULT: Final = 1
"""Exit code after a fault of the program, as Python has it."""

_LOST_CONNECTION: Final = re.compile(
    r"connection (closed|reset) by peer|broken pipe|remote process exit|communicator was aborted",
    re.IGNORECASE,
)
"""What gloo, NCCL and the store say when a process at the other end has gone."""

_OTHERS_SPEAK_FIRST_S: Final = 5.0
"""How long a process that lost a connection waits for the one that broke it to say why, or for the launcher,
which ends it."""

_LARGEST_KEPT_BYTES: Final = 31 << 20

_RECORDED_PACKAGES: Final = (
    "vietst",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "deepspeed",
    "huggingface_hub",
    "tokenizers",
    "safetensors",
    "numpy",
    "pyarrow",
    "librosa",
    "soundfile",
    "soxr",
    "jiwer",
    "sacrebleu",
    "omegaconf",
    "pydantic",
)


class Preempted(Exception):  # noqa: N818 - nothing is wrong
    """A script was asked to stop, and can go on from where it is. It says how."""


def rank() -> int:
    """This process's number among all that the launcher started, on all machines (0 without a launcher)."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes the launcher started, on all machines (1 without a launcher)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world_size() -> int:
    """How many processes the launcher started on this machine (1 without a launcher)."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main` and end the process as a user expects.

    A `VietstError`, and a full disk that nobody has told yet, become `error: …` on stderr and exit code 2, an
    interruption a quiet exit code 130, and `Preempted` its message and exit code 75.
    Any other exception is a fault of the program and keeps its traceback. With several processes, the first
    error of any of them ends them all, and is printed once (`vietst.rank_faults`).
    """
    faulthandler.enable()  # a damaged file that is mapped into memory ends a process by a signal
    # Else torch's threads wait for each other by spinning 30 times as long: on cores that are shared with
    # other processes a small model took more than ten times the time of its CPU. Not spinning at all made a
    # small training on idle cores a fifth slower. libgomp reads it when torch is imported.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As stderr: on Windows a file or pipe may lack Vietnamese letters, and that is no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main()
        leave_process_group()
    except Preempted as stop:
        leave_process_group()  # all ranks come here together
        if rank() == 0:
            print(stop, file=sys.stderr, flush=True)
        sys.exit(EXIT_PREEMPTED)
    except KeyboardInterrupt:
        _end_process(EXIT_INTERRUPTED, message="")
    except VietstError as error:
        _end_process(EXIT_USER_ERROR, message=f"error: {_rank_prefix()}{error}")
    except Exception as error:
        users_error = error_in_text(str(error))  # of a DataLoader's worker process
        if users_error is None and is_full_disk(error):
            name = getattr(error, "filename", None)
            users_error = full_disk_error(error, name or "a file that this command writes")
        if users_error is not None:
            _end_process(EXIT_USER_ERROR, message=f"error: {_rank_prefix()}{users_error}")
        if world_size() == 1:
            raise
        message = f"{_rank_prefix()}{traceback.format_exc().rstrip()}"
        if _LOST_CONNECTION.search(str(error)):
            time.sleep(_OTHERS_SPEAK_FIRST_S)
            message = (
                f"error: {_rank_prefix()}another process has ended without a word; its launcher says how\n"
                f"  {error}"
            )
        _end_process(EXIT_FAULT, message)


def leave_process_group() -> None:
    """End the communication between processes, if there was any; their faults no longer matter to this one.

    A process that exits without it may be killed by its own communication threads ("terminate called without
    an active exception"), and the launcher then calls a finished training failed.
    """
    rank_faults.stop_watching()
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _end_process(exit_code: int, message: str) -> NoReturn:
    """Print `message` as the last thing this process says, unless another one fails already, and exit."""
    logging.shutdown()
    with contextlib.suppress(OSError, ValueError):  # a closed stdout must not hide the message
        sys.stdout.flush()
    if world_size() == 1:
        leave_process_group()
        _print_error(message)
        sys.exit(exit_code)
    fault = rank_faults.report(exit_code, message)
    if fault.rank != rank():
        rank_faults.end_after(fault)
    _print_error(message)
    time.sleep(rank_faults.FAULT_STAYS_S)
    # A normal exit would wait for the other ranks, or have the process group complain below our message. Data
    # loaders' workers see within seconds that their process has gone.
    os._exit(exit_code)


def _print_error(message: str) -> None:
    if message:
        print(message, file=sys.stderr, flush=True)


def _rank_prefix() -> str:
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
        handler.setFormatter(
            logging.Formatter(f"%(asctime)s {_rank_prefix()}%(message)s", datefmt="%H:%M:%S")
        )
        package.addHandler(handler)
        package.setLevel(logging.INFO if rank() == 0 else logging.WARNING)
        package.propagate = False
    # A script's own `__name__` is "__main__", which would miss the package's handler.
    return package if name == "__main__" else package.getChild(name.removeprefix("vietst."))


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


def environment_record() -> dict[str, object]:
    """What a run was made with: versions, commit, hardware, processes.

    Holds no path, host name, user name, command line or environment variable, since the record is published
    with the model.
    """
    import torch

    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": package_versions(),
        "git_commit": _git_commit(),
        "cpu": _cpu_name(),
        "num_cpu_cores": os.cpu_count(),
        "gpus": [{"name": gpu.name, "memory_bytes": gpu.total_memory} for gpu in gpus],
        "cuda": torch.version.cuda,
        "rank": rank(),
        "world_size": world_size(),
    }


def package_versions() -> dict[str, str]:
    """The versions of what decides results: package → version, where it is installed."""
    import vietst

    versions = {"vietst": vietst.__version__}  # also when it runs from a checkout that was not installed
    for package in _RECORDED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.setdefault(package, metadata.version(package))
    return versions


def _git_commit() -> str | None:
    """The commit of the checkout this package runs from, with `-dirty` if files differ from it, or None."""
    checkout = Path(__file__).resolve().parents[1]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _cpu_name() -> str:
    """The processor's marketing name where the system tells it, else its architecture."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def has_gpu() -> bool:
    """Whether PyTorch sees a GPU that it can train on."""
    import torch

    return torch.cuda.is_available()


def base_model_at_hand(model_name: str, *, timeout_s: float = 5.0) -> tuple[bool, str]:
    """Whether a base model can be loaded here: a folder, in the Hub cache, or from a Hub that answers.

    Honours `HF_HUB_OFFLINE`, `HF_ENDPOINT` and `HF_HOME` as huggingface_hub does. Returns the answer and its
    reason, in words for the user.
    """
    if Path(model_name).is_dir():
        return True, f"{model_name} is a folder"
    from huggingface_hub import constants, try_to_load_from_cache

    weights = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json")
    if isinstance(try_to_load_from_cache(model_name, "config.json"), str) and any(
        isinstance(try_to_load_from_cache(model_name, file), str) for file in weights
    ):
        return True, f"{model_name} is in the local cache"
    if constants.HF_HUB_OFFLINE:
        return False, f"{model_name} is not in the local cache, and HF_HUB_OFFLINE is set"
    return _answers(f"{constants.ENDPOINT}/{model_name}/resolve/main/config.json", timeout_s)


def _answers(url: str, timeout_s: float) -> tuple[bool, str]:
    from urllib.error import URLError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(url, method="HEAD"), timeout=timeout_s):
            return True, f"{without_credentials(url)} answers"
    except (URLError, OSError, ValueError) as error:
        return False, f"{without_credentials(url)} does not answer ({getattr(error, 'reason', error)})"
