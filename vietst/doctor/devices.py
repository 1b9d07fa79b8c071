"""PyTorch's build, the driver and the GPUs: do they fit together, and what can they compute?"""

import os
import shutil
import subprocess
from collections.abc import Iterator

from vietst.doctor.findings import Finding, Status

SMALL_GPU_BYTES = int(3.5e9)
"""A GPU that is sold with 4 GB has about this much at least; the shipped dev configurations need that."""


def check_torch() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        build = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
        yield Finding(Status.OK, "PyTorch", f"{torch.__version__}, {build}")
        for index in range(torch.cuda.device_count()):
            yield from check_gpu(index)
    elif torch.backends.mps.is_available():
        yield Finding(Status.OK, "PyTorch", f"{torch.__version__}, Apple GPU")
    else:
        yield without_gpu(torch.version.cuda, nvidia_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def nvidia_gpus() -> list[str]:
    """Names and driver versions, as `nvidia-smi` tells them; empty without a GPU or a driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return answer.stdout.strip().splitlines() if answer.returncode == 0 else []


def without_gpu(cuda_build: str | None, gpus: list[str], visible_devices: str | None) -> Finding:
    """Why PyTorch sees no GPU.

    Args:
        cuda_build: CUDA version that PyTorch was built for; None: a CPU build.
        gpus: what the driver tells.
        visible_devices: the environment variable CUDA_VISIBLE_DEVICES; None: not set.
    """
    if not gpus and cuda_build is None:
        return Finding(Status.OK, "PyTorch", "CPU build, and no NVIDIA GPU")
    if not gpus:
        return Finding(
            Status.WARNING,
            "PyTorch",
            f"built for CUDA {cuda_build}, but no NVIDIA driver answers: everything runs on the CPU",
            "where there is a GPU, install NVIDIA's driver (nvidia-smi must list it); where there is none, "
            "nothing: only the installation is larger than it has to be",
        )
    if cuda_build is None:
        return Finding(
            Status.MEND,
            "PyTorch",
            f"a CPU build, which does not use {gpus[0]}",
            "python scripts/setup_environment.py installs the build for this GPU; by hand: the command that "
            "pytorch.org gives for CUDA",
        )
    if visible_devices is not None:
        return Finding(
            Status.WARNING,
            "PyTorch",
            f"sees none of {len(gpus)} GPUs: CUDA_VISIBLE_DEVICES={visible_devices!r} hides them",
            "unset CUDA_VISIBLE_DEVICES, or name GPUs in it that exist",
        )
    return Finding(
        Status.MEND,
        "PyTorch",
        f"built for CUDA {cuda_build}, cannot use {gpus[0]}",
        "update NVIDIA's driver (and restart the machine), or install a build of PyTorch for an older CUDA",
    )


def check_gpu(index: int) -> Iterator[Finding]:
    """Does it compute, in which precisions, and how much memory is there?"""
    import torch

    device = torch.device("cuda", index)
    gpu = torch.cuda.get_device_properties(index)
    subject = f"GPU {index}"
    try:
        ones = torch.ones(16, 16, device=device)
        result = (ones @ ones).sum().item()
    except torch.OutOfMemoryError:
        yield Finding(
            Status.MEND,
            subject,
            f"{gpu.name} has no memory free",
            "nvidia-smi shows the processes that hold it: end them, or wait",
        )
        return
    except RuntimeError as error:
        yield Finding(
            Status.MEND,
            subject,
            f"{gpu.name} does not compute: {str(error).splitlines()[0]}",
            f"install a build of PyTorch for compute capability {gpu.major}.{gpu.minor}; this one is for "
            f"{' '.join(torch.cuda.get_arch_list())}",
        )
        return
    if result != 16**3:
        yield Finding(Status.MEND, subject, f"{gpu.name} computes wrongly", "have the hardware checked")
        return
    free_bytes, total_bytes = torch.cuda.mem_get_info(index)
    found = (
        f"{gpu.name}, compute capability {gpu.major}.{gpu.minor}, {total_bytes / 1e9:.1f} GB, "
        f"of which {free_bytes / 1e9:.1f} GB free"
    )
    if total_bytes < SMALL_GPU_BYTES:
        yield Finding(
            Status.WARNING, subject, found, "see what fits: python scripts/plan_memory.py --memory_gb …"
        )
    elif free_bytes < total_bytes / 2:
        yield Finding(Status.WARNING, subject, found, "nvidia-smi shows the processes that hold the memory")
    else:
        yield Finding(Status.OK, subject, found)
    with torch.cuda.device(index):
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    if has_bf16:
        yield Finding(Status.OK, f"{subject}, bf16", "yes")
    else:
        yield Finding(
            Status.WARNING,
            f"{subject}, bf16",
            "no (compute capability 8.0 and above have it)",
            "train with training.bf16=false training.fp16=true",
        )
