"""`benchmark.py frozen_encoder`: three ways to take the same step, at the published sizes."""

import dataclasses
import functools

import pytest
import torch
from transformers import MBartConfig, SpeechEncoderDecoderConfig, Wav2Vec2Config, WhisperConfig

from vietst.benchmarks.frozen_encoder import (
    FrozenEncoderCase,
    Workload,
    compare_cases,
    describe,
    published_cases,
)
from vietst.data.features import LOG_MEL_80_NANO, WAVEFORM_16K
from vietst.models import e2e, whisper
from vietst.models.architectures import E2E, WHISPER

SMALL = {"num_hidden_layers": 1, "num_attention_heads": 2}
TINY_WHISPER = WhisperConfig(
    d_model=16,
    encoder_layers=1,
    decoder_layers=1,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    encoder_ffn_dim=32,
    decoder_ffn_dim=32,
    max_source_positions=100,
    vocab_size=300,
    pad_token_id=0,
)
TINY_E2E = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
    Wav2Vec2Config(hidden_size=32, intermediate_size=32, conv_dim=[16] * 7, **SMALL),
    MBartConfig(
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        vocab_size=300,
    ),
)
CASES = [
    FrozenEncoderCase(
        "whisper", WHISPER, functools.partial(whisper.MultitaskWhisper, TINY_WHISPER), LOG_MEL_80_NANO, 300
    ),
    FrozenEncoderCase("e2e", E2E, functools.partial(e2e.MultitaskE2E, TINY_E2E), WAVEFORM_16K, 300),
]


def test_all_ways_take_the_same_step_of_the_decoder_alone():
    workload = Workload(num_utterances=3, duration_s=2.0, num_label_tokens=12)
    results = compare_cases(CASES, workload, num_rounds=2)
    assert results["num_utterances"] == 3
    for case, measured in zip(CASES, results["cases"], strict=True):
        # dropout is on in the decoder; without the same masks, losses would differ by several per cent
        assert measured["loss_difference"] < 1e-3
        model = case.build()
        encoder = case.architecture.frozen_encoder(model, case.input_kind)
        frozen = sum(parameter.numel() for parameter in encoder.module.parameters())
        not_trained = {
            "whisper": 0,
            "e2e": model.encoder.masked_spec_embed.numel() if case.name == "e2e" else 0,
        }
        total = sum(parameter.numel() for parameter in model.parameters())
        assert measured["num_trained"] == total - frozen - not_trained[case.name]
    whisper_bytes, e2e_bytes = (measured["bytes_per_utterance"] for measured in results["cases"])
    assert whisper_bytes == pytest.approx(2 * 100 * 16, rel=0.05)
    assert e2e_bytes == pytest.approx(2 * 99 * 32, rel=0.05)


def test_the_bar_is_asked_of_wav2vec2_alone():
    case = {
        "computed_seconds": 3.0,
        "cached_seconds": 1.2,
        "decoder_alone_seconds": 1.0,
        "times_faster": 2.5,
        "over_decoder_alone": 1.2,
        "bytes_per_utterance": 766_000,
        "loss_difference": 1e-5,
    }
    shared = {
        **dataclasses.asdict(Workload()),
        "trained": "all",
        "device": "cpu",
        "num_threads": 1,
        "num_rounds": 5,
    }
    whisper_alone = {**shared, "cases": [{"name": "Whisper tiny", "has_bar": False, **case}]}
    assert "1.15 times the decoder alone: met" in describe(whisper_alone)
    both = {**shared, "cases": [*whisper_alone["cases"], {"name": "XLSR-53", "has_bar": True, **case}]}
    assert "MISSED by XLSR-53" in describe(both)
    assert "2.50x        1.200x         0.77" in describe(both)


def test_the_published_sizes_are_measured():
    with torch.device("meta"):
        models = {case.name: case.build() for case in published_cases()}
    num_encoder = {
        name: sum(parameter.numel() for parameter in model.get_encoder().parameters())
        for name, model in models.items()
    }
    millions = {name: round(number / 1e6) for name, number in num_encoder.items()}
    assert millions == {
        "Whisper tiny": 8,
        "wav2vec2-base, 25,000 tokens": 94,
        "wav2vec2-base, 250,056 tokens": 94,
        "XLSR-53, 25,000 tokens": 315,
        "XLSR-53, 250,056 tokens": 315,
    }
    decoder = models["wav2vec2-base, 250,056 tokens"].decoder
    assert round(sum(parameter.numel() for parameter in decoder.parameters()) / 1e6) == 459
