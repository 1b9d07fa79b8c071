"""Make the virtual environment .venv and install the project in it, once for each state of its dependencies.

    python3 scripts/setup_environment.py [--dev]

The shell scripts call it with whatever Python >= 3.11 they find, so it needs the standard library only. The
versions are those of constraints.txt; which build of torch is taken depends on the machine (`torch_build`).
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

REPO_ROOT = Path(__file__).resolve().parents[1]
VENV = REPO_ROOT / ".venv"
STAMP = VENV / "vietst-installed.json"
PYTORCH_INDEX = "https://download.pytorch.org/whl"
OLDEST_PYTHON = (3, 11)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--dev", action="store_true", help="with what the tests need")
    return parser.parse_args()


def venv_python() -> Path:
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def dependency_digest() -> str:
    """Changes when anything that decides what is installed changes."""
    digest = hashlib.blake2b(digest_size=16)
    for name in ("setup.cfg", "pyproject.toml", "constraints.txt"):
        digest.update((REPO_ROOT / name).read_bytes())
    return digest.hexdigest()


def is_installed(digest: str, *, dev: bool, gpu: bool) -> bool:
    """Whether the environment serves: what was made beside a GPU does without one too, as on a login node."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    has_both = stamp["dev"] >= dev and stamp.get("gpu", False) >= gpu
    return stamp["digest"] == digest and has_both and runs(venv_python())


def runs(python: Path) -> bool:
    try:
        return subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0
    except OSError:
        return False


def newest_gpu() -> tuple[float, int] | None:
    """Compute capability (8.6: RTX 2050) and major version of the driver, as `nvidia-smi` tells them.

    None without a GPU or driver.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=compute_cap,driver_version", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True)
    gpus = re.findall(r"^\s*(\d+\.\d+),\s*(\d+)[.\d]*\s*$", answer.stdout, re.MULTILINE)
    return max((float(capability), int(driver)) for capability, driver in gpus) if gpus else None


def torch_build(system: str, gpu: tuple[float, int] | None) -> str | None:
    """The folder of PyTorch's own index to take torch from, or None: the package registry's build is right.

    On Windows the registry has a CPU build only. CUDA 12.6 runs on older drivers than 13.0 and knows GPUs up
    to Hopper (9.0); Blackwell (10.0 and above) needs 13.0. On Linux the registry's build is for CUDA 13.0,
    with several GB of its libraries that a machine without a GPU has no use for; 13.0 knows GPUs from Turing
    (7.5) on, not Volta (V100, 7.0) and Pascal, and wants driver 580.

    Args:
        gpu: from `newest_gpu`.
    """
    if gpu is None:
        return "cpu" if system == "Linux" else None
    capability, driver = gpu
    if system == "Windows":
        return "cu130" if capability >= 10 else "cu126"
    if system == "Linux" and (capability < 7.5 or (driver < 580 and capability < 10)):
        return "cu126"
    return None


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5):
            return True
    except (OSError, ValueError):
        return False


def torch_requirement() -> list[str]:
    """What pip is told about torch, besides the constraints."""
    found = newest_gpu()
    build = torch_build(platform.system(), found)
    gpu = "no NVIDIA GPU"
    if found is not None:
        gpu = f"NVIDIA GPU of compute capability {found[0]}, driver {found[1]}"
    if build is None:
        print(f"      {gpu}: torch as the package registry has it")
        return []
    index = f"{PYTORCH_INDEX}/{build}"
    if build == "cpu" and not answers(f"{index}/torch/"):
        # Without PyTorch's index the registry's build does as well; it is only larger.
        print(f"      {gpu}, and {index} does not answer: torch as the package registry has it")
        return []
    constraints = (REPO_ROOT / "constraints.txt").read_text(encoding="utf-8")
    version = re.search(r"^torch==(\S+)", constraints, re.MULTILINE)
    assert version is not None, "constraints.txt pins torch"
    print(f"      {gpu}: torch {version[1]}+{build} from {index}")
    return [f"torch=={version[1]}+{build}", "--extra-index-url", index]


def has_cpu_torch() -> bool:
    """Whether the environment holds the build for CPUs, which pip takes for any other of the same version."""
    program = "from importlib.metadata import version; print(version('torch'))"
    answer = subprocess.run([venv_python(), "-c", program], capture_output=True, text=True)
    return answer.stdout.strip().endswith("+cpu")


def install(*, dev: bool, gpu: bool) -> None:
    if not runs(venv_python()):
        print(f"      making {VENV.name} with Python {platform.python_version()}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    elif gpu and has_cpu_torch():
        subprocess.run([venv_python(), "-m", "pip", "uninstall", "--yes", "--quiet", "torch"], check=True)
    command = [str(venv_python()), "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["--quiet", "--progress-bar", "off", "-c", "constraints.txt", "-e", ".[dev]" if dev else "."]
    command += torch_requirement()
    print("      installing; the first time this downloads a few hundred MB", flush=True)
    subprocess.run(command, check=True, cwd=REPO_ROOT)


def main() -> int:
    arguments = parse_arguments()
    if sys.version_info < OLDEST_PYTHON:
        print(f"error: Python {'.'.join(map(str, OLDEST_PYTHON))} or newer is needed", file=sys.stderr)
        return 2
    digest, gpu = dependency_digest(), newest_gpu() is not None
    if is_installed(digest, dev=arguments.dev, gpu=gpu):
        print(f"      {VENV.name} is up to date")
        return 0
    STAMP.unlink(missing_ok=True)
    try:
        install(dev=arguments.dev, gpu=gpu)
    except (subprocess.CalledProcessError, OSError) as error:
        print(
            f"error: the installation stopped ({error}); its messages are above. Run it again, or delete "
            f"{VENV} first. On Debian and Ubuntu, `python3 -m venv` needs the package python3-venv.",
            file=sys.stderr,
        )
        return 2
    stamp = {"digest": digest, "dev": arguments.dev, "gpu": gpu}
    STAMP.write_text(json.dumps(stamp) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
