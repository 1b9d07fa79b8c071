"""What others keep corpora in becomes a manifest: every row is there, or told with its reason."""

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile

from tests.data.tiny_splits import write_clip
from tests.encoded_audio import encoded
from tests.hub.server import LoopbackHub
from tests.script_runs import run_script
from tests.small_files import needs_limits, only_files_up_to
from tests.user_machine import Machine, assert_refused
from vietst.data.audio import load_utterance, load_waveform
from vietst.data.importers.dataset import DatasetImporter, DatasetOptions
from vietst.data.importers.imported import Refusal, path_in_root, seconds_of, write_imported
from vietst.data.importers.kaldi import KaldiImporter
from vietst.data.importers.nemo import NemoImporter
from vietst.data.manifest import preprocess_manifest
from vietst.data.row_rules import PreprocessOptions
from vietst.data.tables import read_table
from vietst.errors import ManifestError

RATE_HZ = 16_000
OUTPUT = Path("data/export/manifest.tsv")


def imported(folder: Path, *arguments: str) -> tuple[list[dict[str, str]], list[dict[str, str]], Any]:
    """Rows of the manifest, rows that are not in it, and the counts; of a real run of the script."""
    finished = run_script("import_manifest.py", folder, *arguments)
    assert finished.returncode == 0, finished.stderr
    counts = json.loads((folder / OUTPUT).with_name("manifest_import.json").read_text(encoding="utf-8"))
    lines = (folder / OUTPUT).with_name("manifest_not_imported.tsv").read_text(encoding="utf-8").splitlines()
    refused = [dict(zip(lines[0].split("\t"), line.split("\t"), strict=True)) for line in lines[1:]]
    rows = read_table(folder / OUTPUT)
    assert counts["num_imported"] == len(rows)
    assert counts["num_rows"] == len(rows) + len(refused)
    return rows, refused, counts


def cleaned(folder: Path) -> list[dict[str, str]]:
    """The imported rows after cleaning; those without a translation stay."""
    clean = folder / "clean.tsv"
    options = PreprocessOptions(require_translation=False)
    preprocess_manifest(folder / OUTPUT, clean, audio_root=folder, options=options, progress=False)
    return read_table(clean)


# --- Kaldi ------------------------------------------------------------------------------------------------


@pytest.fixture
def kaldi(tmp_path: Path) -> Path:
    """A folder as Kaldi's recipes write it: two recordings, segments, and a text in each language."""
    folder = tmp_path / "data" / "train"
    for name in ("r1", "r2"):
        write_clip(tmp_path / f"wav/{name}.wav", 6.0, seed=len(name))
    folder.mkdir(parents=True)
    for name, content in {
        "wav.scp": "r1 wav/r1.wav\nr2   wav/r2.wav\n",
        "segments": "u1 r1 0.25 2.00\nu2 r1 2.5 4\nu3 r2 1.0 -1\nu4 r9 0 1\nu5 r2 3 2\nu6 r2 0 1\n",
        "text": "u1 deploy cái app\nu2\tcâu hai\nu3 câu ba\nu4 câu bốn\nu5 câu năm\nu7 câu bảy\n",
        "text.vi": "u1 triển khai ứng dụng\nu2 câu hai\n",
        "utt2spk": "".join(f"u{n} spk{n % 2}\n" for n in range(1, 8)),
    }.items():
        (folder / name).write_text(content, encoding="utf-8")
    return tmp_path


def test_a_kaldi_folder_with_segments(kaldi: Path) -> None:
    rows, refused, _ = imported(kaldi, "kaldi", "data/train", "--columns", "translation=text.vi")
    assert rows[0] == {
        "id": "u1", "audio_path": "wav/r1.wav", "transcript": "deploy cái app",
        "translation": "triển khai ứng dụng", "speaker_id": "spk1", "video_id": "r1",
        "start_s": "0.25", "end_s": "2",
    }  # fmt: skip
    assert [(row["id"], row["start_s"], row["end_s"]) for row in rows[1:]] == [
        ("u2", "2.5", "4"), ("u3", "1", "")
    ]  # fmt: skip
    assert {row["place"]: row["reason"] for row in refused} == {
        "u4": "no_audio", "u5": "bad_time", "u6": "no_transcript", "u7": "no_audio"
    }  # fmt: skip
    assert [row["duration"] for row in cleaned(kaldi)] == ["1.75", "1.5", "5"]


