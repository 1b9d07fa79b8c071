"""The small untrained parts: ordinary repositories that the real assembly takes."""

import dataclasses

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel, MBart50Tokenizer, MBartForConditionalGeneration

from tests.tiny_models import TEXTS
from vietst.constants import SAMPLE_RATE_HZ
from vietst.data.features import WAVEFORM_16K, input_kind_of
from vietst.models import e2e, e2e_inputs
from vietst.models.e2e_assembly import AssemblySettings, ensure_e2e_base
from vietst.models.nano_e2e import (
    DECODER_FOLDER,
    ENCODER_FOLDER,
    HOP_SAMPLES,
    PHASES_PER_BAND,
    WINDOW_SAMPLES,
    NanoE2EShape,
    ensure_nano_e2e,
    filterbank,
    make_tokenizer,
)

SHAPE = NanoE2EShape(
    encoder_width=32,
    encoder_layers=1,
    encoder_attention_heads=2,
    encoder_ffn_dim=64,
    num_bands=12,
    decoder_width=48,
    decoder_layers=1,
    decoder_attention_heads=2,
    decoder_ffn_dim=64,
    vocab_size=150,
    max_target_positions=64,
    seed=0,
)
ALL_TEXTS = [text for pair in TEXTS for text in pair]


def test_the_parts_are_ordinary_repositories_that_join_to_a_base_model(tmp_path):
    parts, base = tmp_path / "parts", tmp_path / "base"
    assert ensure_nano_e2e(parts, SHAPE, ALL_TEXTS)
    encoder = AutoModel.from_pretrained(parts / ENCODER_FOLDER)
    assert type(encoder).__name__ == "Wav2Vec2Model"
    assert input_kind_of(AutoFeatureExtractor.from_pretrained(parts / ENCODER_FOLDER)) == WAVEFORM_16K
    MBartForConditionalGeneration.from_pretrained(parts / DECODER_FOLDER)
    MBart50Tokenizer.from_pretrained(parts / DECODER_FOLDER)
    ensure_e2e_base(base, str(parts / ENCODER_FOLDER), str(parts / DECODER_FOLDER), AssemblySettings())
    model = e2e.load_model(str(base))
    assert model.enc_to_dec_proj.weight.shape == (SHAPE.decoder_width, SHAPE.encoder_width)
    first = model.encoder.feature_extractor.conv_layers[0].conv
    assert torch.equal(first.weight[:, 0], torch.from_numpy(filterbank(SHAPE.num_bands)))
    # frames of 40 ms
    num_frames = [
        int(model.encoder._get_feat_extract_output_lengths(torch.tensor(n * 16_000))) for n in (1, 2)
    ]
    assert num_frames[1] - num_frames[0] == 25


def test_the_parts_are_made_once_and_again_when_shape_or_texts_change(tmp_path):
    folder = tmp_path / "parts"
    assert ensure_nano_e2e(folder, SHAPE, ALL_TEXTS)
    weights = (folder / ENCODER_FOLDER / "model.safetensors").read_bytes()
    assert not ensure_nano_e2e(folder, SHAPE, ALL_TEXTS)
    assert ensure_nano_e2e(folder, SHAPE, [*ALL_TEXTS, "thêm một câu"])
    assert (folder / ENCODER_FOLDER / "model.safetensors").read_bytes() == weights, "drawn from the seed"
    assert ensure_nano_e2e(folder, dataclasses.replace(SHAPE, seed=1), ALL_TEXTS)
    assert (folder / ENCODER_FOLDER / "model.safetensors").read_bytes() != weights
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


def test_texts_are_cut_into_few_pieces_and_come_back(tmp_path):
    tokenizer = make_tokenizer(ALL_TEXTS, 150)
    tokenizer.save_pretrained(tmp_path)
    reloaded = MBart50Tokenizer.from_pretrained(tmp_path)
    pieces = {piece for piece in tokenizer.get_vocab() if piece.startswith("▁")}
    for text in ALL_TEXTS:
        ids = e2e_inputs.text_token_ids(tokenizer, text)
        assert reloaded.decode(ids) == text
        assert tokenizer.unk_token_id not in ids
        whole_words = sum("▁" + word in pieces for word in text.split())
        letters = sum(len(word) for word in text.split() if "▁" + word not in pieces)
        assert len(ids) <= whole_words + letters + len(text.split()), "a word that is a piece is one token"
    again = make_tokenizer(ALL_TEXTS, 150)
    assert again.get_vocab() == tokenizer.get_vocab()
    # what stands at the ids where mBART-50 has it
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3]) == ["<s>", "<pad>", "</s>", "<unk>"]


@pytest.mark.parametrize("frequency_hz", [200.0, 700.0, 2500.0, 6000.0])
def test_a_tone_is_loudest_in_the_band_at_its_frequency(frequency_hz):
    num_bands = 40
    filters = filterbank(num_bands).reshape(num_bands, PHASES_PER_BAND, WINDOW_SAMPLES)
    np.testing.assert_allclose((filters**2).sum(axis=2), 1.0, rtol=1e-5)
    np.testing.assert_allclose(filters[:, 0], -filters[:, 2], atol=1e-6)
    spectra = np.abs(np.fft.rfft(filters[:, 0], 1 << 14)).argmax(axis=1) * SAMPLE_RATE_HZ / (1 << 14)
    assert (np.diff(spectra) > 0).all(), "bands in ascending order"
    expected = np.abs(spectra - frequency_hz).argmin()
    energies = []
    for start in range(0, 1600, HOP_SAMPLES):
        time_s = np.arange(start, start + WINDOW_SAMPLES) / SAMPLE_RATE_HZ
        tone = np.cos(2 * np.pi * frequency_hz * time_s)
        energies.append(np.maximum(filters @ tone, 0).sum(axis=1))
    energies = np.array(energies)
    assert abs(int(energies.mean(axis=0).argmax()) - int(expected)) <= 1
    loudest = energies[:, energies.mean(axis=0).argmax()]
    assert loudest.std() < 0.15 * loudest.mean(), "whatever the phase of the tone"
