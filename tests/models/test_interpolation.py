"""Mixtures of a base and a tuned model: bit-equal ends, a line between them, and pairs that are none."""

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSpeechSeq2Seq

from tests import tiny_e2e, tiny_models
from vietst.config import load_config
from vietst.errors import ModelError
from vietst.models import e2e, e2e_inputs, nano
from vietst.models.interpolation import CARD_NAME, ModelPair, interpolated
from vietst.models.model_record import read_model_record, record_of, write_model_record
from vietst.models.vocabulary import trim_embeddings, trim_vocabulary

KINDS = ("whisper", "e2e")


def save(model: Any, processor: Any, folder: Path) -> str:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def base_of(kind: str, folder: Path) -> tuple[Any, Any]:
    if kind == "whisper":
        processor = tiny_models.whisper_processor()
        return tiny_models.whisper_model(processor), processor
    # With projection and length adaptor, as XLSR-53 with mBART.
    base = str(tiny_e2e.write_base(folder / "parts", "layer", length_adaptor=True))
    return e2e.load_model(base), e2e_inputs.load_processor(base)


def tuned_from(model: Any) -> Any:
    """Another model of the same layers; its first layer is as it was, as if it had been frozen."""
    tuned = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in list(tuned.parameters())[1:]:
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return tuned


@pytest.fixture(scope="module")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[str, str]]:
    """Folders of a base and a model tuned from it."""
    made: dict[str, tuple[str, str]] = {}

    def of_kind(kind: str) -> tuple[str, str]:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            model, processor = base_of(kind, folder)
            tuned = tuned_from(model)
            write_model_record(tuned, record_of(load_config(f"nano_{kind}").config))
            made[kind] = save(model, processor, folder / "base"), save(tuned, processor, folder / "tuned")
        return made[kind]

    return of_kind


def stock_weights(folder: str) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = AutoModelForSpeechSeq2Seq.from_pretrained(folder).state_dict()
    return weights


# --- one tensor ------------------------------------------------------------------------------------------

NUMBERS = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8)


