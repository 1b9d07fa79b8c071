"""Pieces of recordings sound as the clips that were cut from them, and cost no more than these."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.data.tiny_splits import write_clip, write_splits
from tests.encoded_audio import encoded
from vietst.audit.measuring import _sounds
from vietst.audit.rows import RowBlocks, open_manifest
from vietst.data import audio_facts
from vietst.data.audio import AudioFacts, hash_file, load_utterance, load_waveform, measure_audio
from vietst.data.audio_facts import AudioFactsFile
from vietst.data.audio_pieces import Piece, locator_of, piece_of, split_locator
from vietst.data.containers import mono_frames, offset_s, open_container, sound_stream
from vietst.data.feature_cache import build_feature_cache, features_of, open_feature_cache
from vietst.data.features import LOG_MEL_80
from vietst.data.manifest import preprocess_manifest
from vietst.data.splits import split_manifest
from vietst.data.tables import read_table
from vietst.errors import AudioError, FeatureCacheError
from vietst.evaluation.decode import AudioRows
from vietst.evaluation.shown_utterances import audio_links
from vietst.inference.audio_input import waveform_blocks

RATE_HZ = 16_000
PIECES = [Piece(0.0, 0.7), Piece(2.6, 3.4001), Piece(7.1234, 9.0), Piece(8.25, math.inf)]


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    """Float32 [num_samples], smoothed so that codecs keep it, and with a level that tells places apart."""
    white = np.random.default_rng(seed).standard_normal(num_samples + 15)
    level = 0.1 + 0.08 * np.sin(np.arange(num_samples) / 3000)
    return (np.convolve(white, np.ones(16) / 6, "valid") * level).astype(np.float32)


def cut_out(whole: np.ndarray, rate_hz: int, piece: Piece, path: Path) -> np.ndarray:
    """What a model hears of the clip that a person would have cut."""
    end = len(whole) if math.isinf(piece.end_s) else round(piece.end_s * rate_hz)
    soundfile.write(path, whole[round(piece.start_s * rate_hz) : end], rate_hz, subtype="FLOAT")
    return load_waveform(path)


# --- what they sound like ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "subtype", "rate_hz"),
    [
        ("a.wav", "PCM_16", 44_100),
        ("a.flac", "PCM_16", 48_000),
        ("a.ogg", "VORBIS", 22_050),
        ("a.opus", "OPUS", 48_000),
        ("a.mp3", "MPEG_LAYER_III", 44_100),
    ],
)
def test_pieces_of_sound_files_are_the_cut_out_clips(
    tmp_path: Path, name: str, subtype: str, rate_hz: int
) -> None:
    path = tmp_path / name
    samples = np.stack([noise(9 * rate_hz), noise(9 * rate_hz, seed=1)], axis=1)
    soundfile.write(path, samples, rate_hz, subtype=subtype, format="OGG" if name == "a.opus" else None)
    whole = soundfile.read(path, dtype="float32")[0].mean(axis=1, dtype=np.float32)
    for piece in PIECES:
        expected = cut_out(whole, rate_hz, piece, tmp_path / "clip.wav")
        np.testing.assert_allclose(load_waveform(path, piece), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("format_name", "codec", "rate_hz", "delay_s"),
    [
        ("mp4", "aac", 16_000, 0.4),
        ("matroska", "aac", 44_100, 0.0),
        ("matroska", "libmp3lame", 44_100, 0.0),
        ("webm", "libopus", 48_000, 0.0),
        ("mpegts", "aac", 44_100, 0.0),
        ("mov", "pcm_s16le", 16_000, 0.0),
    ],
)
def test_pieces_of_videos_are_the_cut_out_clips(
    tmp_path: Path, format_name: str, codec: str, rate_hz: int, delay_s: float
) -> None:
    path = tmp_path / "video.bin"
    options = {"aac_pns": "0"} if codec == "aac" else None  # what a decoder draws at random cannot be equal
    path.write_bytes(
        encoded(format_name, codec, noise(9 * rate_hz), rate_hz, delay_s=delay_s, options=options)
    )
    with open_container(path) as container:
        stream = sound_stream(container, path)
        frames = container.decode(stream)
        first = next(frames)
        silence = np.zeros(round(offset_s(container, first) * rate_hz), np.float32)
        whole = np.concatenate([silence, *mono_frames(itertools.chain([first], frames), rate_hz, path)])
    assert len(silence) == pytest.approx(delay_s * rate_hz, abs=0.1 * rate_hz)  # priming
    for piece in PIECES:
        expected = cut_out(whole, rate_hz, piece, tmp_path / "clip.wav")
        np.testing.assert_array_equal(load_waveform(path, piece), expected)


@pytest.mark.parametrize(("format_name", "codec"), [("mp4", "aac"), ("matroska", "libopus")])
def test_sound_behind_a_gap_keeps_its_time(tmp_path: Path, format_name: str, codec: str) -> None:
    rate_hz, path = 48_000, tmp_path / "video.bin"
    samples = np.zeros(9 * rate_hz, np.float32)
    for heard_s in (2, 7):
        samples[heard_s * rate_hz :][:4800] = 3 * noise(4800)
    path.write_bytes(encoded(format_name, codec, samples, rate_hz, gap_s=1.5))  # the second one at 8.5 s
    heard = [load_waveform(path, Piece(start_s, end_s)) for start_s, end_s in [(1, 3), (6, 9), (8, 9)]]
    whole = np.concatenate(list(waveform_blocks(path)))
    loud = [np.flatnonzero(np.abs(waveform) > 0.05) / RATE_HZ for waveform in (*heard, whole)]
    assert [times[0] for times in loud] == pytest.approx([1, 2.5, 0.5, 2], abs=0.01)
    assert loud[-1][-1] == pytest.approx(8.6, abs=0.01)
    assert len(whole) == pytest.approx(10.5 * RATE_HZ, abs=0.05 * RATE_HZ)


@pytest.mark.parametrize("kind", ["flac", "mp4"])
def test_what_lies_before_a_piece_is_not_decoded(tmp_path: Path, kind: str) -> None:
    path, piece = tmp_path / f"a.{kind}", Piece(27.5, 29.0)
    if kind == "flac":
        soundfile.write(path, noise(30 * RATE_HZ), RATE_HZ)
    else:
        path.write_bytes(encoded("mp4", "aac", noise(30 * RATE_HZ), RATE_HZ, options={"aac_pns": "0"}))
    expected = load_waveform(path, piece)
    content = bytearray(path.read_bytes())
    damaged = slice(len(content) // 3, len(content) // 2)
    content[damaged] = bytes(len(content[damaged]))
    path.write_bytes(content)
    with pytest.raises(AudioError):
        load_waveform(path, Piece(0.0, 29.0))
    np.testing.assert_array_equal(load_waveform(path, piece), expected)


@pytest.mark.parametrize("kind", ["wav", "mp4"])
def test_a_piece_may_end_a_little_after_its_file_and_no_more(tmp_path: Path, kind: str) -> None:
    path, samples = tmp_path / f"a.{kind}", noise(3 * RATE_HZ)
    if kind == "wav":
        soundfile.write(path, samples, RATE_HZ)
    else:
        path.write_bytes(encoded("mp4", "aac", samples, RATE_HZ))
    assert measure_audio(path, Piece(2.0, 3.09)).duration_s == pytest.approx(1.0, abs=0.07)
    epoch_us = 1.7e15  # some tools count so
    for outside in (Piece(2.0, 3.3), Piece(5.0, 6.0), Piece(5.0, math.inf), Piece(epoch_us, epoch_us + 1)):
        with pytest.raises(AudioError) as refused:
            measure_audio(path, outside)
        assert refused.value.code == "piece_outside"
        assert "ends at 3" in refused.value.found
    with pytest.raises(AudioError) as refused:
        measure_audio(path, Piece(1.0, 1.00001))
    assert refused.value.code == "piece_invalid"


def test_a_file_without_sound_and_a_missing_one_say_so(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for name, code in (("text.mp4", "audio_unreadable"), ("gone.mp4", "audio_missing")):
        with pytest.raises(AudioError) as refused:
            load_waveform(tmp_path / name, Piece(0.0, 1.0))
        assert refused.value.code == code


def test_a_video_named_without_times_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(encoded("mp4", "aac", noise(RATE_HZ), RATE_HZ))
    with pytest.raises(AudioError, match="start_s and end_s"):
        load_waveform(path)


# --- what they are called ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start_s", "end_s", "locator"),
    [
        ("", "", "a b.mp4"),
        ("12.50", "14.25", "a b.mp4#t=12.5,14.25"),
        ("12.5", "", "a b.mp4#t=12.5"),
        (None, "3", "a b.mp4#t=0,3"),
        ("0.0000004", "3", "a b.mp4#t=0,3"),
    ],
)
def test_locators_name_files_and_pieces(start_s: str | None, end_s: str, locator: str) -> None:
    row = {"audio_path": "a b.mp4", "start_s": start_s, "end_s": end_s}
    assert locator_of(row) == locator
    path, piece = split_locator(locator)
    assert path == "a b.mp4"
    assert piece is None or piece.fragment == locator.removeprefix(path)


@pytest.mark.parametrize(
    ("start_s", "end_s"), [("x", "1"), ("2", "1"), ("1", "1"), ("-1", "1"), ("nan", "1"), ("0", "inf")]
)
def test_times_that_are_none_are_refused(start_s: str, end_s: str) -> None:
    with pytest.raises(AudioError) as refused:
        piece_of({"audio_path": "a.mp4", "start_s": start_s, "end_s": end_s})
    assert refused.value.code == "piece_invalid"


def test_digests_tell_pieces_apart_and_not_where_the_file_lies(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.wav", 3.0, seed=1)
    (tmp_path / "b.wav").write_bytes((tmp_path / "a.wav").read_bytes())
    write_clip(tmp_path / "c.wav", 3.0, seed=2)
    pieces = [Piece(0, 1), Piece(0, 1.5), Piece(0.5, 1), Piece(0, math.inf)]
    digests = {hash_file(tmp_path / "a.wav", piece)[0] for piece in [*pieces, None]}
    assert len(digests) == 5
    assert {hash_file(tmp_path / "b.wav", piece)[0] for piece in [*pieces, None]} == digests
    assert not digests & {hash_file(tmp_path / "c.wav", piece)[0] for piece in pieces}


def test_a_file_is_hashed_once_for_all_its_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "a.wav", 4.0, seed=3)
    opened = []
    true_open = Path.open

    def counting(path: Path, *arguments: object, **options: object) -> object:
        opened.append((path.name, options.get("buffering")))
        return true_open(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", counting)
    facts = AudioFactsFile(tmp_path / "facts.tsv")
    locators = [f"a.wav#t={n / 10:g},{n / 10 + 1:g}" for n in range(20)]
    results = list(facts.measure_all(tmp_path, locators, num_threads=4))
    assert [result.duration_s for result in results if not isinstance(result, AudioError)] == [1.0] * 20
    assert opened.count(("a.wav", 0)) == 1


# --- the way of the data ----------------------------------------------------------------------------------

HEADER = "audio_path\ttranscript\ttranslation\tstart_s\tend_s\n"


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Six recordings of 6 s, and a manifest that names two pieces of each and some that are none."""
    lines = []
    for number in range(6):
        name = f"videos/v{number}.wav"
        write_clip(tmp_path / name, 6.0, seed=number)
        lines += [f"{name}\tcâu {number}\tcâu\t{s}\t{e}\n" for s, e in (("0.5", "2.0"), ("3", "5.5"))]
    lines += [
        "videos/v0.wav\tcâu 0\tcâu\t0.50\t2\n",  # the first one again
        "videos/v0.wav\tcâu khác\tcâu\t0.5\t2.0\n",
        "videos/v1.wav\tcâu\tcâu\t5\t9\n",
        "videos/v1.wav\tcâu\tcâu\t4\tbốn\n",
        "videos/v5.wav\tcâu cuối\tcâu\t5\t\n",
    ]
    (tmp_path / "manifest.tsv").write_text(HEADER + "".join(lines), encoding="utf-8")
    return tmp_path


