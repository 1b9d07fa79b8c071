"""Encoding once is the doubled batch; labels, prompts and what is saved are as the contract says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import SpeechEncoderDecoderModel, pipeline

from tests.doubled_batch import doubled, loss_and_gradients
from tests.tiny_e2e import e2e_batch, num_frames_of, parameter_group, waveform_rows, write_base
from vietst.config_schema import AugmentationSection, ModelSection, OutputSection, RunConfig, TrainingSection
from vietst.constants import IGNORE_INDEX, TASKS, TRANSCRIBE, TRANSLATE
from vietst.data.ctc_units import CharacterTable
from vietst.data.features import WAVEFORM_16K
from vietst.errors import ModelError
from vietst.evaluation.decode import TextDecoder
from vietst.models import e2e, e2e_generation, e2e_inputs
from vietst.models.e2e_inputs import E2ECollator, decoder_prompt, input_batch, text_token_ids
from vietst.models.multitask import EncoderStates, LossWeights
from vietst.models.shared_states import by_utterance

NORMS = ("group", "layer")


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Assembled base models by (norm, length adaptor); the decoder is wider than the encoder."""
    folder = tmp_path_factory.mktemp("bases")
    return {
        (norm, length_adaptor): str(
            write_base(folder / f"{norm}-{length_adaptor}", norm, length_adaptor=length_adaptor)
        )
        for norm in NORMS
        for length_adaptor in (False, True)
    }


@pytest.fixture(scope="module")
def processor(bases):
    return e2e_inputs.load_processor(bases["group", False])


NO_AIDS = LossWeights()


def build(base, weights=NO_AIDS, num_ctc_symbols=None, **sections):
    """`build_for_training` of a run on this base; sections as dicts, `model={"dropout": 0.1}`."""
    torch.manual_seed(0)
    config = RunConfig(
        model=ModelSection(type="e2e", name=base, **sections.get("model", {})),
        training=TrainingSection(**sections.get("training", {})),
        augmentation=AugmentationSection(**sections.get("augmentation", {})),
        output=OutputSection(dir=Path("unused"), experiment_name="unused"),
    )
    return e2e.build_for_training(config, weights, num_ctc_symbols)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("length_adaptor", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("freeze", [False, True])
def test_encoding_once_gives_loss_and_gradients_of_the_doubled_batch(
    bases, processor, norm, length_adaptor, checkpointing, freeze
):
    model = build(bases[norm, length_adaptor], model={"freeze_encoder": freeze}).train()
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    batch = e2e_batch(processor, waveform_rows(4))
    once_loss, once = loss_and_gradients(model, batch)
    doubled_loss, twice = loss_and_gradients(model, doubled(batch))
    assert once_loss == pytest.approx(doubled_loss, rel=1e-5)
    assert once.keys() == twice.keys()
    for name in once:
        torch.testing.assert_close(once[name], twice[name], rtol=1e-3, atol=2e-6, msg=name)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("length_adaptor", [False, True])
@torch.no_grad()
def test_padding_changes_no_loss(bases, processor, norm, length_adaptor):
    """Cross-attention does not see the positions behind the end of a clip either."""
    rows = waveform_rows(4)
    characters = CharacterTable.of_texts(row["transcript"] for row in rows)
    model = build(bases[norm, length_adaptor], LossWeights(ctc=0.5), len(characters)).eval()
    together = model(**e2e_batch(processor, rows, characters=characters))
    alone = [model(**e2e_batch(processor, [row], characters=characters)) for row in rows]
    single_losses = [output.target_losses[task] for task in range(2) for output in alone]
    torch.testing.assert_close(together.target_losses, torch.stack(single_losses), rtol=1e-5, atol=1e-5)
    num_tokens = [(e2e_batch(processor, [row], TASKS)["labels"] != IGNORE_INDEX).sum() for row in rows]
    whole = sum(output.loss * count for output, count in zip(alone, num_tokens, strict=True))
    assert together.loss.item() == pytest.approx(float(whole / sum(num_tokens)), rel=1e-5)


def test_an_utterance_without_translation_trains_its_transcript_alone(processor):
    rows = waveform_rows(3)
    rows[1]["translation"] = ""
    batch = E2ECollator(processor, WAVEFORM_16K, TASKS, "vi")(rows)
    assert len(batch["input_values"].lengths) == 3
    assert batch["utterance_index"].tolist() == [0, 1, 2, 0, 2]
    assert batch["task_index"].tolist() == [0, 0, 0, 1, 1]
    assert batch["labels"].shape[0] == 5


def test_waveforms_are_padded_with_zeros_and_masked_by_length(processor):
    rows = waveform_rows(3)
    batch = e2e_batch(processor, rows)
    assert batch["input_values"].dtype == torch.float32
    assert batch["attention_mask"].dtype == torch.int64
    assert batch["attention_mask"].sum(dim=1).tolist() == [row["num_frames"] for row in rows]
    assert (batch["input_values"][batch["attention_mask"] == 0] == 0).all()
    assert (
        batch["input_values"].shape
        == batch["attention_mask"].shape
        == (3, max(r["num_frames"] for r in rows))
    )


def test_accumulated_micro_batches_give_the_gradients_of_one_batch(bases, processor):
    """The stock class ignores num_items_in_batch: its gradients would be four times too large."""
    rows = waveform_rows(4)
    characters = CharacterTable.of_texts(row["transcript"] for row in rows)
    weights = LossWeights(per_task=(1.0, 0.5), ctc=0.3)
    model = build(bases["group", False], weights, len(characters)).eval()
    _, whole = loss_and_gradients(model, e2e_batch(processor, rows, characters=characters))
    batches = [e2e_batch(processor, [row], characters=characters) for row in rows]
    num_tokens = sum((batch["labels"] != IGNORE_INDEX).sum() for batch in batches)
    model.zero_grad()
    for batch in batches:
        model(**batch, num_items_in_batch=num_tokens).loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-3, atol=2e-5, msg=name)


