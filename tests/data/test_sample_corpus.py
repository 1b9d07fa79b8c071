"""The sample corpus as files: same bytes for the same options, clips in bounds, nothing overwritten."""

import csv
import hashlib
import wave
from pathlib import Path

import numpy as np
import pytest

from vietst.data.sample_corpus import COLUMNS, CorpusOptions, make_sample_corpus, plan_videos
from vietst.data.sample_videos import (
    MAX_DURATION_S,
    Speaker,
    coloured_noise,
    place_in_room,
    plan_speakers,
    speak_sentence,
    trimmed,
)
from vietst.data.speech_synthesis import SYNTHESIS_RATE_HZ
from vietst.errors import ManifestError, VietstError

TINY = CorpusOptions(num_utterances=8, num_videos=3)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def rows_of(manifest_path: Path) -> list[dict[str, str]]:
    with manifest_path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the tiny corpus in data/export."""
    root = tmp_path_factory.mktemp("corpus")
    make_sample_corpus(root / "data/export", TINY, data_root=root)
    return root


def test_the_same_options_give_the_same_bytes_with_any_number_of_processes(
    data_root: Path, tmp_path: Path
) -> None:
    make_sample_corpus(tmp_path / "data/export", TINY, data_root=tmp_path, num_proc=3)
    assert digests(tmp_path) == digests(data_root)


def test_another_seed_gives_other_sentences_and_other_speakers(data_root: Path, tmp_path: Path) -> None:
    other = CorpusOptions(num_utterances=8, num_videos=3, seed=2)
    manifest_path = make_sample_corpus(tmp_path / "data/export", other, data_root=tmp_path)
    transcripts = {row["transcript"] for row in rows_of(manifest_path)}
    assert not transcripts & {row["transcript"] for row in rows_of(data_root / "data/export/manifest.tsv")}
    assert plan_speakers(3, seed=1) != plan_speakers(3, seed=2)


def test_manifest_names_every_clip_relative_to_the_data_root(data_root: Path) -> None:
    rows = rows_of(data_root / "data/export/manifest.tsv")
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == len({row["id"] for row in rows}) == TINY.num_utterances
    assert rows[0]["audio_path"] == "data/export/audio/video_000/0000.wav"
    assert {row["audio_path"] for row in rows} == {
        path.relative_to(data_root).as_posix() for path in data_root.rglob("*.wav")
    }
    assert len({(row["video_id"], row["speaker_id"]) for row in rows}) == TINY.num_videos
    assert len({row["speaker_id"] for row in rows}) == TINY.num_videos


def test_clips_are_16_bit_mono_of_the_stated_duration_and_loud_enough(data_root: Path) -> None:
    for row in rows_of(data_root / "data/export/manifest.tsv"):
        with wave.open(str(data_root / row["audio_path"]), "rb") as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 22_050)
            num_samples = file.getnframes()
            samples = np.frombuffer(file.readframes(num_samples), dtype="<i2")
        assert len(samples) == num_samples
        assert float(row["duration"]) == pytest.approx(num_samples / 22_050, abs=0.0006)
        assert 0.8 < float(row["duration"]) < 4.0
        assert -34 < 20 * np.log10(np.sqrt(np.mean((samples / 32768.0) ** 2))) < -15
        assert np.abs(samples.astype(int)).max() < 32767


def test_clips_that_would_not_fit_are_spoken_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowVoice:
        rate_wpm = 0

        def set_voice(self, voice: str, *, rate_wpm: int, pitch: int, pitch_range: int) -> None:
            self.rate_wpm = rate_wpm

        def speak(self, segments: object, english_voice: str) -> np.ndarray:
            return np.full(SYNTHESIS_RATE_HZ * 800 // self.rate_wpm, 1000, dtype=np.int16)

    voice = SlowVoice()
    sentence = plan_videos(TINY, tmp_path)[0].sentences[0]
    speech = speak_sentence(voice, sentence, plan_speakers(1, seed=1)[0], max_duration_s=3.65)  # type: ignore
    assert len(speech) <= 3.65 * SYNTHESIS_RATE_HZ
    assert voice.rate_wpm - 15 < 800 / 3.65


def test_silence_around_speech_is_cut_off() -> None:
    speech = np.array([0, 3, 900, 0, -900, 20, 0, 0], dtype=np.int16)
    assert trimmed(speech).tolist() == [900, 0, -900]


def test_long_sentences_stay_below_their_limit(tmp_path: Path) -> None:
    options = CorpusOptions(num_utterances=4, num_videos=2, sentence_length="long")
    durations_s = [
        float(row["duration"]) for row in rows_of(make_sample_corpus(tmp_path, options, data_root=tmp_path))
    ]
    assert 6 < min(durations_s) <= max(durations_s) <= MAX_DURATION_S["long"]


def test_no_sentence_is_in_two_videos() -> None:
    videos = plan_videos(CorpusOptions(), Path())
    assert len(videos) == 88
    transcripts = [sentence.transcript.lower() for video in videos for sentence in video.sentences]
    assert len(set(transcripts)) == len(transcripts) == 4000
    assert {len(video.sentences) for video in videos} == {45, 46}
    assert len({(video.speaker.dialect, video.speaker.variant) for video in videos}) == 88


def test_a_video_has_sentences_of_many_templates_whatever_the_number_of_videos() -> None:
    first_words = {
        sentence.transcript.split()[-1]
        for sentence in plan_videos(CorpusOptions(500, 25), Path())[0].sentences
    }
    assert len(first_words) > 5


def test_more_utterances_than_distinct_sentences_are_refused_with_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "vietst.data.sample_sentences.TEMPLATES", (("{time} có [deadline]", "{time} có hạn chót"),)
    )
    assert len(plan_videos(CorpusOptions(num_utterances=8, num_videos=2), Path())) == 2
    with pytest.raises(VietstError, match="only 8 distinct short sentences"):
        plan_videos(CorpusOptions(num_utterances=9, num_videos=2), Path())


def test_more_videos_than_utterances_are_refused() -> None:
    with pytest.raises(VietstError, match="10 videos for 5 utterances"):
        plan_videos(CorpusOptions(num_utterances=5, num_videos=10), Path())


def test_noise_has_the_level_and_colour_asked_for() -> None:
    speaker = Speaker("vi", "m1", "en", 50, 50, 180, -20.0, signal_to_noise_db=20.0, noise_exponent=2.0)
    generator = np.random.default_rng(1)
    for exponent in (0.0, 2.0):
        noise = coloured_noise(30_000, exponent, generator)
        assert np.sqrt(np.mean(noise**2)) == pytest.approx(1.0)
        low, high = (
            np.mean(np.abs(np.fft.rfft(noise))[start:stop] ** 2)
            for start, stop in ((1_300, 1_400), (13_000, 14_000))  # about 1 and 10 kHz
        )
        assert 10 * np.log10(low / high) == pytest.approx(10 * exponent, abs=1.5)
    silence_then_tone = np.sin(np.arange(SYNTHESIS_RATE_HZ))
    clip = place_in_room(silence_then_tone, speaker, generator) / 32767
    silence = clip[: int(0.05 * SYNTHESIS_RATE_HZ)]
    assert 20 * np.log10(np.sqrt(np.mean(silence**2))) == pytest.approx(-40.0, abs=4.0)


def test_the_same_options_again_change_nothing(data_root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in data_root.rglob("*")}
    make_sample_corpus(data_root / "data/export", TINY, data_root=data_root)
    assert {path: path.stat().st_mtime_ns for path in data_root.rglob("*")} == before


def test_missing_audio_is_spoken_again(tmp_path: Path) -> None:
    make_sample_corpus(tmp_path, TINY, data_root=tmp_path)
    before = digests(tmp_path)
    (tmp_path / "audio/video_001/0001.wav").unlink()
    make_sample_corpus(tmp_path, TINY, data_root=tmp_path)
    assert digests(tmp_path) == before


def test_other_options_are_refused_and_named(data_root: Path) -> None:
    before = digests(data_root)
    with pytest.raises(ManifestError, match=r"(?s)num_videos 3 \(asked for: 2\).*--overwrite") as caught:
        make_sample_corpus(data_root / "data/export", CorpusOptions(8, 2), data_root=data_root)
    assert "seed" not in caught.value.found
    assert digests(data_root) == before


@pytest.mark.parametrize("record", [None, "{}", "not json", "[]"])
def test_a_manifest_of_the_user_is_never_replaced_unasked(tmp_path: Path, record: str | None) -> None:
    manifest_path = tmp_path / "manifest.tsv"
    manifest_path.write_text("audio_path\ttranscript\ttranslation\nmine.wav\tmột\thai\n", encoding="utf-8")
    if record is not None:
        (tmp_path / "sample_corpus.json").write_text(record, encoding="utf-8")
    with pytest.raises(ManifestError, match="did not make"):
        make_sample_corpus(tmp_path, TINY, data_root=tmp_path)
    assert "mine.wav" in manifest_path.read_text(encoding="utf-8")
    make_sample_corpus(tmp_path, TINY, data_root=tmp_path, overwrite=True)
    assert len(rows_of(manifest_path)) == TINY.num_utterances


def test_a_sample_manifest_that_was_edited_is_not_replaced_unasked(tmp_path: Path) -> None:
    manifest_path = make_sample_corpus(tmp_path, TINY, data_root=tmp_path)
    with manifest_path.open("a", encoding="utf-8") as file:
        file.write("my own row\n")
    with pytest.raises(ManifestError, match="changed since"):
        make_sample_corpus(tmp_path, TINY, data_root=tmp_path)


def test_an_output_folder_outside_the_data_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VietstError, match="--data_root"):
        make_sample_corpus(tmp_path / "elsewhere", TINY, data_root=tmp_path / "root")


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "export").write_text("a file, not a folder", encoding="utf-8")
    with pytest.raises(VietstError, match="choose another --output_dir"):
        make_sample_corpus(tmp_path / "export", TINY, data_root=tmp_path)