def test_videos_that_a_kaldi_folder_names_are_those_of_the_manifest(kaldi: Path) -> None:
    (kaldi / "data/train/utt2video").write_text("u1 talk_a\nu2 talk_a\nu3 talk_b\n", encoding="utf-8")
    imported(kaldi, "kaldi", "data/train", "--columns", "video_id=utt2video")
    assert [row["video_id"] for row in cleaned(kaldi)] == ["talk_a", "talk_a", "talk_b"]


def test_a_kaldi_folder_without_segments(kaldi: Path) -> None:
    (kaldi / "data/train/segments").unlink()
    (kaldi / "data/train/utt2spk").unlink()
    (kaldi / "data/train/text").write_text("r2 câu hai\nr1 câu một\n", encoding="utf-8")
    rows, refused, counts = imported(kaldi, "kaldi", "data/train")
    assert [row["transcript"] for row in rows] == ["câu một", "câu hai"]
    assert list(rows[0]) == ["audio_path", "transcript", "translation", "id"]
    assert not refused
    assert counts["num_without_translation"] == 2


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("r2 sox wav/r2.wav -t wav - trim 0 1 |", "commands in it are not executed"),
        ("r2 touch executed |", "commands in it are not executed"),
        ("r1 wav/r1.wav", "r1 twice"),
    ],
)
def test_commands_of_a_kaldi_folder_are_refused_and_never_executed(kaldi: Path, line: str, told: str) -> None:
    with (kaldi / "data/train/wav.scp").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    scp = kaldi / "data/train/wav.scp"
    if told.startswith("commands"):
        scp.write_text(scp.read_text(encoding="utf-8").replace("r2   wav/r2.wav\n", ""), encoding="utf-8")
    finished = run_script("import_manifest.py", kaldi, "kaldi", "data/train")
    assert_refused(finished, "wav.scp", told)
    assert not (kaldi / "executed").exists()
    assert not (kaldi / OUTPUT).exists()


def test_a_kaldi_folder_that_is_none_and_channels_are_refused(kaldi: Path) -> None:
    assert_refused(run_script("import_manifest.py", kaldi, "kaldi", "wav"), "wav.scp", "No such file")
    (kaldi / "data/train/reco2file_and_channel").write_text("r1 f A\nr2 f A\n")
    with pytest.raises(Exception, match="channels of one file"):
        list(KaldiImporter(kaldi / "data/train", data_root=kaldi, columns={}).rows())


# --- NeMo -------------------------------------------------------------------------------------------------


def test_nemo_json_lines(tmp_path: Path) -> None:
    write_clip(tmp_path / "corpus/wav/a.wav", 5.0, seed=1)
    outside = tmp_path.parent / f"{tmp_path.name}-outside.wav"
    absolute = str(tmp_path / "corpus/wav/a.wav")
    entries: list[Any] = [
        {"audio_filepath": "wav/a.wav", "text": "câu một", "duration": 5.0, "lang": "vi", "tags": ["x", "y"]},
        {"audio_filepath": absolute, "text": "câu hai", "duration": 1.5, "offset": 0.75},
        {"audio_filepath": "wav/a.wav", "text": "câu ba", "offset": 3, "vi": "dịch"},
        {"audio_filepath": str(outside), "text": "ngoài", "duration": 1},
        {"audio_filepath": "wav/a.wav", "text": " ", "duration": 1},
        {"audio_filepath": ["wav/a.wav", "wav/b.wav"], "text": "hai kênh", "duration": 1},
        {"audio_filepath": "wav/a.wav", "text": "xấu", "offset": -1},
        {"audio_filepath": "wav/a.wav", "text": "xa", "offset": 10**400},
        ["no object"],
    ]
    text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries) + '{"half": \n'
    (tmp_path / "corpus/train.jsonl").write_text(text, encoding="utf-8")
    rows, refused, _ = imported(tmp_path, "nemo", "corpus/train.jsonl", "--columns", "translation=vi")
    assert [(r["audio_path"], r["duration"], r["start_s"], r["end_s"]) for r in rows] == [
        ("corpus/wav/a.wav", "5", "", ""),
        ("corpus/wav/a.wav", "", "0.75", "2.25"),
        ("corpus/wav/a.wav", "", "3", ""),
    ]
    assert (rows[0]["lang"], rows[0]["tags"], rows[2]["translation"]) == ("vi", '["x", "y"]', "dịch")
    assert [row["reason"] for row in refused] == [
        "outside_data_root", "no_transcript", "no_audio", "bad_time", "bad_time", "bad_row", "bad_row"
    ]  # fmt: skip
    assert refused[0]["place"] == "line 4"
    assert [row["duration"] for row in cleaned(tmp_path)] == ["5", "1.5", "2"]


