"""Pieces of long recordings: their times, that nothing that was said is lost, and what memory they take."""

import tracemalloc
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from vietst.data.audio import load_waveform
from vietst.inference.recordings import SpeechPiece, speech_pieces
from vietst.inference.voice_activity import load_network

RATE = 16_000
TOLERANCE_S = 0.2


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return load_network()


def level(samples: np.ndarray) -> np.ndarray:
    """Root mean square over 20 ms around each sample."""
    return np.sqrt(np.convolve(samples**2, np.ones(320) / 320, "same"))


def concatenated(clips: Sequence[np.ndarray]) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Clips with pauses of 0.6 to 3 s, and from where to where each is louder than 26 dB below its peak."""
    generator = np.random.default_rng(1)
    parts: list[np.ndarray] = []
    speech, position = [], 0
    for clip in clips:
        pause = generator.normal(0, 1e-4, int(generator.uniform(0.6, 3) * RATE)).astype(np.float32)
        loud = np.nonzero(level(clip) > 0.05 * level(clip).max())[0]
        position += len(pause)
        speech.append(((position + loud[0]) / RATE, (position + loud[-1]) / RATE))
        position += len(clip)
        parts += [pause, clip]
    return np.concatenate(parts), speech


def pieces_of(audio: np.ndarray | Path, network: torch.nn.Module, limit_s: float) -> list[SpeechPiece]:
    *pieces, duration_s = speech_pieces(audio, network, round(limit_s * RATE))
    assert isinstance(duration_s, float)
    if isinstance(audio, np.ndarray):
        assert duration_s == len(audio) / RATE
    return [piece for piece in pieces if isinstance(piece, SpeechPiece)]


def pink_noise(recording: np.ndarray, signal_to_noise_db: float) -> np.ndarray:
    """As loud against all of the recording, pauses included, as said: hum and traffic more than hiss."""
    spectrum = np.fft.rfft(np.random.default_rng(1).normal(size=len(recording)))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(1, np.arange(len(spectrum)))), len(recording))
    scale = np.sqrt((recording**2).mean() / (noise**2).mean()) * 10 ** (-signal_to_noise_db / 20)
    return (noise * scale).astype(np.float32)


def check_times(clips: Sequence[np.ndarray], network: torch.nn.Module, noise_db: float | None = None) -> None:
    """Where speech begins and ends is known from the clips, before noise lies over them."""
    clean, speech = concatenated(clips)
    recording = clean if noise_db is None else clean + pink_noise(clean, noise_db)
    pieces = pieces_of(recording, network, 7)
    starts, ends = (np.array([getattr(piece, name) for piece in pieces]) for name in ("start_s", "end_s"))
    off = [np.abs(starts - start).min() for start, _ in speech] + [
        np.abs(ends - end).min() for _, end in speech
    ]
    assert np.mean(np.array(off) <= TOLERANCE_S) >= 0.95
    for start, end in speech:
        assert any(piece.start_s < end and piece.end_s > start for piece in pieces), "a whole clip is lost"
    heard = np.zeros(len(recording), dtype=bool)
    for piece in pieces:
        # found again in the recording by its samples
        start = round(piece.start_s * RATE)
        around = range(max(0, start - RATE // 2), start + 1)
        at = next(i for i in around if np.array_equal(recording[i : i + 50], piece.waveform[:50]))
        np.testing.assert_array_equal(recording[at : at + len(piece.waveform)], piece.waveform)
        heard[at : at + len(piece.waveform)] = True
    spoken = np.zeros(len(recording), dtype=bool)
    for start, end in speech:
        spoken[round(start * RATE) : round(end * RATE)] = True
    spoken &= level(clean) > 0.02
    assert heard[spoken].mean() > 0.999
    for limit_s in (4, 30):
        longer = pieces_of(recording, network, limit_s)
        assert all(len(piece.waveform) <= limit_s * RATE for piece in longer)
        assert all(before.end_s <= after.start_s for before, after in pairwise(longer))


@pytest.mark.parametrize("noise_db", [None, 15])
def test_times_of_synthetic_speech_are_right(network, tiny_corpus, noise_db) -> None:
    clips = sorted((tiny_corpus / "data" / "export").rglob("*.wav"))
    check_times([load_waveform(clip) for clip in clips], network, noise_db)


@pytest.mark.parametrize("noise_db", [None, 10])
def test_times_of_real_speech_are_right(network, shared_data, noise_db) -> None:
    """Of clean clips; those that are noisy themselves do not tell to 0.2 s where their speech ends."""
    folders = [shared_data / "speech_en" / "ljspeech", shared_data / "speech_en" / "speechbrain"]
    folders.append(shared_data / "speech_vi" / "picovoice")
    clips = sorted(
        path for folder in folders for path in folder.iterdir() if path.suffix in (".wav", ".flac")
    )
    assert len(clips) >= 20
    check_times([load_waveform(clip) for clip in clips], network)


def test_a_recording_that_fits_is_heard_whole(network, tiny_corpus) -> None:
    clip = load_waveform(next((tiny_corpus / "data" / "export").rglob("*.wav")))
    recording = np.concatenate([clip, np.zeros(5 * RATE, np.float32), clip])
    (whole,) = pieces_of(recording, network, 30)
    np.testing.assert_array_equal(whole.waveform, recording)
    assert whole.start_s < 0.5
    assert whole.end_s > len(recording) / RATE - 0.5
    assert len(pieces_of(recording, network, len(recording) / RATE - 0.1)) == 2


def test_memory_does_not_grow_with_the_recording(network, tiny_corpus, tmp_path) -> None:
    clips = [load_waveform(clip) for clip in sorted((tiny_corpus / "data" / "export").rglob("*.wav"))]
    peaks = {}
    for minutes in (1, 8):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", samplerate=RATE, channels=1) as file:
            while file.tell() < minutes * 60 * RATE:
                for clip in clips:
                    file.write(clip)
        tracemalloc.start()
        num_pieces = sum(1 for _ in speech_pieces(path, network, 7 * RATE))
        peaks[minutes] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert num_pieces > 8 * minutes
    assert peaks[8] < 1.2 * peaks[1]
