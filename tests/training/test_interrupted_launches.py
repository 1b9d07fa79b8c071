"""Trainings that are killed, and then asked to stop, in every launch mode: they end as undisturbed ones do.

One kill in each mode; tests/kill_and_resume.py kills ten times at random moments.
"""

import dataclasses
import json
import shutil
import signal
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.launched_run import ARCHITECTURES, Launch, RunningLaunch, last_logged_step
from tests.tiny_runs import history
from vietst.config import load_config
from vietst.training.checkpoint_writing import partial_folder
from vietst.training.checkpoints import RECORD_FILE, complete_checkpoints, missing_parts, step_of
from vietst.training.launching import NOTE_FILE
from vietst.training.runner import run_training

pytestmark = pytest.mark.slow
needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")

UNFREEZES_AFTER = 5
NUM_STEPS = 60
OPTIONS = (
    f"training.max_steps={NUM_STEPS}",
    "training.save_steps=3",
    "training.save_total_limit=3",
    "training.eval_strategy=no",
    "training.load_best_model_at_end=false",
    "training.effective_batch=8",
    f"training.freeze_encoder_updates={UNFREEZES_AFTER}",
    "training.learning_rate=1e-3",
    "training.weight_decay=0.01",
    "dataloader.num_workers=1",
)
BY_SECONDS = (
    "training.effective_batch=null",
    "training.batch_seconds=12",
    "training.effective_batch_seconds=24",
    "augmentation.mask_time_prob=0.1",
    "model.dropout=0.1",
)
"""For E2E; there what is dropped and masked is drawn alike in all modes of two processes."""

RESHARED = (
    "training.max_steps=12",
    "training.save_steps=4",
    "training.eval_steps=4",
    "training.lr_scheduler_type=constant",
    "training.warmup_steps=0",
    "training.encoder_learning_rate=3e-4",
    "training.weight_decay=0.1",
)
"""A short training, whose learning rate does not depend on its length, but on the part of the model."""

MakeLaunch = Callable[..., Launch]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("interrupted")


@pytest.fixture(scope="module")
def make_launch(tiny_corpus: Path, folder: Path) -> MakeLaunch:
    def make(
        name: str, mode: str, architecture: str, more_overrides: tuple[str, ...] = (), **more: object
    ) -> Launch:
        base = ARCHITECTURES[architecture](tiny_corpus, folder / f"base-{architecture}")
        by_kind = BY_SECONDS if architecture == "e2e" else ()
        overrides = (*base, *OPTIONS, *by_kind, *more_overrides, f"output.dir={(folder / name).as_posix()}")
        return Launch(mode, architecture, overrides, folder / f"launch-{name}", **more)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="module")
def one_process(make_launch: MakeLaunch) -> Path:
    """Run folder of an undisturbed training of Whisper in one process."""
    overrides = make_launch("one_process", "single", "whisper").overrides
    return run_training(load_config("nano_whisper", list(overrides)))


@pytest.fixture(scope="module")
def two_processes(make_launch: MakeLaunch, folder: Path) -> Path:
    """Run folder of an undisturbed training of E2E in two processes."""
    finish(make_launch("two_processes", "ddp", "e2e"))
    return folder / "two_processes"


def run_dir_of(launch: Launch) -> Path:
    *_, stated = (key for key in launch.overrides if key.startswith("output.dir="))
    return Path(stated.removeprefix("output.dir="))


def kill_inside_checkpoint(launch: Launch, step: int) -> None:
    """Leaves `checkpoint-<step>` half written, and the checkpoints before it."""
    run_dir = run_dir_of(launch)
    halting = Launch(
        launch.mode,
        launch.architecture,
        launch.overrides,
        launch.folder,
        script=Path(__file__).with_name("halting_run.py"),
        environment=(("HALT_IN_CHECKPOINT", str(step)),),
    )
    partial = partial_folder(run_dir) / f"checkpoint-{step}"
    with RunningLaunch(halting, "--resume", "auto") as running:
        written = ("optimizer.pt",) if not launch.mode.startswith("zero") else (f"global_step{step}",)
        running.wait_until(lambda: all((partial / name).exists() for name in written))
        assert running.process.poll() is None, running.output()[-3000:]
    assert (partial / "model.safetensors").is_file()
    assert [step_of(path) for path in complete_checkpoints(run_dir)] == list(range(3, step, 3))
    assert not (run_dir / f"checkpoint-{step}").exists()