def test_nemo_times_come_from_the_fields_that_are_chosen(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.wav", 5.0, seed=1)
    entries: list[dict[str, Any]] = [
        {"audio_filepath": "a.wav", "text": "câu một", "duration": 9, "length_s": 5.0},
        {"audio_filepath": "a.wav", "text": "câu hai", "length_s": 1.5, "from": 0.75},
        {"audio_filepath": "a.wav", "text": "câu ba", "from": 1, "to": 3.25},
        {"audio_filepath": "a.wav", "text": "câu bốn", "length_s": "5"},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    columns = ("duration=length_s", "start_s=from", "end_s=to")
    rows, refused, _ = imported(tmp_path, "nemo", "a.jsonl", "--columns", *columns)
    assert [(row["duration"], row["start_s"], row["end_s"]) for row in rows] == [
        ("5", "", ""),
        ("", "0.75", "2.25"),
        ("", "1", "3.25"),
    ]
    assert [(row["reason"], row["detail"]) for row in refused] == [("bad_time", "length_s: '5'")]
    (tmp_path / OUTPUT).unlink()
    answer = run_script("import_manifest.py", tmp_path, "nemo", "a.jsonl", "--columns", "duration=seconds")
    assert_refused(answer, "no seconds; there are: audio_filepath, text, duration, length_s")


def test_a_nemo_line_without_an_offset_is_the_beginning_of_a_file_that_lasts_longer(tmp_path: Path) -> None:
    """NeMo reads `duration` seconds from 0 on; the rest of the file is not what the text says."""
    write_clip(tmp_path / "a.wav", 5.0, seed=1)
    entries: list[dict[str, Any]] = [
        {"audio_filepath": "a.wav", "text": "câu một", "duration": 5.0},
        {"audio_filepath": "a.wav", "text": "câu hai", "duration": 4.95},
        {"audio_filepath": "a.wav", "text": "câu ba", "duration": 0},
        {"audio_filepath": "a.wav", "text": "câu bốn"},
        {"audio_filepath": "gone.wav", "text": "câu năm", "duration": 2},
        {"audio_filepath": "a.wav", "text": "câu sáu", "duration": 3},
    ]

    def rows(num_entries: int) -> list[dict[str, str]]:
        path = tmp_path / "a.jsonl"
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries[:num_entries]))
        write_imported(NemoImporter(path, data_root=tmp_path, columns={}), tmp_path / OUTPUT, overwrite=True)
        return read_table(tmp_path / OUTPUT)

    assert "start_s" not in rows(5)[0], "all are whole files"
    times = [(row["duration"], row["start_s"], row["end_s"]) for row in rows(6)]
    assert times == [
        ("5", "", ""),
        ("4.95", "", ""),
        ("0", "", ""),
        ("", "", ""),
        ("2", "", ""),
        ("", "0", "3"),
    ]
    assert cleaned(tmp_path)[-1]["duration"] == "3"


def test_a_usual_time_that_is_chosen_for_another_column_makes_no_piece(tmp_path: Path) -> None:
    """Clips that are cut already, with their times in the video."""
    entry = {"audio_filepath": "a.wav", "text": "câu", "offset": 75.5, "duration": 2}
    (tmp_path / "a.jsonl").write_text(json.dumps(entry))

    def read(**columns: str) -> tuple[list[str], Any]:
        importer = NemoImporter(tmp_path / "a.jsonl", data_root=tmp_path, columns=columns)
        names = list(importer.columns)
        return names, next(importer.rows()).content

    names, content = read(video_start_s="offset")
    assert names == ["video_start_s", "audio_path", "transcript", "duration"]
    assert (content["video_start_s"], content["duration"]) == ("75.5", "2")
    assert "start_s" not in content
    names, content = read(video_length_s="duration", start_s="offset")
    assert (content["video_length_s"], content["start_s"], content["end_s"]) == ("2", "75.5", "")


