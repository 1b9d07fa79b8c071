"""Is everything there that vietst needs on this machine?"""

import importlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final

from vietst.doctor.findings import Finding, run_checks

CHECKS: Final = {
    "Python": "packages.check_python",
    "packages": "packages.check_packages",
    "extras": "packages.check_extras",
    "PyTorch": "devices.check_torch",
    "folders": "disks.check_folders",
    "Hugging Face cache": "disks.check_hugging_face_cache",
    "shared memory": "disks.check_shared_memory",
    "soundfile, soxr": "sound.check_soundfile",
    "ffmpeg's libraries (av)": "sound.check_ffmpeg",
    "espeak-ng": "sound.check_espeak",
    "DeepSpeed": "training_tools.check_deepspeed",
    "bitsandbytes": "training_tools.check_bitsandbytes",
    "data workers": "training_tools.check_data_workers",
    "Hub": "hub_account.check_hub",
}
"""Subject → module and function below `vietst.doctor`."""


def check_installation() -> Iterator[Finding]:
    """The findings of all checks, as they come."""
    return run_checks({subject: partial(_check, function) for subject, function in CHECKS.items()})


def _check(function: str) -> Iterable[Finding]:
    """Import a check only now: what it needs may be what is broken."""
    module, _, name = function.partition(".")
    findings: Iterable[Finding] = getattr(importlib.import_module(f"vietst.doctor.{module}"), name)()
    return findings
