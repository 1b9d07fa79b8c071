"""Checkpoints: which are complete, which one is resumed from, how they are written, kept and deleted."""

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.patience import HANGS_AFTER_S
from tests.tiny_runs import history, tiny_run_overrides
from vietst.errors import CheckpointError
from vietst.script_end import EXIT_USER_ERROR
from vietst.training import checkpoint_writing, runner
from vietst.training.arguments import training_arguments
from vietst.training.checkpoint_writing import (
    delete_old,
    partial_folder,
    publish,
    remove_leftovers,
    resharing_folder,
)
from vietst.training.checkpoints import (
    AUTO,
    LATEST,
    RECORD_FILE,
    checkpoint_to_start_from,
    complete_checkpoints,
    files_of,
    missing_parts,
)
from vietst.training.preparation import prepare
from vietst.training.runner import run_training

PLAIN_FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


def plain_checkpoint(folder: Path, files: tuple[str, ...] = PLAIN_FILES) -> Path:
    """As transformers alone names the files."""
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).write_text("{}", encoding="utf-8")
    return folder


def recorded_checkpoint(folder: Path) -> Path:
    plain_checkpoint(folder)
    (folder / RECORD_FILE).write_text(json.dumps({"files": files_of(folder)}), encoding="utf-8")
    return folder


# --- what is complete --------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", PLAIN_FILES)
def test_a_checkpoint_without_one_of_its_files_is_not_complete(tmp_path, lost):
    checkpoint = plain_checkpoint(tmp_path / "checkpoint-3")
    assert missing_parts(checkpoint) == []
    (checkpoint / lost).unlink()
    assert missing_parts(checkpoint) == [lost]


def test_a_state_that_is_cut_off_is_missing(tmp_path):
    checkpoint = plain_checkpoint(tmp_path / "checkpoint-3")
    (checkpoint / "trainer_state.json").write_text('{"global_step": ', encoding="utf-8")
    assert missing_parts(checkpoint) == ["trainer_state.json"]


@pytest.mark.parametrize(
    "files",
    [
        ("global_step3", "scheduler.pt", "rng_state_0.pth", "rng_state_1.pth", "trainer_state.json"),
        (
            "model.safetensors.index.json",
            "optimizer.pt",
            "scheduler.pt",
            "rng_state.pth",
            "trainer_state.json",
        ),
        ("model.safetensors", "optimizer.bin", "scheduler.pt", "rng_state_0.pth", "trainer_state.json"),
        ("pytorch_model_fsdp_0", "optimizer_0", "scheduler.pt", "rng_state_0.pth", "trainer_state.json"),
    ],
    ids=["ZeRO-3", "weights in several files", "FSDP", "FSDP, sharded"],
)
def test_other_ways_to_train_name_their_files_otherwise(tmp_path, files):
    assert missing_parts(plain_checkpoint(tmp_path / "checkpoint-3", files)) == []


def test_a_recorded_checkpoint_is_complete_to_the_byte(tmp_path):
    checkpoint = recorded_checkpoint(tmp_path / "checkpoint-3")
    assert missing_parts(checkpoint) == []
    (checkpoint / "model.safetensors").write_text("{", encoding="utf-8")
    (checkpoint / "scheduler.pt").unlink()
    assert missing_parts(checkpoint) == ["model.safetensors", "scheduler.pt"]


# --- which one is resumed from -----------------------------------------------------------------------


def test_auto_takes_the_newest_complete_one_or_starts_anew(tmp_path):
    assert checkpoint_to_start_from(tmp_path, AUTO) is None
    for step in (5, 10):
        plain_checkpoint(tmp_path / f"checkpoint-{step}")
    plain_checkpoint(tmp_path / "checkpoint-15", PLAIN_FILES[:2])
    assert checkpoint_to_start_from(tmp_path, AUTO) == tmp_path / "checkpoint-10"
    assert checkpoint_to_start_from(tmp_path, LATEST) == tmp_path / "checkpoint-10"


def test_resume_where_nothing_was_saved_yet_says_so_and_names_auto(tmp_path):
    with pytest.raises(CheckpointError, match="--resume auto"):
        checkpoint_to_start_from(tmp_path, LATEST)


def test_an_older_checkpoint_does_not_overwrite_later_ones_of_its_run(tmp_path):
    old = plain_checkpoint(tmp_path / "run" / "checkpoint-5")
    plain_checkpoint(tmp_path / "run" / "checkpoint-10")
    with pytest.raises(CheckpointError, match=r"checkpoint-10 after checkpoint-5"):
        checkpoint_to_start_from(tmp_path / "run", str(old))
    assert checkpoint_to_start_from(tmp_path / "other", str(old)) == old


# --- writing and deleting ----------------------------------------------------------------------------


