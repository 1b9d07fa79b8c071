"""Whole training runs, tiny, in this process: what they leave behind, that they learn and resume exactly."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import WhisperForConditionalGeneration

from tests.tiny_runs import history
from vietst import __version__
from vietst.data.usable_rows import usable_rows
from vietst.errors import CheckpointError, ConfigError, FeatureCacheError, VietstError
from vietst.models import whisper_inputs
from vietst.models.model_record import ModelRecord, read_model_record
from vietst.training import release_check
from vietst.training.checkpoints import AUTO, LATEST
from vietst.training.preparation import evaluation_sample
from vietst.training.run_plan import dry_run
from vietst.training.runner import run_training
from vietst.training.sole_training import sole_training


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(run_dir / "model.safetensors")


def test_a_run_leaves_what_the_guide_names_and_stock_transformers_loads_it(nano_config):
    run_dir = run_training(nano_config())
    expected = {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "train_results.json",
        "trainer_state.json",
        "resolved_config.yaml",
        "environment.json",
        "run_facts.json",
        "self_check",
        "metrics",
        "checkpoint-4",
    }
    assert expected <= {path.name for path in run_dir.iterdir()}
    model, info = WhisperForConditionalGeneration.from_pretrained(run_dir, output_loading_info=True)
    assert not info["unexpected_keys"], "the CTC head is thrown away"
    assert not info["missing_keys"]
    assert model.generation_config.language == "vi"
    assert model.generation_config.task == "transcribe"
    assert model.generation_config.num_beams == 1, "stock pipelines would take five"
    assert model.config.use_cache, "the Trainer would have every token computed again"
    for folder in (run_dir, run_dir / "checkpoint-4"):
        assert read_model_record(str(folder)) == ModelRecord(
            vietst_version=__version__,
            architecture="whisper",
            tasks=("transcribe", "translate"),
            language="vi",
            num_beams=1,
            max_new_tokens_per_second=1.0,
            max_new_tokens_base=6,
        )
    assert len(history(run_dir, "loss")) == 4
    assert {"eval_loss", "eval_wer", "eval_cer", "eval_bleu", "eval_chrf"} <= json.loads(
        next((run_dir / "metrics").glob("*")).read_text(encoding="utf-8")
    )["history"][-2].keys()


def test_training_learns_and_moves_exactly_the_parameters_that_are_not_frozen(nano_config):
    before = weights(
        run_training(
            nano_config(
                "training.max_steps=1",
                "training.learning_rate=1e-12",
                "output.dir=" + str(nano_config().config.output.dir) + "-before",
            )
        )
    )
    run_dir = run_training(
        nano_config(
            "training.max_steps=30",
            "training.eval_steps=30",
            "loss.ctc_weight=0",
            "training.learning_rate=1e-2",
            "training.save_steps=30",
            "model.freeze_encoder=true",
        )
    )
    after = weights(run_dir)
    losses = history(run_dir, "loss")
    assert losses[-1] < 0.8 * losses[0]
    for name, tensor in after.items():
        moved = not torch.allclose(tensor, before[name], atol=1e-6)
        assert moved == (not name.startswith("model.encoder")), name


def test_resuming_gives_the_losses_and_weights_of_the_undisturbed_run(nano_config):
    options = (
        "training.max_steps=6",
        "training.eval_steps=3",
        "training.save_steps=3",
        "training.load_best_model_at_end=false",
        "augmentation.mask_time_prob=0.1",
    )
    straight = run_training(nano_config(*options))
    folder = straight.with_name("resumed")
    resumed_options = (*options, f"output.dir={folder.as_posix()}")
    (folder).mkdir()
    (straight / "checkpoint-3").rename(folder / "checkpoint-3")
    resumed = run_training(nano_config(*resumed_options), resume=LATEST)
    assert history(resumed, "loss") == history(straight, "loss")
    assert history(resumed, "learning_rate") == history(straight, "learning_rate")
    for name, tensor in weights(straight).items():
        assert torch.equal(tensor, weights(resumed)[name]), name


def test_resuming_a_run_that_was_killed_after_its_last_checkpoint_only_finishes_it(nano_config):
    run_dir = run_training(nano_config())
    expected = weights(run_dir)
    for path in run_dir.glob("*"):
        if path.is_file():
            path.unlink()
    resumed = run_training(nano_config(), resume=LATEST)
    assert len(history(resumed, "loss")) == 4
    for name, tensor in weights(resumed).items():
        assert torch.equal(tensor, expected[name]), name


def test_best_checkpoint_by_the_chosen_metric_becomes_the_model(nano_config):
    run_dir = run_training(
        nano_config(
            "training.max_steps=8",
            "training.eval_steps=2",
            "training.save_steps=2",
            "training.save_total_limit=1",
            "training.metric_for_best_model=eval_loss",
        )
    )
    record = json.loads(next((run_dir / "metrics").glob("*")).read_text(encoding="utf-8"))
    assert record["best_metric"] == min(history(run_dir, "eval_loss"))
    best = load_file(run_dir / f"checkpoint-{record['best_step']}" / "model.safetensors")
    for name, tensor in weights(run_dir).items():
        assert torch.equal(tensor, best[name]), name


def test_a_run_folder_with_checkpoints_is_not_overwritten(nano_config):
    run_training(nano_config("training.max_steps=1", "training.save_steps=1", "training.eval_steps=1"))
    with pytest.raises(CheckpointError, match="--resume"):
        run_training(nano_config("training.max_steps=1"))


def test_two_trainings_do_not_write_into_one_run_folder(nano_config):
    config = nano_config("training.max_steps=1")
    run_dir = config.config.output.dir
    with sole_training(run_dir):
        for resume in (None, AUTO):
            with pytest.raises(VietstError, match="one training at a time") as refused:
                run_training(config, resume=resume)
            assert str(run_dir) in str(refused.value)
    with sole_training(run_dir):
        pass  # free again after an error


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked here")
def test_a_killed_training_leaves_its_run_folder_free_though_a_worker_lives_on(tmp_path):
    program = (
        "import os, pathlib, sys, time\n"
        "from vietst.training.sole_training import sole_training\n"
        "with sole_training(pathlib.Path(sys.argv[1])):\n"
        "    if os.fork() == 0: print(os.getpid(), flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as training:
        worker = int(training.stdout.readline())
        training.kill()
    try:
        with sole_training(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_run_folder_that_cannot_be_one_is_refused_before_anything_is_loaded(nano_config, tmp_path):
    (tmp_path / "notes.txt").write_text("no folder")
    with pytest.raises(VietstError, match=r"run folder .*notes\.txt"):
        run_training(nano_config(f"output.dir={tmp_path / 'notes.txt' / 'run'}"))


def test_resume_without_a_checkpoint_says_so(nano_config):
    with pytest.raises(CheckpointError, match="complete checkpoint"):
        run_training(nano_config(), resume=LATEST)
    with pytest.raises(CheckpointError, match="no such folder"):
        run_training(nano_config(), resume="outputs/nothing/checkpoint-7")


def test_a_checkpoint_cut_off_by_a_kill_is_not_resumed_from(nano_config):
    run_dir = run_training(
        nano_config("training.max_steps=2", "training.save_steps=1", "training.eval_steps=1")
    )
    (run_dir / "checkpoint-2" / "trainer_state.json").unlink()
    with pytest.raises(CheckpointError, match=r"trainer_state.json missing"):
        run_training(nano_config(), resume=str(run_dir / "checkpoint-2"))
    resumed = run_training(
        nano_config("training.max_steps=2", "training.save_steps=1", "training.eval_steps=1"), resume=LATEST
    )
    assert (resumed / "checkpoint-2" / "trainer_state.json").is_file()


def test_features_for_another_input_kind_are_refused_with_the_command_that_builds_them(nano_config, tmp_path):
    with pytest.raises(FeatureCacheError, match=r"build_features\.py"):
        run_training(nano_config(f"paths.features_dir={(tmp_path / 'none').as_posix()}"))


def test_fp16_without_a_gpu_is_refused_instead_of_ignored(nano_config):
    with pytest.raises(ConfigError, match=r"training\.fp16"):
        run_training(nano_config("training.fp16=true"))


def test_dry_run_prints_origins_and_plan_and_trains_nothing(nano_config, capsys):
    loaded = nano_config("training.learning_rate=0.001")
    assert dry_run(loaded)
    printed = capsys.readouterr().out
    assert "learning_rate" in printed
    assert "command line" in printed
    assert "would start" in printed
    assert not (loaded.config.output.dir / "model.safetensors").exists()


def test_dry_run_refuses_a_license_that_the_training_would(nano_config, capsys):
    assert not dry_run(nano_config("hub.repo_id=tester/model", "hub.license=mit"))
    assert "hub.dataset_license" in capsys.readouterr().out.partition("training could not start")[2]


def test_texts_beyond_the_decoder_and_clips_beyond_the_window_are_rejected_not_cut(nano_config, tmp_path):
    from tests.tiny_models import cached_rows, whisper_processor
    from vietst.data.features import LOG_MEL_80_NANO

    rows = cached_rows(4)
    rows[1]["translation"] = "rất " * 200
    rows[2]["duration_s"] = 4.5
    rows[3]["transcript"] = rows[3]["translation"] = ""
    usable, rejected = usable_rows(
        rows,
        ("transcribe", "translate"),
        whisper_inputs.label_lengths,
        whisper_processor().tokenizer,
        64,
        LOG_MEL_80_NANO,
    )
    assert usable == [0]
    assert [row["reason"] for row in rejected] == ["label_too_long", "longer_than_window", "no_target"]


def test_the_evaluation_sample_is_the_same_every_time_and_longest_first():
    rows = {"duration_s": [float(index % 7) for index in range(50)]}
    sample = evaluation_sample(rows, list(range(50)), 10, seed=3)
    assert sample == evaluation_sample(rows, list(range(50)), 10, seed=3)
    assert len(set(sample)) == 10
    durations = [rows["duration_s"][position] for position in sample]
    assert durations == sorted(durations, reverse=True)
    assert sorted(evaluation_sample(rows, [4, 2, 9], None, seed=3)) == [2, 4, 9]


def test_a_training_whose_model_cannot_speak_yet_is_still_a_training(nano_config, monkeypatch, caplog):
    """What is recorded for the doctor is worth less than a finished training."""

    def fails(_folder: Path) -> None:
        raise MemoryError("no memory for the model on the CPU")

    monkeypatch.setattr(release_check, "record_self_check", fails)
    run_dir = run_training(
        nano_config("training.max_steps=1", "training.save_steps=1", "training.eval_steps=1")
    )
    assert (run_dir / "train_results.json").is_file()
    assert "self_check was not recorded: no memory" in caplog.text


def test_what_an_earlier_training_said_about_the_clip_does_not_go_out_with_another_model(tmp_path):
    expected = tmp_path / "self_check" / "expected.json"
    expected.parent.mkdir()
    expected.touch()
    release_check.record_release(tmp_path)  # fails: there is no model
    assert not expected.exists()
