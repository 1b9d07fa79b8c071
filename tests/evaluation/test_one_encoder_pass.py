"""Evaluation generates every task from one encoder pass, with the padding masked, in a run and after it."""

import dataclasses
from typing import Any

import pytest

from vietst.constants import TASKS
from vietst.data.audio import measure_audio
from vietst.evaluation.beside import BesideOptions
from vietst.evaluation.evaluate_model import evaluate_model
from vietst.evaluation.predictions_file import read_predictions
from vietst.evaluation.scoring import ScoringOptions, SplitOptions
from vietst.models import e2e, whisper
from vietst.models.architectures import ARCHITECTURES
from vietst.training.runner import run_training


@pytest.fixture(params=["whisper", "e2e"])
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def encoded(architecture: str, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The batches that the encoder of each model loaded from now on is run on: lengths of their clips.

    wav2vec2's: how many samples are real, from the attention mask; Whisper's: its window, whatever is heard.
    """
    batches: list[list[int]] = []
    module = {"whisper": whisper, "e2e": e2e}[architecture]
    load_model = module.load_model

    def load(*args: Any, **kwargs: Any) -> Any:
        model = load_model(*args, **kwargs)
        # a part that every pass through the encoder begins with
        if architecture == "whisper":
            model.model.encoder.conv1.register_forward_pre_hook(
                lambda _, inputs: batches.append([inputs[0].shape[-1]] * len(inputs[0]))
            )
        else:
            model.encoder.feature_extractor.register_forward_pre_hook(
                lambda _, inputs: batches.append(inputs[1].tolist())
            )
        return model

    monkeypatch.setattr(module, "load_model", load)  # of training
    of_evaluation = dataclasses.replace(ARCHITECTURES[architecture], load_model=load)
    monkeypatch.setitem(ARCHITECTURES, architecture, of_evaluation)
    return batches


def test_both_tasks_come_from_one_pass_over_the_real_audio(
    architecture, request, tiny_corpus, tmp_path, encoded
):
    load_config = request.getfixturevalue("nano_config" if architecture == "whisper" else "nano_e2e_config")
    run_dir = run_training(
        load_config(
            "model.task=both",
            "training.max_steps=1",
            "training.eval_steps=1",
            "training.save_steps=1",
            "training.load_best_model_at_end=false",
            "training.eval_batch_size=5",
        )
    )
    sizes = [len(batch) for batch in encoded]
    assert sizes[1:] == [5, 5, 1], (
        "10 of dev, once for both tasks and the loss; the clip that the doctor compares"
    )

    heard = {}
    for batch_size in (15, 1):
        encoded.clear()
        metrics = evaluate_model(
            model_dir=str(run_dir),
            model_type=architecture,
            task=None,
            split=SplitOptions(
                tiny_corpus / "data" / "splits" / "test.csv", tiny_corpus, batch_size, None, 0
            ),
            scoring=ScoringOptions(tmp_path / str(batch_size)),
            beside=BesideOptions(),
        )
        results = tmp_path / str(batch_size)
        assert (results / "run_report.html").is_file()
        for row in read_predictions(results / "run_predictions.csv"):
            audio = measure_audio(tiny_corpus / row.audio_path)
            assert row.level_dbfs == pytest.approx(audio.rms_dbfs, abs=0.1), "resampled or not"
        assert [len(batch) for batch in encoded] == [batch_size] * (15 // batch_size)
        heard[batch_size] = [length for batch in encoded for length in batch]
        assert metrics["facts"]["decoding"]["tasks"] == list(TASKS)
        assert metrics["num_transcribed"] == metrics["num_translated"] == 15
    assert heard[15] == heard[1], "without the padding"
    assert len(set(heard[1])) == (1 if architecture == "whisper" else 15)
