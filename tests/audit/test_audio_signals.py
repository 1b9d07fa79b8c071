"""What clips sound like: speech, music, noise and silence told apart, alone and among others."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from vietst.audit.audio_signals import ClipSound, measure_clips
from vietst.data.audio import load_waveform
from vietst.inference.voice_activity import SileroNetwork, VoiceActivity, load_network, speech_probabilities

RATE = 16_000


@pytest.fixture(scope="module")
def network() -> SileroNetwork:
    return load_network()


@pytest.fixture(scope="module")
def speech(repo_root: Path) -> np.ndarray:
    return load_waveform(repo_root / "vietst" / "inference" / "self_check.flac")


def noise(duration_s: float, level_dbfs: float, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).standard_normal(round(duration_s * RATE))
    return (10 ** (level_dbfs / 20) * samples).astype(np.float32)


def chords(duration_s: float) -> np.ndarray:
    """Three chords, one after the other, each of notes with five harmonics that die away."""
    times_s = np.arange(round(duration_s * RATE)) / RATE
    samples = np.zeros_like(times_s)
    for number, notes_hz in enumerate([(220, 277.2, 329.6), (196, 246.9, 293.7), (174.6, 220, 261.6)]):
        since_s = times_s - number * duration_s / 3
        is_on = (since_s >= 0) & (since_s < duration_s / 3)
        for note_hz in notes_hz:
            for harmonic in range(1, 6):
                wave = np.sin(2 * np.pi * harmonic * note_hz * since_s) / harmonic
                samples += np.where(is_on, wave * np.exp(-since_s.clip(0) / 1.5), 0.0)
    return (0.05 * samples).astype(np.float32)


def measure(network: SileroNetwork, clip: np.ndarray) -> ClipSound:
    (sound,) = measure_clips(network, [clip])
    return sound


def test_speech_is_heard_as_such(network, speech) -> None:
    sound = measure(network, speech)
    assert sound.speech > 0.7
    assert sound.music < 0.1
    assert sound.duration == pytest.approx(len(speech) / RATE)


def test_music_noise_and_silence_are_told_apart(network) -> None:
    assert measure(network, chords(3.0)).music > 0.8
    assert measure(network, noise(3.0, -30)).noise > 0.9
    assert measure(network, np.concatenate([noise(0.1, -20), noise(2.9, -75)])).silence > 0.9


def test_the_shares_are_those_of_the_parts(network, speech) -> None:
    clip = np.concatenate([speech[: 2 * RATE], np.zeros(2 * RATE, np.float32)])
    sound = measure(network, clip)
    assert sound.silence == pytest.approx(0.5, abs=0.1)
    assert sound.speech == pytest.approx(measure(network, speech[: 2 * RATE]).speech / 2, abs=0.1)
    assert sound.speech + sound.music + sound.silence + sound.noise == pytest.approx(1.0)


@pytest.mark.parametrize("snr_db", [5, 15, 25])
def test_the_ratio_of_speech_to_noise_is_estimated(network, speech, snr_db) -> None:
    padded = np.pad(speech, RATE)
    speech_db = 10 * np.log10(np.mean(np.square(speech)))
    sound = measure(network, padded + noise(len(padded) / RATE, speech_db - snr_db))
    assert sound.snr_db == pytest.approx(snr_db, abs=3)


def test_level_and_clipping(network, speech) -> None:
    quiet = measure(network, 0.1 * speech)
    assert measure(network, 0.2 * speech).level_dbfs - quiet.level_dbfs == pytest.approx(6.02, abs=0.01)
    assert quiet.clipping == 0
    clipped = np.clip(20 * speech, -1, 1)
    assert measure(network, clipped).clipping == pytest.approx(np.mean(np.abs(clipped) == 1), abs=0.01)


def test_an_edge_in_the_middle_of_a_word_is_loud(network, speech) -> None:
    loudest = int(np.argmax(np.convolve(np.square(speech), np.ones(RATE // 10), mode="same")))
    clip = np.pad(speech, RATE // 4)
    whole, cut = measure(network, clip), measure(network, clip[loudest + RATE // 4 :])
    assert whole.edge_start_db < -30
    assert cut.edge_start_db > -6
    assert cut.edge_end_db < -30


def test_without_speech_nothing_is_relative_to_it(network) -> None:
    sound = measure(network, noise(1.0, -40))
    assert (sound.snr_db, sound.edge_start_db, sound.edge_end_db) == (None, None, None)


def test_clips_are_measured_among_others_as_alone(network, speech) -> None:
    clips = [speech, chords(1.3), speech[:9000], noise(2.0, -40), speech[5:6], np.zeros(700, np.float32)]
    for together, clip in zip(measure_clips(network, clips), clips, strict=True):
        alone = measure(network, clip)
        for field in fields(ClipSound):
            of_both = getattr(together, field.name), getattr(alone, field.name)
            np.testing.assert_allclose(*(np.array(value, float) for value in of_both), rtol=1e-6)


def test_the_network_hears_clips_together_as_one_after_the_other(network, speech) -> None:
    clips = [speech, speech[1000:8000], speech[:512], speech[:1]]
    for clip, together in zip(clips, speech_probabilities(network, clips), strict=True):
        activity = VoiceActivity(network)
        alone = np.concatenate([activity(clip), activity.finish()])
        np.testing.assert_allclose(together, alone, atol=1e-5)
