"""Training on cached states of the frozen encoder: as computing them, or refused, or given up with a word."""

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny_models import cached_rows, whisper_batch, whisper_model, whisper_processor
from tests.tiny_runs import history, tiny_run_overrides
from tests.training.test_batch_seconds import launch
from vietst.data import encoder_state_cache
from vietst.data.ctc_units import CharacterTable
from vietst.data.encoder_states import EncodedUtteranceDataset
from vietst.data.features import LOG_MEL_80_NANO
from vietst.errors import CheckpointError, FeatureCacheError
from vietst.models import whisper, whisper_generation
from vietst.models.multitask import EncoderStates, LossWeights
from vietst.models.trainable import TrainingScope, with_frozen_encoder
from vietst.training import cached_states
from vietst.training.cached_states import why_states_change, with_cached_states
from vietst.training.checkpoints import LATEST
from vietst.training.preparation import prepare
from vietst.training.run_plan import dry_run
from vietst.training.runner import run_training

FROZEN = ("model.freeze_encoder=true", "augmentation.mask_time_prob=0.3", "loss.ctc_weight=0.5")
CACHED = (*FROZEN, "model.cache_encoder_states=true")


@pytest.fixture
def own_features(tiny_corpus: Path, tmp_path: Path) -> str:
    """An override: a copy of the features, so that nobody else's states lie beside them."""
    shutil.copytree(tiny_corpus / "data" / "features", tmp_path / "features")
    return f"paths.features_dir={(tmp_path / 'features').as_posix()}"


@pytest.fixture
def num_encoded(monkeypatch, no_recorded_clip) -> list[int]:
    """Sizes of the batches that the encoder itself is run on."""
    sizes: list[int] = []

    def hook(module: Any, inputs: Any, output: Any) -> None:
        sizes.append(len(output.last_hidden_state))

    load = whisper.load_model

    def load_model(*args: Any, **kwargs: Any) -> Any:
        model = load(*args, **kwargs)
        model.get_encoder().register_forward_hook(hook)
        return model

    monkeypatch.setattr(whisper, "load_model", load_model)
    return sizes


def caches(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "features" / encoder_state_cache.FOLDER_NAME).glob("*"))


# --- equal to computing them -------------------------------------------------------------------------


def test_fifty_steps_have_the_losses_of_computing_the_states(
    nano_config, own_features, tmp_path, num_encoded
):
    """The tolerances are those of half precision: see `test_cached_states_e2e.py`."""
    options = (
        own_features,
        "training.max_steps=50",
        "training.eval_steps=25",
        "training.save_steps=50",
        "training.load_best_model_at_end=false",
    )
    computed = run_training(nano_config(*options, *FROZEN))
    assert not caches(tmp_path)
    assert len(num_encoded) >= 50
    num_encoded.clear()
    cached = run_training(nano_config(*options, *CACHED, f"output.dir={(tmp_path / 'cached').as_posix()}"))
    assert sum(num_encoded) == 35 + 10, "every clip of train and dev once"
    assert history(cached, "loss") == pytest.approx(history(computed, "loss"), rel=1e-4)
    assert len(history(cached, "loss")) == 50
    assert history(cached, "grad_norm") == pytest.approx(history(computed, "grad_norm"), rel=1e-3)
    assert history(cached, "eval_loss") == pytest.approx(history(computed, "eval_loss"), rel=1e-4)
    facts = json.loads((cached / "run_facts.json").read_text(encoding="utf-8"))
    assert sorted(facts["encoder_states"].values()) == [path.name for path in caches(tmp_path)]

    base, trained = (load_file(folder / "model.safetensors") for folder in (tmp_path / "nano", cached))
    for name, tensor in trained.items():
        assert torch.equal(tensor, base[name]) == name.startswith("model.encoder."), name


@pytest.fixture
def cached_and_computed(tmp_path: Path) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    """A frozen model, its processor, and the same batch with cached states and with features."""
    import datasets

    processor = whisper_processor()
    model = whisper_model(processor)
    with_frozen_encoder(TrainingScope()).apply(model)
    model.add_ctc_head(20)
    model.loss_weights = LossWeights(ctc=0.5)
    rows = cached_rows(4)
    table = datasets.Dataset.from_list(
        [{**row, "audio_digest": str(row["id"])} for row in rows]
    ).remove_columns("row_index")
    encoder = whisper_generation.frozen_encoder(model, LOG_MEL_80_NANO)
    plan = encoder_state_cache.plan_states({"dev": table}, tmp_path, encoder)
    states = encoder_state_cache.build_states(plan, {"dev": table}, encoder, batch_size=3)
    dataset = EncodedUtteranceDataset(table, states["dev"])
    characters = CharacterTable("abcdefghijklmnop")
    return (
        model,
        processor,
        whisper_batch(processor, [dataset[index] for index in range(4)], characters=characters),
        whisper_batch(processor, rows, characters=characters),
    )


