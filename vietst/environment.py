"""What a run is made with: the versions, the commit and the hardware that it records.

Nothing heavy is imported at module level, so a script's `--help` and its argument errors stay instant.
"""

import contextlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Final

from vietst.runtime import rank, world_size

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


def environment_record() -> dict[str, object]:
    """What a run was made with: versions, commit, hardware, processes.

    Holds no path, host name, user name, command line or environment variable, since the record is published
    with the model.
    """
    import torch

    # Where the driver is too old for PyTorch's build, GPUs are counted that cannot be asked for anything.
    num_gpus = torch.cuda.device_count() if has_gpu() else 0
    gpus = [torch.cuda.get_device_properties(index) for index in range(num_gpus)]
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
