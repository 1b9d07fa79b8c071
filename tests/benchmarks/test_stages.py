"""The table of all stages: every stage runs by itself, and what one measured is told beside the others."""

import argparse
import importlib
import inspect
from pathlib import Path

import pytest

from vietst.benchmarks.results import Bar, add_result, describe_bars, last_bars
from vietst.benchmarks.stages import STAGES, add_parsers, run_table

SCRIPT = """
import pathlib, sys
from vietst.benchmarks.results import Bar, add_result
_, _, output_dir, stage, *rest = sys.argv
if stage == "start":
    sys.exit(2)
bars = [Bar(f"{stage} {' '.join(rest)}", measured, 1.5, at_least=True) for measured in (1.0, 2.0)]
add_result(pathlib.Path(output_dir), stage, {}, bars, description=f"clips of {stage}: 2 s")
"""


@pytest.mark.parametrize("name", STAGES)
def test_options_are_what_the_stage_measures_with(name: str) -> None:
    stage = STAGES[name]
    module, function = stage.measure.split(".")
    measure = getattr(importlib.import_module(f"vietst.benchmarks.{module}"), function)
    parser = argparse.ArgumentParser()
    add_parsers(parser)
    options = vars(parser.parse_args([name, *stage.in_table]))
    assert options.pop("stage") == name
    parameters = inspect.signature(measure).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        inspect.signature(measure).bind(**options, **stage.fixed)


def test_a_stage_that_fails_leaves_the_others_in_the_table(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    table, failed = run_table(script, ["start", "long_form", "scaling"], tmp_path / "results")
    assert failed == ["start"]
    *lines, _ = [line.split() for line in table.splitlines()]
    assert [(line[0], line[-1]) for line in lines[1:]] == [
        ("long_form", "MISSED"),
        ("long_form", "met"),
        ("scaling", "MISSED"),
        ("scaling", "met"),
    ]
    assert "--speed_minutes 4" in table
    assert table.endswith(str(tmp_path / "results" / "table.md"))
    page = (tmp_path / "results" / "table.md").read_text(encoding="utf-8")
    assert table.rpartition("\n")[0] in page
    assert [line for line in page.splitlines() if line.startswith("## ")] == ["## long_form", "## scaling"]
    assert page.count("cores of") == 2
    assert "clips of scaling: 2 s" in page


def test_the_last_run_counts(tmp_path: Path) -> None:
    for measured in (3.0, 1.0):
        add_result(tmp_path, "stage", {}, [Bar("seconds", measured, 2.0, at_least=False)])
    (bar,) = last_bars(tmp_path, "stage")
    assert bar == Bar("seconds", 1.0, 2.0, at_least=False)
    assert bar.is_met
    assert describe_bars([("stage", bar)]).endswith("<= 2  met")
