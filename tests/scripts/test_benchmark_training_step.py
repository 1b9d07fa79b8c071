"""`benchmark.py training_step`: both ways take the same step of the same weights."""

import pytest
import torch
from transformers import MBartConfig, SpeechEncoderDecoderConfig, Wav2Vec2Config, WhisperConfig

from vietst.benchmarks.training_step import (
    StepWorkload,
    compare_cases,
    describe,
    e2e_case,
    published_cases,
    share_parameters,
    whisper_case,
)

TINY_WHISPER = WhisperConfig(
    d_model=16,
    encoder_layers=1,
    decoder_layers=1,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    max_source_positions=100,
    vocab_size=300,
    pad_token_id=0,
)
DECODER = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "decoder_attention_heads": 2}
TINY_E2E = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
    Wav2Vec2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, conv_dim=[16] * 7),
    MBartConfig(vocab_size=300, **DECODER),
)


def test_both_ways_have_the_same_loss_and_weights():
    cases = [whisper_case("whisper", TINY_WHISPER, 0.01), e2e_case("e2e", TINY_E2E, 1e6)]
    workload = StepWorkload(num_utterances=3, duration_s=1.0, num_label_tokens=12)
    results = compare_cases(cases, workload, num_rounds=3)
    for measured in results["cases"]:
        assert measured["loss_difference"] < 1e-5
        for way in ("doubled_batch", "encode_once"):
            low, high = measured[f"{way}_spread_seconds"]
            assert 0 < low <= measured[f"{way}_seconds"] <= high
            assert measured[f"{way}_cpu_seconds"] > 0
    lines = describe(results).splitlines()
    assert ": met;" in next(line for line in lines if line.startswith("whisper"))
    assert ": MISSED;" in next(line for line in lines if line.startswith("e2e"))


def test_models_that_differ_are_not_compared():
    case = whisper_case("whisper", TINY_WHISPER, 1.0)
    deeper = WhisperConfig(**TINY_WHISPER.to_dict() | {"decoder_layers": 2})
    with torch.device("meta"):
        stock = case.stock(deeper)
    with pytest.raises(ValueError, match="the two models differ"):
        share_parameters(case.ours(TINY_WHISPER), stock)


def test_the_published_sizes_are_measured():
    for case in published_cases():
        with torch.device("meta"):
            counts = [
                sum(p.numel() for p in made(case.config).parameters()) for made in (case.ours, case.stock)
            ]
        assert counts[0] == counts[1]
    assert [case.min_times_faster for case in published_cases()] == [1.85, 1.6, 1.75]
