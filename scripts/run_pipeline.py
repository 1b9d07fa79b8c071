"""All stages, from the manifest to the charts, each by its own script. run_dev and run_prod start this.

    python scripts/run_pipeline.py dev [--config NAME|PATH …] [--smoke]
    python scripts/run_pipeline.py prod [ACCELERATE_CONFIG] [--smoke]

Every stage prints the command that runs it alone. What is there already is not made again: a finished run is
not trained a second time, an interrupted one goes on from its newest checkpoint.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vietst.script_end import EXIT_PREEMPTED, run_script
from vietst.training.checkpoints import AUTO
from vietst.training.launching import NOTE_FILE, run_launcher

if TYPE_CHECKING:
    from vietst.config import LoadedConfig

REPO_ROOT = Path(__file__).resolve().parents[1]
MODEL_TYPES = {"whisper": "Whisper", "e2e": "E2E"}
"""Both architectures are trained, in this order, and compared."""
SMOKE_CORPUS = ["--num_utterances", "120", "--num_videos", "12"]
SMOKE_OVERRIDES = [
    "training.max_steps=4",
    "training.batch_size=4",
    "training.effective_batch=null",
    "training.eval_steps=2",
    "training.save_steps=2",
    "training.logging_steps=1",
    "evaluation.max_dev_utterances=4",
]


MAX_RESTARTS = 10
"""So often in one go is a training started again that was asked to stop."""

SMOKE_OVERRIDES_BY_SECONDS = ["training.batch_seconds=12", "training.effective_batch_seconds=null"]


@dataclass(frozen=True)
class Plan:
    """What is run, where."""

    config: str
    """Shipped name, or absolute path."""
    reason: str
    accelerate_config: Path
    overrides: tuple[str, ...]
    work_dir: Path
    """Current folder of all stages: relative paths of the configuration count from here."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("stage", choices=["dev", "prod"], help="development on one device, or production")
    launch_help = "launch configuration (dev: cpu.yaml or single_gpu.yaml, prod: h100x8.yaml)"
    add("accelerate_config", nargs="?", type=Path, help=launch_help)
    add(
        "--config",
        action="append",
        metavar="NAME|PATH",
        help="run configuration, instead of those chosen for this machine; may be given several times",
    )
    add(
        "--smoke",
        action="store_true",
        help="tiny sizes, in a folder of their own: shows that everything runs",
    )
    add("--work_dir", type=Path, help="where data/ and outputs/ are (this checkout; --smoke: outputs/smoke)")
    return parser.parse_args()


def make_plans(arguments: argparse.Namespace) -> list[Plan]:
    """One run for each configuration asked for, else one for each architecture."""
    if arguments.config is None:
        chosen = [choose_config(arguments.stage, kind, smoke=arguments.smoke) for kind in MODEL_TYPES]
    else:
        chosen = [(as_config(config), "as asked for") for config in arguments.config]
    return [make_plan(arguments, config, reason) for config, reason in chosen]


def as_config(name_or_path: str) -> str:
    """Shipped names as they are, files by their absolute path: stages may run in another folder."""
    return str(Path(name_or_path).resolve()) if Path(name_or_path).is_file() else name_or_path


def make_plan(arguments: argparse.Namespace, config: str, reason: str) -> Plan:
    from vietst.config import load_config
    from vietst.environment import has_gpu

    is_nano = config.startswith("nano_")
    defaults = {"dev": "single_gpu" if has_gpu() and not is_nano else "cpu", "prod": "h100x8"}
    if arguments.smoke:
        defaults = {"dev": "cpu", "prod": "cpu_x2"}
    accelerate_config = REPO_ROOT / "accelerate_configs" / f"{defaults[arguments.stage]}.yaml"
    overrides: list[str] = []
    if arguments.smoke:
        overrides += SMOKE_OVERRIDES
        if load_config(config).config.training.batch_seconds is not None:
            overrides += SMOKE_OVERRIDES_BY_SECONDS
    return Plan(
        config=config,
        reason=reason,
        accelerate_config=(arguments.accelerate_config or accelerate_config).resolve(),
        overrides=tuple(overrides),
        work_dir=(arguments.work_dir or REPO_ROOT / ("outputs/smoke" if arguments.smoke else "")).resolve(),
    )