def test_pieces_are_cleaned_measured_and_remembered(
    recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, clean = recordings / "manifest.tsv", recordings / "clean/manifest.tsv"
    summary = preprocess_manifest(manifest, clean, audio_root=recordings, progress=False)
    rows = read_table(clean)
    assert [row["duration"] for row in rows] == ["1.5", "2.5"] * 6 + ["1"]
    assert rows[0]["id"] == "videos/v0.wav#t=0.5,2"
    assert rows[0]["audio_path"] == "videos/v0.wav"
    assert (rows[0]["start_s"], rows[0]["end_s"]) == ("0.5", "2.0")
    assert {row["video_id"] for row in rows} == {f"v{n}" for n in range(6)}
    assert summary["removed"] == {
        "conflicting_texts": 1, "duplicate_row": 1, "piece_invalid": 1, "piece_outside": 1
    }  # fmt: skip
    measured: list[Piece | None] = []

    def measuring(path: Path, piece: Piece | None) -> AudioFacts:
        measured.append(piece)
        return measure_audio(path, piece)

    monkeypatch.setattr(audio_facts, "measure_audio", measuring)
    again = recordings / "again/manifest.tsv"
    again.parent.mkdir()
    (recordings / "clean/audio_facts.tsv").rename(recordings / "again/audio_facts.tsv")
    preprocess_manifest(manifest, again, audio_root=recordings, progress=False)
    assert read_table(again) == rows
    assert measured == [Piece(5.0, 9.0)]  # what cannot be used is looked at again


def test_features_are_those_of_the_cut_out_clips_and_follow_the_times(recordings: Path) -> None:
    clean, splits = recordings / "clean/manifest.tsv", recordings / "splits"
    preprocess_manifest(recordings / "manifest.tsv", clean, audio_root=recordings, progress=False)
    split_manifest(clean, splits)
    options = {"audio_root": recordings, "num_proc": 1, "progress": False}
    build_feature_cache(splits, recordings / "features", LOG_MEL_80, **options)
    cache = open_feature_cache(splits, recordings / "features", LOG_MEL_80, audio_root=recordings)
    row = next(row for rows in cache.values() for row in rows if row["id"] == "videos/v2.wav#t=3,5.5")
    clip = {"id": "cut", "audio_path": "cut.wav", "transcript": "câu", "translation": "câu"}
    clip |= {"duration": "2.5", "video_id": "v"}
    samples, _ = soundfile.read(recordings / "videos/v2.wav", start=48_000, stop=88_000, dtype="int16")
    soundfile.write(recordings / "cut.wav", samples, RATE_HZ)
    write_splits(recordings / "cut", {split: [clip] for split in ("train", "dev", "test")})
    build_feature_cache(recordings / "cut", recordings / "features", LOG_MEL_80, **options)
    of_clip = open_feature_cache(
        recordings / "cut", recordings / "features", LOG_MEL_80, audio_root=recordings
    )["train"][0]
    np.testing.assert_array_equal(features_of(row, LOG_MEL_80), features_of(of_clip, LOG_MEL_80))
    np.testing.assert_array_equal(load_utterance(recordings, {**row}), load_waveform(recordings / "cut.wav"))
    for split in ("train", "dev", "test"):
        path = splits / f"{split}.csv"
        moved = path.read_text(encoding="utf-8").replace("3,5.5", "3,5.4")
        path.write_text(moved.replace(",2.5,", ",2.4,"), encoding="utf-8")
    with pytest.raises(FeatureCacheError):
        open_feature_cache(splits, recordings / "features", LOG_MEL_80, audio_root=recordings)
    build_feature_cache(splits, recordings / "features", LOG_MEL_80, **options)
    changed = open_feature_cache(splits, recordings / "features", LOG_MEL_80, audio_root=recordings)
    durations = {row["duration_s"] for rows in changed.values() for row in rows}
    assert durations == {1.0, 1.5, 2.4}


def test_pieces_keep_their_splits_when_the_manifest_grows(recordings: Path) -> None:
    manifest, clean, splits = recordings / "manifest.tsv", recordings / "clean.tsv", recordings / "splits"
    preprocess_manifest(manifest, clean, audio_root=recordings, progress=False)
    split_manifest(clean, splits)
    before = {row["id"]: s for s in ("train", "dev", "test") for row in read_table(splits / f"{s}.csv")}
    with manifest.open("a", encoding="utf-8") as file:
        file.write("videos/v3.wav\tcâu mới\tcâu\t0\t0.6\n")
    preprocess_manifest(manifest, clean, audio_root=recordings, progress=False)
    audit = split_manifest(clean, splits)
    after = {row["id"]: s for s in ("train", "dev", "test") for row in read_table(splits / f"{s}.csv")}
    assert audit["num_utterances_kept"] == len(before) == len(after) - 1
    assert after["videos/v3.wav#t=0,0.6"] == before["videos/v3.wav#t=3,5.5"]
    assert before.items() <= after.items()


def test_reports_and_the_audit_play_and_hear_just_the_piece(recordings: Path) -> None:
    row = {"audio_path": "videos/v2.wav", "start_s": "3", "end_s": "5.5"}
    (recordings / "report").mkdir()
    link = audio_links(recordings, recordings / "report")
    assert link(locator_of(row)) == ("../videos/v2.wav#t=3,5.5", "")
    expected = load_waveform(recordings / "videos/v2.wav", Piece(3.0, 5.5))
    (heard,) = AudioRows([row], recordings, LOG_MEL_80)
    assert heard["num_frames"] == LOG_MEL_80.num_frames(len(expected))
    table = open_manifest(recordings / "manifest.tsv")
    (block,) = RowBlocks(table, recordings)
    assert block.rows[5].id == "videos/v2.wav#t=3,5.5"
    sounds = _sounds(block.rows[4:6], recordings)
    assert [sound.duration for sound in sounds if not isinstance(sound, AudioError)] == [1.5, 2.5]