def test_rows_that_no_text_file_holds_are_told_and_the_others_can_be_read(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.wav", 1.0, seed=1)
    lines = [
        '{"audio_filepath": "a.wav", "text": "câu một"}',
        r'{"audio_filepath": "a.wav", "text": "nửa \ud83d"}',
        r'{"audio_filepath": "a.wav", "text": "câu\u0000hai"}',
        r'{"audio_filepath": "a\u0000.wav", "text": "câu ba"}',
        r'{"audio_filepath": "a\ud83d.wav", "text": "câu bốn"}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    _, refused, _ = imported(tmp_path, "nemo", "a.jsonl")
    assert [row["reason"] for row in refused] == ["bad_row"] * 4
    assert [row["transcript"] for row in cleaned(tmp_path)] == ["câu một"]


def test_a_manifest_is_replaced_only_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"audio_filepath": "a.wav", "text": "một"}\n', encoding="utf-8")
    (tmp_path / OUTPUT).parent.mkdir(parents=True)
    (tmp_path / OUTPUT).write_text("mine\n")
    assert_refused(run_script("import_manifest.py", tmp_path, "nemo", "a.jsonl"), "--overwrite")
    assert (tmp_path / OUTPUT).read_text() == "mine\n"
    rows, _, _ = imported(tmp_path, "nemo", "a.jsonl", "--overwrite")
    assert rows[0]["transcript"] == "một"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[{"audio_filepath": "a.wav", "text": "x"}]', "each line is a JSON object"),
        ('{"path": "a.wav", "sentence": "x"}', "nothing for audio_path and transcript; there are: path"),
        ('{"audio_filepath": "", "text": "x"}', "no_audio 1 (the utterance has audio)"),
    ],
)
def test_files_that_cannot_be_imported_say_why(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "a.jsonl").write_text(text + "\n", encoding="utf-8")
    assert_refused(run_script("import_manifest.py", tmp_path, "nemo", "a.jsonl"), "a.jsonl", told)


# --- tables of times --------------------------------------------------------------------------------------


def test_rows_of_a_video_with_times_are_heard_without_being_cut(tmp_path: Path) -> None:
    samples = (0.1 * np.random.default_rng(0).standard_normal(8 * RATE_HZ)).astype(np.float32)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/v 1.mov").write_bytes(encoded("mov", "pcm_s16le", samples, RATE_HZ, delay_s=0.1))
    (tmp_path / "cuts.csv").write_text(
        'video,from,to,said,note\nv 1.mov,1.5,3,câu một,\nv 1.mov,00:04.25,"0:00:06,5",câu hai,a\n'
        "v 1.mov,5,4,sai,\nv 1.mov,now,4,sai,\nv 1.mov,1\n",
        encoding="utf-8",
    )
    columns = ("audio_path=video", "start_s=from", "end_s=to", "transcript=said")
    rows, refused, _ = imported(
        tmp_path, "table", "cuts.csv", "--paths_from", "videos", "--columns", *columns
    )
    assert [(r["audio_path"], r["start_s"], r["end_s"], r["note"]) for r in rows] == [
        ("videos/v 1.mov", "1.5", "3", ""),
        ("videos/v 1.mov", "4.25", "6.5", "a"),
    ]
    assert [row["reason"] for row in refused] == ["bad_time", "bad_time", "bad_row"]
    (row, _) = cleaned(tmp_path)
    heard = load_utterance(tmp_path, row)
    start = round(1.5 * RATE_HZ) - round(0.1 * RATE_HZ)
    np.testing.assert_allclose(heard, samples[start : start + 24_000], atol=1e-4)
    assert [path.name for path in (tmp_path / "videos").iterdir()] == ["v 1.mov"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("75.5", 75.5), ("1:15.5", 75.5), ("01:00:01,250", 3601.25)]
)
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "1:-2", "1:2:3:4", "nan", "inf"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(Refusal):
        seconds_of(text)


def test_paths_stay_below_the_data_root(tmp_path: Path) -> None:
    (tmp_path / "root/in").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "root")
    assert path_in_root("in/../in/a.wav", tmp_path / "root", tmp_path / "root") == "in/a.wav"
    assert path_in_root(str(tmp_path / "link/in/a.wav"), Path(), tmp_path / "root") == "in/a.wav"
    for outside in ("../a.wav", str(tmp_path / "rooted/a.wav"), ""):
        with pytest.raises(Refusal):
            path_in_root(outside, tmp_path / "root", tmp_path / "root")


