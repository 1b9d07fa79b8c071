"""LoRA: what it adds, that the merged weights say the same, and that checkpoints go on exactly."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import WhisperForConditionalGeneration

from tests.doubled_batch import logits_of
from tests.tiny_models import cached_rows, whisper_batch, whisper_model, whisper_processor
from tests.tiny_runs import history
from vietst.config import load_config
from vietst.config_schema import LoraSection
from vietst.constants import TASKS
from vietst.data.ctc_units import CharacterTable
from vietst.errors import ConfigError
from vietst.models import lora, whisper, whisper_generation
from vietst.models.trainable import make_trainable
from vietst.training.checkpoints import LATEST
from vietst.training.runner import run_training

RUN = (
    "model.finetune=lora",
    "lora.rank=4",
    "lora.alpha=8",
    "training.learning_rate=0.1",
    "training.lr_scheduler_type=constant",
    "training.warmup_ratio=0",
    "training.max_steps=4",
    "training.eval_steps=2",
    "training.save_steps=2",
    "training.save_total_limit=null",
)


@pytest.fixture(scope="module")
def processor():
    return whisper_processor()


def adapted_model(processor, *overrides: str) -> whisper.MultitaskWhisper:
    """A model whose adapters are not zero any more."""
    torch.manual_seed(0)
    model = whisper_model(processor)
    make_trainable(model, load_config("nano_whisper", ["model.finetune=lora", *overrides]).config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if lora.is_adapter(name):
                parameter.normal_(std=0.1)
    return model.eval()


def plain_model(model: whisper.MultitaskWhisper, folder: Path) -> WhisperForConditionalGeneration:
    """The model as a folder that stock transformers loads without a missing or strange weight."""
    weights = lora.merged_weights(model, model.state_dict(), keep_adapters=False)
    model.save_pretrained(folder, state_dict=weights)
    stock, loading = WhisperForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    return stock.eval()


# --- in a model --------------------------------------------------------------------------------------


def test_adapters_start_as_nothing(processor):
    model = whisper_model(processor).eval()
    batch = whisper_batch(processor, cached_rows(2))
    before = logits_of(model, batch)
    make_trainable(model, load_config("nano_whisper", ["model.finetune=lora"]).config)
    torch.testing.assert_close(logits_of(model.eval(), batch), before, rtol=0, atol=0)


@pytest.mark.parametrize("targets", ["[q_proj, v_proj]", "[k_proj, out_proj, fc1, fc2]"])
def test_the_merged_model_gives_the_logits_and_texts_of_the_adapted_one(processor, tmp_path, targets):
    model = adapted_model(processor, f"lora.target_modules={targets}", "lora.rank=4", "lora.alpha=12")
    stock = plain_model(model, tmp_path)
    batch = whisper_batch(processor, cached_rows(4))
    adapted = logits_of(model, batch)
    features = batch["input_features"].index_select(0, batch["utterance_index"])
    merged = stock(input_features=features, decoder_input_ids=batch["decoder_input_ids"]).logits
    torch.testing.assert_close(adapted, merged, rtol=0, atol=1e-5)
    bare = logits_of(whisper_model(processor).eval(), batch)
    assert (bare - adapted).abs().max() > 1e-2, "the adapters do say something"
    states = whisper_generation.encode(model, batch)
    options = {"language": "vi", "max_new_tokens": 12}
    models = (model, whisper.load_model(str(tmp_path)).eval())
    generated = [
        whisper_generation.generate(m, processor.tokenizer, states, TASKS, **options) for m in models
    ]
    assert torch.equal(*generated)


def test_new_layers_and_an_encoder_that_stays_frozen_get_no_adapters(processor):
    model = whisper_model(processor)
    model.add_ctc_head(len(CharacterTable.of_texts(["abc"])))
    overrides = ["model.finetune=lora", "model.freeze_encoder=true"]
    make_trainable(model, load_config("nano_whisper", overrides).config)
    layers = lora.adapted_layers(model)
    attentions = ("self_attn", "encoder_attn")
    assert set(layers) == {
        f"model.decoder.layers.{layer}.{attention}.{name}"
        for layer in range(2)
        for attention in attentions
        for name in ("q_proj", "v_proj")
    }
    assert model.ctc_head.weight.requires_grad


def test_layers_that_the_model_does_not_have_are_refused_with_those_it_has(processor):
    settings = LoraSection(target_modules=("q_proj", "query"))
    with pytest.raises(ConfigError, match=r"no query\n.*fc1, fc2, k_proj, out_proj, q_proj, v_proj"):
        lora.add_adapters(whisper_model(processor), settings, lambda name: name.startswith("model."))


def test_without_peft_the_user_hears_what_to_install(processor, monkeypatch):
    monkeypatch.setattr(lora, "find_spec", lambda name: None)
    assert importlib.util.find_spec("peft") is not None
    with pytest.raises(ConfigError, match="pip install peft"):
        adapted_model(processor)


# --- in a run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("best", [False, True])
def test_a_run_moves_adapters_alone_and_releases_plain_weights_that_say_the_same(nano_config, best):
    loaded = nano_config(
        *RUN,
        f"training.load_best_model_at_end={str(best).lower()}",
        "training.metric_for_best_model=eval_bleu",
    )
    run_dir = run_training(loaded)
    base = load_file(Path(loaded.config.model.name) / "model.safetensors")
    released = load_file(run_dir / "model.safetensors")
    assert released.keys() == base.keys()
    last_step = 4
    if best:
        record = json.loads(next((run_dir / "metrics").glob("*")).read_text(encoding="utf-8"))
        last_step = record["best_step"]
        assert last_step == 2, "BLEU stays 0, and the first is the best then"
    checkpoint = load_file(run_dir / f"checkpoint-{last_step}" / "model.safetensors")
    for name, tensor in base.items():
        adapted = name.endswith(("q_proj.weight", "v_proj.weight"))
        assert torch.equal(tensor, released[name]) != adapted, name
        assert torch.equal(released[name], checkpoint[name]), "a checkpoint loads as the merged model too"
        if adapted:
            frozen_base = checkpoint[name.replace(".weight", ".base_layer.weight")]
            assert torch.equal(tensor, frozen_base)
    assert not [path for path in run_dir.glob("*") if "adapter" in path.name]


def test_resuming_gives_the_losses_and_weights_of_the_undisturbed_run(nano_config):
    options = (*RUN, "lora.dropout=0.1", "training.load_best_model_at_end=false")
    straight = run_training(nano_config(*options))
    folder = straight.with_name("resumed")
    folder.mkdir()
    (straight / "checkpoint-2").rename(folder / "checkpoint-2")
    resumed = run_training(nano_config(*options, f"output.dir={folder.as_posix()}"), resume=LATEST)
    assert history(resumed, "loss") == history(straight, "loss")
    for name in ("model.safetensors", "checkpoint-4/model.safetensors"):
        expected, found = load_file(straight / name), load_file(resumed / name)
        assert expected.keys() == found.keys()
        for key, tensor in expected.items():
            assert torch.equal(tensor, found[key]), key


def test_adapters_are_what_the_optimizer_keeps_state_for(nano_config):
    run_dir = run_training(nano_config(*RUN, "loss.ctc_weight=0"))
    state = torch.load(run_dir / "checkpoint-4" / "optimizer.pt", weights_only=True)["state"]
    checkpoint = load_file(run_dir / "checkpoint-4" / "model.safetensors")
    adapters = [tensor.shape for name, tensor in checkpoint.items() if lora.is_adapter(name)]
    assert len(adapters) == 2 * 2 * 3  # two matrices at two layers of three attentions
    assert sorted(m["exp_avg"].shape for m in state.values()) == sorted(adapters)
