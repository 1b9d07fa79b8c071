"""Plain WAV files are read without soundfile, to the same samples; what is not quite plain is left to it."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from vietst.data import audio
from vietst.data.audio import load_waveform, measure_audio
from vietst.data.plain_wav import MAX_PLAIN_BYTES, parse_plain_wav, read_plain_wav


def write(path: Path, num_channels: int = 1, **options: str) -> bytes:
    samples = 0.3 * np.random.default_rng(0).standard_normal((3_000, num_channels))
    soundfile.write(path, samples, 22_050, **options)
    return path.read_bytes()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack("<4sI", name, len(content)) + content + b"\0" * (len(content) % 2)


@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize(
    "extra", [b"", chunk(b"LIST", b"INFOISFT\x05\0\0\0odd"), chunk(b"JUNK", bytes(5_000))]
)
def test_samples_and_facts_are_those_of_soundfile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_channels: int, extra: bytes
) -> None:
    content = write(tmp_path / "a.wav", num_channels)
    content = content[:12] + extra + content[12:] + extra
    content = content[:4] + struct.pack("<I", len(content) - 8) + content[8:]
    (tmp_path / "a.wav").write_bytes(content)
    with monkeypatch.context() as without:
        without.delattr(audio, "open_sound")
        waveform = load_waveform(tmp_path / "a.wav", sample_rate_hz=22_050)
        facts = measure_audio(tmp_path / "a.wav")
    expected, _ = soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)
    np.testing.assert_array_equal(waveform, expected.mean(axis=1, dtype=np.float32))
    monkeypatch.setattr(audio, "read_plain_wav", lambda _: None)
    assert measure_audio(tmp_path / "a.wav") == facts
    np.testing.assert_array_equal(load_waveform(tmp_path / "a.wav", sample_rate_hz=22_050), waveform)


@pytest.mark.parametrize(
    "options",
    [
        {"subtype": "PCM_24"},
        {"subtype": "FLOAT"},
        {"subtype": "PCM_U8"},
        {"format": "WAVEX"},
        {"format": "RF64"},
    ],
    ids=str,
)
def test_other_formats_are_for_soundfile(tmp_path: Path, options: dict[str, str]) -> None:
    write(tmp_path / "a.wav", **options)
    assert read_plain_wav(tmp_path / "a.wav") is None
    assert len(load_waveform(tmp_path / "a.wav")) > 2_000


@settings(max_examples=60)
@given(st.data())
def test_no_damage_gets_past_soundfile(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a.wav"
    content = bytearray(write(path))
    for position in data.draw(st.lists(st.integers(0, 47), max_size=3)):
        content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    plain = read_plain_wav(path)
    if plain is not None:
        with audio.open_sound(path) as file:
            assert (file.samplerate, file.channels) == (plain.sample_rate_hz, plain.samples.shape[1])
            np.testing.assert_array_equal(file.read(dtype="int16", always_2d=True), plain.samples)


def test_long_files_are_read_in_blocks(tmp_path: Path) -> None:
    write(tmp_path / "a.wav")
    with (tmp_path / "a.wav").open("rb+") as file:
        file.truncate(MAX_PLAIN_BYTES + 1)
    assert read_plain_wav(tmp_path / "a.wav") is None
    assert parse_plain_wav((tmp_path / "a.wav").read_bytes()) is not None
    assert read_plain_wav(tmp_path) is None
    assert read_plain_wav(tmp_path / "absent.wav") is None
