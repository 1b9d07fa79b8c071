"""Base models from two checkpoints: what is pretrained stays so, what is new comes from the seed."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    MBartForConditionalGeneration,
    SpeechEncoderDecoderModel,
    Wav2Vec2ForCTC,
    Wav2Vec2Model,
)

from tests.tiny_e2e import parameter_group, waveform_rows, write_base, write_decoder, write_encoder
from tests.tiny_models import TEXTS, whisper_model, whisper_processor
from vietst.constants import TASKS
from vietst.data.features import WAVEFORM_16K
from vietst.errors import ModelError
from vietst.models import e2e, e2e_generation, e2e_inputs
from vietst.models.e2e_assembly import AssemblySettings, ensure_e2e_base, load_decoder, load_encoder
from vietst.models.e2e_base_card import trimming_of


def weights_of(folder):
    return load_file(folder / "model.safetensors")


def replace_weights(folder, weights, *, as_bin=False):
    (folder / "model.safetensors").unlink()
    if as_bin:
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        save_file(
            {k: v.contiguous() for k, v in weights.items()}, folder / "model.safetensors", {"format": "pt"}
        )


SHARED, DECODER, ENCODER, HEAD = (
    "model.shared.weight",
    "model.decoder.embed_tokens.weight",
    "model.encoder.embed_tokens.weight",
    "lm_head.weight",
)


@pytest.mark.parametrize("as_bin", [False, True])
@pytest.mark.parametrize(
    "stored_as",
    [
        (SHARED,),
        (DECODER,),
        (ENCODER,),
        (HEAD,),
        (SHARED, ENCODER, DECODER),
        (SHARED, ENCODER, DECODER, HEAD),
    ],
)
def test_embeddings_are_the_pretrained_ones_whatever_the_file_calls_them(tmp_path, stored_as, as_bin):
    """transformers' direct way leaves them random where only `model.shared.weight` is stored (STACK S5)."""
    write_decoder(tmp_path)
    whole = MBartForConditionalGeneration.from_pretrained(tmp_path).eval()
    weights = weights_of(tmp_path)
    embeddings = weights.pop(SHARED)
    weights |= {name: embeddings.clone() for name in stored_as}
    weights["final_logits_bias"] = torch.zeros(1, len(embeddings))
    replace_weights(tmp_path, weights, as_bin=as_bin)
    decoder = load_decoder(str(tmp_path)).eval()
    assert torch.equal(decoder.get_input_embeddings().weight, embeddings)
    assert decoder.lm_head.weight is decoder.get_input_embeddings().weight
    ids, states = torch.tensor([[2, 9, 10, 11]]), torch.randn(1, 7, whole.config.d_model)
    with torch.no_grad():
        expected = whole(encoder_outputs=(states,), decoder_input_ids=ids).logits
        assert torch.equal(decoder(input_ids=ids, encoder_hidden_states=states).logits, expected)


def test_a_bin_of_older_names_without_tokenizer_is_the_same_encoder(tmp_path):
    """wav2vec2-base and XLSR-53 on the Hub: `pytorch_model.bin`, weight norm under its old names."""
    write_encoder(tmp_path, "layer")
    expected = Wav2Vec2Model.from_pretrained(tmp_path).state_dict()
    weights = weights_of(tmp_path)
    old_names = {
        "parametrizations.weight.original0": "weight_g",
        "parametrizations.weight.original1": "weight_v",
    }
    for name in list(weights):
        for new, old in old_names.items():
            if name.endswith(new):
                weights[name.removesuffix(new) + old] = weights.pop(name)
    replace_weights(tmp_path, weights, as_bin=True)
    loaded = load_encoder(str(tmp_path), length_adaptor=False).state_dict()
    assert loaded.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(loaded[name], tensor), name


def test_the_base_model_holds_the_pretrained_parts_and_new_layers_where_they_are_needed(tmp_path):
    for norm, width, length_adaptor in (("group", 48, False), ("layer", 32, True)):
        folder = tmp_path / norm
        base = write_base(folder, norm, width, length_adaptor)
        weights = weights_of(base)
        groups = {parameter_group(name) for name in weights}
        assert ("projection" in groups) == (width != 32)
        assert ("length adaptor" in groups) == length_adaptor
        encoder = Wav2Vec2Model.from_pretrained(folder / "encoder").state_dict()
        for name, tensor in encoder.items():
            assert torch.equal(weights[f"encoder.{name}"], tensor), name
        decoder = MBartForConditionalGeneration.from_pretrained(folder / "decoder").model.decoder.state_dict()
        for name, tensor in decoder.items():
            assert torch.equal(weights[f"decoder.model.decoder.{name}"][: len(tensor)], tensor), name


