"""One command tells what fits: all published models, from configurations alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vietst.models.published_sizes import WAV2VEC2, WHISPER
from vietst.training.memory_plan import GIBIBYTE, MemoryPlan, PartSize
from vietst.training.memory_steps import Workload
from vietst.training.memory_table import FINETUNING, format_table, table_entries

TELLS_ITS_PEAK = """
import atexit, runpy, sys
from vietst.training.throughput import peak_memory_bytes
atexit.register(lambda: print(peak_memory_bytes(), file=sys.stderr))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script, and tells what memory it took at most."""


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


def fixed_plan(size_gb: float) -> MemoryPlan:
    weights = (("weights", round(size_gb * GIBIBYTE)),)
    return MemoryPlan((PartSize("decoder", 2_000_000, 500_000),), weights, (), ())


def test_a_line_says_for_every_way_what_is_the_smallest_memory_that_it_fits():
    entries = table_entries(Workload(), 25_000)[: len(FINETUNING)]
    plans = [fixed_plan(size_gb) for size_gb in (3, 3.7, 15, 70, 100)]
    lines = format_table(entries, plans, [80, 4, 16]).splitlines()
    assert cells(lines[0]) == ["model", "vocabulary", "parameters, M", *FINETUNING]
    (line,) = lines[2:]
    sizes = ["3.0 (4)", "3.7 (16)", "15.0 (80)", "70.0 (80)", "100.0 (–)"]
    assert cells(line) == ["openai/whisper-tiny", "–", "2", *sizes]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there, the peak is that of the GPU")
def test_the_whole_table_comes_from_configurations_alone_and_stands_in_the_readme(repo_root, tmp_path):
    """The largest planned model alone would take 6 GB of weights."""
    script = str(repo_root / "scripts" / "plan_memory.py")
    planning = subprocess.run([sys.executable, "-c", TELLS_ITS_PEAK, script], capture_output=True, text=True)
    assert planning.returncode == 0, planning.stderr
    printed = planning.stdout
    readme = (repo_root / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("<!-- memory:begin -->\n")[2].partition("<!-- memory:end -->")[0]
    assert shown == printed
    lines = [cells(line) for line in printed.splitlines() if line.startswith("|")]
    columns = lines[0][3:]
    table = {tuple(line[:2]): dict(zip(columns, line[3:], strict=True)) for line in lines[2:]}
    assert len(table) == len(WHISPER) + 2 * len(WAV2VEC2)
    sizes_gb = {key: {way: float(cell.split()[0]) for way, cell in row.items()} for key, row in table.items()}
    for (model, vocabulary), row in sizes_gb.items():
        assert max(row.values()) == row["full"]
        if vocabulary == "25,000":
            assert all(row[way] < sizes_gb[model, "full"][way] for way in row)
    base = table["facebook/wav2vec2-base + mBART-50", "full"]
    assert "(4)" not in base["frozen encoder"], "the guide's development setting"
    assert "(4)" in table["facebook/wav2vec2-base + mBART-50", "25,000"]["LoRA, rank 32"]
    assert int(planning.stderr.split()[-1]) < 2 * GIBIBYTE
