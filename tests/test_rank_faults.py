"""An error in one of several processes ends them all at once, and is said once.

The processes here are started by hand, with the store that a launcher would keep. There is no launcher that
would end them, as there is none for the processes of another machine.
"""

import os
import re
import socket
import subprocess
import sys
import time

import pytest
from torch.distributed import TCPStore

USER_ERROR = (
    "from vietst.errors import ConfigError as E; raise E(where='here', rule='one', found='two', do='three')"
)
JOIN = "torch.distributed.init_process_group('gloo')"


@pytest.fixture
def store() -> TCPStore:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)


def run_ranks(
    store: TCPStore, *bodies: str, num_machines: int = 1
) -> tuple[list[subprocess.CompletedProcess[str]], float]:
    """One process for each body of a `main`; how they ended, and how many seconds after a body's mark.

    A body marks the moment of its fault by `fault()`.
    """
    processes = []
    for rank, body in enumerate(bodies):
        indented = "\n".join(f"    {line}" for line in body.splitlines())
        program = (
            "import os, signal, sys, time, torch\nfrom vietst import rank_faults\n"
            "from vietst.runtime import run_script\n"
            "def fault():\n    print('fault at', time.time(), flush=True)\n"
            f"def main():\n    rank_faults.watch()\n{indented}\nrun_script(main)"
        )
        machine, local = (rank, 0) if num_machines > 1 else (0, rank)
        environment = {
            "RANK": str(rank),
            "WORLD_SIZE": str(len(bodies)),
            "LOCAL_RANK": str(local),
            "GROUP_RANK": str(machine),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", program],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, **environment},
            )
        )
    ended = []
    for process in processes:
        out, err = process.communicate(timeout=90)
        ended.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    all_output = "".join(one.stdout for one in ended)
    marks = [float(text) for text in re.findall(r"fault at ([\d.]+)", all_output)]
    return ended, time.time() - min(marks)


def test_a_users_mistake_on_one_rank_ends_another_that_waits_for_it(store):
    (first, second), seconds = run_ranks(
        store,
        f"{JOIN}\ntorch.distributed.barrier()",
        f"{JOIN}\nfault()\n{USER_ERROR}",
    )
    assert first.stderr == ""
    assert second.stderr == "error: rank 1 of 2: here\n  rule:  one\n  found: two\n  do:    three\n"
    assert (first.returncode, second.returncode) == (2, 2)
    assert seconds < 20


def test_a_programs_fault_keeps_the_traceback_of_its_rank_alone(store):
    (first, second), seconds = run_ranks(
        store,
        f"{JOIN}\nfault()\n[][0]",
        f"{JOIN}\ntorch.distributed.all_reduce(torch.ones(1))",
    )
    assert first.stderr.count("Traceback") == 1
    assert first.stderr.endswith("IndexError: list index out of range\n")
    assert second.stderr == ""
    assert (first.returncode, second.returncode) == (1, 1)
    assert seconds < 20


def test_another_machine_hears_of_a_fault_before_there_is_a_process_group(store):
    """No launcher and no broken connection would tell it there; a process may also be deaf to SIGTERM."""
    (first, second), seconds = run_ranks(
        store,
        f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{JOIN}",
        f"fault()\n{USER_ERROR}",
        num_machines=2,
    )
    assert first.stderr.startswith("stopped by rank 1, on another machine:\nerror: rank 1 of 2: here\n")
    assert second.stderr.count("error: rank 1 of 2: here") == 1
    assert (first.returncode, second.returncode) == (2, 2)
    assert seconds < 20


def test_what_all_ranks_meet_is_said_by_rank_0(store):
    ended, seconds = run_ranks(store, *[f"fault()\n{USER_ERROR}"] * 3)
    assert [one.stderr.count("error: here") for one in ended] == [1, 0, 0]
    assert not "".join(one.stderr for one in ended[1:])
    assert [one.returncode for one in ended] == [2, 2, 2]
    assert seconds < 20


def test_a_rank_that_is_killed_leaves_a_word_about_a_process_that_has_gone(store):
    (first, second), seconds = run_ranks(
        store,
        f"{JOIN}\ntorch.distributed.barrier()",
        f"{JOIN}\nfault()\nos.kill(os.getpid(), signal.SIGKILL)",
    )
    assert first.stderr.startswith("error: another process has ended without a word; its launcher says how\n")
    assert "Traceback" not in first.stderr
    assert first.returncode == 1
    assert second.returncode != 0
    assert seconds < 30


def test_ranks_that_finish_at_different_times_end_in_peace(store):
    ended, _ = run_ranks(store, f"{JOIN}\nfault()\ntime.sleep(2)", JOIN)
    assert [(one.returncode, one.stderr) for one in ended] == [(0, ""), (0, "")]


def test_an_error_inside_a_dataloaders_worker_process_is_the_users_message(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from torch.utils.data import DataLoader, Dataset\n"
        "from vietst.errors import FeatureCacheError\n"
        "from vietst.runtime import run_script\n"
        "class Rows(Dataset):\n"
        "    def __len__(self):\n        return 1\n"
        "    def __getitem__(self, index):\n"
        "        try:\n            [][0]\n"
        "        except IndexError as error:\n"
        "            raise FeatureCacheError(where='a\\nb', rule='one', found='two', do='three') from error\n"
        "def main():\n    list(DataLoader(Rows(), num_workers=1))\n"
        "if __name__ == '__main__':\n    run_script(main)\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr == "error: a\nb\n  rule:  one\n  found: two\n  do:    three\n"