def test_labels_learn_text_and_end_token_and_nothing_of_the_prompt(processor):
    tokenizer = processor.tokenizer
    rows = waveform_rows(4)
    batch = E2ECollator(processor, WAVEFORM_16K, TASKS, "vi")(rows)
    texts = [row["transcript"] for row in rows] + [row["translation"] for row in rows]
    for row, text in enumerate(texts):
        ids = text_token_ids(tokenizer, text)
        labels, inputs = batch["labels"][row].tolist(), batch["decoder_input_ids"][row].tolist()
        task = TASKS[batch["task_index"][row]]
        assert tokenizer.convert_ids_to_tokens(inputs[:2]) == ["vi_VN", f"<2{task}>"]
        assert inputs[2 : 2 + len(ids)] == ids
        assert set(inputs[2 + len(ids) :]) <= {tokenizer.pad_token_id}
        assert labels[:1] == [IGNORE_INDEX]
        assert labels[1 : 1 + len(ids) + 1] == [*ids, tokenizer.eos_token_id]
        assert set(labels[1 + len(ids) + 1 :]) <= {IGNORE_INDEX}
        assert tokenizer.decode(ids) == text


def test_prompts_tell_the_tasks_apart_and_are_what_generation_starts_from(bases, processor, monkeypatch):
    model = build(bases["group", False]).eval()
    assert decoder_prompt(processor.tokenizer, TRANSCRIBE, "vi") != decoder_prompt(
        processor.tokenizer, TRANSLATE, "vi"
    )
    started_from = {}
    monkeypatch.setattr(
        type(model),
        "generate",
        lambda self, **kwargs: started_from.update(kwargs) or kwargs["decoder_input_ids"],
    )
    states = EncoderStates(torch.zeros(2, 10, 32))
    e2e_generation.generate(model, processor.tokenizer, states, TASKS, language="vi", max_new_tokens=5)
    trained = E2ECollator(processor, WAVEFORM_16K, TASKS, "vi")(waveform_rows(2))["decoder_input_ids"][:, :2]
    assert started_from["decoder_input_ids"].tolist() == by_utterance(trained, len(TASKS)).tolist()