def kill_after_the_unfreezing(launch: Launch) -> None:
    """Leaves, as the newest, the first checkpoint of an encoder that trains."""
    step = next(step for step in range(3, NUM_STEPS, 3) if step > UNFREEZES_AFTER)
    with RunningLaunch(launch, "--resume", "auto") as running:
        running.wait_until(lambda: (run_dir_of(launch) / f"checkpoint-{step}").is_dir())
        assert running.process.poll() is None, running.output()[-3000:]


def stop_by_a_signal(launch: Launch, number: signal.Signals) -> None:
    """The signal goes to the process group, as from a scheduler. Checks what the training leaves."""
    run_dir = run_dir_of(launch)
    newest = step_of(complete_checkpoints(run_dir)[-1])
    with RunningLaunch(launch, "--resume", "auto") as running:
        running.wait_for_step(newest + 2)
        assert not (run_dir / NOTE_FILE).exists()
        running.signal_group(number)
        assert running.wait() != 0
    output = running.output()
    note = json.loads((run_dir / NOTE_FILE).read_text(encoding="utf-8"))
    assert note["stopped_by"] == number.name
    assert note["step"] == last_logged_step(output) < NUM_STEPS
    assert complete_checkpoints(run_dir)[-1] == run_dir / note["checkpoint"]
    assert f"stopped by {number.name} after step {note['step']}" in output
    assert "--resume" in output
    assert not (run_dir / "train_results.json").exists(), "it says that the run is finished"


def finish(launch: Launch) -> None:
    run_dir = run_dir_of(launch)
    with RunningLaunch(launch, "--resume", "auto") as running:
        assert running.wait() == 0, running.output()[-3000:]
    assert not (run_dir / NOTE_FILE).exists()
    assert not partial_folder(run_dir).exists()
    assert [missing_parts(path) for path in run_dir.glob("checkpoint*")] == [[]] * 3
    assert (run_dir / "train_results.json").is_file()


def check_equal(found: Path, expected: Path) -> None:
    """To the bit: two finished trainings in the same mode."""
    for key in ("learning_rate", "loss"):
        assert history(found, key) == history(expected, key), key
    one, two = (load_file(run_dir / "model.safetensors") for run_dir in (found, expected))
    for name, tensor in two.items():
        assert torch.equal(one[name], tensor), name


def check_agreement(found: Path, expected: Path) -> None:
    """Of two finished trainings in different modes; ZeRO adds up in another order."""
    assert history(found, "learning_rate") == history(expected, "learning_rate")
    assert history(found, "loss") == pytest.approx(history(expected, "loss"), rel=1e-4)


def test_one_process_killed_inside_a_checkpoint_and_then_stopped(make_launch, one_process):
    launch = make_launch("single", "single", "whisper")
    kill_inside_checkpoint(launch, 9)
    stop_by_a_signal(launch, signal.SIGTERM)
    finish(launch)
    check_equal(run_dir_of(launch), one_process)


def test_two_processes_killed_after_the_unfreezing_and_then_stopped(make_launch, two_processes):
    launch = make_launch("ddp", "ddp", "e2e")
    kill_after_the_unfreezing(launch)
    stop_by_a_signal(launch, signal.SIGTERM)
    finish(launch)
    check_equal(run_dir_of(launch), two_processes)


@needs_deepspeed
def test_zero_2_killed_inside_a_checkpoint_and_then_stopped(make_launch, two_processes):
    launch = make_launch("zero2", "zero2", "e2e")
    kill_inside_checkpoint(launch, 9)
    stop_by_a_signal(launch, signal.SIGTERM)
    finish(launch)
    check_agreement(run_dir_of(launch), two_processes)


@needs_deepspeed
@pytest.mark.parametrize("mode", ["zero1", "zero3"])
def test_zero_1_and_3_killed_after_the_unfreezing(make_launch, one_process, mode):
    launch = make_launch(mode, mode, "whisper")
    kill_after_the_unfreezing(launch)
    finish(launch)
    check_agreement(run_dir_of(launch), one_process)


