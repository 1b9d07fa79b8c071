"""Is everything there that vietst needs on this machine?"""

from collections.abc import Iterator

from vietst.doctor.devices import check_torch
from vietst.doctor.disks import check_folders, check_shared_memory
from vietst.doctor.findings import Check, Finding, run_checks
from vietst.doctor.hub_account import check_hub
from vietst.doctor.packages import check_extras, check_packages, check_python
from vietst.doctor.sound import check_espeak, check_ffmpeg, check_soundfile
from vietst.doctor.training_tools import check_bitsandbytes, check_data_workers, check_deepspeed

CHECKS: dict[str, Check] = {
    "Python": check_python,
    "packages": check_packages,
    "extras": check_extras,
    "PyTorch": check_torch,
    "folders": check_folders,
    "shared memory": check_shared_memory,
    "soundfile, soxr": check_soundfile,
    "ffmpeg's libraries (av)": check_ffmpeg,
    "espeak-ng": check_espeak,
    "DeepSpeed": check_deepspeed,
    "bitsandbytes": check_bitsandbytes,
    "data workers": check_data_workers,
    "Hub": check_hub,
}


def check_installation() -> Iterator[Finding]:
    """The findings of all checks, as they come."""
    return run_checks(CHECKS)