def choose_config(stage: str, model_type: str, *, smoke: bool) -> tuple[str, str]:
    """The configuration for this machine, and why. Production is replaced in a smoke run only."""
    from vietst.config import load_config
    from vietst.environment import has_gpu
    from vietst.hub_access import base_model_at_hand

    wanted, nano = f"{stage}_{model_type}", f"nano_{model_type}"
    if stage == "prod" and not smoke:
        return wanted, "production"
    if not smoke and not has_gpu():
        return nano, "PyTorch sees no GPU here, so a small untrained model is trained"
    if stage == "dev" and smoke:
        return nano, "the smallest model"
    model = load_config(wanted).config.model
    for base in (model.name,) if model.encoder is None else (model.encoder, str(model.decoder)):
        at_hand, reason = base_model_at_hand(base)
        if not at_hand:
            return nano, reason
    return wanted, reason


class Pipeline:
    """Runs the stages of a plan, one process each; a stage that fails ends everything with its exit code."""

    def __init__(self, plan: Plan, loaded: "LoadedConfig") -> None:
        self.plan, self.config = plan, loaded.config
        self.run_dir = self.config.output.dir
        self.results_dir = self.config.paths.output_dir / "results"
        self.charts_dir = self.config.paths.output_dir / "charts"

    def run(self, script: str, *options: object) -> None:
        words = self.command(script, *options)
        start = time.monotonic()
        answer = subprocess.run(words, cwd=self.plan.work_dir, env=self.environment())
        if answer.returncode != 0:
            sys.exit(answer.returncode)  # the stage has said what is wrong
        print(f"      ({time.monotonic() - start:.0f} s)", flush=True)

    def command(self, script: str, *options: object, launcher: tuple[object, ...] = ()) -> list[str]:
        """The words of a stage's command, which is printed."""
        words = list(map(str, [sys.executable, *launcher, REPO_ROOT / "scripts" / script, *options]))
        shown = ["python", *map(self.shown, words[1:])]
        print(f"      $ {shlex.join(shown)}", flush=True)
        return words

    def shown(self, word: str) -> str:
        """Paths as the user would type them in the work folder."""
        path = Path(word)
        is_below = path.is_absolute() and path.is_relative_to(self.plan.work_dir)
        return path.relative_to(self.plan.work_dir).as_posix() if is_below else word

    def environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        inherited = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(REPO_ROOT), *([inherited] if inherited else [])])
        if self.config.nano is not None or self.config.nano_e2e is not None:
            environment.setdefault("OMP_NUM_THREADS", "1")  # models this small are slower with more threads
        return environment

    def prepare_manifest(self, corpus_options: list[str]) -> None:
        print("[2/6] Prepare data", flush=True)
        from vietst.data.audited_manifest import is_audited
        from vietst.data.sources import manifests_of

        manifests, clean_path = manifests_of(self.config), self.config.paths.clean_manifest_path
        if isinstance(manifests, Path):
            self.provide_manifest(manifests, corpus_options)
        print("[2a]  Clean the manifest", flush=True)
        if is_audited(self.plan.work_dir / clean_path):
            print(f"      {clean_path} is what an audit left", flush=True)
        else:
            self.run("preprocess_manifest.py", "--config", self.plan.config)
        print("[2b]  Split by video", flush=True)
        self.run("split_data.py", "--config", self.plan.config)

    def provide_manifest(self, manifest: Path, corpus_options: list[str]) -> None:
        if (self.plan.work_dir / manifest).is_file():
            print(f"      {manifest} is there", flush=True)
        else:
            print(f"      no manifest at {manifest}: making the synthetic sample corpus", flush=True)
            self.run("make_sample_corpus.py", "--output_dir", manifest.parent,
                     "--data_root", self.config.paths.data_root, *corpus_options)  # fmt: skip

    def build_features(self) -> None:
        print(f"[2c]  Build features ({self.plan.config})", flush=True)
        self.run("build_features.py", "--config", self.plan.config)

    def train(self) -> None:
        model_type = self.config.model.type
        number = 3 + list(MODEL_TYPES).index(model_type)
        print(f"[{number}/6] Train {MODEL_TYPES[model_type]} ({self.plan.config})", flush=True)
        run_dir = self.plan.work_dir / self.run_dir
        if (run_dir / "train_results.json").is_file():
            print(f"      {self.run_dir} is trained; delete it to train again", flush=True)
            return
        # --quiet: the launcher's own traceback would bury the script's message.
        launcher = (
            "-m",
            "accelerate.commands.launch",
            "--quiet",
            "--config_file",
            self.plan.accelerate_config,
        )
        words = self.command(
            f"train_{model_type}.py",
            *("--config", self.plan.config, "--resume", AUTO, *self.plan.overrides),
            launcher=launcher,
        )
        start = time.monotonic()
        for _ in range(MAX_RESTARTS + 1):
            (run_dir / NOTE_FILE).unlink(missing_ok=True)
            exit_code, stop_signal = run_launcher(
                words, cwd=self.plan.work_dir, environment=self.environment()
            )
            if exit_code == 0:
                print(f"      ({time.monotonic() - start:.0f} s)", flush=True)
                return
            if not (run_dir / NOTE_FILE).is_file():
                sys.exit(exit_code)  # the training has said what is wrong
            if stop_signal:
                break  # it was not meant for the training alone: this machine is wanted back
            print("      the training was asked to stop; starting it again", flush=True)
        print("      stopped; the same command goes on from here", flush=True)
        sys.exit(EXIT_PREEMPTED)

    def evaluate(self) -> None:
        print(f"[5/6] Evaluate {self.run_dir.name} on the test split", flush=True)
        metrics = self.plan.work_dir / self.results_dir / f"{self.run_dir.name}_metrics.json"
        trained = self.plan.work_dir / self.run_dir / "train_results.json"
        if metrics.is_file() and metrics.stat().st_mtime_ns > trained.stat().st_mtime_ns:
            print(f"      {metrics.name} is newer than the model", flush=True)
            return
        self.run("run_evaluation.py", "--model_dir", self.run_dir, "--model_type", self.config.model.type,
                 "--test_csv", self.config.paths.splits_dir / "test.csv", "--output", self.results_dir,
                 "--audio_root", self.config.paths.data_root)  # fmt: skip

    def draw_charts(self) -> None:
        print("[6/6] Draw charts", flush=True)
        self.run("export_charts.py", "--runs_dir", self.config.paths.output_dir)


def say_where(pipelines: Sequence[Pipeline]) -> None:
    first = pipelines[0]
    where: list[tuple[str, Path]] = [
        ("data", first.config.paths.splits_dir),
        *(("model", pipeline.run_dir) for pipeline in pipelines),
        ("results", first.results_dir),
        ("charts", first.charts_dir),
    ]
    print("Done.", *(f"      {name:<8} {first.plan.work_dir / path}" for name, path in where), sep="\n")


def main() -> None:
    arguments = parse_arguments()
    from vietst.config import load_config

    plans = make_plans(arguments)
    for plan in plans:
        plan.work_dir.mkdir(parents=True, exist_ok=True)
        print(f"      configuration {plan.config}: {plan.reason}", flush=True)
    pipelines = [Pipeline(plan, load_config(plan.config, plan.overrides)) for plan in plans]
    pipelines[0].prepare_manifest(SMOKE_CORPUS if arguments.smoke else [])
    for pipeline in pipelines:
        pipeline.build_features()
    for pipeline in pipelines:
        pipeline.train()
    for pipeline in pipelines:
        pipeline.evaluate()
    pipelines[-1].draw_charts()
    say_where(pipelines)


if __name__ == "__main__":
    run_script(main)