# --- datasets ---------------------------------------------------------------------------------------------


def wav_bytes(seed: int) -> bytes:
    file = io.BytesIO()
    samples = 0.1 * np.random.default_rng(seed).standard_normal(RATE_HZ)
    soundfile.write(file, samples, RATE_HZ, format="WAV")
    return file.getvalue()


def write_parquet(path: Path, named: Sequence[str] = ()) -> None:
    """Six rows as the Hub keeps them: audio inside, two of one name, one without audio, one without text; and
    rows that only name a file."""
    from datasets import Audio, ClassLabel, Features, Value

    features = Features(
        {
            "audio": Audio(),
            "sentence": Value("string"),
            "talk": Value("int64"),
            "language": ClassLabel(names=["vi", "en"]),
        }
    )
    names = ["t1_1.wav", "t1_2.wav", "t1_1.wav", "t2_1.wav"]
    audio: list[Any] = [{"bytes": wav_bytes(seed), "path": name} for seed, name in enumerate(names)]
    table = pyarrow.table(
        {
            "audio": [*audio, None, audio[0], *({"bytes": None, "path": name} for name in named)],
            "sentence": ["câu 0", "câu 1", "câu 2", "câu 3", "câu 4", "", *("câu" for _ in named)],
            "talk": [1, 1, 2, 2, 3, 3, *(3 for _ in named)],
            "language": [0, 1, 0, 0, 0, 0, *(0 for _ in named)],
        },
        schema=features.arrow_schema,
    )
    path.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(table, path)


def assert_imported(folder: Path, clips: Path, rows: list[dict[str, str]]) -> None:
    expected = ["t1_1.wav", "t1_2.wav", "part2/t1_1.wav", "t2_1.wav"]
    assert [row["audio_path"] for row in rows] == [(clips / name).as_posix() for name in expected]
    for seed, row in enumerate(rows):
        assert (folder / row["audio_path"]).read_bytes() == wav_bytes(seed)
    assert [row["transcript"] for row in rows] == [f"câu {n}" for n in range(4)]
    assert [row["video_id"] for row in rows] == ["1", "1", "2", "2"]
    assert [row["language"] for row in rows] == ["vi", "en", "vi", "vi"]


def test_a_dataset_saved_to_disk(tmp_path: Path) -> None:
    import datasets

    write_parquet(tmp_path / "parquet/a.parquet")
    table = datasets.Dataset(pyarrow.parquet.read_table(tmp_path / "parquet/a.parquet"))
    datasets.DatasetDict({"train": table, "test": table}).save_to_disk(tmp_path / "saved")
    arguments = ("datasets", "saved", "--columns", "video_id=talk")
    assert_refused(run_script("import_manifest.py", tmp_path, *arguments), "there are: train, test")
    rows, refused, _ = imported(tmp_path, *arguments, "--split", "train")
    assert_imported(tmp_path, Path("data/export/audio/saved/clips"), rows)
    assert [(row["place"], row["reason"]) for row in refused] == [
        ("row 4", "no_audio"), ("row 5", "no_transcript")
    ]  # fmt: skip
    assert len(cleaned(tmp_path)) == 4


def test_of_several_sounds_one_is_imported_names_may_differ_in_case_and_a_missing_file_is_one_row(
    tmp_path: Path,
) -> None:
    import datasets

    features = datasets.Features(
        {"audio": datasets.Audio(), "sentence": datasets.Value("string"), "english": datasets.Audio()}
    )
    names = ("A.wav", "gone.wav", "a.wav")
    sounds = [
        {"bytes": None if name == "gone.wav" else wav_bytes(seed), "path": name}
        for seed, name in enumerate(names)
    ]
    table = pyarrow.table(
        {"audio": sounds, "sentence": ["câu 0", "câu 1", "câu 2"], "english": sounds},
        schema=features.arrow_schema,
    )
    (tmp_path / "folder").mkdir()
    pyarrow.parquet.write_table(table, tmp_path / "folder/train.parquet")
    rows, refused, _ = imported(tmp_path, "datasets", "folder", "--split", "train")
    assert [(row["place"], row["reason"]) for row in refused] == [("row 1", "no_audio")]
    assert list(rows[0]) == ["audio_path", "transcript", "translation"]
    clips = "data/export/audio/folder/clips"
    assert [row["audio_path"] for row in rows] == [f"{clips}/A.wav", f"{clips}/part2/a.wav"]