def test_languages_are_named_with_or_without_their_country(processor):
    tokenizer = processor.tokenizer
    assert decoder_prompt(tokenizer, TRANSCRIBE, "vi") == decoder_prompt(tokenizer, TRANSCRIBE, "vi_VN")
    assert decoder_prompt(tokenizer, TRANSCRIBE, "en") != decoder_prompt(tokenizer, TRANSCRIBE, "vi")
    with pytest.raises(ModelError, match="'v'"):
        decoder_prompt(tokenizer, TRANSCRIBE, "v")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("length_adaptor", [False, True])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_generating_both_tasks_together_equals_generating_each_clip_and_task_alone(
    bases, processor, norm, length_adaptor, num_beams
):
    model = build(bases[norm, length_adaptor]).eval()
    rows = waveform_rows(3)
    options = {"language": "vi", "max_new_tokens": 8, "num_beams": num_beams}
    decode = TextDecoder(processor.tokenizer)
    states = e2e_generation.encode(model, input_batch(rows, WAVEFORM_16K))
    together = decode(e2e_generation.generate(model, processor.tokenizer, states, TASKS, **options))
    apart = []
    for task in TASKS:
        for row in rows:
            states = e2e_generation.encode(model, input_batch([row], WAVEFORM_16K))
            apart += decode(e2e_generation.generate(model, processor.tokenizer, states, (task,), **options))
    assert together == apart
    assert decode.num_unknown_ids == 0


def test_generation_from_a_training_forward_equals_generation_from_encode(bases, processor):
    model = build(bases["group", True]).eval()
    rows = waveform_rows(3)
    forward_states = model(**e2e_batch(processor, rows)).encoder_states
    states = e2e_generation.encode(model, input_batch(rows, WAVEFORM_16K))
    assert torch.equal(forward_states.last_hidden_state, states.last_hidden_state)
    assert torch.equal(forward_states.position_mask, states.position_mask)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_transformers_own_call_of_our_class_knows_the_padding_too(bases, processor, num_beams):
    """`generate(input_values, attention_mask)`, as a pipeline makes it, instead of our two steps."""
    model = build(bases["group", True]).eval()
    inputs = input_batch(waveform_rows(3), WAVEFORM_16K)
    theirs = model.generate(**inputs, max_length=2 + 8, num_beams=num_beams)[:, 2:]
    ours = e2e_generation.generate(
        model,
        processor.tokenizer,
        e2e_generation.encode(model, inputs),
        (TRANSCRIBE,),
        language="vi",
        max_new_tokens=8,
        num_beams=num_beams,
    )
    assert torch.equal(ours, theirs)


def test_stock_transformers_generates_the_same_text_as_ours(bases, processor, tmp_path):
    model = build(bases["group", True], model={"task": "translate"}).eval()
    model.save_pretrained(tmp_path)
    stock = SpeechEncoderDecoderModel.from_pretrained(tmp_path).eval()
    inputs = input_batch(waveform_rows(1), WAVEFORM_16K)
    stock.generation_config.max_length = 2 + 8
    theirs = processor.batch_decode(stock.generate(inputs["input_values"]), skip_special_tokens=True)
    ours = e2e_generation.generate(
        model,
        processor.tokenizer,
        e2e_generation.encode(model, inputs),
        (TRANSLATE,),
        language="vi",
        max_new_tokens=8,
    )
    assert TextDecoder(processor.tokenizer)(ours) == [text.strip() for text in theirs]


def test_a_stock_pipeline_transcribes(bases, processor, tmp_path):
    model = build(bases["layer", True]).eval()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    transcriber = pipeline("automatic-speech-recognition", model=str(tmp_path), max_length=10)
    inputs = input_batch(waveform_rows(1), WAVEFORM_16K)
    text = transcriber(inputs["input_values"][0].numpy(), generate_kwargs={"num_beams": 1})["text"]
    states = e2e_generation.encode(model, inputs)
    ours = e2e_generation.generate(
        model, processor.tokenizer, states, (TRANSCRIBE,), language="vi", max_new_tokens=8
    )
    assert TextDecoder(processor.tokenizer)(ours) == [text.strip()]


RELOAD = """
import sys, torch
sys.modules["vietst"] = None  # importing it would be an error
from transformers import AutoProcessor, AutoTokenizer, SpeechEncoderDecoderModel
for folder in sys.argv[1:]:
    model, info = SpeechEncoderDecoderModel.from_pretrained(folder, output_loading_info=True)
    processor, tokenizer = AutoProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        logits = model.eval()(**torch.load(folder + "/batch.pt")).logits
    answer = {
        "logits": logits,
        "loading": {key: sorted(info[key]) for key in ("missing_keys", "unexpected_keys")},
        "tokens": tokenizer.convert_tokens_to_ids(["vi_VN", "<2transcribe>", "<2translate>"]),
        "processor": (type(processor).__name__, len(processor.tokenizer)),
    }
    torch.save(answer, folder + "/answer.pt")
"""


