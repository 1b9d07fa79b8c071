"""The one command that removes a video everywhere, as a user types it."""

import json
import shutil
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from tests.script_runs import run_script
from vietst.audit.audit import WORK_NAME
from vietst.config import load_config
from vietst.data.tables import read_table, write_table
from vietst.data.take_down import take_down
from vietst.data.takedown_list import add_entries, read_takedown
from vietst.errors import ManifestError, VietstError
from vietst.hub.takedown_report import say_what_is_left


def test_one_command_removes_a_video_and_says_what_is_still_around(tiny_corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_corpus, tmp_path, dirs_exist_ok=True)
    test_rows = read_table(tmp_path / "data/splits/test.csv")
    video = test_rows[0]["video_id"]
    num_rows = sum(row["video_id"] == video for row in test_rows)
    split_hash = json.loads((tmp_path / "data/splits/audit.json").read_text(encoding="utf-8"))["split_hash"]
    run_dir = tmp_path / "outputs" / "old_run"
    run_dir.mkdir(parents=True)
    (run_dir / "run_facts.json").write_text(json.dumps({"split_hash": split_hash}), encoding="utf-8")
    (run_dir / "resolved_config.yaml").write_text("hub: {repo_id: owner/model}", encoding="utf-8")
    write_table(
        tmp_path / "outputs/results/old_run_predictions.csv", test_rows, ["id", "video_id", "transcript"]
    )
    for table in (Path("audit", "signals.tsv"), Path("audit_stopped", WORK_NAME, "rows", "000000-0.tsv")):
        write_table(tmp_path / "data" / table, test_rows, ["id"])
    (tmp_path / "outputs/corpus/data").mkdir(parents=True)
    table = pyarrow.table({"id": ["a", "b"], "video_id": [video, "another"]})
    parquet.write_table(table, tmp_path / "outputs/corpus/data/test-00000-of-00001.parquet")
    finished = run_script("take_down.py", tmp_path, "--add", video, "--add", "channel_id=none")
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "data/takedown.txt").read_text(encoding="utf-8") == f"{video}\nchannel_id=none\n"
    said = finished.stderr.replace("\\", "/")
    assert f"removed: {num_rows} utterances from data/splits/test.csv" in said
    assert "1 entries name nothing that is here" in said
    for still_there in (
        f"{num_rows} rows of data",
        f"{num_rows} audio files",
        f"{num_rows} utterances in outputs",
        f"{num_rows} utterances in the audit data/audit.",
        f"{num_rows} utterances in the audit data/audit_stopped.",
        "1 utterances in outputs/corpus",
        f"published as owner/model: trained on the splits {split_hash[:19]}",
    ):
        assert still_there in said
    again = run_script("build_features.py", tmp_path, "--kinds", "log_mel-80-hop320-4s", "--num_proc", "1")
    assert again.returncode == 0, again.stderr
    assert "nothing to do, it is built" in again.stderr
    assert video not in {row["video_id"] for row in read_table(tmp_path / "data/splits/test.csv")}


def test_what_was_removed_and_what_is_left_is_said_also_where_a_split_is_empty_then(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_corpus, tmp_path, dirs_exist_ok=True)
    rows = read_table(tmp_path / "data/splits/test.csv")
    entries = [word for video in sorted({row["video_id"] for row in rows}) for word in ("--add", video)]
    finished = run_script("take_down.py", tmp_path, *entries)
    assert finished.returncode == 2
    said = finished.stderr.replace("\\", "/")
    assert f"removed: {len(rows)} utterances from data/splits/test.csv" in said
    assert f"{len(rows)} audio files" in said
    assert "nothing for test" in said
    assert "speaker_id" not in said  # groups enough: no key ties too many together


def test_a_list_that_is_empty_or_wrong(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/takedown.txt").write_text("speaker_id=\n", encoding="utf-8")
    finished = run_script("take_down.py", tmp_path, "--dry_run")
    assert finished.returncode == 2
    assert "line 1" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    ("place", "content"),
    [
        ("data/export/manifest_clean.tsv", "id;audio_path;duration;video_id\n1;a.wav;1;v1\n"),
        ("data/splits/train.csv", "id;audio_path;duration;video_id\n1;a.wav;1;v1\n"),
        ("data/export/manifest_clean.tsv", "id\taudio_path\tduration\tvideo_id\n1\ta.wav\tx\tv2\n"),
        ("outputs/corpus/data/test-00000-of-00001.parquet", "broken"),
    ],
)
def test_a_file_that_cannot_be_looked_into_is_named(tmp_path: Path, place: str, content: str) -> None:
    """And not passed over as if it held nothing."""
    paths = {"data_root": "", "clean_manifest_path": "data/export/manifest_clean.tsv"}
    paths |= {name: f"data/{name}" for name in ("manifest_path", "features_dir", "takedown_path")}
    paths |= {"splits_dir": "data/splits", "output_dir": "outputs"}
    config = load_config("base", [f"paths.{k}={(tmp_path / v).as_posix()}" for k, v in paths.items()]).config
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text(content, encoding="utf-8")
    takedown = add_entries(config.paths.takedown_path, ["v1"])

    def take_down_and_say() -> None:
        say_what_is_left(config, takedown, take_down(config, takedown), is_done=True)

    with pytest.raises(VietstError) as caught:
        take_down_and_say()
    assert Path(place).name in caught.value.where


@pytest.mark.parametrize("entry", ["speaker_id=", "# a remark", "two\nlines", " ", "speakr_id=an"])
def test_what_the_list_cannot_hold_is_not_added_to_it(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "takedown.txt"
    path.write_text("v1\n", encoding="utf-8")
    with pytest.raises(ManifestError, match="--add"):
        add_entries(path, ["v2", entry])
    assert path.read_text(encoding="utf-8") == "v1\n"


@pytest.mark.parametrize("entry", ["speakr_id=an", "Speaker_ID = an", "channel-id=UC1", "speaker=", "take=2"])
def test_a_column_that_there_is_not_is_no_name(tmp_path: Path, entry: str) -> None:
    """Or what its owner wants gone stays, and nobody notices."""
    path = tmp_path / "takedown.txt"
    path.write_text(f"v1\n{entry}\n", encoding="utf-8")
    with pytest.raises(ManifestError) as refused:
        read_takedown(path)
    assert refused.value.where == f"{path}, line 2"
    assert "video_id, id, audio_path, speaker_id, channel_id" in refused.value.rule
    assert f"id={entry}" in refused.value.do


@pytest.mark.parametrize(
    ("entry", "row"),
    [
        ("id=take=2", {"id": "take=2"}),
        ("audio_path=take=2.wav", {"audio_path": "take=2.wav"}),
        ("clips/take=2.wav", {"audio_path": "clips/take=2.wav"}),
    ],
)
def test_names_may_look_like_columns_with_values(tmp_path: Path, entry: str, row: dict[str, str]) -> None:
    takedown = add_entries(tmp_path / "takedown.txt", [entry])
    assert takedown.entry_for(row) == entry
