"""The benchmark's stages: what each measures, its options, and running them one by one or as a table."""

import argparse
import importlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from vietst.argument_types import not_negative, positive, positive_number

REPO_ROOT: Final = Path(__file__).resolve().parents[2]

_MANIFEST: Final = {
    "--manifest": {"type": Path, "default": Path("data/export/manifest_clean.tsv"), "help": "a cleaned one"},
    "--data_root": {"type": Path, "default": Path(), "help": "audio_path is relative to it"},
}
_WORK_DIR: Final = {"--work_dir": {"type": Path, "help": "for temporary files (the system's folder)"}}
_NUM_CLIPS: Final = {"--num_utterances": {"type": positive, "default": 2, "help": "clips in a batch"}}
_NUM_LABEL_TOKENS: Final = {
    "--num_label_tokens": {"type": positive, "default": 40, "help": "tokens of each target"}
}


def _number(
    option: str, default: float, description: str, *, may_be_0: bool = False
) -> dict[str, dict[str, Any]]:
    kind = positive_number if isinstance(default, float) else not_negative if may_be_0 else positive
    return {option: {"type": kind, "default": default, "help": f"{description} ({default})"}}


def _text(option: str, default: str, description: str) -> dict[str, dict[str, Any]]:
    return {option: {"default": default, "help": f"{description} ({default})"}}


def _overrides(config: str) -> dict[str, dict[str, Any]]:
    return {
        "overrides": {
            "nargs": "*",
            "metavar": "section.key=value",
            "help": f"changes to the configuration {config}",
        }
    }


_FAULTY_CORPUS: Final = {
    **_number("--corpus_seed", 3, "of the sample corpus", may_be_0=True),
    **_number("--fault_seed", 1, "of the choice of faulty rows", may_be_0=True),
    **_number("--num_utterances", 4000, "of the sample corpus"),
    **_number("--num_videos", 88, "that they come from"),
    **_number("--share", 0.05, "of the rows, for each kind of fault"),
    **_number("--num_proc", 1, "videos spoken, and trainings, at once"),
    "--work_dir": {"type": Path, "help": "keeps everything there (nothing is kept)"},
}


@dataclass(frozen=True)
class Stage:
    """One thing that is measured, by a module of this package.

    The module has the function `measure` names, `describe(results)`, and where there is a bar to meet
    `bars(results)`; where there is something to draw, `draw(results)` gives a figure.
    """

    help: str
    measure: str
    """Module and function, called with the options as keywords; it returns the results."""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of argparse, by name."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Further keywords of the function."""
    in_table: tuple[str, ...] = ()
    """Arguments where several stages are run, to take minutes rather than hours."""
    is_of_speed: bool = True
    """Whether it is run with all others; one that is not, when it is named."""
    needs_gpu: bool = False
    """Then it is run with all others where there is a GPU."""


