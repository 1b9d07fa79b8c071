"""Recordings of all kinds become the same samples, in blocks; what cannot be read says why."""

import io
import math
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr
import torch

from tests.encoded_audio import encoded
from tests.tiny_models import tone
from vietst.data.audio import load_waveform
from vietst.errors import AudioError
from vietst.inference.audio_input import Audio, waveform_blocks

RATE = 16_000


def waveform(audio: Audio) -> np.ndarray:
    return np.concatenate(list(waveform_blocks(audio)))


def delay_samples(found: np.ndarray, expected: np.ndarray) -> int:
    """By how many samples the first is later, by correlation, up to 0.1 s."""
    length = min(len(found), len(expected)) - 3200
    shifts = range(-1600, 1601, 8)
    scores = [np.dot(found[1600 + s : 1600 + s + length], expected[1600 : 1600 + length]) for s in shifts]
    return shifts[int(np.argmax(scores))]


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (16_000, 2), (44_100, 1), (48_000, 2)])
def test_path_bytes_and_array_give_what_training_hears(tmp_path: Path, rate: int, channels: int) -> None:
    mono = soxr.resample(tone(2.0, seed=1), RATE, rate)
    samples = np.stack([mono, 0.5 * mono], axis=1)[:, :channels]
    path = tmp_path / "clip.wav"
    soundfile.write(path, samples, rate, subtype="FLOAT")
    expected = load_waveform(path)
    for audio in (path, str(path), path.read_bytes(), (samples.astype(np.float32), rate)):
        np.testing.assert_array_equal(waveform(audio), expected)
    np.testing.assert_array_equal(waveform(expected), expected)


@pytest.mark.parametrize(
    ("format_name", "codec", "rate"),
    [
        ("mp3", "libmp3lame", 44_100),
        ("ipod", "aac", 44_100),
        ("webm", "libopus", 48_000),
        ("mp4", "aac", 48_000),
    ],
)
def test_compressed_files_give_the_same_sound_at_the_same_time(
    tmp_path: Path, format_name: str, codec: str, rate: int
) -> None:
    original = tone(4.0, seed=2)
    content = encoded(format_name, codec, soxr.resample(original, RATE, rate), rate)
    path = tmp_path / "clip"
    path.write_bytes(content)
    found = waveform(path)
    np.testing.assert_array_equal(waveform(content), found)
    assert abs(len(found) - len(original)) < 0.1 * RATE
    assert abs(delay_samples(found, original)) < 0.08 * RATE
    assert np.sqrt(np.mean(found**2)) == pytest.approx(np.sqrt(np.mean(original**2)), rel=0.1)


def test_sound_that_begins_behind_the_picture_keeps_its_time() -> None:
    original = tone(2.0, seed=3)
    found = waveform(encoded("matroska", "aac", original, RATE, delay_s=1.5))
    onset = np.argmax(np.abs(found) > 0.02) / RATE
    assert onset == pytest.approx(1.5, abs=0.1)


def test_a_long_file_comes_in_blocks_of_some_seconds(tmp_path: Path) -> None:
    path = tmp_path / "long.m4a"
    path.write_bytes(encoded("ipod", "aac", tone(60.0, seed=4), RATE))
    for audio in (path, tone(60.0, seed=4)):
        lengths = [len(block) for block in waveform_blocks(audio)]
        assert 58 * RATE < sum(lengths) < 62 * RATE
        assert max(lengths) < 20 * RATE
        assert np.mean(lengths) > 2 * RATE, "not a detector's call for each codec's frame"


def test_sound_that_changes_in_the_middle_keeps_its_speed() -> None:
    # As of broadcasts, or of files that were simply written one behind the other.
    first, second = tone(2.0, seed=5), tone(3.0, seed=6)
    content = b"".join(
        encoded("adts", "aac", soxr.resample(samples, RATE, rate), rate)
        for samples, rate in ((first, 32_000), (second, 16_000))
    )
    found = waveform(content)
    assert len(found) / RATE == pytest.approx(5.0, abs=0.3)
    assert abs(delay_samples(found[-len(second) :], second)) < 0.1 * RATE


def test_a_low_rate_does_not_make_large_blocks(tmp_path: Path) -> None:
    path = tmp_path / "slow.wav"
    soundfile.write(path, tone(3.0, seed=7)[:40_000], 100)
    lengths = [len(block) for block in waveform_blocks(path)]
    assert sum(lengths) == 400 * RATE
    assert max(lengths) < 60 * RATE


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.aac"
    secret.write_bytes(encoded("adts", "aac", tone(1.0, seed=8), RATE))
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n"
    for name, content in (("a.m3u8", hls), ("a.wav", f"ffconcat version 1.0\nfile {secret.name}\n")):
        (tmp_path / name).write_text(content)
        with pytest.raises(AudioError, match="ffmpeg"):
            waveform(tmp_path / name)


def cut_off(content: bytes) -> bytes:
    return content[: len(content) // 2]


def wav_bytes(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV")
    return file.getvalue()


def picture_only() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10, width=32, height=32)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(
    ("make", "code", "said"),
    [
        (lambda: Path("not", "there.wav"), "audio_missing", "No such file"),
        (lambda: Path(), "audio_missing", "folder"),
        (lambda: b"", "audio_empty", "0 bytes"),
        (lambda: wav_bytes(np.zeros(0, np.float32)), "audio_empty", "without samples"),
        (lambda: b"this is no sound at all, but a text. " * 50, "audio_unreadable", "ffmpeg"),
        (lambda: cut_off(wav_bytes(tone(1.0, 1))), "audio_truncated", "fewer than its header promises"),
        (lambda: cut_off(encoded("ipod", "aac", tone(2.0, 1), RATE)), "audio_unreadable", "ffmpeg"),
        (picture_only, "audio_unreadable", "no sound in it"),
        (lambda: np.array([0.1, np.nan], np.float32), "audio_not_finite", "NaN"),
        (lambda: np.zeros(100, np.int16), "audio_unreadable", "int16"),
        (lambda: np.zeros((0,), np.float32), "audio_unreadable", "[0]"),
        (lambda: (np.zeros((2, 44_100), np.float32), 44_100), "audio_unreadable", "[2, 44100]"),
        (lambda: tone(1.0, 1).astype(np.float32) * 32_768, "audio_unreadable", "samples of "),
        (lambda: (tone(1.0, 1), 0), "audio_unreadable", "at 0 Hz"),
        (lambda: (tone(1.0, 1), math.nan), "audio_unreadable", "at nan Hz"),
        (lambda: torch.zeros(16_000), "audio_unreadable", "Tensor"),
        (lambda: [Path("a.wav"), Path("b.wav")], "audio_unreadable", "list"),
    ],
)
def test_what_cannot_be_read_says_why(make: Callable[[], Audio], code: str, said: str) -> None:
    with pytest.raises(AudioError) as refused:
        waveform(make())
    assert refused.value.code == code
    assert said in refused.value.found
