"""Training in short windows: which one a batch is heard in follows from seed and step, and nothing else."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny_models import cached_rows, whisper_processor
from tests.tiny_runs import history, tiny_run_overrides
from vietst.config import load_config
from vietst.data.context import Context, ContextWindows, WindowDraws
from vietst.data.duration_batches import DurationBatchSampler
from vietst.data.features import LOG_MEL_80, LOG_MEL_80_NANO
from vietst.data.packed_clips import padded_batch
from vietst.models.short_windows import _ShortWindowEncoder
from vietst.models.whisper_inputs import WhisperCollator
from vietst.training.checkpoints import LATEST
from vietst.training.runner import run_training
from vietst.training.windows import TrainingWindows, in_longer_window

WINDOWS = ContextWindows((4.0, 6.0, 10.0), margin_s=0.5)
FRAMES = (400, 600, 1000, 3000)


def windows_of_rank(rank: int, num_processes: int, by_seconds: DurationBatchSampler | None = None):
    context = Context.of(LOG_MEL_80, WINDOWS)
    return TrainingWindows(context, 0.3, 7, by_seconds, 4, num_processes, rank)


def test_all_batches_of_a_step_draw_the_same_and_a_share_of_the_steps_a_longer_window():
    alone = windows_of_rank(0, 1)
    drawn = [alone.num_frames(600, step, 0) for step in range(2000)]
    for step, number, rank in itertools.product(range(20), range(2), range(2)):
        assert windows_of_rank(rank, 2).num_frames(600, step, number) == drawn[step]
    assert set(drawn) == {600, 1000, 3000}
    assert 0.27 < np.mean(np.array(drawn) > 600) < 0.33
    assert drawn.count(1000) == pytest.approx(drawn.count(3000), rel=0.2)
    # In a step that hears longer windows, no batch keeps its own.
    assert [alone.num_frames(400, step, 0) > 400 for step in range(100)] == [n > 600 for n in drawn[:100]]
    assert {alone.num_frames(3000, step, 0) for step in range(100)} == {3000}


def test_batches_by_seconds_are_heard_in_what_their_sampler_counted():
    own = np.random.default_rng(0).choice(3, 300)
    draws = WindowDraws((4.0, 6.0, 10.0, 30.0), own, 0.3)
    durations_s = np.array(draws.windows_s)[own] - 0.7
    of_two, of_one = (
        DurationBatchSampler(durations_s, 60.0, seed=1, batches_per_step=4, num_processes=n, windows=draws)
        for n in (2, 1)
    )
    num_steps = of_one.num_steps
    for step in (0, 3, num_steps, num_steps + 2):
        epoch, in_epoch = divmod(step, num_steps)
        dealt = [
            windows_of_rank(rank, 2, of_two).num_frames(400, step, number)
            for number in range(2)
            for rank in range(2)
        ]
        alone = [windows_of_rank(0, 1, of_one).num_frames(400, step, number) for number in range(4)]
        lengths_s = of_one.padded_lengths_s(epoch)[4 * in_epoch : 4 * in_epoch + 4]
        assert dealt == alone == [round(100 * length_s) for length_s in lengths_s]


def test_a_lengthened_batch_is_the_one_that_the_collator_makes_of_the_longer_window():
    processor, rows = whisper_processor(), cached_rows(3)
    short, full = (
        WhisperCollator(processor, LOG_MEL_80_NANO, ("transcribe",), "vi", windows=windows)(rows)
        for windows in (ContextWindows((2.0, 2.5), 0.01), None)
    )
    assert short["input_features"].padded_length < 200
    lengthened, expected = padded_batch(in_longer_window(short, 200)), padded_batch(full)
    assert lengthened.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(lengthened[name], tensor), name
    assert in_longer_window(short, 100) is short


# --- whole trainings -------------------------------------------------------------------------------------


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, int]]:
    """(in training?, frames) of every encoder pass."""
    passes: list[tuple[bool, int]] = []
    original = _ShortWindowEncoder.forward

    def forward(self: _ShortWindowEncoder, features: torch.Tensor, *args: object) -> object:
        passes.append((self.training, features.shape[-1]))
        return original(self, features, *args)

    monkeypatch.setattr(_ShortWindowEncoder, "forward", forward)
    return passes


def train(corpus: Path, folder: Path, *options: str, resume: str | None = None) -> Path:
    return run_training(
        load_config("nano_whisper", [*tiny_run_overrides(corpus, folder), *options]), resume=resume
    )


def test_windows_that_are_the_models_own_change_nothing(tiny_corpus, tmp_path):
    whole = train(tiny_corpus, tmp_path / "whole")
    windows = ("audio.context=bucketed", "audio.context_windows_s=[4]", "audio.context_longer_share=1")
    cut = train(tiny_corpus, tmp_path / "cut", *windows)
    for key in ("loss", "grad_norm", "eval_loss", "eval_wer"):
        assert history(cut, key) == history(whole, key), key


@pytest.mark.parametrize("batches", ["training.batch_size=4", "training.batch_seconds=16"])
def test_a_training_that_goes_on_hears_the_windows_of_the_undisturbed_one(
    tiny_corpus, tmp_path, heard, batches
):
    options = (
        batches,
        "audio.context=bucketed",
        "audio.context_windows_s=[2.8,3.3,3.7]",
        "audio.context_margin_s=0.02",
        "audio.context_longer_share=0.4",
        "evaluation.context=full",
        "augmentation.mask_time_prob=0.1",
        "training.max_steps=12",
        "training.eval_steps=12",
        "training.save_steps=6",
        "training.load_best_model_at_end=false",
        "evaluation.max_dev_utterances=4",
        "model.task=transcribe",
    )
    straight = train(tiny_corpus, tmp_path / "straight", *options)
    in_training = [frames for training, frames in heard if training]
    assert len(set(in_training)) >= 3
    assert max(in_training) == 200, "the model's own window is among those drawn"
    in_evaluation = {frames for training, frames in heard if not training}
    assert in_evaluation == {200}
    (straight / "checkpoint-12").rename(tmp_path / "away")
    losses = history(straight, "loss")
    heard.clear()
    again = train(tiny_corpus, tmp_path / "straight", *options, resume=LATEST)
    assert [frames for training, frames in heard if training] == in_training[6:]
    assert history(again, "loss") == losses
