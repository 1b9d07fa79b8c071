"""One command tells what fits: all published models, from configurations alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vietst.models.published_sizes import WAV2VEC2, WHISPER
from vietst.training.memory_plan import GIBIBYTE, MemoryPlan, PartSize
from vietst.training.memory_steps import Workload
from vietst.training.memory_table import FINETUNING, format_table, table_entries

VERDICTS = ("fits", "tight", "does not fit")


def start(repo_root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(repo_root / "scripts" / "plan_memory.py"), *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=900,
    )


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_help_names_every_option(repo_root):
    shown = start(repo_root, "--help")
    assert shown.returncode == 0
    options = set(re.findall(r"--\w+", shown.stdout))
    assert {"--num_utterances", "--precision", "--optimizer", "--memory_gb"} <= options


def test_numbers_that_mean_nothing_are_refused(repo_root):
    for arguments in (
        ["--num_utterances", "0"],
        ["--num_label_tokens", "1000"],
        ["--duration_s", "nan"],
        ["--memory_gb", "0"],
        ["--optimizer", "sgd"],
    ):
        refused = start(repo_root, *arguments)
        assert refused.returncode == 2
        assert arguments[0] in refused.stderr


def test_every_model_and_way_of_finetuning_has_a_line():
    entries = table_entries(Workload(), 25_000)
    assert len(entries) == (len(WHISPER) + 2 * len(WAV2VEC2)) * len(FINETUNING)
    assert len({(entry.model, entry.vocabulary, entry.finetuning) for entry in entries}) == len(entries)


def test_the_table_says_what_fits():
    entries = table_entries(Workload(), 25_000)[:2]
    plans = [
        MemoryPlan((PartSize("decoder", 2_000_000, 500_000),), (("weights", size * GIBIBYTE),), (), ())
        for size in (3, 15)
    ]
    lines = format_table(entries, plans, [4, 16]).splitlines()
    assert cells(lines[0])[-2:] == ["in 4 GB", "in 16 GB"]
    assert cells(lines[2]) == ["openai/whisper-tiny", "–", "full", "2.0", "2.5", "3.00", "fits", "fits"]
    assert cells(lines[3])[-3:] == ["15.00", "does not fit", "tight"]


@pytest.mark.slow
def test_the_whole_table_comes_from_configurations_alone(repo_root):
    """The largest planned model alone would take 6 GB of weights."""
    import resource

    printed = start(repo_root, "--memory_gb", "4", "16", "80")
    assert printed.returncode == 0, printed.stderr[-2000:]
    lines = [cells(line) for line in printed.stdout.splitlines()]
    table = {tuple(line[:3]): line[3:] for line in lines[2:]}
    assert len(table) == len(table_entries(Workload(), 25_000))
    assert all(cell in VERDICTS for line in table.values() for cell in line[-3:])
    sizes_gb = {key: float(line[2]) for key, line in table.items()}
    for (model, vocabulary, finetuning), size_gb in sizes_gb.items():
        assert size_gb <= sizes_gb[model, vocabulary, "full"]
        if vocabulary == "25,000":
            assert size_gb < sizes_gb[model, "full", finetuning]
    base = "facebook/wav2vec2-base + mBART-50"
    assert table[base, "full", "frozen encoder"][-3] == "does not fit"  # the guide's development setting
    assert table[base, "25,000", "LoRA, rank 32"][-3] == "fits"
    peak_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    assert sys.platform != "linux" or peak_bytes < 2 * GIBIBYTE
