"""Batches that workers share by name arrive as they are, and no training that is killed leaves any behind."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, Dataset

from tests.patience import HANGS_AFTER_S
from vietst.training.batch_sharing import share_batches_by_name

LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyTorch has one way to share")


class Numbers(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((1000,), index)


def strategy_beside(tensors: list[torch.Tensor]) -> tuple[str, torch.Tensor]:
    return torch.multiprocessing.get_sharing_strategy(), torch.stack(tensors)


STARTED = []


def note_start(worker_id: int) -> None:
    torch.manual_seed(1000 + worker_id)
    STARTED.append(torch.initial_seed())


def seed_of_worker(tensors: list[torch.Tensor]) -> list[int]:
    return STARTED


def loader(**settings):
    return prepare_data_loader(
        DataLoader(Numbers(), batch_size=4, num_workers=1, **settings), put_on_device=False
    )


@LINUX_ONLY
def test_batches_arrive_by_name_and_are_what_they_were():
    by_name = loader(collate_fn=strategy_beside)
    share_batches_by_name(by_name)
    batches = list(by_name)
    assert {strategy for strategy, _ in batches} == {"file_system"}
    assert {strategy for strategy, _ in loader(collate_fn=strategy_beside)} == {"file_descriptor"}
    assert torch.equal(torch.cat([numbers[:, 0] for _, numbers in batches]), torch.arange(40))
    assert torch.multiprocessing.get_sharing_strategy() == "file_descriptor", "of this process"


def test_what_a_worker_does_when_it_starts_is_done_too():
    by_name = loader(collate_fn=seed_of_worker, worker_init_fn=note_start)
    share_batches_by_name(by_name)
    assert next(iter(by_name)) == [1000]


def iterate_until_killed() -> None:
    by_name = loader(collate_fn=strategy_beside, persistent_workers=True, prefetch_factor=4)
    share_batches_by_name(by_name)
    iterator = iter(by_name)
    held = next(iterator)
    (worker,) = torch.multiprocessing.active_children()
    print(worker.pid, flush=True)
    time.sleep(HANGS_AFTER_S)
    del held


@LINUX_ONLY
def test_a_training_that_is_killed_leaves_no_memory_behind():
    command = [
        sys.executable,
        "-c",
        "from tests.training import test_batch_sharing as test; test.iterate_until_killed()",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pattern = f"torch_{int(process.stdout.readline())}_*"
        deadline = time.monotonic() + HANGS_AFTER_S
        shared = Path("/dev/shm")
        assert list(shared.glob(pattern)), "the batches that were made in advance"
        process.kill()
    while list(shared.glob(pattern)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not list(shared.glob(pattern))
