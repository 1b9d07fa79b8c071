"""Audio files: everything that is meant well is read, everything else has its reason code."""

import math
import os
import shutil
import struct
import sys
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from vietst.data import audio_facts, audio_headers
from vietst.data.audio import AudioFacts, load_waveform, measure_audio, resolve_audio_path
from vietst.data.audio_facts import AudioFactsFile
from vietst.data.audio_pieces import Piece
from vietst.errors import AudioError

FORMATS = {
    "clip.wav": "PCM_16",
    "clip24.wav": "PCM_24",
    "float.wav": "FLOAT",
    "clip.flac": "PCM_16",
    "clip.mp3": "MPEG_LAYER_III",
    "clip.ogg": "VORBIS",
    "clip.opus": "OPUS",
}


def tone(sample_rate_hz: int, duration_s: float = 1.0, num_channels: int = 1) -> np.ndarray:
    """440 Hz at half scale, [num_samples, num_channels]."""
    time_s = np.arange(round(sample_rate_hz * duration_s)) / sample_rate_hz
    return np.repeat(0.5 * np.sin(2 * np.pi * 440 * time_s)[:, None], num_channels, axis=1).astype(np.float32)


def write(path: Path, samples: np.ndarray, sample_rate_hz: int = 16_000, subtype: str = "PCM_16") -> Path:
    container = "OGG" if path.suffix == ".opus" else None
    soundfile.write(path, samples, sample_rate_hz, subtype=subtype, format=container)
    return path


def code_of(path: Path) -> str:
    """The reason code, which decoding and measuring must agree on."""
    with pytest.raises(AudioError) as measuring:
        measure_audio(path)
    with pytest.raises(AudioError) as loading:
        load_waveform(path)
    assert measuring.value.code == loading.value.code
    assert str(path) in str(measuring.value)
    return measuring.value.code


# --- what is meant well -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "subtype"), FORMATS.items())
def test_usual_formats_are_read(tmp_path: Path, name: str, subtype: str) -> None:
    path = write(tmp_path / name, tone(48_000), 48_000, subtype)
    waveform, facts = load_waveform(path), measure_audio(path)
    assert waveform.dtype == np.float32
    assert waveform.shape == (16_000,)
    assert facts.duration_s == 1.0
    assert 0.4 < facts.peak < 0.7
    middle = slice(4_000, 12_000)  # lossy formats ring at the ends
    np.testing.assert_allclose(waveform[middle], tone(16_000)[middle, 0], atol=0.06)


@pytest.mark.parametrize(
    ("sample_rate_hz", "num_channels"), [(8_000, 1), (16_000, 1), (22_050, 1), (44_100, 2), (96_000, 6)]
)
def test_any_rate_and_channel_count_becomes_16_khz_mono(
    tmp_path: Path, sample_rate_hz: int, num_channels: int
) -> None:
    path = write(tmp_path / "a.wav", tone(sample_rate_hz, 1.5, num_channels), sample_rate_hz)
    waveform, facts = load_waveform(path), measure_audio(path)
    assert waveform.shape == (24_000,)
    np.testing.assert_allclose(waveform[1000:-1000], tone(16_000, 1.5)[1000:-1000, 0], atol=2e-3)
    assert (facts.sample_rate_hz, facts.num_channels) == (sample_rate_hz, num_channels)
    assert facts.num_samples == 1.5 * sample_rate_hz
    assert facts.rms_dbfs == pytest.approx(-9.03, abs=0.05)


