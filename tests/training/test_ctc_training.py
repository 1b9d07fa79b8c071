"""CTC as an aid, in characters and in subwords: it is learned, and goes on with the units it began with."""

import csv
import shutil
from collections.abc import Callable

import pytest
from safetensors.torch import load_file

from tests.tiny_runs import history
from vietst.config import LoadedConfig
from vietst.data.ctc_units import CharacterTable
from vietst.errors import CheckpointError
from vietst.models.architectures import ARCHITECTURES
from vietst.training.checkpoints import LATEST
from vietst.training.runner import run_training

NO_EVALUATION = ("training.eval_strategy=no", "training.load_best_model_at_end=false")
SUBWORDS = ("loss.ctc_units=subwords", *NO_EVALUATION)


@pytest.fixture(params=["whisper", "e2e"])
def config(request: pytest.FixtureRequest) -> Callable[..., LoadedConfig]:
    """Tiny runs of an architecture."""
    fixture = {"whisper": "nano_config", "e2e": "nano_e2e_config"}[request.param]
    loaded: Callable[..., LoadedConfig] = request.getfixturevalue(fixture)
    return loaded


def transcripts_of(loaded: LoadedConfig) -> list[str]:
    with (loaded.config.paths.splits_dir / "train.csv").open(encoding="utf-8", newline="") as file:
        return [row["transcript"] for row in csv.DictReader(file)]


def test_ctc_learns_the_pieces_of_the_training_transcripts_and_is_not_released(config):
    # nearly nothing but CTC in the loss
    alone = ("loss.ctc_weight=1", "loss.transcribe_weight=1e-6", "loss.translate_weight=1e-6")
    whole_split = ("training.batch_size=35", "training.learning_rate=1e-2")
    loaded = config(*SUBWORDS, *alone, *whole_split, "training.max_steps=20", "training.save_steps=20")
    run_dir = run_training(loaded)
    losses = history(run_dir, "loss")
    assert len(losses) == 20
    assert 0 < max(losses[-3:]) < 0.4 * losses[0]

    architecture = ARCHITECTURES[loaded.config.model.type]
    tokenizer = architecture.load_processor(str(run_dir)).tokenizer
    pieces = {
        piece for text in transcripts_of(loaded) for piece in architecture.text_token_ids(tokenizer, text)
    }
    head = load_file(run_dir / "checkpoint-20" / "model.safetensors")["ctc_head.weight"]
    assert len(head) == 1 + len(pieces) < len(tokenizer)
    assert not [name for name in load_file(run_dir / "model.safetensors") if "ctc" in name]


def test_training_goes_on_with_the_same_units_alone(config, tmp_path):
    options = (*SUBWORDS, "loss.ctc_weight=0.5", "training.save_steps=2")
    straight = run_training(config(*options))
    resumed = tmp_path / "resumed"
    shutil.copytree(straight / "checkpoint-2", resumed / "checkpoint-2")
    output = f"output.dir={resumed.as_posix()}"
    for other, found in (
        ("loss.ctc_units=characters", r"ctc_units: \d+ subwords \(\w+\) → \d+ characters"),
        ("loss.ctc_weight=0", r"ctc_units: \d+ subwords \(\w+\) → None"),
    ):
        with pytest.raises(CheckpointError, match=found):
            run_training(config(*options, other, output), resume=LATEST)
    run_training(config(*options, output), resume=LATEST)
    assert history(resumed, "loss") == history(straight, "loss")
    assert (resumed / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()


def test_units_of_other_transcripts_are_refused(nano_config, monkeypatch):
    """As many characters, of which one is another: the head would fit, and mean something else."""
    options = ("loss.ctc_weight=0.5", *NO_EVALUATION, "training.save_steps=2")
    run_training(nano_config(*options, "training.max_steps=2"))
    of_texts = CharacterTable.of_texts
    monkeypatch.setattr(
        CharacterTable, "of_texts", lambda texts: CharacterTable([*of_texts(texts).units[:-1], "ȹ"])
    )
    with pytest.raises(CheckpointError, match=r"ctc_units: (\d+) characters \(\w+\) → \1 characters"):
        run_training(nano_config(*options), resume=LATEST)