# --- other numbers of processes --------------------------------------------------------------------------


def test_two_processes_go_on_where_one_was_and_say_what_changes(make_launch, one_process, folder):
    """At equal effective batches; this run draws no masks and drops nothing, so that all must agree."""
    launch = make_launch("more_processes", "ddp", "whisper")
    newest = complete_checkpoints(one_process)[0]
    assert step_of(newest) < NUM_STEPS
    shutil.copytree(newest, run_dir_of(launch) / newest.name)
    with RunningLaunch(launch, "--resume") as running:
        assert running.wait() == 0, running.output()[-3000:]
    assert "different from the run before: processes: 1 → 2 (" in running.output()
    check_agreement(run_dir_of(launch), one_process)


@needs_deepspeed
def test_zero_2_goes_on_in_one_process_and_in_two_again(make_launch):
    """From before the encoder joins and from after; in between, the best checkpoint is of the others."""
    undisturbed = make_launch("reshared2", "zero2", "whisper", RESHARED)
    launch_to_the_end(undisturbed)
    others = make_launch("reshared2-others", "zero2", "whisper", RESHARED)
    first = run_dir_of(others) / "checkpoint-4"
    shutil.copytree(run_dir_of(undisturbed) / first.name, first)
    make_best_for_ever(first)
    one = dataclasses.replace(others, num_processes=1)
    output = launch_to_the_end(one, "training.max_steps=8", "training.eval_strategy=steps",
                               "training.load_best_model_at_end=true")  # fmt: skip
    assert "different from the run before: processes: 2 → 1 (" in output
    check_same_weights(run_dir_of(one), first)
    output = launch_to_the_end(others)
    assert output.count("different from the run before: processes: 1 → 2 (") == 1, "one says it for both"
    check_exact_losses(run_dir_of(others), run_dir_of(undisturbed), 12)
    left = {path.name for path in run_dir_of(others).glob("checkpoint*")}
    assert left == {"checkpoint-4", "checkpoint-8", "checkpoint-12"}


@needs_deepspeed
def test_zero_3_goes_on_in_one_process(make_launch):
    """From after the encoder has joined: it has steps, a learning rate and a weight decay of its own."""
    overrides = (*RESHARED, "training.max_steps=8", "training.freeze_encoder_updates=2")
    undisturbed = make_launch("reshared3", "zero3", "whisper", overrides)
    launch_to_the_end(undisturbed)
    one = make_launch("reshared3-one", "zero3", "whisper", overrides, num_processes=1)
    shutil.copytree(run_dir_of(undisturbed) / "checkpoint-4", run_dir_of(one) / "checkpoint-4")
    launch_to_the_end(one)
    check_exact_losses(run_dir_of(one), run_dir_of(undisturbed), 8)


def launch_to_the_end(launch: Launch, *more_overrides: str) -> str:
    """What a new training or one that goes on prints."""
    launch = dataclasses.replace(launch, overrides=(*launch.overrides, *more_overrides))
    with RunningLaunch(launch, "--resume", "auto") as running:
        assert running.wait() == 0, running.output()[-3000:]
    return running.output()


def make_best_for_ever(checkpoint: Path) -> None:
    """Whatever is evaluated later, this checkpoint is loaded at the end."""
    state_file, record_file = checkpoint / "trainer_state.json", checkpoint / RECORD_FILE
    state = json.loads(state_file.read_text(encoding="utf-8"))
    state |= {"best_metric": 0.0, "best_global_step": state["global_step"]}
    state_file.write_text(json.dumps(state), encoding="utf-8")
    record = json.loads(record_file.read_text(encoding="utf-8"))
    record["files"][state_file.name] = state_file.stat().st_size
    record_file.write_text(json.dumps(record), encoding="utf-8")


def check_same_weights(found: Path, expected: Path) -> None:
    one, two = (load_file(folder / "model.safetensors") for folder in (found, expected))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def check_exact_losses(found: Path, expected: Path, num_steps: int) -> None:
    assert len(history(found, "loss")) == num_steps
    assert history(found, "loss") == pytest.approx(history(expected, "loss"), rel=1e-5)
