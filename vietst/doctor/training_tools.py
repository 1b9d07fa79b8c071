"""What only training needs: DeepSpeed, the 8-bit optimizers, processes that load data."""

import sys
from collections.abc import Iterator
from importlib import util
from typing import Any

from vietst.doctor.findings import Finding, Status
from vietst.doctor.fresh_process import run_in_fresh_process

_IMPORT_TIMEOUT_S = 120
_WORKERS_TIMEOUT_S = 120


def check_deepspeed() -> Iterator[Finding]:
    if sys.platform != "linux":
        yield Finding(Status.OK, "DeepSpeed", "not for this system: train with ddp, fsdp2 or one process")
        return
    works, said = run_in_fresh_process(
        "import deepspeed; print(deepspeed.__version__)", timeout_s=_IMPORT_TIMEOUT_S
    )
    if works:
        yield Finding(Status.OK, "DeepSpeed", said)
    else:
        yield Finding(
            Status.WARNING,
            "DeepSpeed",
            f"cannot be imported: {said}",
            "mend it before training with h100x8, h100x8_zero3 or h100x16; ddp and fsdp2 do not need it",
        )


def check_bitsandbytes() -> Iterator[Finding]:
    if util.find_spec("bitsandbytes") is None:
        yield Finding(Status.OK, "bitsandbytes", "not installed: AdamW in 8 bits cannot be chosen")
        return
    works, said = run_in_fresh_process(
        "import bitsandbytes; print(bitsandbytes.__version__)", timeout_s=_IMPORT_TIMEOUT_S
    )
    if works:
        yield Finding(Status.OK, "bitsandbytes", said)
    else:
        yield Finding(
            Status.MEND,
            "bitsandbytes",
            f"installed, but cannot be imported: {said}",
            "pip uninstall bitsandbytes, or install one that fits: peft imports it wherever it is",
        )


class _Numbers:
    """A data set that travels to a worker, whose batches travel back through shared memory."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        import torch

        return torch.full((1 << 20,), float(index))


def check_data_workers() -> Iterator[Finding]:
    """Start workers as Windows and macOS do: that fails where the main module cannot be imported again."""
    from torch.utils.data import DataLoader

    loader: DataLoader[Any] = DataLoader(
        _Numbers(),  # type: ignore[arg-type]
        batch_size=2,
        num_workers=1,
        multiprocessing_context="spawn",
        timeout=_WORKERS_TIMEOUT_S,
    )
    sums = [float(batch.sum()) for batch in loader]
    if sums == [float(1 << 20), 5.0 * (1 << 20)]:
        yield Finding(Status.OK, "data workers", "start, and hand over batches")
    else:
        yield Finding(
            Status.MEND, "data workers", f"hand over wrong batches: {sums}", "set dataloader.num_workers=0"
        )
