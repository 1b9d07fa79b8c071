"""Who logs, how chance is seeded, what memory is kept."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.run_main import run_main
from vietst.audit import measuring
from vietst.data import shard_processes
from vietst.runtime import get_logger, set_seed


def test_only_rank_0_logs_information() -> None:
    body = (
        "from vietst.runtime import warn_once\nlog = get_logger('vietst.training.x')\n"
        "log.info('progress')\nlog.warning('trouble')\nwarn_once(log, 'trouble of %s', 'all')"
    )
    first, second = (run_main(body, RANK=rank, WORLD_SIZE="2") for rank in ("0", "1"))
    assert "progress" in first.stderr
    assert "progress" not in second.stderr
    assert "rank 1 of 2: trouble" in second.stderr
    assert "trouble of all" in first.stderr
    assert "trouble of all" not in second.stderr


@pytest.mark.parametrize(
    "open_pool",
    [
        lambda: measuring._in_processes(iter(()), 200),
        lambda: shard_processes._write_in_processes(iter(()), 200, ()),
    ],
    ids=["audit", "features"],
)
def test_machines_of_many_cores_get_no_larger_pool_than_windows_has(
    open_pool: Callable[[], Iterator[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The executor itself refuses more there. Without a job it starts no process."""
    import datasets  # noqa: F401 - here, for it looks which system it is imported on

    monkeypatch.setattr("sys.platform", "win32")
    assert list(open_pool()) == []


def test_log_lines_do_not_break_a_progress_bar() -> None:
    body = (
        "import sys\nfrom tqdm import tqdm\n"
        "with tqdm(total=2, file=sys.stderr, mininterval=0) as bar:\n"
        "    bar.update()\n    get_logger('vietst.x').info('between')\n    bar.update()"
    )
    answer = run_main(body)
    assert re.search(r"(^|\r *\r)\d\d:\d\d:\d\d between\n", answer.stderr, re.MULTILINE)


def test_loggers_of_modules_and_of_scripts_share_one_handler() -> None:
    assert get_logger("vietst.data.manifest").name == "vietst.data.manifest"
    assert get_logger("__main__").name == "vietst"
    ours = [
        handler
        for handler in get_logger("__main__").handlers
        if type(handler).__module__ == "vietst.runtime"  # pytest adds its own
    ]
    assert len(ours) == 1


def test_the_same_seed_gives_the_same_numbers() -> None:
    import random

    import numpy as np
    import torch

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    set_seed(3)
    first = draw()
    set_seed(3)
    assert draw() == first
    set_seed(4)
    assert draw() != first


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries keep memory by rules of their own"
)
def test_kept_memory_costs_no_page_faults() -> None:
    program = """
import resource
import numpy as np
from vietst.runtime import keep_freed_memory

def num_page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(1 << 20, np.uint8) for _ in range(32)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

num_page_faults()
given_back = num_page_faults()
keep_freed_memory()
num_page_faults()
print(given_back, num_page_faults())
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    given_back, kept = map(int, answer.stdout.split())
    assert 10 * kept < given_back