def test_every_token_has_an_embedding_and_the_tasks_differ(tmp_path):
    base = str(write_base(tmp_path))
    model, tokenizer = e2e.load_model(base), e2e_inputs.load_processor(base).tokenizer
    embeddings = model.decoder.get_input_embeddings().weight.detach()
    assert len(embeddings) == len(tokenizer) == model.config.decoder.vocab_size
    assert model.decoder.lm_head.weight is model.decoder.get_input_embeddings().weight
    rows = embeddings[tokenizer.convert_tokens_to_ids([f"<2{task}>" for task in TASKS])]
    old = embeddings[: -len(TASKS)]
    assert (rows[0] - rows[1]).norm() > 0.5 * old.norm(dim=1).mean(), "not both next to the mean"
    assert rows.norm(dim=1).max() < 2 * old.norm(dim=1).mean()
    special = set(tokenizer.all_special_tokens)
    assert special >= {"vi_VN", "en_XX", "<2transcribe>", "<2translate>", "</s>"}
    assert model.generation_config.decoder_start_token_id == tokenizer.convert_tokens_to_ids("vi_VN")
    assert model.generation_config.forced_bos_token_id == tokenizer.convert_tokens_to_ids("<2transcribe>")
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert model.config.eos_token_id == tokenizer.eos_token_id


def test_the_base_is_made_once_and_again_when_its_inputs_change(tmp_path):
    encoder, decoder = write_encoder(tmp_path / "encoder"), write_decoder(tmp_path / "decoder")
    base = tmp_path / "bases" / "base"

    def ensure(**settings):
        return ensure_e2e_base(base, str(encoder), str(decoder), AssemblySettings(**settings))

    assert ensure()
    first = weights_of(base)
    assert not ensure()
    assert ensure(length_adaptor=True)
    assert weights_of(base).keys() > first.keys()
    assert ensure()
    again = weights_of(base)
    assert again.keys() == first.keys()
    assert all(torch.equal(again[name], first[name]) for name in first), "new layers are drawn from the seed"
    assert ensure(seed=2)
    assert not torch.equal(weights_of(base)["enc_to_dec_proj.weight"], first["enc_to_dec_proj.weight"])
    weights = weights_of(encoder)
    weights["wav2vec2.feature_projection.projection.bias"] += 1
    replace_weights(encoder, weights)
    assert ensure(seed=2)
    assert not ensure(seed=2)
    assert [path.name for path in base.parent.iterdir()] == ["base"], "nothing else is left behind"