STAGES: Final[dict[str, Stage]] = {
    "features": Stage(
        "building the feature cache",
        "feature_build.measure",
        {
            **_MANIFEST,
            **_number("--num_utterances", 2000, "clips"),
            "--durations_s": {
                "type": positive_number,
                "nargs": "+",
                "default": [3.0, 10.0],
                "metavar": "S",
                "help": "seconds of a clip (3 10)",
            },
            "--num_proc": {"type": positive, "help": "processes of every way (one for each core)"},
            **_number("--num_rounds", 3, "builds of each way"),
            **_WORK_DIR,
        },
        in_table=("--num_rounds", "2"),
    ),
    "generation": Stage(
        "decoding clips for both tasks",
        "generation.compare_generation",
        {
            **_MANIFEST,
            "--model": {
                "choices": ["tiny", "small"],
                "default": "tiny",
                "help": "a Whisper of these dimensions (tiny)",
            },
            **_number("--num_utterances", 32, "the first of the manifest"),
            **_number("--num_tokens", 24, "generated for each clip and task"),
            **_number("--num_rounds", 3, "timed decodings of each way"),
        },
        in_table=("--num_utterances", "8", "--num_rounds", "2"),
    ),
    "scaling": Stage(
        "training by two processes and by one",
        "scaling.compare_processes",
        {
            **_number("--max_steps", 100, "steps of each run"),
            **_number("--num_rounds", 2, "runs of each kind"),
            **_overrides("nano_whisper"),
        },
        fixed={"repo_root": REPO_ROOT},
    ),
    "reading": Stage(
        "how long training waits for data",
        "reading.measure_reading",
        {
            **_number("--max_steps", 400, "steps of the training, 8 at least"),
            **_number("--num_rounds", 5, "passes over the batches"),
            **_overrides("nano_whisper"),
        },
    ),
    "start": Stage(
        "help, refusals and the first training step",
        "start.measure_start",
        {**_number("--num_rounds", 5, "measurements of each kind"), **_overrides("nano_whisper")},
        fixed={"repo_root": REPO_ROOT},
    ),
    "training_step": Stage(
        "a training step on both tasks",
        "training_step.measure",
        {**_NUM_CLIPS, **_NUM_LABEL_TOKENS, **_number("--num_rounds", 5, "timed steps of each way")},
        in_table=("--num_rounds", "2"),
    ),
    "gpu_step": Stage(
        "the share of a GPU's matrix rate that training reaches",
        "gpu_step.measure",
        {
            "--model": {
                "choices": [f"openai/whisper-{size}" for size in ("tiny", "base", "small", "medium")],
                "default": "openai/whisper-medium",
                "help": "whose dimensions (openai/whisper-medium)",
            },
            **_number("--num_utterances", 32, "clips in a batch"),
            **_number("--num_micro_batches", 8, "batches in a step"),
            **_number("--num_words", 40, "of each text"),
            **_number("--num_steps", 2, "in a round, and before the first"),
            **_number("--num_rounds", 3, "timed"),
            **_number("--num_workers", 4, "of the data loader", may_be_0=True),
            **_number("--matrix_size", 8192, "rows and columns of the plain product"),
        },
        needs_gpu=True,
    ),
    "short_context": Stage(
        "short clips in short windows",
        "short_context.measure",
        {
            "--models": {
                "nargs": "+",
                "choices": ["tiny", "small"],
                "default": ["tiny", "small"],
                "help": "Whispers of these dimensions (both)",
            },
            **_NUM_CLIPS,
            **_number("--num_rounds", 3, "timed steps in each window"),
        },
        in_table=("--num_utterances", "1", "--num_rounds", "1"),
    ),
    "frozen_encoder": Stage(
        "a training step on cached encoder states",
        "frozen_encoder.measure",
        {
            **_NUM_CLIPS,
            **_number("--duration_s", 10.0, "seconds of each clip"),
            **_NUM_LABEL_TOKENS,
            **_number("--num_rounds", 5, "timed steps of each way"),
        },
        in_table=("--num_rounds", "1"),
    ),
    "batch_seconds": Stage(
        "training with batches by seconds",
        "batch_seconds.compare_batches",
        {
            "--max_steps": {"type": positive, "help": "steps of each way (an epoch)"},
            **_overrides("nano_e2e"),
        },
    ),
    "scoring": Stage(
        "scores and intervals of an evaluation",
        "scoring.compare_scoring",
        {
            "--manifest": _MANIFEST["--manifest"],
            **_number("--num_utterances", 100_000, "texts of the manifest, repeated with other errors"),
        },
        in_table=("--num_utterances", "20000"),
    ),
    "long_form": Stage(
        "long recordings against transformers' pipeline",
        "long_form.compare_long_form",
        {
            **_MANIFEST,
            **_number("--minutes", 60.0, "of speech, for the memory"),
            "--speed_minutes": {"type": positive_number, "help": "of speech, for the speed (as many)"},
            **_number("--num_tokens", 60, "of each window and task"),
            **_number("--batch_size", 8, "windows in a batch"),
            **_number("--num_threads", 1, "of each way"),
        },
        in_table=("--minutes", "12", "--speed_minutes", "4", "--num_tokens", "40"),
    ),
    "memory": Stage("forecast and measured memory of training steps", "memory.measure"),
    "cost_by_size": Stage(
        "memory and time from manifest to scores, by number of utterances",
        "cost_by_size.measure",
        {
            "--sizes": {
                "type": positive,
                "nargs": "+",
                "default": [1_000, 10_000, 100_000],
                "metavar": "N",
                "help": "numbers of utterances (1000 10000 100000)",
            },
            **_number("--num_proc", 2, "processes of the audit and the build"),
            **_WORK_DIR,
        },
        fixed={"repo_root": REPO_ROOT},
        in_table=("--sizes", "1000", "10000"),
    ),
    "audit": Stage(
        "faults found in a corpus, and false alarms",
        "audit_recall.measure",
        {
            **_text("--model", "outputs/nano_whisper", "seed model; an empty text: none"),
            **_FAULTY_CORPUS,
        },
        fixed={"repo_root": REPO_ROOT},
        is_of_speed=False,
    ),
    "audit_training": Stage(
        "training on clean, faulty and audited rows",
        "audit_training.measure",
        {
            **_text("--model", "outputs/nano_whisper", "seed model of the audit; an empty text: none"),
            "--seeds": {
                "type": not_negative,
                "nargs": "+",
                "default": [1, 2, 3],
                "metavar": "N",
                "help": "a training for each (1 2 3)",
            },
            **_number("--max_steps", 1000, "steps of each training"),
            **_FAULTY_CORPUS,
            **_overrides("nano_whisper"),
        },
        fixed={"repo_root": REPO_ROOT},
        is_of_speed=False,
    ),
}


