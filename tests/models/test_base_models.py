"""What a run makes before it trains never takes the place of what somebody else put there."""

import json
import logging
import shutil
from pathlib import Path

import pytest

from tests.tiny_runs import history
from vietst.config import load_config
from vietst.errors import ModelError
from vietst.models import e2e_base_card
from vietst.models.base_models import base_facts, make_base_model
from vietst.training.runner import run_training

NO_EVALUATION = (
    "training.eval_strategy=no",
    "training.load_best_model_at_end=false",
    "training.save_steps=2",
)


@pytest.mark.parametrize("folder_name", ["nano", "parts"])
def test_a_folder_that_was_not_made_here_is_left_alone(nano_e2e_config, tmp_path, caplog, folder_name):
    folder = tmp_path / folder_name
    (folder / "my recordings").mkdir(parents=True)
    (folder / "my recordings" / "notes.txt").write_text("the only copy", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        if folder_name == "nano":
            assert make_base_model(nano_e2e_config().config, lambda: ["a text"]) == []
        else:  # there is no encoder in it to put together
            with pytest.raises(ModelError, match="encoder"):
                make_base_model(nano_e2e_config().config, lambda: ["a text"])
    assert "used as it is" in caplog.text
    assert (folder / "my recordings" / "notes.txt").read_text(encoding="utf-8") == "the only copy"


@pytest.mark.parametrize("architecture", ["whisper", "e2e"])
def test_a_new_training_starts_from_a_checkpoints_weights_and_leaves_it_whole(
    request, tmp_path, architecture
):
    """With the configuration that made an untrained model at that key, which would be made there now."""
    config = request.getfixturevalue("nano_config" if architecture == "whisper" else "nano_e2e_config")
    first = run_training(config(*NO_EVALUATION, "training.max_steps=2", "training.learning_rate=1e-2"))
    checkpoint = first / "checkpoint-2"
    before = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    shutil.rmtree(tmp_path / "nano")
    second = run_training(
        config(
            *NO_EVALUATION, f"model.name={checkpoint.as_posix()}", f"output.dir={tmp_path.as_posix()}/second"
        )
    )
    assert history(second, "loss")[0] < history(first, "loss")[0]
    assert {path.name: path.read_bytes() for path in checkpoint.iterdir()} == before
    assert not (tmp_path / "nano").exists()
    facts = [json.loads((run / "run_facts.json").read_text(encoding="utf-8")) for run in (first, second)]
    assert [of_run["base_origin"] for of_run in facts] == ["untrained", "local"]
    assert [of_run["base_hub_ids"] for of_run in facts] == [[], []]


def test_hub_ids_are_told_from_folders_whose_names_look_alike(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert base_facts(load_config("prod_whisper").config) == {
        "base_origin": "hub",
        "base_hub_ids": ["openai/whisper-medium"],
    }
    Path("openai/whisper-medium").mkdir(parents=True)
    assert base_facts(load_config("prod_whisper").config) == {"base_origin": "local", "base_hub_ids": []}


def test_an_e2e_model_comes_from_an_encoder_and_a_decoder(tmp_path):
    config = load_config("prod_e2e", [f"model.name={tmp_path.as_posix()}"]).config
    (tmp_path / e2e_base_card.CARD_NAME).touch()
    assert base_facts(config) == {
        "base_origin": "hub",
        "base_hub_ids": ["facebook/wav2vec2-large-xlsr-53", "facebook/mbart-large-50"],
    }
    config = load_config("prod_e2e", [f"model.name={tmp_path.as_posix()}", "model.encoder=."]).config
    assert base_facts(config) == {"base_origin": "local", "base_hub_ids": ["facebook/mbart-large-50"]}