def test_a_saved_model_gives_equal_logits_in_a_process_without_vietst(bases, processor, tmp_path):
    """Unpadded input; padded too, where each frame is normalized for itself and no length adaptor follows."""
    expected = {}
    for norm, length_adaptor, num_rows in (("group", True, 1), ("layer", False, 3)):
        folder = tmp_path / norm
        model = build(bases[norm, length_adaptor], training={"freeze_feature_encoder": True}).eval()
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"] == [
            "SpeechEncoderDecoderModel"
        ]
        assert (folder / "model.safetensors").is_file()
        batch = input_batch(waveform_rows(num_rows), WAVEFORM_16K)
        if num_rows == 1:
            del batch["attention_mask"]
        prompt = decoder_prompt(processor.tokenizer, TRANSCRIBE, "vi")
        batch["decoder_input_ids"] = torch.tensor([prompt] * num_rows)
        torch.save(batch, folder / "batch.pt")
        with torch.no_grad():
            expected[folder] = model(**batch).logits
    subprocess.run(
        [sys.executable, "-c", RELOAD, *map(str, expected)], check=True, cwd=tmp_path, capture_output=True
    )
    for folder, logits in expected.items():
        answer = torch.load(folder / "answer.pt")
        assert torch.equal(answer["logits"], logits)
        assert answer["loading"] == {"missing_keys": [], "unexpected_keys": []}
        assert answer["tokens"] == [*prompt, *decoder_prompt(processor.tokenizer, TRANSLATE, "vi")[1:]]
        assert answer["processor"] == ("Wav2Vec2Processor", len(processor.tokenizer))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("length_adaptor", [False, True])
@pytest.mark.parametrize(
    ("frozen", "sections"),
    [
        (set(), {}),
        ({"feature encoder"}, {"training": {"freeze_feature_encoder": True}}),
        ({"feature encoder", "encoder"}, {"model": {"freeze_encoder": True}}),
    ],
)
def test_a_step_moves_exactly_what_is_not_frozen(bases, processor, norm, length_adaptor, frozen, sections):
    rows = waveform_rows(4)
    characters = CharacterTable.of_texts(row["transcript"] for row in rows)
    model = build(
        bases[norm, length_adaptor],
        LossWeights(ctc=0.5),
        len(characters),
        augmentation={"mask_time_prob": 0.5, "mask_time_length": 2},
        **sections,
    ).train()
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=1.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model(**e2e_batch(processor, rows, characters=characters)).loss.backward()
    optimizer.step()
    groups = {parameter_group(name) for name in before}
    assert groups >= {"feature encoder", "encoder", "projection", "decoder", "ctc head"}
    assert ("length adaptor" in groups) == length_adaptor
    for group in groups:
        moved = {
            name: not torch.equal(p, before[name])
            for name, p in model.named_parameters()
            if parameter_group(name) == group
        }
        assert any(moved.values()) == (group not in frozen), group
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad), "or DDP waits for it"


def test_masking_is_what_the_configuration_says(bases, processor):
    batch = input_batch(waveform_rows(2), WAVEFORM_16K)
    unmasked = build(bases["group", False]).train()
    first, second = (unmasked.encode(**batch).last_hidden_state for _ in range(2))
    assert torch.equal(first, second)
    for augmentation in (
        {"mask_time_prob": 0.3, "mask_time_length": 3},
        {"mask_feature_prob": 0.5, "mask_feature_length": 4},
    ):
        masked = build(bases["group", False], augmentation=augmentation).train()
        assert not torch.equal(masked.encode(**batch).last_hidden_state, first)
        assert torch.equal(masked.eval().encode(**batch).last_hidden_state, first)
        frozen = build(
            bases["group", False], augmentation=augmentation, model={"freeze_encoder": True, "dropout": 0.5}
        )
        assert torch.equal(frozen.train().encode(**batch).last_hidden_state, first)