def stages_of_table() -> tuple[list[str], list[str]]:
    """Names of the stages that are run where all are, and of those left out for want of a GPU."""
    import torch

    of_speed = [name for name, stage in STAGES.items() if stage.is_of_speed]
    left_out = [name for name in of_speed if STAGES[name].needs_gpu and not torch.cuda.is_available()]
    return [name for name in of_speed if name not in left_out], left_out


def add_parsers(parser: argparse.ArgumentParser) -> None:
    """One parser for each stage, and `all`."""
    parsers = parser.add_subparsers(dest="stage", metavar="STAGE")
    for name, stage in STAGES.items():
        of_stage = parsers.add_parser(name, help=stage.help)
        for option, settings in stage.options.items():
            of_stage.add_argument(option, **settings)
    of_all = parsers.add_parser("all", help="all of speed (the default), or those named, and a table")
    of_all.add_argument("stages", nargs="*", metavar="STAGE", help=", ".join(STAGES))


def run_stage(name: str, options: dict[str, Any], output_dir: Path) -> str:
    """Measures, keeps the results, and returns what there is to say.

    Raises:
        VietstError: what the stage needs is not there.
    """
    from vietst.benchmarks.results import add_result, describe_bars

    stage = STAGES[name]
    module_name, function = stage.measure.split(".")
    module = importlib.import_module(f"vietst.benchmarks.{module_name}")
    results = getattr(module, function)(**options, **stage.fixed)
    bars = module.bars(results) if hasattr(module, "bars") else []
    description = module.describe(results)
    said = [description]
    if bars:
        said.append(describe_bars([(name, bar) for bar in bars]))
    said.append(f"added to {add_result(output_dir, name, results, bars, description=description)}")
    if hasattr(module, "draw"):
        drawing = output_dir / f"{name}.png"
        module.draw(results).savefig(drawing)
        said.append(f"drawn to {drawing}")
    return "\n".join(said)


def run_table(script: Path, names: Sequence[str], output_dir: Path) -> tuple[str, list[str]]:
    """Runs stages one after the other, each in a process of its own; one that fails does not stop the others.

    Args:
        script: scripts/benchmark.py.

    Returns:
        All bars as a table, with where the page of all figures lies, and the names of the stages that failed.
    """
    from vietst.benchmarks.results import describe_bars, last_bars, write_page

    bars, failed = [], []
    for number, name in enumerate(names, start=1):
        stage = STAGES[name]
        print(f"--- {number} of {len(names)}, {' '.join((name, *stage.in_table))}: {stage.help}", flush=True)
        command = [sys.executable, str(script), "--output_dir", str(output_dir), name, *stage.in_table]
        if subprocess.run(command).returncode == 0:
            bars += [(name, bar) for bar in last_bars(output_dir, name)]
        else:
            failed.append(name)
    page = write_page(output_dir, [name for name in names if name not in failed])
    return f"{describe_bars(bars)}\nall figures: {page}", failed
