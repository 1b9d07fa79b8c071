"""A clip's states depend on nothing but the clip: not on padding, not on its neighbours in the batch."""

import pytest
import torch
from torch import nn
from transformers import Wav2Vec2Model

from tests.tiny_e2e import waveform_rows, write_encoder
from vietst.data.features import WAVEFORM_16K
from vietst.models.e2e import num_positions
from vietst.models.e2e_inputs import input_batch
from vietst.models.wav2vec2 import LengthTrueWav2Vec2, masked_group_norm

MAX_DIFFERENCE = 1e-5


def encoder(folder, norm, length_adaptor=False, **settings):
    torch.manual_seed(0)
    write_encoder(folder, norm, add_adapter=length_adaptor, **settings)
    return LengthTrueWav2Vec2.from_pretrained(folder).eval()


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("length_adaptor", [False, True])
@torch.no_grad()
def test_padding_changes_no_state_of_a_clip(tmp_path, norm, length_adaptor):
    model = encoder(tmp_path, norm, length_adaptor)
    rows = waveform_rows(4)
    batch = input_batch(rows, WAVEFORM_16K)
    frames = model.listen(batch["input_values"], batch["attention_mask"])
    states = model.shorten(frames)
    assert len({int(n) for n in num_positions(frames)}) > 1, "clips of different lengths"
    for index, row in enumerate(rows):
        alone = model.listen(input_batch([row], WAVEFORM_16K)["input_values"], None)
        for padded, single in ((frames, alone), (states, model.shorten(alone))):
            length = int(num_positions(padded)[index])
            assert length == single.last_hidden_state.shape[1]
            assert not padded.position_mask[index, length:].any()
            difference = padded.last_hidden_state[index, :length] - single.last_hidden_state[0]
            assert difference.abs().max() < MAX_DIFFERENCE


@torch.no_grad()
def test_the_stock_class_does_mix_padding_in(tmp_path):
    """Why all this is done (STACK S12); when it fails one day, transformers has mended it."""
    for name, norm, length_adaptor in (("a", "group", False), ("b", "layer", True)):
        ours = encoder(tmp_path / name, norm, length_adaptor)
        stock = Wav2Vec2Model.from_pretrained(tmp_path / name).eval()
        rows = waveform_rows(2)
        batch = input_batch(rows, WAVEFORM_16K)
        shortest = min(range(2), key=lambda index: rows[index]["num_frames"])
        alone = stock(input_batch([rows[shortest]], WAVEFORM_16K)["input_values"]).last_hidden_state[0]
        padded = stock(**batch).last_hidden_state[shortest, : len(alone)]
        assert (padded - alone).abs().max() > 10 * MAX_DIFFERENCE, norm
        mended = ours(**batch).last_hidden_state[shortest, : len(alone)]
        assert (mended - alone).abs().max() < MAX_DIFFERENCE


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("length_adaptor", [False, True])
@torch.no_grad()
def test_unpadded_clips_get_the_very_states_of_the_stock_class(tmp_path, norm, length_adaptor):
    ours = encoder(tmp_path, norm, length_adaptor)
    stock = Wav2Vec2Model.from_pretrained(tmp_path).eval()
    assert ours.state_dict().keys() == stock.state_dict().keys()
    waveform = input_batch(waveform_rows(1), WAVEFORM_16K)["input_values"]
    assert torch.equal(ours(waveform).last_hidden_state, stock(waveform).last_hidden_state)


def test_masked_group_norm_is_group_norm_of_the_real_frames():
    torch.manual_seed(0)
    norm = nn.GroupNorm(4, 4)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    values, lengths = torch.randn(3, 4, 20) * 3 + 5, torch.tensor([20, 7, 2])
    normed = masked_group_norm(values, lengths, norm)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(normed[row : row + 1, :, :length], norm(values[row : row + 1, :, :length]))
    assert masked_group_norm(values.bfloat16(), lengths, norm).dtype == torch.bfloat16


@pytest.mark.parametrize("num_seconds", [1, 7, 30])
def test_the_length_adaptor_gives_an_eighth_of_the_positions(tmp_path, num_seconds):
    model = encoder(tmp_path, "layer", length_adaptor=True, num_hidden_layers=1)
    with torch.no_grad():
        waveform = torch.zeros(1, num_seconds * 16_000)
        frames = model.listen(waveform, torch.ones_like(waveform))
        states = model.shorten(frames)
    expected = {1: (49, 7), 7: (349, 44), 30: (1499, 188)}[num_seconds]
    assert (frames.last_hidden_state.shape[1], states.last_hidden_state.shape[1]) == expected
    assert (int(num_positions(frames)), int(num_positions(states))) == expected


def test_checkpointing_computes_the_same_gradients_for_padded_clips(tmp_path):
    """The layer that is run again in the backward pass must still know its clips' lengths."""
    model = encoder(tmp_path, "group", apply_spec_augment=False, layerdrop=0.0).train()
    batches = [input_batch(waveform_rows(3, seed), WAVEFORM_16K) for seed in (0, 9)]
    batches[1]["attention_mask"][0, 9_000:] = 0

    def gradients():
        model.zero_grad()
        # Both forward passes come first: what the second one leaves behind must not reach the first.
        sums = [model(**batch).last_hidden_state[..., ::2].square().sum() for batch in batches]
        sum(sums).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    plain = gradients()
    model.activation_checkpointing_enable({"use_reentrant": False})
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, plain[name], msg=name)
    assert any(name.startswith("feature_extractor") for name in plain)


def test_a_frozen_encoder_is_unmasked_and_without_dropout_in_training(tmp_path):
    model = encoder(
        tmp_path, "group", length_adaptor=True, mask_time_prob=0.5, mask_time_length=2, hidden_dropout=0.5
    )
    batch = input_batch(waveform_rows(2), WAVEFORM_16K)
    quiet = model.listen(**batch).last_hidden_state
    model.train()
    assert not torch.equal(model.listen(**batch).last_hidden_state, quiet)
    model.is_listening_frozen = True
    model.train()
    frames = model.listen(**batch)
    assert torch.equal(frames.last_hidden_state, quiet)
    assert not frames.last_hidden_state.requires_grad
    assert model.adapter.training
    assert model.shorten(frames).last_hidden_state.requires_grad