def test_publishing_replaces_what_is_incomplete_and_leaves_nothing_else(tmp_path):
    plain_checkpoint(tmp_path / "checkpoint-5", PLAIN_FILES[:2])
    written = recorded_checkpoint(partial_folder(tmp_path) / "checkpoint-5")
    assert complete_checkpoints(tmp_path) == []
    assert publish(written, tmp_path) == tmp_path / "checkpoint-5"
    assert complete_checkpoints(tmp_path) == [tmp_path / "checkpoint-5"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-5"]


@pytest.mark.parametrize(
    ("keep", "best", "kept"),
    [
        (None, 5, [5, 10, 15, 20]),
        (2, None, [15, 20]),
        (2, 5, [5, 20]),
        (1, 5, [5, 20]),
        (1, 20, [20]),
        (3, 10, [10, 15, 20]),
    ],
)
def test_the_newest_are_kept_by_step_and_the_best_one_always(tmp_path, keep, best, kept):
    for step in (20, 15, 10, 5):  # as a copied folder has them: the newest step is the oldest file
        plain_checkpoint(tmp_path / f"checkpoint-{step}")
    delete_old(tmp_path, keep, None if best is None else tmp_path / f"checkpoint-{best}")
    assert sorted(int(path.name.split("-")[1]) for path in tmp_path.iterdir()) == kept


def test_a_best_checkpoint_in_another_run_folder_takes_no_place_here(tmp_path):
    for step in (5, 10):
        plain_checkpoint(tmp_path / "run" / f"checkpoint-{step}")
    delete_old(tmp_path / "run", 1, tmp_path / "before" / "checkpoint-5")
    assert complete_checkpoints(tmp_path / "run") == [tmp_path / "run" / "checkpoint-10"]


def test_a_kill_while_one_is_deleted_leaves_no_half_checkpoint(tmp_path, monkeypatch):
    for step in (5, 10):
        plain_checkpoint(tmp_path / f"checkpoint-{step}")

    def killed(folder: Path) -> None:
        (folder / "checkpoint-5" / "rng_state.pth").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            delete_old(tmp_path, 1, None)
    assert list(tmp_path.glob("checkpoint-*")) == [tmp_path / "checkpoint-10"]
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-10"]


def test_a_new_training_clears_what_an_earlier_one_left_half_written(nano_config):
    loaded = nano_config("training.max_steps=1", "training.eval_strategy=no",
                         "training.load_best_model_at_end=false")  # fmt: skip
    left = partial_folder(loaded.config.output.dir) / "checkpoint-7"
    plain_checkpoint(left, PLAIN_FILES[:1])
    resharing_folder(loaded.config.output.dir).mkdir()
    run_dir = run_training(loaded, resume=AUTO)
    assert not left.parent.exists()
    assert [path.name for path in run_dir.glob("checkpoint*")] == ["checkpoint-1"]


# Of an untrained model BLEU is 0 whenever it is evaluated, and the first time counts as the best.
FIRST_IS_BEST = (
    "training.eval_steps=1",
    "training.save_steps=1",
    "training.metric_for_best_model=eval_bleu",
)


def test_the_best_checkpoint_outlives_resuming_in_a_folder_of_another_name(nano_config):
    options = (*FIRST_IS_BEST, "training.save_total_limit=1")
    before = run_training(nano_config(*options, "training.max_steps=3"))
    assert {path.name for path in before.glob("checkpoint-*")} == {"checkpoint-1"}
    moved = before.rename(before.with_name("moved"))
    again = nano_config(*options, "training.max_steps=5", f"output.dir={moved.as_posix()}")
    run_dir = run_training(again, resume=LATEST)
    assert {path.name for path in run_dir.glob("checkpoint-*")} == {"checkpoint-1"}
    state = json.loads((run_dir / "trainer_state.json").read_text(encoding="utf-8"))
    assert state["best_model_checkpoint"] == str(run_dir / "checkpoint-1")


def test_early_stopping_goes_on_counting(nano_config):
    options = (*FIRST_IS_BEST, "training.save_total_limit=null", "training.early_stopping_patience=3",
               "training.max_steps=9")  # fmt: skip
    straight = run_training(nano_config(*options))
    assert len(history(straight, "eval_loss")) == 4, "it stopped early"
    for step in (2, 4):
        folder = straight.with_name(f"from-{step}")
        shutil.copytree(straight / f"checkpoint-{step}", folder / f"checkpoint-{step}")
        resumed = run_training(nano_config(*options, f"output.dir={folder.as_posix()}"), resume=LATEST)
        assert history(resumed, "eval_loss") == history(straight, "eval_loss")


def evaluations_say(monkeypatch: pytest.MonkeyPatch, *scores: dict[str, float]) -> None:
    """One after the other, whatever the model writes."""
    said = iter(scores)
    monkeypatch.setattr(runner, "make_compute_metrics", lambda *_: lambda _: next(said))


def best_of(run_dir: Path) -> tuple[int, float]:
    state = json.loads((run_dir / "trainer_state.json").read_text(encoding="utf-8"))
    return state["best_global_step"], state["best_metric"]


def test_the_model_is_the_best_checkpoint_where_not_every_evaluation_has_one(nano_config, monkeypatch):
    evaluations_say(monkeypatch, *({"loss": loss} for loss in (1.0, 2.0, 4.0, 3.0)))
    options = (
        *("training.metric_for_best_model=eval_loss", "training.eval_steps=1", "training.save_steps=2"),
        "evaluation.max_dev_utterances=1",
    )
    run_dir = run_training(nano_config(*options))
    assert best_of(run_dir) == (2, 2.0)
    model, best, last = (
        load_file(folder / "model.safetensors")["model.decoder.embed_tokens.weight"]
        for folder in (run_dir, run_dir / "checkpoint-2", run_dir / "checkpoint-4")
    )
    assert torch.equal(model, best)
    assert not torch.equal(model, last)


def test_where_the_metric_is_another_one_the_best_checkpoint_so_far_is_judged_by_it(nano_config, monkeypatch):
    options = (*FIRST_IS_BEST[:2], "evaluation.max_dev_utterances=1")
    evaluations_say(monkeypatch, {"loss": 0.5, "wer": 80.0}, {"loss": 0.4, "wer": 90.0})
    by_loss = ("training.metric_for_best_model=eval_loss", "training.max_steps=2")
    assert best_of(run_training(nano_config(*options, *by_loss))) == (2, 0.4)
    evaluations_say(monkeypatch, {"loss": 0.6, "wer": 85.0}, {"loss": 0.7, "wer": 95.0})
    by_wer = ("training.metric_for_best_model=eval_wer", "training.max_steps=4")
    assert best_of(run_training(nano_config(*options, *by_wer), resume=LATEST)) == (3, 85.0)


def test_what_a_macs_gpu_draws_goes_on_from_a_checkpoint(nano_config, tmp_path, monkeypatch):
    """There is none here; another generator stands for its own."""
    config = nano_config().config
    trainer = runner.build_trainer(config, training_arguments(config, 1), prepare(config))
    generator = torch.Generator()
    monkeypatch.setattr(type(trainer.args), "device", torch.device("mps"))
    monkeypatch.setattr(torch.mps, "get_rng_state", generator.get_state)
    monkeypatch.setattr(torch.mps, "set_rng_state", generator.set_state)
    trainer._save_rng_state(str(tmp_path))
    drawn = torch.rand(3, generator=generator)
    trainer._load_rng_state(str(tmp_path))
    assert torch.equal(torch.rand(3, generator=generator), drawn)


# --- a full disk -------------------------------------------------------------------------------------

SAVES_TWICE = (
    "training.max_steps=4",
    "training.save_steps=2",
    "training.eval_strategy=no",
    "training.load_best_model_at_end=false",
)


def test_a_checkpoint_without_room_is_not_begun(nano_config, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(checkpoint_writing.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    loaded = nano_config(*SAVES_TWICE)
    with pytest.raises(CheckpointError, match=r"0\.00 GB free, and checkpoint-2 has"):
        run_training(loaded)
    assert [path.name for path in loaded.config.output.dir.glob("checkpoint*")] == ["checkpoint-2"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit for the size of a file")
def test_a_disk_that_fills_up_while_saving_stops_with_one_clear_error(repo_root, tiny_corpus, tmp_path):
    """A limit on the size of files fails as a full disk does, in whichever library writes."""
    run_dir = tmp_path / "run"
    command = [
        *(sys.executable, str(repo_root / "scripts" / "train_whisper.py"), "--config", "nano_whisper"),
        *(*tiny_run_overrides(tiny_corpus, tmp_path), *SAVES_TWICE),
    ]
    environment = {**os.environ, "PYTHONPATH": str(repo_root)}
    first = subprocess.run(
        [*command, "training.max_steps=2"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
    )
    assert first.returncode == 0, first.stderr[-2000:]
    (run_dir / "train_results.json").unlink()
    import resource  # not on Windows

    sizes = files_of(run_dir / "checkpoint-2")
    assert sizes["optimizer.pt"] > sizes["model.safetensors"]
    for too_large in ("model.safetensors", "optimizer.pt"):
        limit = sizes[too_large] - 1000
        ran = subprocess.run(
            [*command, "--resume"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=HANGS_AFTER_S,
            preexec_fn=functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit)),
        )
        assert ran.returncode == EXIT_USER_ERROR, ran.stderr[-2000:]
        assert "Traceback" not in ran.stderr
        assert f"error: saving in {run_dir}" in ran.stderr
        assert "found: saving" not in ran.stderr, "it is said once"
        assert "checkpoint-2 is complete" in ran.stderr
        assert [path.name for path in run_dir.glob("checkpoint*")] == ["checkpoint-2"]
        assert missing_parts(run_dir / "checkpoint-2") == []
