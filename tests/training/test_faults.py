"""A fault of one rank ends a run of the real script on all of them, and is said once."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.patience import HANGS_AFTER_S
from tests.ports import free_port
from tests.tiny_runs import tiny_run_overrides
from tests.training.damage import damaged_copy
from tests.training.known_batches import BY_SECONDS, ids_of_batches


class Launch:
    """`accelerate launch` of the real script, which says `fault`."""

    def __init__(
        self,
        repo_root: Path,
        fault: str,
        *arguments: str,
        launcher: tuple[str, ...] = (),
        script: str = "scripts/train_whisper.py",
    ) -> None:
        self.fault, self.stderr = fault, ""
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "accelerate.commands.launch"),
                *("--config_file", str(repo_root / "accelerate_configs" / "cpu_x2.yaml"), *launcher),
                *(str(repo_root / script), "--config", "nano_whisper", *arguments),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(repo_root)},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            self.stderr += line

    def end(self) -> None:
        """Wait for the launcher. A rank that waits for another one would do so for half an hour."""
        assert self.process.wait(timeout=HANGS_AFTER_S) != 0
        self._reader.join()
        self.process.stderr.close()
        assert self.fault in self.stderr

    @property
    def ours(self) -> str:
        """What the ranks have said, without the launcher's own report."""
        return re.split(r"(?m)^[EW]\d{4} .*torch/distributed/elastic", self.stderr)[0]


@pytest.mark.slow
def test_a_row_that_only_rank_1_meets_and_cannot_read(repo_root, tiny_corpus, tmp_path):
    """Its worker process finds it, while rank 0 waits in a collective."""
    broken = ids_of_batches(tiny_corpus, num_processes=2)[3][0]
    features = damaged_copy(
        tiny_corpus,
        tmp_path / "features",
        lambda row: {**row, "features": row["features"][:-6]},
        {broken},
    )
    launch = Launch(
        repo_root,
        broken,
        *tiny_run_overrides(tiny_corpus, tmp_path),
        *BY_SECONDS,
        f"paths.features_dir={features.as_posix()}",
        "dataloader.num_workers=1",
    )
    launch.end()
    assert launch.ours.count(f"error: rank 1 of 2: features of utterance {broken}\n  rule:") == 1
    assert "Traceback" not in launch.ours


@pytest.mark.slow
def test_a_rank_that_runs_out_of_memory_while_the_other_averages_gradients(repo_root, tiny_corpus, tmp_path):
    launch = Launch(
        repo_root,
        "error: ",
        *tiny_run_overrides(tiny_corpus, tmp_path),
        script="tests/training/failing_run.py",
    )
    launch.end()
    assert launch.ours.count("error: rank 1 of 2: memory of the machine\n  rule:") == 1
    assert launch.ours.count("a lower training.batch_size (now 4)") == 1
    assert "Traceback" not in launch.ours


@pytest.mark.slow
def test_a_shard_that_only_the_second_machine_cannot_read(repo_root, tiny_corpus, tmp_path):
    """Each machine has a launcher of its own, which learns nothing of the other's processes."""
    features = damaged_copy(tiny_corpus, tmp_path / "features", lambda row: row, set())
    shard = next(features.glob("log_mel*/train/*.arrow"))
    os.truncate(shard, shard.stat().st_size // 2)
    port = free_port()
    machines = [
        Launch(
            repo_root,
            "error: ",
            *tiny_run_overrides(tiny_corpus, tmp_path),
            f"paths.features_dir={folder.as_posix()}",
            launcher=(
                *("--num_machines", "2", "--machine_rank", str(number)),
                *("--main_process_ip", "127.0.0.1", "--main_process_port", str(port)),
            ),
        )
        for number, folder in enumerate((tiny_corpus / "data" / "features", features))
    ]
    for machine in machines:
        machine.end()
    message = f"error: rank 1 of 2: {shard}\n"
    assert [machine.ours.count(message) for machine in machines] == [1, 1]
    assert machines[0].ours.count("stopped by rank 1, on another machine:\n" + message) == 1
    assert not any("Traceback" in machine.ours for machine in machines)