def test_making_it_draws_no_random_numbers_from_the_caller(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    write_base(tmp_path, length_adaptor=True)
    assert torch.equal(torch.rand(1), expected)


def test_a_decoder_of_another_depth_than_its_encoder_generates(tmp_path):
    """The generation cache counts layers by a name that means the encoder's in mBART."""
    write_encoder(tmp_path / "encoder")
    write_decoder(tmp_path / "decoder", encoder_layers=1, decoder_layers=3)
    ensure_e2e_base(
        tmp_path / "base", str(tmp_path / "encoder"), str(tmp_path / "decoder"), AssemblySettings()
    )
    base = str(tmp_path / "base")
    model, processor = e2e.load_model(base).eval(), e2e_inputs.load_processor(base)
    assert len(model.decoder.model.decoder.layers) == 3
    states = e2e_generation.encode(model, e2e_inputs.input_batch(waveform_rows(2), WAVEFORM_16K))
    ids = e2e_generation.generate(model, processor.tokenizer, states, TASKS, language="vi", max_new_tokens=4)
    assert ids.shape == (4, 4)


def test_a_fine_tuned_translation_model_is_a_decoder_like_its_base(tmp_path):
    """mBART-50's one-to-many and many-to-many siblings carry settings of their own generation along."""
    encoder, decoder = write_encoder(tmp_path / "encoder"), write_decoder(tmp_path / "decoder")
    own = {"max_length": 200, "num_beams": 5, "early_stopping": True, "forced_eos_token_id": 2}
    config = json.loads((decoder / "config.json").read_text(encoding="utf-8"))
    config |= {**own, "tokenizer_class": "MBart50Tokenizer", "static_position_embeddings": False}
    (decoder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    generation = {**own, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    (decoder / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    ensure_e2e_base(tmp_path / "base", str(encoder), str(decoder), AssemblySettings())
    stock = SpeechEncoderDecoderModel.from_pretrained(tmp_path / "base").eval()
    assert stock.generation_config.num_beams in (None, 1), "greedy unless it is said otherwise"
    assert stock.generation_config.forced_eos_token_id is None
    prompt = e2e_inputs.load_processor(str(tmp_path / "base")).tokenizer.convert_tokens_to_ids(
        ["vi_VN", "<2transcribe>"]
    )
    waveform = e2e_inputs.input_batch(waveform_rows(1), WAVEFORM_16K)["input_values"]
    assert stock.generate(waveform, max_length=6)[0, :2].tolist() == prompt


def test_an_encoder_that_was_fine_tuned_with_ctc_is_used_without_its_head_and_tokenizer(tmp_path):
    """As the Vietnamese wav2vec2 models on the Hub are."""
    encoder, decoder = write_encoder(tmp_path / "encoder"), write_decoder(tmp_path / "decoder")
    torch.manual_seed(0)
    fine_tuned = Wav2Vec2ForCTC(Wav2Vec2ForCTC.config_class.from_pretrained(encoder))
    fine_tuned.save_pretrained(encoder)
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "a": 5}
    (encoder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (encoder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Wav2Vec2CTCTokenizer"}), encoding="utf-8"
    )
    ensure_e2e_base(tmp_path / "base", str(encoder), str(decoder), AssemblySettings())
    weights = weights_of(tmp_path / "base")
    for name, tensor in fine_tuned.wav2vec2.state_dict().items():
        assert torch.equal(weights[f"encoder.{name}"], tensor), name
    assert not [name for name in weights if "lm_head" in name]
    assert "vi_VN" in e2e_inputs.load_processor(str(tmp_path / "base")).tokenizer.get_vocab()


def test_parts_that_cannot_be_used_are_refused_by_name(tmp_path):
    encoder, decoder = write_encoder(tmp_path / "encoder"), write_decoder(tmp_path / "decoder")
    whisper = tmp_path / "whisper"
    processor = whisper_processor()
    whisper_model(processor).save_pretrained(whisper)
    processor.save_pretrained(whisper)

    def ensure(encoder, decoder, language="vi"):
        ensure_e2e_base(tmp_path / "base", str(encoder), str(decoder), AssemblySettings(language=language))

    with pytest.raises(ModelError, match="a wav2vec2 model"):
        ensure(whisper, decoder)
    with pytest.raises(ModelError, match="a mbart model"):
        ensure(encoder, whisper)
    with pytest.raises(ModelError, match="language of the decoder"):
        ensure(encoder, decoder, language="xx")
    broken = shutil.copytree(encoder, tmp_path / "broken")
    weights = weights_of(broken)
    replace_weights(broken, {name: weights[name] for name in weights if ".layers.1." not in name})
    with pytest.raises(ModelError, match="every parameter"):
        ensure(broken, decoder)
    broken = shutil.copytree(decoder, tmp_path / "broken-decoder")
    weights = weights_of(broken)
    replace_weights(broken, {name: weights[name] for name in weights if "encoder_attn" not in name})
    with pytest.raises(ModelError, match="encoder_attn"):
        ensure(encoder, broken)
    without_tokenizer = shutil.copytree(decoder, tmp_path / "without-tokenizer")
    for path in without_tokenizer.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="58 tokens"):
        ensure(encoder, without_tokenizer)
    assert not (tmp_path / "base").exists()


def test_the_config_names_no_class_of_ours(tmp_path):
    config = json.loads((write_base(tmp_path) / "config.json").read_text(encoding="utf-8"))
    assert "LengthTrue" not in json.dumps(config)
    assert "MultitaskE2E" not in json.dumps(config)
    assert str(tmp_path) not in json.dumps(config), "where the parts lay is nobody's business"
    assert config["encoder"]["apply_spec_augment"] is False
    assert config["encoder"]["layerdrop"] == config["decoder"]["decoder_layerdrop"] == 0


def test_task_tokens_that_a_decoder_knows_already_keep_their_embeddings(tmp_path):
    first = write_base(tmp_path / "first")
    weights = weights_of(first)
    trained = tmp_path / "trained"
    shutil.copytree(tmp_path / "first" / "decoder", trained)
    e2e_inputs.load_processor(str(first)).tokenizer.save_pretrained(trained)
    whole = MBartForConditionalGeneration.from_pretrained(trained)
    whole.resize_token_embeddings(len(weights["decoder.model.decoder.embed_tokens.weight"]))
    whole.save_pretrained(trained)
    ensure_e2e_base(
        tmp_path / "base", str(tmp_path / "first" / "encoder"), str(trained), AssemblySettings(seed=9)
    )
    embeddings = weights_of(tmp_path / "base")["decoder.model.decoder.embed_tokens.weight"]
    assert torch.equal(embeddings, whole.get_input_embeddings().weight)
    assert len(e2e_inputs.load_processor(str(tmp_path / "base")).tokenizer) == len(embeddings)


def test_a_trimmed_base_knows_the_texts_and_gives_the_logits_of_the_whole_vocabulary(tmp_path):
    whole = str(write_base(tmp_path))
    texts = [text for pair in TEXTS[:2] for text in pair]

    def ensure(texts):
        parts = (str(tmp_path / "encoder"), str(tmp_path / "decoder"))
        return ensure_e2e_base(tmp_path / "trimmed", *parts, AssemblySettings(), texts)

    assert ensure(texts)
    assert not ensure(texts)
    trimmed = str(tmp_path / "trimmed")
    models = {name: e2e.load_model(name).eval() for name in (whole, trimmed)}
    tokenizers = {name: e2e_inputs.load_processor(name).tokenizer for name in (whole, trimmed)}
    assert len(tokenizers[trimmed]) < len(tokenizers[whole])
    assert len(models[trimmed].decoder.get_input_embeddings().weight) == len(tokenizers[trimmed])
    assert tokenizers[trimmed].src_lang == tokenizers[trimmed].tgt_lang == "vi_VN"
    states = torch.randn(1, 9, 48)
    tokens = tokenizers[whole].tokenize(texts[0])
    assert tokenizers[trimmed].tokenize(texts[0]) == tokens
    logits = {}
    for name, model in models.items():
        ids = tokenizers[name].convert_tokens_to_ids(["vi_VN", *tokens])
        with torch.no_grad():
            output = model.decoder(input_ids=torch.tensor([ids]), encoder_hidden_states=states).logits
        logits[name] = output[..., ids]
    torch.testing.assert_close(logits[whole], logits[trimmed], rtol=0, atol=1e-6)
    num_task_tokens = len(TASKS)
    trimming = trimming_of(tmp_path / "trimmed")
    assert trimming.num_pieces == len(tokenizers[trimmed]) - num_task_tokens
    assert trimming.num_pieces_before == len(tokenizers[whole]) - num_task_tokens
    assert trimming_of(tmp_path / "base") is None


def test_a_trimmed_base_stays_when_texts_change_and_is_made_anew_when_trimming_does(tmp_path, capsys):
    write_encoder(tmp_path / "encoder")
    write_decoder(tmp_path / "decoder")
    texts, base = [text for pair in TEXTS for text in pair], tmp_path / "base"

    def ensure(texts):
        parts = (str(tmp_path / "encoder"), str(tmp_path / "decoder"))
        return ensure_e2e_base(base, *parts, AssemblySettings(), texts)

    assert ensure(texts)
    before = (base / "tokenizer.json").read_bytes()
    assert not ensure(texts)
    assert "other training texts" not in capsys.readouterr().err
    assert not ensure([*texts, "xin chào", "京都", "東京"])
    said = capsys.readouterr().err
    assert "other training texts" in said
    assert f"2 of {len(texts) + 3} texts have characters that it lacks" in said
    assert (base / "tokenizer.json").read_bytes() == before
    assert ensure(None)
    assert trimming_of(base) is None
    assert ensure(texts)
    assert (base / "tokenizer.json").read_bytes() == before


def test_only_what_matters_is_said(tmp_path, caplog):
    """Not transformers' table of pretraining heads that nobody needs."""
    write_encoder(tmp_path / "encoder")
    write_decoder(tmp_path / "decoder")
    caplog.clear()
    settings = AssemblySettings(length_adaptor=True)
    ensure_e2e_base(tmp_path / "base", str(tmp_path / "encoder"), str(tmp_path / "decoder"), settings)
    assert not [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
