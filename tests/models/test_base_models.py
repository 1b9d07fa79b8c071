"""What a run makes before it trains never takes the place of what somebody else put there."""

import logging
import shutil

import pytest

from tests.tiny_runs import history
from vietst.errors import ModelError
from vietst.models.base_models import make_base_model
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
