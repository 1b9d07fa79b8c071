"""All targets of an utterance attend to its states at once: as if each had a copy of its own."""

import pytest
import torch

from tests.doubled_batch import doubled, loss_and_gradients
from tests.tiny_e2e import e2e_batch, waveform_rows, write_base
from tests.tiny_models import cached_rows, whisper_batch, whisper_model, whisper_processor
from vietst.models import e2e, e2e_inputs

NUM_UTTERANCES = 4


@pytest.fixture(scope="module", params=["whisper", "e2e"])
def model_and_batch(request, tmp_path_factory):
    """A batch of clips of different lengths; the second one has no translation."""
    torch.manual_seed(0)
    rows = {"whisper": cached_rows, "e2e": waveform_rows}[request.param](NUM_UTTERANCES)
    rows[1]["translation"] = ""
    if request.param == "whisper":
        processor = whisper_processor()
        return whisper_model(processor), whisper_batch(processor, rows)
    base = str(write_base(tmp_path_factory.mktemp("base")))
    model = e2e.load_model(base)
    model.encoder.masked_spec_embed.requires_grad_(False)  # masks are off in evaluation
    return model, e2e_batch(e2e_inputs.load_processor(base), rows)


def cross_attentions(model):
    decoder = model.decoder.model.decoder if hasattr(model, "decoder") else model.model.decoder
    return [layer.encoder_attn for layer in decoder.layers]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_loss_and_gradients_are_those_of_a_copy_for_every_target(model_and_batch, attention):
    model, batch = model_and_batch
    assert len(batch["labels"]) == 2 * NUM_UTTERANCES - 1
    model.set_attn_implementation(attention)
    shared_loss, shared = loss_and_gradients(model, batch)
    copied_loss, copied = loss_and_gradients(model, doubled(batch))
    assert shared_loss == pytest.approx(copied_loss, rel=1e-6)
    for name, gradient in copied.items():
        torch.testing.assert_close(shared[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_keys_and_values_are_made_once_for_every_utterance(model_and_batch):
    model, batch = model_and_batch
    projected = []
    handles = [
        projection.register_forward_hook(lambda _, args, output: projected.append(len(output)))
        for attention in cross_attentions(model)
        for projection in (attention.k_proj, attention.v_proj)
    ]
    model(**batch)
    for handle in handles:
        handle.remove()
    assert projected == [NUM_UTTERANCES] * len(handles)


def test_autocast_computes_attention_in_its_type(model_and_batch):
    model, batch = model_and_batch
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    assert loss.item() == pytest.approx(model(**batch).loss.item(), rel=1e-2)