def test_mono_is_the_mean_of_the_channels(tmp_path: Path) -> None:
    left = tone(16_000)[:, 0]
    path = write(tmp_path / "a.wav", np.stack([left, 0.5 * left], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(load_waveform(path), 0.75 * left, atol=1e-6)


@pytest.mark.parametrize("name", ["clip.wav", "clip.flac", "clip.aiff"])
@pytest.mark.parametrize("num_channels", [1, 2])
def test_16_bit_samples_become_libsndfiles_floats(tmp_path: Path, name: str, num_channels: int) -> None:
    noise = np.random.default_rng(0).uniform(-1.0, 1.0, (48_000, num_channels))
    noise[0], noise[1] = -1.0, 1.0  # the ends of the scale, which are not alike in 16 bits
    path = write(tmp_path / name, noise)
    floats, _ = soundfile.read(path, dtype="float32", always_2d=True)
    np.testing.assert_array_equal(load_waveform(path), floats.mean(axis=1))


def test_resampling_is_what_librosa_does(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 22_050).astype(np.float32)
    path = write(tmp_path / "a.wav", samples, 22_050, "FLOAT")
    expected = librosa.resample(samples, orig_sr=22_050, target_sr=16_000, res_type="soxr_hq")
    np.testing.assert_array_equal(load_waveform(path), expected)


def test_real_speech_has_its_documented_length(shared_data: Path) -> None:
    facts = measure_audio(shared_data / "speech_en" / "jfk" / "jfk.flac")
    assert (facts.sample_rate_hz, facts.num_channels) == (44_100, 2)
    assert facts.duration_s == pytest.approx(11.0, abs=0.01)


def test_a_file_longer_than_a_block_is_read_whole(tmp_path: Path) -> None:
    samples = tone(16_000, 40.0)
    path = write(tmp_path / "a.wav", samples)
    assert load_waveform(path).shape == (640_000,)
    assert measure_audio(path).num_samples == 640_000


def test_three_hours_are_measured_in_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "long.wav"
    num_samples = 3 * 3600 * 16_000
    with soundfile.SoundFile(path, "w", 16_000, 1, "PCM_U8") as file:
        block = tone(16_000, 60.0)[:, 0]
        for _ in range(num_samples // len(block)):
            file.write(block)
    tracemalloc.start()
    facts = measure_audio(path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert facts.duration_s == 3 * 3600
    assert peak_bytes < 20e6


def test_a_wav_from_a_pipe_has_no_promised_length(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(16_000))
    content = bytearray(path.read_bytes())
    position = content.index(b"data")
    content[4:8] = content[position + 4 : position + 8] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(content)
    assert load_waveform(path).shape == (16_000,)


def without_frame_count(path: Path) -> Path:
    """Takes the Xing/Info frame (the first) out of an MP3, and puts an ID3v2 and an ID3v1 tag around it."""
    with path.open("rb") as file:
        content = file.read()
    assert b"Xing" in content[:1024] or b"Info" in content[:1024]
    frame = audio_headers._mpeg_frame(content[:4])
    assert frame is not None
    picture = bytes(300)
    path.write_bytes(b"ID3\3\0\0\0\0\2\x2c" + picture + content[frame[0] :] + b"TAG" + bytes(125))
    return path


def test_an_mp3_of_constant_rate_that_the_decoder_takes_for_longer_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    num_samples = 60 * 44_100
    with soundfile.SoundFile(
        path, "w", 44_100, 1, "MPEG_LAYER_III", bitrate_mode="CONSTANT", compression_level=0.9
    ) as file:
        file.write(0.1 * np.random.default_rng(0).standard_normal(num_samples))
    taken_for = soundfile.info(without_frame_count(path)).frames
    assert taken_for > num_samples + 10_000, "the decoder's guess is no longer wrong: nothing is tested"
    facts = measure_audio(path)
    assert facts.num_samples == pytest.approx(num_samples, abs=2 * audio_headers.MPEG_FRAME_SAMPLES)
    whole = load_waveform(path, sample_rate_hz=44_100)
    assert len(whole) == facts.num_samples
    for piece in (Piece(30.123, 31.5), Piece(59.0, math.inf)):
        found = load_waveform(path, piece, sample_rate_hz=44_100)
        start = round(piece.start_s * 44_100)
        np.testing.assert_allclose(found, whole[start : start + len(found)], atol=1e-6)
    assert start + len(found) == len(whole)
    with pytest.raises(AudioError, match="the sound ends at 60"):
        load_waveform(path, Piece(59.0, 60.2))
    content = bytearray(path.read_bytes())
    damaged = len(content) // 3
    content[damaged : damaged + 2000] = bytes(2000)
    path.write_bytes(content)
    assert code_of(path) == "audio_unreadable", "frames behind the damage would be left out"


@pytest.mark.parametrize("sample_rate_hz", [44_100, 22_050])
@pytest.mark.parametrize("begins_with", ["noise", "silence"])
def test_an_mp3_of_variable_rate_without_a_count_is_refused(
    tmp_path: Path, sample_rate_hz: int, begins_with: str
) -> None:
    noise = 0.3 * np.random.default_rng(0).standard_normal((sample_rate_hz, 1))
    parts = [noise, np.zeros((2 * sample_rate_hz, 1))]  # the decoder takes it for shorter, or for longer
    samples = np.concatenate(parts if begins_with == "noise" else parts[::-1])
    path = without_frame_count(write(tmp_path / "a.mp3", samples, sample_rate_hz, "MPEG_LAYER_III"))
    with path.open("rb") as file:
        num_samples, is_constant = audio_headers.count_mp3_samples(file) or (0, True)
    assert not is_constant
    assert num_samples == pytest.approx(3 * sample_rate_hz, abs=3000)
    assert code_of(path) == "audio_unreadable"


def test_loud_float_samples_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 4 * tone(16_000), subtype="FLOAT")
    assert measure_audio(path).peak == pytest.approx(2.0, abs=1e-3)


# --- what is not ------------------------------------------------------------------------------------------


def test_missing_files_and_folders(tmp_path: Path) -> None:
    assert code_of(tmp_path / "no.wav") == "audio_missing"
    assert code_of(tmp_path) == "audio_missing"


def test_a_file_without_bytes_and_one_without_samples(tmp_path: Path) -> None:
    (tmp_path / "zero.wav").touch()
    assert code_of(tmp_path / "zero.wav") == "audio_empty"
    assert code_of(write(tmp_path / "header.wav", np.zeros((0, 1)))) == "audio_empty"


@pytest.mark.parametrize("name", ["text.wav", "text.mp3", "text.flac", "text.raw", "text.ogg", "text"])
def test_text_with_an_audio_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("xin chào, tôi là văn bản\n" * 200, encoding="utf-8")
    assert code_of(tmp_path / name) == "audio_unreadable"


@pytest.mark.parametrize("name", ["clip.wav", "float.wav", "clip.flac", "clip.mp3", "clip.ogg", "clip.opus"])
@pytest.mark.parametrize("share", [0.95, 0.6])
def test_truncated_files(tmp_path: Path, name: str, share: float) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((48_000 * 4, 1))
    path = write(tmp_path / name, noise, 48_000, FORMATS[name])
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert code_of(path) == "audio_truncated"


@pytest.mark.parametrize("container", ["WAV", "RF64"])
def test_a_wav_that_lacks_one_sample_is_truncated(tmp_path: Path, container: str) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(16_000), 16_000, format=container)
    assert measure_audio(path).num_samples == 16_000
    path.write_bytes(path.read_bytes()[:-2])
    assert code_of(path) == "audio_truncated"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channel", [0, 1])
def test_samples_that_are_no_numbers(tmp_path: Path, value: float, channel: int) -> None:
    samples = tone(16_000, num_channels=2)
    samples[7_000, channel] = value
    assert code_of(write(tmp_path / "a.wav", samples, subtype="FLOAT")) == "audio_not_finite"


def test_silence_is_no_speech_and_quiet_speech_is(tmp_path: Path) -> None:
    assert code_of(write(tmp_path / "zeros.wav", np.zeros((16_000, 1)))) == "audio_silent"
    assert code_of(write(tmp_path / "hum.wav", 0.0018 * tone(16_000))) == "audio_silent"
    assert code_of(write(tmp_path / "opposite.wav", tone(16_000, num_channels=2) * [1, -1])) == "audio_silent"
    assert measure_audio(write(tmp_path / "quiet.wav", 0.01 * tone(16_000))).peak == pytest.approx(
        0.005, abs=1e-4
    )


def test_a_very_short_clip_is_the_manifests_affair(tmp_path: Path) -> None:
    assert measure_audio(write(tmp_path / "a.wav", tone(16_000, 0.2))).duration_s == 0.2


# --- paths ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling", ["clips/a.wav", "clips\\a.wav", "./clips/a.wav", " clips/a.wav ", "clips//a.wav"]
)
def test_spellings_of_one_path(tmp_path: Path, spelling: str) -> None:
    assert resolve_audio_path(tmp_path, spelling) == tmp_path.resolve() / "clips" / "a.wav"


@pytest.mark.parametrize(
    ("audio_path", "code"),
    [
        ("/etc/a.wav", "path_absolute"),
        ("C:\\audio\\a.wav", "path_absolute"),
        ("C:a.wav", "path_absolute"),
        ("\\\\server\\share\\a.wav", "path_absolute"),
        ("../a.wav", "path_outside_root"),
        ("clips/../../a.wav", "path_outside_root"),
        ("clips/../a.wav", "path_outside_root"),
        ("..\\a.wav", "path_outside_root"),
        ("", "audio_missing"),
        ("  ", "audio_missing"),
        ("a\0.wav", "audio_missing"),
    ],
)
def test_paths_that_are_refused(tmp_path: Path, audio_path: str, code: str) -> None:
    with pytest.raises(AudioError) as caught:
        resolve_audio_path(tmp_path, audio_path)
    assert caught.value.code == code


@pytest.mark.skipif(sys.platform == "win32", reason="no colons in names of files")
def test_a_time_in_a_name_is_no_drive(tmp_path: Path) -> None:
    assert resolve_audio_path(tmp_path, "1:30.wav") == tmp_path.resolve() / "1:30.wav"


def test_links_may_point_within_the_root_only(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (tmp_path / "root-neighbour").mkdir()
    try:
        (root / "inside").symlink_to(root / "real", target_is_directory=True)
        (root / "outside").symlink_to(tmp_path / "root-neighbour", target_is_directory=True)
    except OSError:
        pytest.skip("this system lets us make no symbolic links")
    assert resolve_audio_path(root, "inside/a.wav") == (root / "real" / "a.wav").resolve()
    with pytest.raises(AudioError) as caught:
        resolve_audio_path(root, "outside/a.wav")
    assert caught.value.code == "path_outside_root"


# --- remembered facts -------------------------------------------------------------------------------------


def make_old(path: Path) -> None:
    """As if written an hour ago."""
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns - 3_600_000_000_000))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were decoded."""
    names: list[str] = []

    def measuring(path: Path, piece: Piece | None) -> AudioFacts:
        names.append(path.name)
        return measure_audio(path, piece)

    monkeypatch.setattr(audio_facts, "measure_audio", measuring)
    return names


def measure_and_save(
    facts_file: AudioFactsFile, root: Path, audio_paths: list[str]
) -> list[AudioFacts | AudioError]:
    results = list(facts_file.measure_all(root, audio_paths, num_threads=2))
    facts_file.save()
    return results


def test_unchanged_files_are_not_measured_again(tmp_path: Path, decoded: list[str]) -> None:
    for name in ("a.wav", "b.wav"):
        make_old(write(tmp_path / name, tone(16_000)))
    first = measure_and_save(AudioFactsFile(tmp_path / "facts.tsv"), tmp_path, ["a.wav", ".\\b.wav"])
    assert sorted(decoded) == ["a.wav", "b.wav"]
    remembering = AudioFactsFile(tmp_path / "facts.tsv")
    assert measure_and_save(remembering, tmp_path, ["a.wav", "b.wav"]) == first
    assert len(remembering) == 2
    assert len(decoded) == 2


def test_a_touched_file_is_hashed_and_a_changed_one_decoded(tmp_path: Path, decoded: list[str]) -> None:
    path = write(tmp_path / "a.wav", tone(16_000))
    make_old(path)
    facts_file = AudioFactsFile(tmp_path / "facts.tsv")
    before = facts_file.measure("a.wav", path)
    make_old(path)
    assert facts_file.measure("a.wav", path) == before
    assert decoded == ["a.wav"]
    write(path, 0.5 * tone(16_000))  # the same size
    assert facts_file.measure("a.wav", path).digest != before.digest
    assert decoded == ["a.wav"] * 2


def test_a_file_changed_within_the_clocks_step_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(16_000))
    facts_file = AudioFactsFile(tmp_path / "facts.tsv")
    before, modified_ns = facts_file.measure("a.wav", path), path.stat().st_mtime_ns
    write(path, 0.5 * tone(16_000))
    os.utime(path, ns=(modified_ns, modified_ns))
    assert facts_file.measure("a.wav", path).digest != before.digest


def test_errors_come_back_in_place(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", tone(16_000))
    results = AudioFactsFile(tmp_path / "facts.tsv").measure_all(tmp_path, ["no.wav", "a.wav", "../a.wav"])
    assert [getattr(result, "code", "fine") for result in results] == [
        "audio_missing",
        "fine",
        "path_outside_root",
    ]


@pytest.mark.parametrize("damage", ["cut off", "foreign", "binary"])
def test_a_damaged_facts_file_costs_work_only(tmp_path: Path, damage: str) -> None:
    paths = [write(tmp_path / name, tone(16_000)) for name in ("a.wav", "b.wav")]
    for path in paths:
        make_old(path)
    facts_path = tmp_path / "facts.tsv"
    expected = measure_and_save(AudioFactsFile(facts_path), tmp_path, ["a.wav", "b.wav"])
    content = facts_path.read_bytes()
    facts_path.write_bytes(
        {"cut off": content[:-30], "foreign": b"a\tb\n1\t2\n", "binary": bytes(range(256)) * 9}[damage]
    )
    damaged = AudioFactsFile(facts_path)
    assert len(damaged) == (1 if damage == "cut off" else 0)
    assert measure_and_save(damaged, tmp_path, ["a.wav", "b.wav"]) == expected
    assert facts_path.read_bytes() == content


def test_what_was_measured_before_a_kill_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_facts, "_FACTS_PER_WRITE", 2)
    path = write(tmp_path / "a.wav", tone(16_000))
    for number in range(5):
        make_old(Path(shutil.copy(path, tmp_path / f"{number}.wav")))
    names = [f"{number}.wav" for number in range(5)]
    measuring = AudioFactsFile(tmp_path / "facts.tsv").measure_all(tmp_path, names)
    for _ in range(3):
        next(measuring)
    assert len(AudioFactsFile(tmp_path / "facts.tsv")) == 2
    measuring.close()  # as Ctrl-C does
    assert len(AudioFactsFile(tmp_path / "facts.tsv")) >= 3