def test_a_streamed_dataset_that_breaks_off_says_so(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"audio": "a.wav", "text": "câu"\n', encoding="utf-8")
    options = DatasetOptions(tmp_path / "audio", split="train", streaming=True)
    with pytest.raises(ManifestError, match="datasets opens it and reads its rows"):
        DatasetImporter(str(tmp_path), options, data_root=tmp_path, columns={})


def test_a_file_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    write_parquet(tmp_path / "folder/train.parquet")
    options = DatasetOptions(tmp_path / "audio", split="train")
    with pytest.raises(ManifestError, match="name the folder that it lies in"):
        DatasetImporter(str(tmp_path / "folder/train.parquet"), options, data_root=tmp_path, columns={})


@needs_limits
def test_a_disk_that_fills_up_with_clips_is_told_as_that(tmp_path: Path) -> None:
    write_parquet(tmp_path / "folder/train.parquet")
    options = DatasetOptions(tmp_path / "audio", split="train", streaming=True)
    importer = DatasetImporter(str(tmp_path / "folder"), options, data_root=tmp_path, columns={})
    with only_files_up_to(20_000), pytest.raises(ManifestError, match="free some space"):
        list(importer.rows())
    assert [path for path in (tmp_path / "audio").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset_of_the_hub(repo_root: Path, tmp_path: Path, streaming: bool) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    # A dataset from elsewhere gets at no file of this machine.
    write_clip(tmp_path / "private.wav", 1.0, seed=9)
    (corpus / "own.wav").write_bytes((tmp_path / "private.wav").read_bytes())
    named = [str(tmp_path / "private.wav"), "own.wav", (tmp_path / "private.wav").as_uri()]
    write_parquet(tmp_path / "repository/data/train-00000-of-00001.parquet", named)
    with LoopbackHub(tmp_path / "hub") as hub:
        repository = hub.store.create("dataset", "tester/speech", "public")
        path = "data/train-00000-of-00001.parquet"
        content = hub.store.add_content((tmp_path / "repository" / path).read_bytes())
        hub.store.add_commit(repository, "main", {path: hub.store.lfs_file(content)}, "data")
        machine = Machine(repo_root, corpus, tmp_path, hub)
        arguments = ["--split", "train", "--columns", "video_id=talk", "transcript=sentence"]
        arguments += ["--streaming"] if streaming else []
        finished = machine.run("import_manifest.py", "datasets", "tester/speech", *arguments)
        assert finished.returncode == 0, finished.stderr
        assert not machine.network_record.exists()
        missing = (
            None
            if streaming
            else machine.run("import_manifest.py", "datasets", "tester/other", "--output", "other.tsv")
        )
    clips = Path("data/export/audio/tester--speech/clips")
    assert_imported(corpus, clips, read_table(corpus / OUTPUT))
    assert len(list((corpus / clips).rglob("*.wav"))) == 4
    refused = (corpus / OUTPUT).with_name("manifest_not_imported.tsv").read_text(encoding="utf-8")
    assert refused.count("a file of this machine") == len(named)
    if missing is not None:
        assert_refused(missing, "tester/other")


def test_a_folder_of_audio_files_is_pointed_to_its_table(tmp_path: Path) -> None:
    write_clip(tmp_path / "folder/train/v1_1.wav", 1.0, seed=1)
    (tmp_path / "folder/train/metadata.csv").write_text(
        "file_name,sentence\nv1_1.wav,câu\n", encoding="utf-8"
    )
    finished = run_script("import_manifest.py", tmp_path, "datasets", "folder", "--split", "train")
    assert_refused(finished, "import_manifest.py table metadata.csv")
    arguments = ("table", "folder/train/metadata.csv", "--paths_from", "folder/train")
    rows, _, _ = imported(tmp_path, *arguments, "--columns", "audio_path=file_name", "transcript=sentence")
    assert load_waveform(tmp_path / rows[0]["audio_path"]).shape == (RATE_HZ,)


def test_options_of_datasets_are_for_datasets(tmp_path: Path) -> None:
    finished = run_script("import_manifest.py", tmp_path, "nemo", "a.jsonl", "--split", "train")
    assert finished.returncode == 2
    assert re.search("--split: for datasets", finished.stderr)
