"""Preprocessing: which rows stay, how they come out, and the reason of every row that does not."""

import json
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vietst.config import load_config
from vietst.data import audio_facts
from vietst.data.manifest import (
    AUDIO_FACTS_NAME,
    REJECTED_NAME,
    SUMMARY_NAME,
    clean_manifest_is_current,
    preprocess_manifest,
)
from vietst.data.rejections import REMOVAL_REASONS
from vietst.data.row_rules import PreprocessOptions
from vietst.data.tables import read_table, write_table
from vietst.data.takedown_list import read_takedown
from vietst.errors import ConfigError, ManifestError

RATE_HZ = 8000


def write_clip(path: Path, duration_s: float = 1.0, *, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-0.3, 0.3, round(duration_s * RATE_HZ))
    soundfile.write(path, noise.astype(np.float32), RATE_HZ)


class Corpus:
    """A folder with a manifest, and what preprocessing makes of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = root / "export" / "manifest.tsv"
        self.clean = root / "export" / "clean.tsv"

    def clip(self, audio_path: str, duration_s: float = 1.0) -> str:
        write_clip(self.root / audio_path, duration_s, seed=len(audio_path))
        return audio_path

    def write(self, rows: Iterable[dict[str, str]]) -> None:
        rows = [{"transcript": "xin chào", "translation": "chào", **row} for row in rows]
        write_table(self.manifest, rows, list(rows[0]))

    def preprocess(self, **options: object) -> dict:  # type: ignore[type-arg]
        return preprocess_manifest(
            self.manifest,
            self.clean,
            audio_root=self.root,
            options=PreprocessOptions(**options),  # type: ignore[arg-type]
            num_proc=2,
            progress=False,
        )

    @property
    def kept(self) -> list[dict[str, str]]:
        return read_table(self.clean)

    @property
    def rejected(self) -> list[dict[str, str]]:
        try:
            return read_table(self.clean.with_name(REJECTED_NAME))
        except ManifestError as error:
            assert error.found == "a header only"  # noqa: PT017 - an empty list of rejections
            return []

    def reasons(self) -> list[tuple[str, str, str]]:
        return [(row["line"], row["action"], row["reason"]) for row in self.rejected]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


# --- rows that stay ---------------------------------------------------------------------------------------


def test_a_good_row_is_filled_in_and_other_columns_are_carried_along(corpus: Corpus) -> None:
    clip = corpus.clip("audio/b7x/0001.wav", 1.25)
    corpus.write([{"title": " [giữ] **nguyên**  ", "audio_path": clip, "Note": ""}])
    corpus.preprocess()
    assert corpus.kept == [
        {
            "id": clip,
            "audio_path": clip,
            "transcript": "xin chào",
            "translation": "chào",
            "duration": "1.25",
            "video_id": "b7x",
            "speaker_id": "",
            "channel_id": "",
            "title": " [giữ] **nguyên**  ",
            "Note": "",
        }
    ]
    assert list(corpus.kept[0])[-2:] == ["title", "Note"]
    assert corpus.rejected == []


def test_texts_are_cleaned_and_told(corpus: Corpus) -> None:
    clip = corpus.clip("v/1.wav")
    decomposed = unicodedata.normalize("NFD", "tiếng Việt")
    corpus.write(
        [{"audio_path": clip, "transcript": "[cười]  **Hello**\u00a0bạn", "translation": decomposed}]
    )
    corpus.preprocess()
    assert (corpus.kept[0]["transcript"], corpus.kept[0]["translation"]) == ("Hello bạn", "tiếng Việt")
    assert corpus.reasons() == [("2", "changed", "text_cleaned")]
    assert corpus.rejected[0]["detail"] == "transcript, translation"
    assert corpus.rejected[0]["transcript"] == "[cười]  **Hello**\u00a0bạn"
    assert corpus.rejected[0]["translation"] == decomposed


@pytest.mark.parametrize(
    ("stated", "is_told"),
    [("", False), ("2.0", False), ("2.09", False), ("1.85", True), ("0", True), ("nan", True), ("two", True)],
)
def test_the_audio_decides_about_duration(corpus: Corpus, stated: str, is_told: bool) -> None:
    corpus.write([{"audio_path": corpus.clip("v/1.wav", 2.0), "duration": stated}])
    summary = corpus.preprocess()
    assert corpus.kept[0]["duration"] == "2"
    assert corpus.reasons() == [("2", "changed", "duration_corrected")] * is_told
    assert summary["kept"]["num_durations_filled"] == (not stated)


def test_rounding_of_a_long_clip_is_no_disagreement(corpus: Corpus) -> None:
    corpus.write([{"audio_path": corpus.clip("v/1.wav", 20.3), "duration": "20"}])
    corpus.preprocess()
    assert corpus.rejected == []


def test_paths_and_keys_get_one_spelling(corpus: Corpus) -> None:
    corpus.clip("v/1.wav")
    name = unicodedata.normalize("NFD", "Hà")
    corpus.write([{"audio_path": "v\\1.wav", "speaker_id": f" {name} ", "id": "a  b"}])
    corpus.preprocess()
    row = corpus.kept[0]
    assert (row["audio_path"], row["speaker_id"], row["id"]) == ("v/1.wav", "Hà", "a b")
    assert sorted(reason for _, _, reason in corpus.reasons()) == [
        "audio_path_normalized",
        "key_normalized",
        "key_normalized",
    ]


@pytest.mark.parametrize(("on_disk", "in_manifest"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_an_accented_file_name_is_found_in_either_form(
    corpus: Corpus, on_disk: str, in_manifest: str
) -> None:
    real = unicodedata.normalize(on_disk, "giọng/tiếng.wav")
    corpus.clip(real)
    corpus.write([{"audio_path": unicodedata.normalize(in_manifest, real)}])
    corpus.preprocess()
    assert (corpus.root / corpus.kept[0]["audio_path"]).is_file()
    assert corpus.kept[0]["video_id"] == unicodedata.normalize("NFC", "giọng")


def test_missing_translations_may_be_allowed(corpus: Corpus) -> None:
    corpus.write([{"audio_path": corpus.clip("v/1.wav"), "translation": "[music]"}])
    with pytest.raises(ManifestError, match="empty_translation 1"):
        corpus.preprocess()
    corpus.preprocess(require_translation=False)
    assert corpus.kept[0]["translation"] == ""


def test_without_translations_the_column_may_be_absent(corpus: Corpus) -> None:
    corpus.clip("v/1.wav")
    corpus.manifest.parent.mkdir()
    corpus.manifest.write_text("audio_path\ttranscript\nv/1.wav\tchào\n", encoding="utf-8")
    with pytest.raises(ManifestError, match="no translation"):
        corpus.preprocess()
    corpus.preprocess(require_translation=False)
    assert corpus.kept[0]["translation"] == ""


def test_long_clips_may_be_truncated(corpus: Corpus) -> None:
    corpus.write([{"audio_path": corpus.clip("v/1.wav", 3.0)}, {"audio_path": corpus.clip("v/02.wav", 2.0)}])
    corpus.preprocess(too_long="truncate", max_duration_s=2.5)
    assert [(row["duration"], row["truncated_to_s"]) for row in corpus.kept] == [("2.5", "2.5"), ("2", "")]
    assert corpus.reasons() == [("2", "changed", "truncated")]


def test_a_video_id_pattern_counts_only_where_the_manifest_has_none(corpus: Corpus) -> None:
    corpus.write(
        [
            {"audio_path": corpus.clip("day-a1/1.wav"), "video_id": ""},
            {"audio_path": corpus.clip("day-b22/1.wav"), "video_id": "own"},
            {"audio_path": corpus.clip("none/1.wav"), "video_id": ""},
        ]
    )
    corpus.preprocess(video_id_pattern=r"day-(\w)")
    assert [row["video_id"] for row in corpus.kept] == ["a", "own"]
    assert corpus.reasons() == [("4", "removed", "no_video_id")]


def test_ids_are_made_unique_without_losing_rows(corpus: Corpus) -> None:
    clips = [corpus.clip(f"v/{'x' * number}.wav") for number in (1, 2, 3)]
    corpus.write([{"audio_path": clip, "id": "same"} for clip in clips])
    corpus.preprocess()
    ids = [row["id"] for row in corpus.kept]
    assert ids[0] == "same"
    assert len(set(ids)) == 3
    assert [reason for _, _, reason in corpus.reasons()] == ["id_made_unique"] * 2
    # A row that comes later gets the same id whatever stands between.
    corpus.write([{"audio_path": clip, "id": "same"} for clip in (clips[0], clips[2])])
    corpus.preprocess()
    assert [row["id"] for row in corpus.kept] == [ids[0], ids[2]]


def test_equal_bytes_under_another_name_are_kept_and_counted(corpus: Corpus) -> None:
    for name in ("a/1.wav", "b/1.wav"):
        write_clip(corpus.root / name)
    corpus.write([{"audio_path": "a/1.wav"}, {"audio_path": "b/1.wav"}])
    assert corpus.preprocess()["kept"]["num_same_bytes_as_another_row"] == 1
    assert len(corpus.kept) == 2


# --- rows that go -----------------------------------------------------------------------------------------


def make_bad_files(root: Path) -> None:
    write_clip(root / "v/good.wav")
    write_clip(root / "v/short.wav", 0.2)
    write_clip(root / "v/limit.wav", 0.5)
    write_clip(root / "v/long.wav", 30.5)
    write_clip(root.parent / "outside.wav")
    (root / "v/zero.wav").write_bytes(b"")
    (root / "v/text.wav").write_text("this is no audio\n" * 50, encoding="utf-8")
    whole = (root / "v/good.wav").read_bytes()
    (root / "v/cut.wav").write_bytes(whole[: len(whole) // 2])
    soundfile.write(root / "v/nan.wav", np.full(RATE_HZ, np.nan, np.float32), RATE_HZ, subtype="FLOAT")
    soundfile.write(root / "v/silent.wav", np.zeros(RATE_HZ, np.float32), RATE_HZ)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"audio_path": "v/short.wav"}, "too_short"),
        ({"audio_path": "v/long.wav"}, "too_long"),
        ({"audio_path": "v/nowhere.wav"}, "audio_missing"),
        ({"audio_path": "v"}, "audio_missing"),
        ({"audio_path": ""}, "audio_missing"),
        ({"audio_path": "v/zero.wav"}, "audio_empty"),
        ({"audio_path": "v/text.wav"}, "audio_unreadable"),
        ({"audio_path": "v/cut.wav"}, "audio_truncated"),
        ({"audio_path": "v/nan.wav"}, "audio_not_finite"),
        ({"audio_path": "v/silent.wav"}, "audio_silent"),
        ({"audio_path": "../outside.wav"}, "path_outside_root"),
        ({"audio_path": "v\\..\\..\\outside.wav"}, "path_outside_root"),
        ({"audio_path": "/etc/hostname"}, "path_absolute"),
        ({"audio_path": "C:\\audio\\a.wav"}, "path_absolute"),
        ({"audio_path": "v/good.wav", "transcript": ""}, "empty_transcript"),
        ({"audio_path": "v/good.wav", "transcript": "[laughter] "}, "empty_transcript"),
        ({"audio_path": "v/good.wav", "translation": "\u200b"}, "empty_translation"),
        ({"audio_path": "v/limit.wav", "transcript": "again"}, "conflicting_texts"),
        ({"audio_path": "./v/limit.wav", "transcript": "**xin  chào**"}, "duplicate_row"),
    ],
)
def test_a_bad_row_is_removed_with_its_reason(corpus: Corpus, row: dict[str, str], reason: str) -> None:
    make_bad_files(corpus.root)
    corpus.write([{"audio_path": "v/limit.wav"}, row])
    summary = corpus.preprocess()
    assert [kept["audio_path"] for kept in corpus.kept] == ["v/limit.wav"]
    assert corpus.reasons() == [("3", "removed", reason)]
    assert corpus.rejected[0]["audio_path"] == row["audio_path"]
    assert corpus.rejected[0]["detail"]
    assert summary["removed"] == {reason: 1}
    assert reason in REMOVAL_REASONS


def test_a_link_out_of_the_audio_root_is_not_followed(corpus: Corpus, tmp_path: Path) -> None:
    root = tmp_path / "root"
    make_bad_files(root)
    try:
        (root / "v/link.wav").symlink_to(tmp_path / "outside.wav")
    except OSError:
        pytest.skip("this system makes no symbolic links")
    corpus.root = root
    corpus.write([{"audio_path": "v/good.wav"}, {"audio_path": "v/link.wav"}])
    corpus.preprocess()
    assert corpus.reasons() == [("3", "removed", "path_outside_root")]


def test_rows_with_too_many_or_too_few_fields_are_removed_with_their_line(corpus: Corpus) -> None:
    corpus.clip("v/1.wav")
    corpus.manifest.parent.mkdir()
    corpus.manifest.write_text(
        "audio_path\ttranscript\ttranslation\nv/2.wav\tmột\nv/1.wav\tchào\tchào\nv/3.wav\ta\tb\tc\n",
        encoding="utf-8",
    )
    corpus.preprocess()
    assert corpus.reasons() == [
        ("2", "removed", "wrong_field_count"),
        ("4", "removed", "wrong_field_count"),
    ]
    assert [row["audio_path"] for row in corpus.rejected] == ["v/2.wav", "v/3.wav"]


def test_when_nothing_is_left_the_reasons_are_written_and_the_old_output_stays(corpus: Corpus) -> None:
    corpus.write([{"audio_path": corpus.clip("v/1.wav")}])
    corpus.preprocess()
    before = corpus.clean.read_bytes()
    corpus.write([{"audio_path": "v/gone.wav"}, {"audio_path": "v/1.wav", "transcript": ""}])
    with pytest.raises(ManifestError, match="audio_missing 1, empty_transcript 1") as caught:
        corpus.preprocess()
    assert REJECTED_NAME in caught.value.do
    assert corpus.clean.read_bytes() == before
    assert {reason for _, _, reason in corpus.reasons()} == {"audio_missing", "empty_transcript"}
    assert not clean_manifest_is_current(corpus.manifest, corpus.clean, audio_root=corpus.root)


def test_every_row_is_kept_or_removed_and_hours_add_up(corpus: Corpus) -> None:
    make_bad_files(corpus.root)
    names = ["good", "short", "limit", "long", "zero", "text", "cut", "nan", "silent", "gone", "good"]
    corpus.write([{"audio_path": f"v/{name}.wav", "duration": "36"} for name in names])
    summary = corpus.preprocess()
    assert summary["input"]["num_rows"] == len(names)
    assert summary["output"]["num_rows"] == len(corpus.kept) == 2
    assert sum(summary["removed"].values()) == len(names) - 2
    # Unusable audio counts with its stated length, the rest with the measured one.
    assert summary["input"]["hours"] == pytest.approx((1 + 0.2 + 0.5 + 30.5 + 6 * 36 + 1) / 3600, abs=1e-6)
    assert summary["output"]["hours"] == pytest.approx(1.5 / 3600, abs=1e-6)


# --- language ---------------------------------------------------------------------------------------------


def test_a_language_is_a_code_or_nothing_but_spaces(corpus: Corpus) -> None:
    languages = ["", " ", " en ", "vi_VN", "yue"]
    paths = [corpus.clip(f"v/{'x' * number}.wav") for number in range(1, 1 + len(languages))]
    rows = [
        {"audio_path": path, "language": language} for path, language in zip(paths, languages, strict=True)
    ]
    corpus.write(rows)
    corpus.preprocess()
    assert [row["language"] for row in corpus.kept] == ["", "", "en", "vi_VN", "yue"]


@pytest.mark.parametrize("language", ["Vietnamese", "vie", "vi-VN", "EN", "mixed", "v"])
def test_a_language_that_no_decoder_knows_is_refused_with_its_line(corpus: Corpus, language: str) -> None:
    corpus.write(
        [
            {"audio_path": corpus.clip("v/1.wav"), "language": "vi"},
            {"audio_path": corpus.clip("v/22.wav"), "language": language},
        ]
    )
    with pytest.raises(ManifestError, match="line 3, column language") as refused:
        corpus.preprocess()
    assert repr(language) == refused.value.found
    assert not corpus.clean.exists()


# --- runs -------------------------------------------------------------------------------------------------


def test_a_second_run_decodes_nothing_and_writes_the_same_bytes(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.write([{"audio_path": corpus.clip(f"v/{'x' * number}.wav")} for number in range(1, 6)])
    corpus.preprocess()
    names = (corpus.clean.name, REJECTED_NAME, SUMMARY_NAME, AUDIO_FACTS_NAME)
    before = {name: corpus.clean.with_name(name).read_bytes() for name in names}

    def refuse(path: Path, piece: None) -> None:
        raise RuntimeError(f"{path} was decoded again")

    monkeypatch.setattr(audio_facts, "measure_audio", refuse)
    corpus.preprocess()
    assert {name: corpus.clean.with_name(name).read_bytes() for name in names} == before
    write_clip(corpus.root / "v/xx.wav", seed=99)  # another sound of the same length
    os.utime(corpus.root / "v/xx.wav", (1, 1))
    with pytest.raises(RuntimeError, match="decoded again"):
        corpus.preprocess()


def test_what_is_current_depends_on_manifest_options_and_output(corpus: Corpus) -> None:
    corpus.write([{"audio_path": corpus.clip("v/1.wav")}])
    corpus.preprocess()

    def is_current(**options: float) -> bool:
        return clean_manifest_is_current(
            corpus.manifest, corpus.clean, audio_root=corpus.root, options=PreprocessOptions(**options)
        )

    assert is_current()
    options = json.loads(corpus.clean.with_name(SUMMARY_NAME).read_text(encoding="utf-8"))["options"]
    assert "languages" not in options, "what older versions cleaned would be cleaned again"
    assert not is_current(min_duration_s=0.75)
    content = corpus.clean.read_bytes()
    corpus.clean.write_bytes(content + b"\n")
    assert not is_current()
    corpus.clean.write_bytes(content)
    assert is_current()
    corpus.manifest.write_bytes(corpus.manifest.read_bytes() + b"\n")
    assert not is_current()
    corpus.clean.unlink()
    assert not is_current()


def test_the_summary_is_what_was_returned(corpus: Corpus) -> None:
    corpus.write([{"audio_path": corpus.clip("v/1.wav")}])
    summary = corpus.preprocess()
    assert json.loads(corpus.clean.with_name(SUMMARY_NAME).read_text(encoding="utf-8")) == summary


def test_many_rows_go_by_in_groups(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"audio_path": corpus.clip(f"v/{'x' * number}.wav", 0.5)} for number in range(1, 12)]
    corpus.write([*rows, rows[0]])
    corpus.preprocess()
    whole = corpus.clean.read_bytes()
    monkeypatch.setattr("vietst.data.cleaning_pass._ROWS_AT_ONCE", 3)
    corpus.preprocess()
    assert corpus.clean.read_bytes() == whole
    assert corpus.reasons() == [("13", "removed", "duplicate_row")]


def test_clips_that_seem_to_be_videos_of_their_own_are_warned_about(
    corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus.write([{"audio_path": corpus.clip(f"clips/{'x' * number}.wav")} for number in range(1, 4)])
    corpus.preprocess()
    assert "3 of 3 rows are the only clip of their video" in capsys.readouterr().err


def test_the_manifest_is_never_overwritten(corpus: Corpus) -> None:
    corpus.write([{"audio_path": corpus.clip("v/1.wav")}])
    with pytest.raises(ManifestError, match="the manifest itself"):
        preprocess_manifest(corpus.manifest, corpus.manifest, audio_root=corpus.root)


@pytest.mark.parametrize("output", [Path(), Path("clean")])
def test_a_folder_is_no_cleaned_manifest(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, output: Path
) -> None:
    corpus.write([{"audio_path": corpus.clip("v/1.wav")}])
    (corpus.root / "clean").mkdir()
    monkeypatch.chdir(corpus.root)
    with pytest.raises(ManifestError, match="a folder"):
        preprocess_manifest(corpus.manifest, output, audio_root=corpus.root)


def test_a_missing_audio_root_is_told_as_such(corpus: Corpus) -> None:
    corpus.write([{"audio_path": corpus.clip("v/1.wav")}])
    with pytest.raises(ManifestError, match="no such folder"):
        preprocess_manifest(corpus.manifest, corpus.clean, audio_root=corpus.root / "nowhere")


@pytest.mark.parametrize(
    ("low", "high"), [(2.0, 1.0), (-1.0, 30.0), (float("nan"), 30.0), (0.5, float("inf"))]
)
def test_impossible_durations_are_refused(low: float, high: float) -> None:
    with pytest.raises(ConfigError, match="min_duration_s"):
        PreprocessOptions(min_duration_s=low, max_duration_s=high)


def test_the_defaults_are_those_of_the_base_configuration() -> None:
    assert PreprocessOptions.from_config(load_config("base").config) == PreprocessOptions()


def test_real_recordings_pass_through(corpus: Corpus, shared_data: Path) -> None:
    """44.1 kHz stereo FLAC, 22.05 kHz and 16 kHz WAV with their real transcripts."""
    speech = shared_data / "speech_en"
    clips = [
        json.loads(line) for line in (speech / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    corpus.root = speech
    corpus.write(
        {
            "audio_path": clip["file"],
            "transcript": clip["transcript"] or "",
            "translation": clip["transcript"] or "",
            "duration": str(clip["duration"]),
            "speaker_id": clip["speaker"] or "",
        }
        for clip in clips
    )
    summary = corpus.preprocess()
    told = [clip for clip in clips if clip["transcript"]]
    assert summary["removed"] == {"empty_transcript": len(clips) - len(told)}
    assert summary["changed"] == {}
    for row, clip in zip(corpus.kept, told, strict=True):
        assert float(row["duration"]) == pytest.approx(clip["duration"], abs=0.006)
    assert corpus.kept[0]["video_id"] == "jfk"


def test_what_a_person_verified_is_written_in_one_way(corpus: Corpus) -> None:
    said = ["TRUE", " 1", "yes", "no", "0", "False", "", "looks good"]
    corpus.write(
        {"audio_path": corpus.clip(f"clips/v{n}_1.wav"), "verified": text} for n, text in enumerate(said)
    )
    corpus.preprocess()
    assert [row["verified"] for row in corpus.kept] == [*["true"] * 3, *["false"] * 3, "", ""]
    assert corpus.reasons() == [("9", "changed", "verified_unclear")]


def test_rows_on_the_takedown_list_are_removed_and_their_texts_are_not_kept(corpus: Corpus) -> None:
    clip = corpus.clip
    corpus.write(
        {"id": name, "transcript": text, "audio_path": clip(f"{path}.wav"), "speaker_id": speaker}
        for name, text, path, speaker in [
            ("a", "bí mật một", "v1/0", "s1"),
            ("b", "  ", "v1/1", "s1"),  # another reason, but its line says nothing of the texts either
            ("c", "xin chào", "v2/0", "s2"),
            ("c", "bí mật hai", "v2/1", "s2"),
            ("d", "bí mật ba", "v3/0", " s\u00a03"),
        ]
    )
    corpus.preprocess()
    second_c = corpus.kept[2]["id"]
    assert second_c.startswith("c-")
    path = corpus.root / "takedown.txt"
    path.write_text(f"v1\n{second_c}\nspeaker_id=s 3\n", encoding="utf-8")
    options = {"audio_root": corpus.root, "options": PreprocessOptions(), "takedown": read_takedown(path)}
    assert not clean_manifest_is_current(corpus.manifest, corpus.clean, **options)  # type: ignore[arg-type]
    summary = preprocess_manifest(corpus.manifest, corpus.clean, progress=False, **options)  # type: ignore[arg-type]
    assert clean_manifest_is_current(corpus.manifest, corpus.clean, **options)  # type: ignore[arg-type]
    assert [row["id"] for row in corpus.kept] == ["c"]
    assert summary["removed"] == {"taken_down": 4}
    assert [reason for _, _, reason in corpus.reasons()] == ["taken_down"] * 4
    assert "bí mật" not in corpus.clean.with_name(REJECTED_NAME).read_text(encoding="utf-8")


def test_what_an_audit_left_is_not_cleaned_over(corpus: Corpus) -> None:
    corpus.write([{"audio_path": corpus.clip("v_1.wav")}])
    corpus.clean.write_text("what an audit left\n")
    corpus.clean.with_suffix(".json").write_text('{"made_by": "scripts/audit_manifest.py"}')
    with pytest.raises(ManifestError, match="what an audit dropped"):
        corpus.preprocess()
    assert corpus.clean.read_text() == "what an audit left\n"
