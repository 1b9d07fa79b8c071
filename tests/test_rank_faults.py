"""An error in one of several processes ends them all at once, and is said once.

The processes here are started by hand, with the store that a launcher would keep. There is no launcher that
would end them, as there is none for the processes of another machine.
"""

import os
import subprocess
import sys

import pytest
from torch.distributed import TCPStore

from tests.patience import HANGS_AFTER_S

USER_ERROR = (
    "from vietst.errors import ConfigError as E; raise E(where='here', rule='one', found='two', do='three')"
)
JOIN = "torch.distributed.init_process_group('gloo')"


@pytest.fixture
def store() -> TCPStore:
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def run_ranks(store: TCPStore, *bodies: str, num_machines: int = 1) -> list[subprocess.CompletedProcess[str]]:
    """One process for each body of a `main`, and how they ended.

    A process that waits for another one would do so for half an hour: that is a test that fails.
    """
    processes = []
    for rank, body in enumerate(bodies):
        indented = "\n".join(f"    {line}" for line in body.splitlines())
        program = (
            "import os, signal, sys, time, torch\nfrom vietst import rank_faults\n"
            "from vietst.script_end import run_script\n"
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
        out, err = process.communicate(timeout=HANGS_AFTER_S)
        ended.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    return ended


def test_a_users_mistake_on_one_rank_ends_another_that_waits_for_it(store):
    first, second = run_ranks(
        store,
        f"{JOIN}\ntorch.distributed.barrier()",
        f"{JOIN}\n{USER_ERROR}",
    )
    assert first.stderr == ""
    assert second.stderr == "error: rank 1 of 2: here\n  rule:  one\n  found: two\n  do:    three\n"
    assert (first.returncode, second.returncode) == (2, 2)


def test_a_programs_fault_keeps_the_traceback_of_its_rank_alone(store):
    first, second = run_ranks(
        store,
        f"{JOIN}\n[][0]",
        f"{JOIN}\ntorch.distributed.all_reduce(torch.ones(1))",
    )
    assert first.stderr.count("Traceback") == 1
    assert first.stderr.endswith("IndexError: list index out of range\n")
    assert second.stderr == ""
    assert (first.returncode, second.returncode) == (1, 1)


def test_another_machine_hears_of_a_fault_before_there_is_a_process_group(store):
    """No launcher and no broken connection would tell it there; a process may also be deaf to SIGTERM."""
    first, second = run_ranks(
        store,
        f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{JOIN}",
        USER_ERROR,
        num_machines=2,
    )
    assert first.stderr.startswith("stopped by rank 1, on another machine:\nerror: rank 1 of 2: here\n")
    assert second.stderr.count("error: rank 1 of 2: here") == 1
    assert (first.returncode, second.returncode) == (2, 2)


def test_what_all_ranks_meet_is_said_by_rank_0(store):
    waits_for_rank_0 = f"rank_faults._RANK_0_LEADS_S = {HANGS_AFTER_S}"  # however late that one is
    ended = run_ranks(store, *[f"{waits_for_rank_0}\n{USER_ERROR}"] * 3)
    assert [one.stderr.count("error: here") for one in ended] == [1, 0, 0]
    assert not "".join(one.stderr for one in ended[1:])
    assert [one.returncode for one in ended] == [2, 2, 2]


def test_a_rank_that_is_killed_leaves_a_word_about_a_process_that_has_gone(store):
    first, second = run_ranks(
        store,
        f"{JOIN}\ntorch.distributed.barrier()",
        f"{JOIN}\nos.kill(os.getpid(), signal.SIGKILL)",
    )
    assert first.stderr.startswith("error: another process has ended without a word; its launcher says how\n")
    assert "Traceback" not in first.stderr
    assert first.returncode == 1
    assert second.returncode != 0


def test_ranks_that_finish_at_different_times_end_in_peace(store):
    ended = run_ranks(store, f"{JOIN}\ntime.sleep(2)", JOIN)
    assert [(one.returncode, one.stderr) for one in ended] == [(0, ""), (0, "")]


def test_an_error_inside_a_dataloaders_worker_process_is_the_users_message(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from torch.utils.data import DataLoader, Dataset\n"
        "from vietst.errors import FeatureCacheError\n"
        "from vietst.script_end import run_script\n"
        "class Rows(Dataset):\n"
        "    def __len__(self):\n        return 1\n"
        "    def __getitem__(self, index):\n"
        "        try:\n            [][0]\n"
        "        except IndexError as error:\n"
        "            raise FeatureCacheError(where='a\\nb', rule='one', found='two', do='three') from error\n"
        "def main():\n    list(DataLoader(Rows(), num_workers=1))\n"
        "if __name__ == '__main__':\n    run_script(main)\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=HANGS_AFTER_S)
    assert ended.returncode == 2
    assert ended.stderr == "error: a\nb\n  rule:  one\n  found: two\n  do:    three\n"
