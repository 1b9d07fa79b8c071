"""What each way of fine-tuning trains: by name for both architectures, and in real steps."""

import pytest
import torch
from transformers import MBartConfig, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel, Wav2Vec2Config

from tests.tiny_models import cached_rows, whisper_batch, whisper_model, whisper_processor
from vietst.config import load_config
from vietst.constants import TASKS
from vietst.data.ctc_units import CharacterTable
from vietst.errors import ConfigError
from vietst.models.multitask import LossWeights
from vietst.models.trainable import (
    ENCODER_PARTS,
    TrainingScope,
    lna_trains,
    make_trainable,
    part_of,
    starts_with_frozen_encoder,
    training_scope,
    with_frozen_encoder,
)


@pytest.fixture(scope="module")
def processor():
    return whisper_processor()


@pytest.fixture(scope="module")
def e2e_names() -> list[str]:
    """Parameter names of a stock wav2vec2 + mBART with length adaptor and projection."""
    encoder = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=[8, 8],
        conv_kernel=[10, 3],
        conv_stride=[5, 2],
        feat_extract_norm="layer",
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        add_adapter=True,
        output_hidden_size=12,
    )
    decoder = MBartConfig(
        d_model=16,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        vocab_size=32,
        is_decoder=True,
        add_cross_attention=True,
    )
    with torch.device("meta"):
        model = SpeechEncoderDecoderModel(
            SpeechEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
        )
    return [name for name, _ in model.named_parameters()]


# --- by name -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.encoder.conv1.weight", "encoder"),
        ("model.encoder.layers.0.self_attn.q_proj.lora_A.default.weight", "encoder"),
        ("model.decoder.embed_tokens.weight", "decoder"),
        ("proj_out.weight", "decoder"),
        ("ctc_head.bias", "ctc_head"),
        ("encoder.encoder.layers.0.attention.k_proj.weight", "encoder"),
        ("encoder.masked_spec_embed", "encoder"),
        ("encoder.feature_extractor.conv_layers.0.conv.weight", "feature_encoder"),
        ("encoder.adapter.layers.0.conv.weight", "adaptor"),
        ("enc_to_dec_proj.weight", "adaptor"),
        ("decoder.model.decoder.layers.0.fc1.weight", "decoder"),
        ("decoder.lm_head.weight", "decoder"),
    ],
)
def test_every_parameter_belongs_to_a_part(name, part):
    assert part_of(name) == part


def test_lna_trains_layer_norms_attention_and_new_layers_of_the_e2e_model(e2e_names):
    trained = {name for name in e2e_names if lna_trains(name)}
    frozen = set(e2e_names) - trained
    pieces = {
        "attention": [name for name in e2e_names if "attention." in name or "_attn." in name],
        "norms": [name for name in e2e_names if "norm" in name and "feature_extractor" not in name],
        "new": [name for name in e2e_names if "adapter" in name or "enc_to_dec_proj" in name],
    }
    assert all(pieces.values()), "the names that this test knows are still in use"
    assert trained == {name for names in pieces.values() for name in names}
    for piece in (
        "feature_extractor.conv_layers.0.layer_norm",
        "feature_projection.projection",
        "pos_conv_embed",
        "feed_forward",
        "fc1",
        "embed_tokens",
        "embed_positions",
    ):
        assert any(piece in name for name in frozen), piece


@pytest.mark.parametrize("finetune", ["full", "lna", "lora"])
def test_new_layers_train_beside_a_frozen_encoder_and_the_mask_vector_never(e2e_names, finetune):
    scope = with_frozen_encoder(TrainingScope(finetune))
    trained = {name for name in e2e_names if scope.trains(name)}
    new = {name for name in e2e_names if "adapter" in name or name.startswith("enc_to_dec_proj")}
    assert new <= trained
    assert {name for name in trained if name.startswith("encoder.")} <= new
    assert not TrainingScope(finetune).trains("encoder.masked_spec_embed")
    assert not TrainingScope(finetune).trains("model.encoder.embed_positions.weight")


