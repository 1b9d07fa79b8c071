"""Models that go up while they train: real launches, and a real server that is slow, dies and comes back."""

import contextlib
import errno
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load, load_file
from transformers import TrainerControl, TrainerState

from tests.hub.repositories import Commit
from tests.hub.server import TOKEN, LoopbackHub, Mood
from tests.launched_run import ARCHITECTURES, REPO_ROOT, Launch, RunningLaunch
from tests.patience import HANGS_AFTER_S
from vietst.config_schema import HubSection
from vietst.errors import VietstError
from vietst.training import pushing
from vietst.training.pushing import SNAPSHOTS, ModelPusher, PushCallback
from vietst.training.runner import run_training

pytestmark = pytest.mark.slow
needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")

REPOSITORY = "tester/model"
OPTIONS = (
    f"hub.repo_id={REPOSITORY}",
    "training.max_steps=4",
    "training.save_steps=2",
    "training.eval_steps=2",
    "training.effective_batch=8",
    "evaluation.max_dev_utterances=2",
)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as running:
        yield running


def launch(
    hub: LoopbackHub,
    corpus: Path,
    folder: Path,
    mode: str,
    architecture: str,
    *overrides: str,
    script: Path | None = None,
    **environment: str,
) -> Launch:
    variables = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(folder / "hf_home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": TOKEN,
        **environment,
    }
    base = (*ARCHITECTURES[architecture](corpus, folder), *OPTIONS)
    launch_folder = folder / "launch"
    return Launch(mode, architecture, (*base, *overrides), launch_folder, script, tuple(variables.items()))


def of_weights(**mood: Any) -> Mood:
    """How the Hub takes weights; charts are smaller."""
    return Mood("PUT /_lfs", min_bytes=200_000, **mood)


def commits(hub: LoopbackHub) -> list[Commit]:
    """Without the first, which is the Hub's own; the newest first."""
    return hub.store.repositories["model", REPOSITORY].history("main")[:-1]


def content(hub: LoopbackHub, commit: Commit) -> dict[str, bytes]:
    return {path: hub.store.content_path(file.sha256).read_bytes() for path, file in commit.files.items()}


def weights(hub: LoopbackHub, commit: Commit) -> dict[str, torch.Tensor]:
    return load(content(hub, commit)["model.safetensors"])


def assert_is_the_final_model(hub: LoopbackHub, run_dir: Path) -> None:
    """That others get the texts of the run folder from such a copy: tests/test_whole_round.py."""
    files = content(hub, commits(hub)[0])
    for name in (
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "self_check/expected.json",
    ):
        assert files[name] == (run_dir / name).read_bytes(), name
    assert not (run_dir / SNAPSHOTS).exists()


def end_training_alone(running: RunningLaunch) -> list[psutil.Process]:
    """kill -9 for the training; returns the processes that pushed for it."""
    jobs, others = [], []
    for process in running.processes():
        (jobs if "vietst.hub.push_job" in process.cmdline() else others).append(process)
    for process in others:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(others)
    return jobs


def test_kills_of_the_training_and_of_the_hub_break_nothing(
    hub: LoopbackHub, tiny_corpus: Path, tmp_path: Path
) -> None:
    overrides = ("training.max_steps=10", "training.save_total_limit=1", "training.eval_strategy=no",
                 "training.load_best_model_at_end=false", "hub.push_when=save")  # fmt: skip
    run_dir = tmp_path / "run"
    halting = REPO_ROOT / "tests/training/halting_run.py"
    seen, never = threading.Event(), threading.Event()
    hub.moods = [of_weights(until=seen, times=1), of_weights(until=never)]
    stopped = launch(
        hub, tiny_corpus, tmp_path, "single", "whisper", *overrides, script=halting, HALT_IN_CHECKPOINT="8"
    )
    with RunningLaunch(stopped) as running:
        running.wait_until(lambda: hub.held)
        running.wait_until(lambda: (run_dir / "checkpoint-6").exists())
        assert not (run_dir / "checkpoint-2").exists(), "deleted while it goes up"
        assert not commits(hub), "the Hub is slow, and the training goes on"
        seen.set()
        running.wait_until(lambda: len(hub.held) == 2)
        assert [commit.title for commit in commits(hub)] == ["Model after 2 of 10 steps"]
        jobs = end_training_alone(running)
        assert len(jobs) == 1
        _, left = psutil.wait_procs(jobs, timeout=HANGS_AFTER_S)
        assert not left, "a push ends with the training that it was for"
    (first,) = commits(hub)

    hub.moods = [of_weights(until=never, times=1)]
    resumed = launch(hub, tiny_corpus, tmp_path, "single", "whisper", *overrides)
    with RunningLaunch(resumed, "--resume") as running:
        running.wait_until(lambda: len(hub.held) == 3)
        hub.kill()
        running.wait_until(lambda: "model, metrics and logs" in running.output())
        assert (run_dir / "train_results.json").exists(), "trained to the end without the Hub"
        hub.bring_back()
        assert running.wait() == 0, running.output()
    assert_is_the_final_model(hub, run_dir)
    assert commits(hub)[0].title == "Final model"
    assert weights(hub, first).keys() == load_file(run_dir / "model.safetensors").keys()
    assert not torch.equal(
        weights(hub, first)["model.decoder.embed_tokens.weight"],
        load_file(run_dir / "model.safetensors")["model.decoder.embed_tokens.weight"],
    )
    assert_nothing_private(hub, running.output(), tmp_path)


