"""Training E2E models on cached states of the frozen encoder: taken before what always trains."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny_e2e import parameter_group, write_encoder
from tests.tiny_runs import history
from vietst.config import LoadedConfig
from vietst.data.encoder_state_cache import FOLDER_NAME
from vietst.models.wav2vec2 import LengthTrueWav2Vec2
from vietst.training.checkpoints import LATEST
from vietst.training.preparation import prepare
from vietst.training.run_plan import dry_run
from vietst.training.runner import run_training

NUM_CLIPS = 35 + 10
"""Of train and dev."""

FROZEN = ("model.freeze_encoder=true", "augmentation.mask_time_prob=0.3", "loss.ctc_weight=0.5")
CACHED = (*FROZEN, "model.cache_encoder_states=true")
NO_EVALUATION = ("training.eval_strategy=no", "training.load_best_model_at_end=false")


@pytest.fixture
def e2e_config(
    nano_e2e_config: Callable[..., LoadedConfig], tiny_corpus: Path, tmp_path: Path
) -> Callable[..., LoadedConfig]:
    """Runs with features of their own, so that nobody else's states lie beside them."""
    shutil.copytree(tiny_corpus / "data" / "features", tmp_path / "features")
    features = f"paths.features_dir={(tmp_path / 'features').as_posix()}"
    return lambda *overrides: nano_e2e_config(features, *overrides)


@pytest.fixture
def num_encoded(monkeypatch: pytest.MonkeyPatch, no_recorded_clip: None) -> list[int]:
    """Sizes of the batches that the encoder itself is run on."""
    sizes: list[int] = []
    listen = LengthTrueWav2Vec2.listen

    def counting(self, input_values, attention_mask):
        sizes.append(len(input_values))
        return listen(self, input_values, attention_mask)

    monkeypatch.setattr(LengthTrueWav2Vec2, "listen", counting)
    return sizes


def caches(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "features" / FOLDER_NAME).glob("*")}


def put_encoder_with_dropout(norm: str, config: LoadedConfig, folder: Path) -> None:
    """A tiny wav2vec2-base (norm "group") or XLSR-53 ("layer"), full of dropout, for nano's encoder."""
    prepare(config.config)
    shutil.rmtree(folder)
    write_encoder(
        folder, norm, hidden_dropout=0.3, attention_dropout=0.3, feat_proj_dropout=0.3, layerdrop=0.3
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("norm", "options"),
    [
        ("nano", ("training.batch_seconds=12",)),
        ("group", ("model.length_adaptor=true", "loss.ctc_units=subwords")),
        ("layer", ("model.finetune=lora", "lora.dropout=0")),
    ],
)
def test_fifty_steps_have_the_losses_of_computing_the_states(
    e2e_config, tmp_path, num_encoded, norm, options
):
    """Half precision keeps 11 significant bits, so every state is off by up to 2⁻¹¹ = 4.9e-4 of itself, to
    either side. A loss weighs thousands of them, and most of it cancels: 1e-4 allows for ten times what was
    seen over 50 steps, 1e-3 for ten times what gradient norms differed by."""
    if norm != "nano":
        put_encoder_with_dropout(norm, e2e_config(), tmp_path / "parts" / "encoder")
    options = (*options, "training.max_steps=50", "training.eval_steps=25", "training.save_steps=50")
    options = (*options, "training.load_best_model_at_end=false", "training.learning_rate=5e-3")
    computed = run_training(e2e_config(*options, *FROZEN))
    assert not caches(tmp_path)
    assert len(num_encoded) > 50
    num_encoded.clear()
    cached = run_training(e2e_config(*options, *CACHED, f"output.dir={(tmp_path / 'cached').as_posix()}"))
    assert sum(num_encoded) == NUM_CLIPS, "each once"
    facts = json.loads((cached / "run_facts.json").read_text(encoding="utf-8"))
    assert set(facts["encoder_states"].values()) == caches(tmp_path)

    losses = history(cached, "loss")
    assert len(losses) == 50
    assert losses[-1] < 0.8 * losses[0], "it learned something, so that an error would have grown"
    assert losses == pytest.approx(history(computed, "loss"), rel=1e-4)
    assert history(cached, "grad_norm") == pytest.approx(history(computed, "grad_norm"), rel=1e-3)
    assert history(cached, "eval_loss") == pytest.approx(history(computed, "eval_loss"), rel=1e-4)

    base = load_file(tmp_path / "nano" / "model.safetensors")
    trained = load_file(cached / "model.safetensors")
    moved = {parameter_group(name) for name in base if not torch.equal(base[name], trained[name])}
    assert moved == {"projection", "decoder"} | ({"length adaptor"} if norm == "group" else set())


def test_a_cached_run_resumes_exactly(e2e_config, tmp_path):
    options = (*CACHED, *NO_EVALUATION, "model.length_adaptor=true", "training.save_steps=2")
    straight = run_training(e2e_config(*options))
    resumed = tmp_path / "resumed"
    shutil.copytree(straight / "checkpoint-2", resumed / "checkpoint-2")
    run_training(e2e_config(*options, f"output.dir={resumed.as_posix()}"), resume=LATEST)
    assert history(resumed, "loss") == history(straight, "loss")
    assert (resumed / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()


def test_only_an_encoder_that_changed_misses_the_cache(e2e_config, tmp_path, num_encoded):
    options = (*CACHED, *NO_EVALUATION, "training.max_steps=1", "model.length_adaptor=true")

    def encoded_by(name: str, *overrides: str) -> int:
        num_encoded.clear()
        run_training(e2e_config(*options, f"output.dir={(tmp_path / name).as_posix()}", *overrides))
        return sum(num_encoded)

    assert encoded_by("first") == NUM_CLIPS
    assert encoded_by("another_task", "model.task=transcribe", "loss.ctc_units=subwords") == 0
    assert encoded_by("another_dev_sample", "evaluation.max_dev_utterances=4") == 4, "train's stay"
    for part, expected in (
        ("encoder.adapter.layers.0.conv.bias", 0),
        ("encoder.encoder.layer_norm.bias", 45),
    ):
        weights = load_file(tmp_path / "nano" / "model.safetensors")
        weights[part][0] += 1e-3
        save_file(weights, tmp_path / "nano" / "model.safetensors", metadata={"format": "pt"})
        assert encoded_by(part) == expected


@pytest.mark.parametrize(
    ("trained", "said"),
    [
        ("model.freeze_encoder=false", "trained: all layers)"),
        ("training.freeze_encoder_updates=2", "the encoder from step 3 on"),
        ("training.freeze_encoder_epochs=0.5", "the encoder from epoch 0.5 on"),
    ],
)
def test_an_encoder_that_does_not_stay_frozen_is_computed_and_that_is_said(
    e2e_config, tmp_path, num_encoded, caplog, capsys, trained, said
):
    options = (*NO_EVALUATION, "model.cache_encoder_states=true", "augmentation.mask_time_prob=0.3", trained)
    with caplog.at_level(logging.WARNING):
        run_training(e2e_config(*options))
    assert "computed in every step, not cached: the encoder does not stay frozen" in caplog.text
    assert said in caplog.text
    assert num_encoded == [4] * 4
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert dry_run(e2e_config(*options))
    assert said in caplog.text
    assert not caches(tmp_path)