def test_a_cached_batch_has_states_instead_of_features_and_is_else_the_same(cached_and_computed):
    model, _, cached, computed = cached_and_computed
    assert set(computed) - set(cached) == {"input_features", "attention_mask"}
    assert set(cached) - set(computed) == {"encoder_states"}
    assert cached["encoder_states"].shape == (4, model.config.max_source_positions, model.config.d_model)
    for name in set(cached) & set(computed):
        assert torch.equal(cached[name], computed[name]), name


def test_losses_gradients_and_hypotheses_are_those_of_computed_states(cached_and_computed):
    model, processor, cached, computed = cached_and_computed
    results = []
    for batch in (cached, computed):
        model.zero_grad()
        outputs = model.train()(**batch)
        outputs.loss.backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        generated = whisper_generation.generate(
            *(model.eval(), processor.tokenizer, outputs.encoder_states, ("transcribe", "translate")),
            language="vi",
            max_new_tokens=12,
        )
        results.append((outputs, gradients, generated))
    (ours, our_gradients, our_ids), (theirs, their_gradients, their_ids) = results
    assert ours.loss.item() == pytest.approx(theirs.loss.item(), rel=1e-3)
    torch.testing.assert_close(ours.target_losses, theirs.target_losses, rtol=1e-3, atol=0)
    torch.testing.assert_close(
        ours.encoder_states.last_hidden_state, theirs.encoder_states.last_hidden_state, rtol=1e-3, atol=1e-3
    )
    assert our_gradients.keys() == their_gradients.keys()
    for name, gradient in our_gradients.items():
        torch.testing.assert_close(gradient, their_gradients[name], rtol=2e-2, atol=2e-4, msg=name)
    assert torch.equal(our_ids, their_ids)
    assert isinstance(ours.encoder_states, EncoderStates)