def test_cached_states_of_a_frozen_encoder_train_as_computed_ones_do(bases, processor):
    """Within half precision; the length adaptor behind them still trains."""
    rows = waveform_rows(4)
    characters = CharacterTable.of_texts(row["transcript"] for row in rows)
    model = build(
        bases["group", True], LossWeights(ctc=0.5), len(characters), model={"freeze_encoder": True}
    ).train()
    encoder = e2e_generation.frozen_encoder(model, WAVEFORM_16K)
    assert not any(module.training for module in encoder.module.modules())
    assert not any(parameter.requires_grad for parameter in encoder.module.parameters())
    states = encoder.encode_batch(rows)
    cached = [
        {
            **{name: value for name, value in row.items() if name not in ("features", "pad_value")},
            "encoder_states": clip.astype("<f2").tobytes(),
            "num_positions": len(clip),
        }
        for row, clip in zip(rows, states, strict=True)
    ]
    assert [len(clip) for clip in states] == [encoder.num_positions(row["num_frames"]) for row in rows]
    assert {clip.shape[1] for clip in states} == {encoder.width}
    computed_loss, computed = loss_and_gradients(model, e2e_batch(processor, rows, characters=characters))
    cached_loss, from_cache = loss_and_gradients(model, e2e_batch(processor, cached, characters=characters))
    assert cached_loss == pytest.approx(computed_loss, rel=1e-3)
    assert any(parameter_group(name) == "length adaptor" for name in computed)
    for name in computed:
        torch.testing.assert_close(from_cache[name], computed[name], rtol=0.02, atol=1e-3, msg=name)


def test_the_digest_of_a_frozen_encoder_tells_changed_weights(bases):
    model = build(bases["group", True], model={"freeze_encoder": True})
    digest = e2e_generation.frozen_encoder(model, WAVEFORM_16K).digest
    with torch.no_grad():
        model.encoder.adapter.layers[0].conv.bias.add_(1)
        assert e2e_generation.frozen_encoder(model, WAVEFORM_16K).digest == digest
        model.encoder.feature_projection.projection.bias[0] += 1
    assert e2e_generation.frozen_encoder(model, WAVEFORM_16K).digest != digest


def test_dropout_replaces_all_rates_and_layer_drop_is_always_off(bases):
    config = build(bases["layer", False], model={"dropout": 0.25}).config
    assert config.encoder.hidden_dropout == config.encoder.feat_proj_dropout == 0.25
    assert config.decoder.dropout == config.decoder.attention_dropout == 0.25
    assert config.encoder.layerdrop == config.decoder.decoder_layerdrop == 0.0


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_is_set_in_both_halves(bases, attention):
    model = build(bases["group", False], model={"attention": attention})
    assert model.encoder.config._attn_implementation == attention
    assert model.decoder.config._attn_implementation == attention


def test_ctc_hears_the_frames_before_the_length_adaptor(bases, processor):
    rows = waveform_rows(3)
    characters = CharacterTable.of_texts(row["transcript"] for row in rows)
    model = build(bases["group", True], LossWeights(ctc=1.0), len(characters))
    lengths = []
    model.ctc_head.register_forward_pre_hook(lambda _, states: lengths.append(states[0].shape[1]))
    batch = e2e_batch(processor, rows, characters=characters)
    with_ctc = model(**batch)
    assert lengths == [max(num_frames_of(model, row) for row in rows)]
    with_ctc.loss.backward()
    assert model.ctc_head.weight.grad.abs().sum() > 0
    model.loss_weights = LossWeights()
    assert model(**batch).loss < with_ctc.loss


def test_labels_fit_the_positions_and_the_guides_limit(bases, processor):
    config = e2e.load_model_config(bases["group", False])
    assert e2e_inputs.max_label_length(config) == 64
    config.decoder.max_position_embeddings = 1024
    assert e2e_inputs.max_label_length(config) == 256
    text = "mình sẽ fix cái bug này"
    assert e2e_inputs.label_lengths(processor.tokenizer, [text]) == [
        2 + len(text_token_ids(processor.tokenizer, text))
    ]


def test_other_models_are_refused_by_name(bases, tmp_path):
    parts = bases["group", False].removesuffix("base")
    with pytest.raises(ModelError, match="speech-encoder-decoder"):
        e2e_inputs.load_processor(parts + "encoder")
    with pytest.raises(ModelError, match="nowhere"):
        e2e_inputs.load_processor(str(tmp_path / "nowhere"))
    config = json.loads((Path(bases["group", False]) / "config.json").read_text(encoding="utf-8"))
    config["encoder"]["model_type"] = "hubert"
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match="hubert with mbart"):
        e2e.load_model_config(str(tmp_path))
