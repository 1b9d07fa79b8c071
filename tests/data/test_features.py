"""Features equal those of transformers' own extractors, on every length that behaves differently."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from vietst.data.audio import load_waveform
from vietst.data.features import (
    INPUT_KINDS,
    LOG_MEL_80,
    LOG_MEL_80_NANO,
    LOG_MEL_128,
    WAVEFORM_16K,
    InputKind,
    extract,
    half_precision,
    input_kind_named,
    input_kind_of,
    log_mel_kind,
    pad_log_mel,
)
from vietst.errors import ConfigError, ModelError

LOG_MEL_KINDS = (LOG_MEL_80, LOG_MEL_128, LOG_MEL_80_NANO)
ODD_LENGTHS = (1, 2, 100, 159, 160, 161, 199, 200, 201, 202, 239, 240, 241, 399, 400, 401, 16_000)


def whisper_extractor(kind: InputKind) -> WhisperFeatureExtractor:
    return WhisperFeatureExtractor(
        feature_size=kind.num_mel_bins, hop_length=kind.hop_length_samples, chunk_length=int(kind.window_s)
    )


def make_signal(sound: str, num_samples: int) -> np.ndarray:
    generator = np.random.default_rng(num_samples)
    time_s = np.arange(num_samples) / 16_000
    return {
        "noise": 0.3 * generator.standard_normal(num_samples),
        "faint noise": 1e-6 * generator.standard_normal(num_samples),
        "tone": 0.9 * np.sin(2 * np.pi * 440 * time_s),
        "zeros": np.zeros(num_samples),
    }[sound].astype(np.float32)


def padded(waveform: np.ndarray, kind: InputKind) -> np.ndarray:
    extracted = extract(waveform, kind)
    return pad_log_mel([extracted.values], [extracted.pad_value], kind.num_window_frames)[0]


def reference(waveform: np.ndarray, kind: InputKind) -> np.ndarray:
    return whisper_extractor(kind)([waveform], sampling_rate=16_000, return_tensors="np").input_features[0]


@pytest.mark.parametrize("sound", ["noise", "faint noise", "tone", "zeros"])
@pytest.mark.parametrize("kind", LOG_MEL_KINDS, ids=lambda kind: kind.name)
def test_padded_log_mel_equals_the_extractors_full_window(kind: InputKind, sound: str) -> None:
    full = kind.num_window_samples
    near_full = (
        full - 401,
        full - 400,
        full - 201,
        full - 200,
        full - 199,
        full - 1,
        full,
        full + 1,
        full + 50_000,
    )
    for num_samples in (*ODD_LENGTHS, *near_full):
        waveform = make_signal(sound, num_samples)
        np.testing.assert_allclose(
            padded(waveform, kind), reference(waveform, kind), atol=2e-6, rtol=0, err_msg=str(num_samples)
        )


@settings(max_examples=25)
@given(num_samples=st.integers(1, 70_000), level=st.floats(1e-5, 1.0), kind=st.sampled_from(LOG_MEL_KINDS))
def test_padded_log_mel_equals_the_extractors_for_any_length(
    num_samples: int, level: float, kind: InputKind
) -> None:
    waveform = (level * np.random.default_rng(num_samples).standard_normal(num_samples)).astype(np.float32)
    np.testing.assert_allclose(padded(waveform, kind), reference(waveform, kind), atol=2e-6, rtol=0)


@settings(max_examples=25)
@given(
    hop_length_samples=st.integers(80, 400), window_s=st.integers(1, 3), num_samples=st.integers(1, 50_000)
)
def test_any_front_end_of_a_model_made_here_is_reproduced(
    hop_length_samples: int, window_s: int, num_samples: int
) -> None:
    kind = log_mel_kind(80, hop_length_samples, window_s)
    waveform = make_signal("noise", num_samples)
    np.testing.assert_allclose(padded(waveform, kind), reference(waveform, kind), atol=2e-6, rtol=0)
    assert input_kind_of(whisper_extractor(kind)) == input_kind_named(kind.name) == kind


@pytest.mark.parametrize(
    "name", ["log_mel-81", "log_mel-80-hop160-30s", "logmel-80", "", "log_mel-80-hop0-4s"]
)
def test_an_unknown_kind_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match="log_mel-128"):
        input_kind_named(name)


def test_an_empty_clip_is_a_window_of_the_lowest_value() -> None:
    assert np.unique(padded(np.zeros(0, np.float32), LOG_MEL_80)).tolist() == [-1.5]
    assert extract(np.zeros(0, np.float32), WAVEFORM_16K).values.shape == (0,)


@pytest.mark.parametrize("kind", LOG_MEL_KINDS, ids=lambda kind: kind.name)
def test_real_speech_in_half_precision_stays_within_its_rounding(shared_data: Path, kind: InputKind) -> None:
    paths = sorted(
        path for path in (shared_data / "speech_en").rglob("*") if path.suffix in (".wav", ".flac")
    )
    assert len(paths) >= 20
    for path in paths:
        waveform = load_waveform(path)
        extracted = extract(waveform, kind)
        expected = reference(waveform, kind)
        half = extracted.values.astype(np.float16)
        from_half = pad_log_mel([half], [extracted.pad_value], kind.num_window_frames)[0]
        np.testing.assert_allclose(padded(waveform, kind), expected, atol=2e-6, rtol=0)
        # Values lie below 2 in size, where neighbouring float16 values are at most 2^-10 apart.
        np.testing.assert_allclose(from_half, expected, atol=2**-11 + 2e-6, rtol=0)


@given(st.lists(st.floats(width=32), min_size=1, max_size=40))
def test_all_kinds_round_to_half_precision_alike(values: list[float]) -> None:
    rounded = half_precision(np.array([values], np.float32), LOG_MEL_80)
    assert rounded.dtype == np.dtype("<f2")
    with np.errstate(over="ignore"):
        expected = half_precision(np.array([values], np.float32), WAVEFORM_16K)
    np.testing.assert_array_equal(rounded, expected)


@pytest.mark.parametrize("kind", INPUT_KINDS.values(), ids=lambda kind: kind.name)
def test_lengths_are_known_before_anything_is_computed(kind: InputKind) -> None:
    for num_samples in (*ODD_LENGTHS, kind.num_window_samples - 1, kind.num_window_samples + 5):
        values = extract(make_signal("noise", num_samples), kind).values
        assert values.dtype == np.float32
        assert len(values) == kind.num_frames(num_samples)
        assert values.astype(np.float16).nbytes == kind.num_bytes(num_samples)


def test_no_frame_is_kept_that_holds_padding_only() -> None:
    waveform = make_signal("noise", 16_000)
    expected = reference(waveform, LOG_MEL_80)
    extracted = extract(waveform, LOG_MEL_80)
    num_frames = len(extracted.values)
    assert np.ptp(expected[:, num_frames:]) == 0
    assert np.ptp(expected[:, num_frames - 1]) > 0
    assert extracted.pad_value == pytest.approx(float(expected[0, -1]), abs=1e-6)


def test_waveform_equals_wav2vec2s_extractor() -> None:
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    for num_samples in (*ODD_LENGTHS, 123_457):
        for sound in ("noise", "faint noise", "tone", "zeros"):
            waveform = make_signal(sound, num_samples)
            expected = extractor([waveform], sampling_rate=16_000, return_tensors="np").input_values[0]
            np.testing.assert_array_equal(extract(waveform, WAVEFORM_16K).values, expected)


def test_each_clip_of_a_batch_is_padded_with_its_own_value() -> None:
    clips = [
        np.full((3, 2), 7.0, np.float16),
        np.full((5, 2), 8.0, np.float16),
        np.full((9, 2), 9.0, np.float16),
    ]
    batch = pad_log_mel(clips, [0.5, -0.5, 0.0], 6)
    assert batch.shape == (3, 2, 6)
    assert batch.dtype == np.float32
    assert batch[0, 0].tolist() == [7, 7, 7, 0.5, 0.5, 0.5]
    assert batch[1, 1].tolist() == [8, 8, 8, 8, 8, -0.5]
    assert batch[2, 0].tolist() == [9] * 6


def test_shipped_extractors_are_recognized(shared_data: Path) -> None:
    assert (
        input_kind_of(WhisperFeatureExtractor.from_pretrained(shared_data / "whisper_tokenizer"))
        == LOG_MEL_80
    )
    assert (
        input_kind_of(WhisperFeatureExtractor.from_pretrained(shared_data / "whisper_tokenizer_v3"))
        == LOG_MEL_128
    )
    assert input_kind_of(whisper_extractor(LOG_MEL_80_NANO)) == LOG_MEL_80_NANO
    assert input_kind_of(Wav2Vec2FeatureExtractor(do_normalize=True)) == WAVEFORM_16K


@pytest.mark.parametrize(
    "extractor",
    [
        WhisperFeatureExtractor(dither=1e-4),
        WhisperFeatureExtractor(n_fft=512),
        Wav2Vec2FeatureExtractor(do_normalize=False),
        Wav2Vec2FeatureExtractor(sampling_rate=8_000),
    ],
)
def test_an_extractor_that_cannot_be_reproduced_is_refused(extractor: object) -> None:
    with pytest.raises(ModelError, match="usual ones"):
        input_kind_of(extractor)