def assert_nothing_private(hub: LoopbackHub, output: str, folder: Path) -> None:
    assert TOKEN not in output
    assert hub.store.repositories["model", REPOSITORY].access == "private"
    for commit in commits(hub):
        for path, data in content(hub, commit).items():
            for secret in (TOKEN, str(folder), str(REPO_ROOT)):
                assert secret.encode() not in data, path
        assert not [path for path in commit.files if path.endswith((".bin", ".pt", ".pth", ".wav"))]


LAUNCHES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "ddp": ("ddp", "e2e", ("hub.push_when=end",)),
    "zero2 with LoRA": (
        "zero2",
        "whisper",
        ("hub.push_when=save", "model.finetune=lora", "lora.rank=2", "training.learning_rate=1e-2"),
    ),
    "zero3": ("zero3", "whisper", ("hub.push_when=save",)),
}


@needs_deepspeed
@pytest.mark.parametrize("name", LAUNCHES)
def test_of_many_processes_one_pushes_whole_weights(
    name: str, hub: LoopbackHub, tiny_corpus: Path, tmp_path: Path
) -> None:
    mode, architecture, overrides = LAUNCHES[name]
    run_dir = tmp_path / "run"
    with RunningLaunch(launch(hub, tiny_corpus, tmp_path, mode, architecture, *overrides)) as running:
        assert running.wait() == 0, running.output()
    assert_is_the_final_model(hub, run_dir)
    titles = [commit.title for commit in commits(hub)]
    pushes = running.output().count("is on the Hub: ")
    assert len(titles) == pushes == len(hub.asked("POST .*/commit/"))
    assert len(hub.asked("/whoami-v2")) == 1 + pushes, "one look at the start, one before each push"
    if "hub.push_when=end" in overrides:
        assert titles == ["Final model"]
    else:
        assert titles[-1] == "Model after 2 of 4 steps"
        shapes = [
            {key: value.shape for key, value in of.items()}
            for of in (weights(hub, commits(hub)[-1]), load_file(run_dir / "model.safetensors"))
        ]
        assert shapes[0] == shapes[1]
    assert_nothing_private(hub, running.output(), tmp_path)


@pytest.fixture
def hub_of_this_process(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    """What this process trains pushes there; it does so in processes of its own."""
    for name, value in hub.client_environment(tmp_path / "hf_home", HF_TOKEN=TOKEN).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    return hub


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        (("hub.license=mit",), "not known"),
        (("hub.repo_id=stranger/model", "hub.private=false"), "rights to write to the namespace stranger"),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_training(
    overrides: tuple[str, ...],
    found: str,
    hub_of_this_process: LoopbackHub,
    nano_config: Callable[..., Any],
) -> None:
    hub_of_this_process.store.create("model", "stranger/model", "public")
    loaded = nano_config(*OPTIONS, *overrides)
    with pytest.raises(VietstError) as refused:
        run_training(loaded)
    assert found in refused.value.found
    assert not (loaded.config.output.dir / "run_facts.json").exists()


@pytest.mark.parametrize(
    ("when", "handed_over"),
    [("save", ["checkpoint-2", "checkpoint-4"]), ("best", ["checkpoint-2"]), ("end", [])],
)
def test_the_configuration_says_which_checkpoints_go_up(
    when: str, handed_over: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = []
    monkeypatch.setattr(ModelPusher, "add", lambda self, model_dir, name: added.append(name))
    hub = HubSection.model_validate({"repo_id": REPOSITORY, "push_when": when})
    callback = PushCallback(ModelPusher(tmp_path, hub))
    for step in (2, 4):
        callback.on_save(None, TrainerState(global_step=step, best_global_step=2), TrainerControl())
    assert added == handed_over


def test_a_machine_that_starts_no_other_process_now_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts, several = [], threading.Event()

    def start_nothing(hub: HubSection, snapshot: Path | None, output: Any) -> None:
        attempts.append(snapshot)
        if len(attempts) == 3:
            several.set()
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(pushing, "start_push", start_nothing)
    monkeypatch.setattr(pushing, "_FIRST_PAUSE_S", 0.01)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    pusher = ModelPusher(tmp_path, HubSection(repo_id=REPOSITORY, wait_s=0))
    pusher.start()
    pusher.add(tmp_path, "the final model")
    assert several.wait(HANGS_AFTER_S)
    pusher.finish()
    assert attempts[:3] == [None, *[tmp_path / SNAPSHOTS / "the final model"] * 2]
    assert "not on the Hub yet: the final model\n[Errno 12] Cannot allocate memory" in caplog.text


def test_without_a_hub_training_ends_and_says_the_command_that_brings_the_model_up(
    hub_of_this_process: LoopbackHub, nano_config: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    hub = hub_of_this_process
    hub.kill()
    run_dir = run_training(nano_config(*OPTIONS, "training.max_steps=2", "hub.wait_s=1"))
    assert (run_dir / "train_results.json").is_file()
    said = caplog.text
    assert "training begins, and tries again later" in said
    assert "does not answer" in said
    command = shlex.split(said.partition("This brings it up:\n")[2].splitlines()[0])
    assert command[0] == "python"

    hub.bring_back()
    for _ in range(2):
        pushed = subprocess.run(
            [sys.executable, *command[1:]], cwd=REPO_ROOT, capture_output=True, text=True, check=False
        )
        assert pushed.returncode == 0, pushed.stderr
        assert f"the model is at {hub.endpoint}/{REPOSITORY}" in pushed.stderr
        sent = hub.asked("PUT /_lfs")
        assert len(sent) == len(set(sent)) == 4, "weights, two charts, a clip; nothing is sent twice"
        assert len(commits(hub)) == 1
    assert_is_the_final_model(hub, run_dir)
    assert TOKEN not in said + pushed.stderr + pushed.stdout
