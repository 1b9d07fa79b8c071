"""Evaluation generates every task from one encoder pass, with the padding masked, in a run and after it."""

import csv
from pathlib import Path
from typing import Any

import pytest

from vietst.constants import TASKS
from vietst.evaluation.evaluate_model import evaluate_model
from vietst.models.architectures import ARCHITECTURES
from vietst.training.runner import run_training


@pytest.fixture(params=["whisper", "e2e"])
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def encoded(architecture: str, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that the encoder of every model loaded from now on is run on."""
    sizes: list[int] = []
    module = ARCHITECTURES[architecture]
    load_model = module.load_model

    def load(*args: Any, **kwargs: Any) -> Any:
        model = load_model(*args, **kwargs)
        # a part that every pass through the encoder begins with
        first = model.model.encoder.conv1 if architecture == "whisper" else model.encoder.feature_extractor
        first.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
        return model

    monkeypatch.setattr(module, "load_model", load)
    return sizes


def hypotheses(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [(row["transcript_hypothesis"], row["translation_hypothesis"]) for row in csv.DictReader(file)]


def test_both_tasks_come_from_one_pass_and_do_not_depend_on_the_batch(
    architecture, request, tiny_corpus, tmp_path, encoded
):
    load_config = request.getfixturevalue("nano_config" if architecture == "whisper" else "nano_e2e_config")
    run_dir = run_training(
        load_config(
            "model.task=both",
            "training.max_steps=40",
            "training.eval_steps=40",
            "training.save_steps=40",
            "training.load_best_model_at_end=false",
            "training.eval_batch_size=5",
            "training.learning_rate=1e-2",
            "evaluation.max_new_tokens_per_second=0.001",  # the cap grows with the longest clip of a batch
            "evaluation.max_new_tokens_base=12",
        )
    )
    assert encoded[-2:] == [5, 5], "10 utterances of dev, once each for both tasks and the loss"
    assert len(encoded) == 40 + 2

    texts = {}
    for batch_size in (15, 1):
        encoded.clear()
        metrics = evaluate_model(
            model_dir=str(run_dir),
            model_type=architecture,
            test_csv=tiny_corpus / "data" / "splits" / "test.csv",
            output=tmp_path / str(batch_size),
            audio_root=tiny_corpus,
            train_csv=None,
            run_name=None,
            task=None,
            batch_size=batch_size,
            num_beams=None,
            num_workers=0,
        )
        assert encoded == [batch_size] * (15 // batch_size)
        assert metrics["facts"]["decoding"]["tasks"] == list(TASKS)
        assert metrics["num_transcribed"] == metrics["num_translated"] == 15
        texts[batch_size] = hypotheses(tmp_path / str(batch_size) / "run_predictions.csv")
    assert texts[15] == texts[1]
    assert any(transcript != translation for transcript, translation in texts[1]), "the prompts matter"