@given(NUMBERS, NUMBERS, st.floats(0, 1), st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
@settings(max_examples=200)
def test_a_mixture_lies_on_the_line_and_the_ends_are_the_same_bits(base, tuned, share, dtype):
    length = min(len(base), len(tuned))
    a, b = (torch.tensor(values[:length]).to(dtype) for values in (base, tuned))
    assert torch.equal(interpolated(a, b, 0.0).view(torch.int8), a.view(torch.int8))
    assert torch.equal(interpolated(a, b, 1.0).view(torch.int8), b.view(torch.int8))
    expected = (1 - share) * a.double() + share * b.double()
    mixed = interpolated(a, b, share).double()
    largest = max(a.abs().max().item(), b.abs().max().item())
    tolerance = 4 * torch.finfo(torch.float32).eps * largest
    torch.testing.assert_close(mixed, expected, rtol=0, atol=max(tolerance, 1e-37))


@given(NUMBERS, st.floats(0, 1))
def test_what_was_frozen_stays_as_it_is(values, share):
    tensor = torch.tensor(values)
    assert torch.equal(interpolated(tensor, tensor.clone(), share), tensor)


# --- whole models ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_every_weight_of_a_mixture_is_of_its_share(pair_of, kind, share):
    base, tuned = pair_of(kind)
    mixed = ModelPair(kind, base, tuned).at(share).state_dict()
    of_base, of_tuned = stock_weights(base), stock_weights(tuned)
    assert mixed.keys() == of_base.keys() == of_tuned.keys()
    for name, tensor in mixed.items():
        if share in (0, 1):
            assert torch.equal(tensor, of_tuned[name] if share else of_base[name]), name
        else:
            expected = (1 - share) * of_base[name] + share * of_tuned[name]
            torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_the_two_models_stay_as_they_are_however_many_mixtures_are_made(pair_of, kind):
    pair = ModelPair(kind, *pair_of(kind))
    first = pair.at(0.5).state_dict()
    for share in (0.0, 1.0, 0.25):
        with torch.no_grad():
            for parameter in pair.at(share).parameters():
                parameter.zero_()
    for name, tensor in pair.at(0.5).state_dict().items():
        assert torch.equal(tensor, first[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_mixture_is_a_model_that_stock_transformers_loads_with_its_tied_weights(
    pair_of, kind, tmp_path
):
    base, tuned = pair_of(kind)
    pair = ModelPair(kind, base, tuned)
    pair.save(0.6, tmp_path / "mixed")
    model, loading = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path / "mixed", output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    for name, tensor in pair.at(0.6).state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    embedding = model.get_input_embeddings() if kind == "whisper" else model.decoder.get_input_embeddings()
    assert embedding.weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()
    assert read_model_record(str(tmp_path / "mixed")) == read_model_record(tuned) is not None
    card = json.loads((tmp_path / "mixed" / CARD_NAME).read_text(encoding="utf-8"))
    assert math.isclose(card["share_of_tuned"], 0.6)
    pair.save(0.5, tmp_path / "mixed")  # in the place of another mixture
    (tmp_path / "mixed" / CARD_NAME).unlink()
    with pytest.raises(ModelError, match="name another folder"):
        pair.save(0.5, tmp_path / "mixed")


# --- pairs that are none ---------------------------------------------------------------------------------


def refusal(kind: str, base: str, tuned: str) -> str:
    with pytest.raises(ModelError) as refused:
        ModelPair(kind, base, tuned)
    assert "model.name in resolved_config.yaml" in refused.value.do
    return refused.value.found


def test_a_base_of_another_size_is_refused(pair_of, tmp_path):
    tuned = pair_of("whisper")[1]
    processor = tiny_models.whisper_processor()
    shape = nano.NanoWhisperShape(**{**vars(tiny_models.SHAPE), "ffn_dim": 96})
    wider = save(nano.make_whisper_model(shape, processor.tokenizer), processor, tmp_path / "wider")
    assert "fc1.weight: [96, 32] in the base, [64, 32] in the tuned" in refusal("whisper", wider, tuned)
    deeper_shape = nano.NanoWhisperShape(**{**vars(tiny_models.SHAPE), "decoder_layers": 3})
    deeper = save(nano.make_whisper_model(deeper_shape, processor.tokenizer), processor, tmp_path / "deeper")
    assert "weights that only one of them has, such as model.decoder.layers.2." in refusal(
        "whisper", deeper, tuned
    )


def test_a_base_that_was_not_trimmed_is_refused(pair_of, tmp_path):
    base, _ = pair_of("e2e")
    model, processor = e2e.load_model(base), e2e_inputs.load_processor(base)
    trimmed = trim_vocabulary(processor.tokenizer, ["ok"], extra_texts=[], fill_up_to=0)
    trim_embeddings(model.decoder, trimmed.kept_ids)
    processor.tokenizer = trimmed.tokenizer
    smaller = save(model, processor, tmp_path / "trimmed")
    assert "other vocabularies" in refusal("e2e", base, smaller)
    assert "was one trimmed?" in refusal("e2e", base, smaller)


@pytest.mark.parametrize(
    ("kind", "path", "value", "found"),
    [
        ("whisper", "decoder_attention_heads", 4, "decoder_attention_heads: 4 in the base, 2 in the tuned"),
        ("e2e", "encoder.num_attention_heads", 4, "encoder.num_attention_heads: 4 in the base, 2"),
        ("e2e", "decoder.scale_embedding", False, "decoder.scale_embedding: False in the base, True"),
    ],
)
def test_settings_that_give_weights_another_meaning_are_refused(pair_of, tmp_path, kind, path, value, found):
    """Weights of other heads have the same sizes."""
    base, tuned = pair_of(kind)
    architecture_config = json.loads((Path(base) / "config.json").read_text(encoding="utf-8"))
    part, _, name = path.rpartition(".")
    (architecture_config[part] if part else architecture_config)[name] = value
    changed = tmp_path / "changed"
    changed.mkdir()
    for file in Path(base).iterdir():
        (changed / file.name).write_bytes(file.read_bytes())
    (changed / "config.json").write_text(json.dumps(architecture_config), encoding="utf-8")
    assert found in refusal(kind, str(changed), tuned)


def test_a_model_of_another_kind_is_refused(pair_of):
    with pytest.raises(ModelError, match="a whisper model"):
        ModelPair("whisper", pair_of("e2e")[0], pair_of("whisper")[1])