def test_a_cached_run_resumes_exactly(nano_config, own_features, tmp_path):
    options = (
        *CACHED,
        own_features,
        "training.max_steps=6",
        "training.eval_steps=3",
        "training.save_steps=3",
        "training.load_best_model_at_end=false",
    )
    straight = run_training(nano_config(*options))
    folder = tmp_path / "resumed"
    folder.mkdir()
    shutil.copytree(straight / "checkpoint-3", folder / "checkpoint-3")
    resumed = run_training(nano_config(*options, f"output.dir={folder.as_posix()}"), resume=LATEST)
    assert history(resumed, "loss") == history(straight, "loss")
    assert (resumed / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()


# --- which states ------------------------------------------------------------------------------------


def test_the_same_encoder_is_never_run_again_and_a_changed_weight_misses_the_cache(
    nano_config, own_features, tmp_path, num_encoded
):
    options = (*CACHED, own_features, "training.max_steps=1", "training.eval_strategy=no")
    options = (*options, "training.load_best_model_at_end=false")
    run_training(nano_config(*options))
    assert num_encoded
    num_encoded.clear()
    # another run, another task, another seed, other sizes of batches
    run_training(
        nano_config(
            *options,
            f"output.dir={(tmp_path / 'second').as_posix()}",
            "model.task=transcribe",
            "training.seed=7",
            "training.batch_size=2",
        )
    )
    assert not num_encoded
    assert len(caches(tmp_path)) == 2, "train and dev"

    change_an_encoder_weight(tmp_path / "nano")
    run_training(nano_config(*options, f"output.dir={(tmp_path / 'third').as_posix()}"))
    assert len(caches(tmp_path)) == 4
    assert sum(num_encoded) == 45


def change_an_encoder_weight(model_dir: Path) -> None:
    weights = load_file(model_dir / "model.safetensors")
    weights["model.encoder.layers.0.fc1.bias"][3] += 1e-3
    save_file(weights, model_dir / "model.safetensors", metadata={"format": "pt"})


def test_a_checkpoint_with_another_encoder_is_refused(nano_config, own_features, tmp_path):
    """The decoder would learn from the base model's encoder, and be saved with the checkpoint's."""
    options = (*CACHED, own_features, "training.save_steps=2", "training.eval_steps=2")
    run_training(nano_config(*options, "training.max_steps=2"))
    change_an_encoder_weight(tmp_path / "nano")
    with pytest.raises(CheckpointError, match="its encoder is the base model's"):
        run_training(nano_config(*options, "training.max_steps=4"), resume=LATEST)


def test_a_checkpoint_whose_encoder_deepspeed_has_rounded_is_gone_on_from(
    nano_config, own_features, tmp_path
):
    """In half precision it rounds frozen weights too."""
    options = (*CACHED, own_features, "training.save_steps=2", "training.eval_steps=2")
    run_dir = run_training(nano_config(*options, "training.max_steps=2"))
    path = run_dir / "checkpoint-2" / "model.safetensors"
    weights = load_file(path)
    for name, tensor in weights.items():
        if name.startswith("model.encoder."):
            weights[name] = tensor.bfloat16().float()
    save_file(weights, path, metadata={"format": "pt"})
    run_training(nano_config(*options, "training.max_steps=3"), resume=LATEST)


# --- refused, or given up with a word ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("free_kb", "needed_kb"),
    [(100, 200), (250, 300)],  # train does not fit; it does, but not dev beside it
)
def test_states_beyond_the_free_disk_are_refused_before_anything_is_computed(
    nano_config, own_features, num_encoded, monkeypatch, capsys, free_kb, needed_kb
):
    usage = shutil.disk_usage(Path.cwd())._replace(free=free_kb * 1000)
    monkeypatch.setattr(encoder_state_cache.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(FeatureCacheError) as refused:
        run_training(nano_config(*CACHED, own_features))
    sizes = re.search(r"states: (\S+) kB, (\S+) kB for a clip", refused.value.rule)
    assert sizes is not None, refused.value.rule
    assert float(sizes[1]) == pytest.approx(needed_kb, abs=50)
    assert 0 < float(sizes[2]) < 10
    assert not num_encoded
    assert not dry_run(nano_config(*CACHED, own_features))
    assert f"{free_kb}.0 kB free" in capsys.readouterr().out


def test_dry_run_says_what_would_be_computed(nano_config, own_features, tmp_path, num_encoded, capsys):
    assert dry_run(nano_config(*CACHED, own_features))
    said = capsys.readouterr().out
    assert "encoder states of 35 utterances (train), 32 wide, at most 100 positions" in said
    assert "encoder states of 10 utterances (dev)" in said
    assert not num_encoded
    assert not caches(tmp_path)


def frozen_model() -> whisper.MultitaskWhisper:
    model = whisper_model(whisper_processor(), dropout=0.1)
    with_frozen_encoder(TrainingScope()).apply(model)
    return model.eval()


def test_what_makes_states_change_is_named():
    model = frozen_model()
    encoder = whisper_generation.frozen_encoder(model, LOG_MEL_80_NANO)
    assert why_states_change(model, encoder) is None
    assert not model.training

    model.encoder_is_frozen = False  # no gradients, but dropout and SpecAugment
    assert "training mode" in str(why_states_change(model, encoder))
    with_frozen_encoder(TrainingScope()).apply(model)
    model.model.encoder.layer_norm.bias.requires_grad_(True)
    assert "trained" in str(why_states_change(model, encoder))


def test_under_zero_3_states_are_computed(monkeypatch):
    model = frozen_model()
    encoder = whisper_generation.frozen_encoder(model, LOG_MEL_80_NANO)
    monkeypatch.setattr("transformers.integrations.is_deepspeed_zero3_enabled", lambda: True)
    assert "ZeRO-3" in str(why_states_change(model, encoder))


def test_where_caching_is_wrong_training_says_so_and_computes(
    nano_config, own_features, tmp_path, num_encoded, monkeypatch, caplog
):
    config = nano_config(*CACHED, own_features).config
    preparation = prepare(config)
    monkeypatch.setattr(cached_states, "why_states_change", lambda model, encoder: "it is unfrozen")
    model = preparation.architecture.build_for_training(config, LossWeights(), None)
    with caplog.at_level(logging.WARNING):
        same, callbacks = with_cached_states(config, preparation, model, torch.device("cpu"))
    assert same is preparation
    assert not callbacks
    assert "computed in every step, not cached: it is unfrozen" in caplog.text
    run_training(nano_config(*CACHED, own_features))
    assert len(num_encoded) >= 4
    assert not caches(tmp_path)


# --- two processes -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_share_the_build_and_train_as_one(repo_root, tiny_corpus, tmp_path):
    runs = {}
    for config, batch_size in (("cpu", 8), ("cpu_x2", 4)):
        folder = tmp_path / config
        shutil.copytree(tiny_corpus / "data" / "features", folder / "features")
        launch(
            *(repo_root, config, folder),
            *tiny_run_overrides(tiny_corpus, folder),
            *CACHED,
            f"paths.features_dir={(folder / 'features').as_posix()}",
            f"training.batch_size={batch_size}",
            "training.effective_batch=8",
        )
        runs[config] = folder / "run"
        whole = list((folder / "features").glob(f"{encoder_state_cache.FOLDER_NAME}/*/dataset_dict.json"))
        assert len(whole) == 2, "train and dev"
    one, two = runs.values()
    assert history(two, "loss") == pytest.approx(history(one, "loss"), rel=1e-4)
    assert history(two, "eval_loss") == pytest.approx(history(one, "eval_loss"), rel=1e-4)
    shards = [list(folder.rglob("*.arrow")) for folder in (tmp_path / "cpu", tmp_path / "cpu_x2")]
    assert len(shards[0]) == len(shards[1])