# --- by configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "frozen_at_first", "frozen_throughout"),
    [
        ((), False, False),
        (("model.freeze_encoder=true",), True, True),
        (("training.freeze_encoder_epochs=999",), True, True),
        (("model.freeze_encoder=true", "training.freeze_encoder_epochs=999"), True, True),
        (("training.freeze_encoder_epochs=0.5",), True, False),
        (("training.freeze_encoder_updates=7",), True, False),
        (("training.freeze_encoder_epochs=0",), False, False),
        (("training.freeze_encoder_updates=0",), False, False),
    ],
)
def test_when_the_encoder_is_frozen(overrides, frozen_at_first, frozen_throughout):
    config = load_config("nano_whisper", overrides).config
    assert starts_with_frozen_encoder(config) == frozen_at_first
    assert (training_scope(config).frozen_parts == ENCODER_PARTS) == frozen_throughout


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model.freeze_encoder=true", "training.freeze_encoder_epochs=2"), "for the whole training"),
        (("model.freeze_encoder=true", "training.freeze_encoder_updates=2"), "for the whole training"),
        (("training.freeze_encoder_epochs=1", "training.freeze_encoder_updates=2"), "state one of"),
        (("training.freeze_encoder_updates=1.5",), "integer"),
        (("training.adaptor_learning_rate=1e-3",), "which Whisper lacks"),
        (("model.finetune=adapters",), "'full', 'lna' or 'lora'"),
        (("lora.target_modules=[]",), "at least 1 item"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config("nano_whisper", overrides)


# --- in real steps -----------------------------------------------------------------------------------

EXPECTED = {
    "full": lambda name: True,
    "lna": lambda name: ".self_attn." in name or ".encoder_attn." in name or "layer_norm" in name,
    "lora": lambda name: ".lora_" in name,
}


@pytest.mark.parametrize("frozen_encoder", [False, True])
@pytest.mark.parametrize("tasks", [("transcribe",), ("translate",), TASKS])
@pytest.mark.parametrize("finetune", ["full", "lna", "lora"])
def test_exactly_the_right_parameters_move(processor, finetune, tasks, frozen_encoder):
    config = load_config(
        "nano_whisper", [f"model.finetune={finetune}", f"model.freeze_encoder={str(frozen_encoder).lower()}"]
    ).config
    torch.manual_seed(0)
    model = whisper_model(processor).train()
    rows = cached_rows(4)
    characters = CharacterTable.of_texts(row["transcript"] for row in rows)
    model.add_ctc_head(len(characters))
    model.loss_weights = LossWeights(ctc=0.3)
    make_trainable(model, config)
    batch = whisper_batch(processor, rows, tasks, characters)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2, weight_decay=0)
    for _ in range(2):  # in the first step one half of LoRA is zero, so the other gets no gradient
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    expected = {
        name
        for name in before
        if name.startswith("ctc_head.")
        or (
            EXPECTED[finetune](name)
            and name != "model.encoder.embed_positions.weight"
            and not (frozen_encoder and name.startswith("model.encoder."))
        )
    }
    assert moved == expected
    if finetune == "lora":
        assert any(name.startswith("model.encoder.") and "lora" in name for name in before) != frozen_encoder


def test_a_frozen_encoder_is_unmasked_and_without_dropout_until_it_is_unfrozen(processor):
    model = whisper_model(processor, apply_spec_augment=True, mask_time_prob=0.5).train()
    features = whisper_batch(processor, cached_rows(2))["input_features"]
    scope = TrainingScope()
    states = {}
    for name, applied in (("frozen", with_frozen_encoder(scope)), ("free", scope)):
        applied.apply(model)
        assert model.model.decoder.training
        assert model.model.encoder.training == (name == "free")
        states[name] = [model.encode(features.clone(), None).last_hidden_state for _ in range(2)]
    assert torch.equal(*states["frozen"])
    assert not torch.equal(*states["free"])


def test_a_frozen_feature_encoder_keeps_no_activations():
    """wav2vec2's makes its input require gradients unless it knows that it is frozen."""
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=[8] * 7
    )
    model = torch.nn.Module()
    model.encoder = SpeechEncoderDecoderModel._from_config(  # only its names count
        SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
            config, MBartConfig(d_model=16, decoder_layers=1, decoder_attention_heads=2, vocab_size=32)
        )
    ).encoder
    feature_encoder = model.encoder.feature_extractor
    with_frozen_encoder(TrainingScope()).apply(model)
    assert not feature_encoder(torch.zeros(1, 8000)).requires_grad
    TrainingScope().apply(model)
    assert feature_encoder(torch.zeros(1, 8000)).requires_grad
