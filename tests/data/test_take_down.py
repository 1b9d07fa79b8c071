"""What is on the takedown list leaves the disk: manifests, splits, features, encoder states, all of it."""

import json
import os
import shlex
import shutil
import sys
import unicodedata
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.data.test_encoder_state_cache import make_encoder
from tests.data.tiny_splits import write_corpus, write_splits
from vietst.config import load_config
from vietst.config_schema import RunConfig, SourceSection
from vietst.constants import SPLITS
from vietst.data import take_down as module
from vietst.data.audio_facts import AudioFactsFile
from vietst.data.audited_manifest import read_audit_summary, summary_path
from vietst.data.encoder_state_cache import build_states, plan_states
from vietst.data.feature_cache import build_feature_cache, open_feature_cache
from vietst.data.features import LOG_MEL_80_NANO, WAVEFORM_16K
from vietst.data.manifest import clean_manifest_is_current, preprocess_manifest
from vietst.data.rejections import Journal
from vietst.data.row_rules import PreprocessOptions
from vietst.data.splits import read_audit, read_split, split_manifest, splits_are_current
from vietst.data.tables import file_digest, read_table, write_json, write_table
from vietst.data.take_down import find, take_down
from vietst.data.takedown_features import find_caches, find_leftovers, refuse_taken_down
from vietst.data.takedown_list import Takedown, read_takedown
from vietst.data.takedown_tables import NamedRows, find_half_written
from vietst.errors import FeatureCacheError

KINDS = (LOG_MEL_80_NANO, WAVEFORM_16K)


class Disk:
    """The tiny corpus with encoder states, and what is named of it."""

    def __init__(self, root: Path) -> None:
        self.data = root / "data"
        self.config: RunConfig = load_config(
            "nano_whisper",
            [
                f"paths.{name}={(root / place).as_posix()}"
                for name, place in {
                    "data_root": "",
                    "manifest_path": "data/export/manifest.tsv",
                    "clean_manifest_path": "data/export/manifest_clean.tsv",
                    "splits_dir": "data/splits",
                    "takedown_path": "data/takedown.txt",
                    "features_dir": "data/features",
                    "output_dir": "outputs",
                }.items()
            ],
        ).config

    def write_list(self, *entries: str) -> Takedown:
        path = self.config.paths.takedown_path
        path.write_text("\n".join(entries), encoding="utf-8")
        return read_takedown(path)

    def open_cache(self, kind: Any = LOG_MEL_80_NANO) -> datasets.DatasetDict:
        paths = self.config.paths
        return open_feature_cache(
            paths.splits_dir, paths.local_features_dir, kind, audio_root=paths.data_root
        )

    def rows(self, kind: Any = LOG_MEL_80_NANO) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for rows in self.open_cache(kind).values() for row in rows}

    def write_states(self) -> Path:
        cache = self.open_cache()
        splits, encoder = {"train": cache["train"]}, make_encoder()
        plan = plan_states(splits, self.config.paths.local_features_dir, encoder)
        build_states(plan, splits, encoder, batch_size=4)
        return plan.directory

    def files(self) -> dict[Path, int]:
        """When each was written."""
        return {path: path.stat().st_mtime_ns for path in self.data.rglob("*") if path.is_file()}

    def files_with(self, content: bytes) -> set[str]:
        """Names of what this project made and that holds these bytes."""
        own = [path for path in self.files() if path.name not in ("manifest.tsv", "takedown.txt")]
        return {path.name for path in own if content in path.read_bytes()}


@pytest.fixture
def disk(tiny_corpus: Path, tmp_path: Path) -> Disk:
    shutil.copytree(tiny_corpus, tmp_path / "corpus")
    return Disk(tmp_path / "corpus")


def split_of_videos(disk: Disk) -> dict[str, str]:
    return {
        row["video_id"]: split for split in SPLITS for row in read_split(disk.config.paths.splits_dir, split)
    }


def named_videos(disk: Disk) -> list[str]:
    """One of train, one of test."""
    split_of = split_of_videos(disk)
    return [min(video for video in split_of if split_of[video] == split) for split in ("train", "test")]


def test_nothing_is_left_and_the_other_rows_are_what_they_were(disk: Disk) -> None:
    videos = named_videos(disk)
    before = {kind: disk.rows(kind) for kind in KINDS}
    splits_before = split_of_videos(disk)
    states = disk.write_states()
    gone = {name: row for name, row in before[LOG_MEL_80_NANO].items() if row["video_id"] in videos}
    assert len(gone) == 10
    take_down(disk.config, disk.write_list(*videos))
    for row in gone.values():
        assert disk.files_with(row["transcript"].encode()) <= _files_with_equal_texts(disk, row)
        assert disk.files_with(row["features"][:2000]) == set()
        assert disk.files_with(row["audio_digest"].encode()) == set()
        assert disk.files_with(row["audio_path"].encode()) == {"rejected.tsv"}
    assert not states.exists()
    for kind in KINDS:
        assert disk.rows(kind) == {name: row for name, row in before[kind].items() if name not in gone}
        assert len(list(disk.data.glob(f"features/{kind.name}-*"))) == 1
    assert split_of_videos(disk) == {v: split for v, split in splits_before.items() if v not in videos}
    assert len(AudioFactsFile(disk.data / "export/audio_facts.tsv")) == 50


def _files_with_equal_texts(disk: Disk, row: dict[str, Any]) -> set[str]:
    """Other utterances may say the same."""
    others = [other["transcript"] for other in disk.rows().values()]
    said = [text for text in others if row["transcript"] in text]
    return {name for text in said for name in disk.files_with(text.encode())} | {"audit.json"}


def test_all_that_was_made_is_up_to_date_and_the_second_time_nothing_is_written(disk: Disk) -> None:
    takedown = disk.write_list(*named_videos(disk))
    paths = disk.config.paths
    assert not find(disk.config, takedown).is_nothing
    take_down(disk.config, takedown)
    assert clean_manifest_is_current(
        paths.manifest_path,
        paths.clean_manifest_path,
        audio_root=paths.data_root,
        options=_options_of(disk),
        takedown=takedown,
    )
    assert splits_are_current(paths.clean_manifest_path, paths.splits_dir, takedown=takedown)
    assert read_audit(paths.splits_dir)["manifest"]["num_utterances"] == 50
    files = disk.files()
    assert take_down(disk.config, takedown).is_nothing
    assert disk.files() == files


def _options_of(disk: Disk) -> PreprocessOptions:
    summary = json.loads((disk.data / "export/preprocess_summary.json").read_text(encoding="utf-8"))
    # The tiny corpus was cleaned under another name of its folder.
    summary["options"]["audio_root"] = disk.config.paths.data_root.as_posix()
    (disk.data / "export/preprocess_summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return PreprocessOptions(**{k: v for k, v in summary["options"].items() if k != "audio_root"})


def test_one_that_was_broken_off_is_finished_the_next_time(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = disk.write_states()
    takedown = disk.write_list(named_videos(disk)[0])

    def killed(caches: Any, leftovers: Any) -> None:
        shutil.rmtree(caches[-1].directory / "train")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            take_down(disk.config, takedown)
    assert states.exists()
    found = take_down(disk.config, takedown)
    assert [cache.directory for cache in found.states] == [states]
    assert find(disk.config, takedown).is_nothing
    assert not states.exists()
    assert len(disk.rows()) == 55


def test_caches_of_other_splits_and_unfinished_ones_are_deleted_too(disk: Disk) -> None:
    paths = disk.config.paths
    other = disk.data / "other_splits"
    shutil.copytree(paths.splits_dir, other)
    rows = (other / "train.csv").read_text(encoding="utf-8").splitlines()
    (other / "train.csv").write_text("\n".join(rows[:-1]) + "\n", encoding="utf-8")
    stale = build_feature_cache(
        other, paths.local_features_dir, LOG_MEL_80_NANO, audio_root=paths.data_root, num_proc=1
    )
    unfinished = disk.data / "features" / f"{LOG_MEL_80_NANO.name}-{'0' * 16}"
    shutil.copytree(stale / "train", unfinished / "train")
    leftover = (
        disk.data / "features" / f"{LOG_MEL_80_NANO.name}-{'1' * 16}" / "train" / ".tmp-data-00000.arrow-7"
    )
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(next((stale / "train").glob("*.arrow")).read_bytes()[:-200])
    os.utime(leftover, (0, 0))
    being_written = leftover.with_name(".tmp-data-00001.arrow-8")
    being_written.touch()
    found = take_down(disk.config, disk.write_list(named_videos(disk)[0]))
    assert {stale, unfinished} < {cache.directory for cache in found.caches}
    assert not any(path.exists() for path in (stale, unfinished, leftover))
    assert being_written.exists()
    assert len(disk.rows()) == 55


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_what_a_running_build_moves_away_at_this_moment_is_no_leftover(tmp_path: Path) -> None:
    """As a link into nothing: it is listed, but there is no such file when its age is asked for."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / ".tmp-data-00000.arrow-7").symlink_to("nowhere")
    (tmp_path / ".clean.tsv.7.tmp").symlink_to("nowhere")
    assert find_leftovers(tmp_path) == []
    assert find_half_written([tmp_path / "clean.tsv"]) == []


def test_what_killed_commands_left_of_tables_is_deleted_and_a_linked_cache_too(disk: Disk) -> None:
    left = [disk.data / "export/.manifest_clean.tsv.7.tmp", disk.data / "splits/.train.csv.7.tmp"]
    others = [disk.data / "export/.notes.tmp", disk.data / "export/.rejected.tsv.8.tmp"]
    for path in (*left, *others):
        path.write_text("bí mật", encoding="utf-8")
    for path in (*left, others[0]):
        os.utime(path, (0, 0))
    cache = next(disk.data.glob(f"features/{LOG_MEL_80_NANO.name}-*"))
    elsewhere = cache.rename(disk.data / cache.name)
    cache.symlink_to(elsewhere, target_is_directory=True)
    take_down(disk.config, disk.write_list(named_videos(disk)[0]))
    assert [path.exists() for path in (*left, *others)] == [False, False, True, True]
    assert not elsewhere.exists()
    assert not cache.is_symlink()
    assert len(disk.rows()) == 55


def test_videos_are_named_as_they_were_when_the_manifest_was_cleaned(disk: Disk) -> None:
    """By a pattern of the command line, which the configuration does not know."""
    paths = disk.config.paths
    rows = read_table(paths.manifest_path)
    write_table(paths.manifest_path, [{**row, "video_id": ""} for row in rows], list(rows[0]))
    summary_file = paths.clean_manifest_path.with_name("preprocess_summary.json")
    summary = json.loads(summary_file.read_text(encoding="utf-8"))
    summary["options"]["video_id_pattern"] = r"video_(?P<video_id>\d+)/"
    write_json(summary_file, summary)
    audio_path = rows[0]["audio_path"]
    found = find(disk.config, disk.write_list(Path(audio_path).parent.name.removeprefix("video_")))
    assert audio_path in found.named.audio_paths


def test_another_row_with_the_id_of_one_that_is_named_keeps_what_is_told_of_it(disk: Disk) -> None:
    paths = disk.config.paths
    video, other_video = named_videos(disk)
    row_of = {row["video_id"]: row for row in read_table(paths.clean_manifest_path)}
    told = row_of[other_video] | {"id": row_of[video]["id"], "transcript": "thừa  dấu cách"}
    rejected = paths.clean_manifest_path.with_name("rejected.tsv")
    with rejected.open("w", encoding="utf-8", newline="\n") as file:
        journal = Journal(file)
        journal.change(2, told, "text_cleaned", "transcript")
        journal.remove(3, {"id": "", "audio_path": "", "transcript": "không có tệp"}, "audio_missing", "")
    manifest = read_table(paths.manifest_path)
    nowhere = {**manifest[0], "id": "", "audio_path": "", "video_id": video}
    # Another manifest than that which was cleaned: its lines may be others.
    write_table(paths.manifest_path, [*manifest, nowhere], list(manifest[0]))
    take_down(disk.config, disk.write_list(video))
    assert [row["transcript"] for row in read_table(rejected)] == [told["transcript"], "không có tệp"]


def test_a_cache_that_cannot_be_looked_into_is_refused(disk: Disk) -> None:
    shard = next(disk.data.glob("features/*/train/*.arrow"))
    shard.write_bytes(shard.read_bytes()[:-500])
    with pytest.raises(FeatureCacheError, match="delete the folder"):
        take_down(disk.config, disk.write_list("any"))


@pytest.mark.parametrize("name", [unicodedata.normalize("NFD", "Việt.wav"), "Viê\u0323t.wav"], ids=ascii)
def test_a_file_whose_name_has_decomposed_letters_is_found_in_caches_too(tmp_path: Path, name: str) -> None:
    """As macOS packs names, and as Vietnamese keyboards write them: cleaning leaves paths as files are
    called."""
    splits = write_corpus(tmp_path)
    row = splits["train"][0]
    (tmp_path / row["audio_path"]).rename(tmp_path / "clips" / name)
    row["audio_path"] = f"clips/{name}"
    write_splits(tmp_path / "splits", splits)
    directory = build_feature_cache(
        tmp_path / "splits", tmp_path / "features", LOG_MEL_80_NANO, audio_root=tmp_path, num_proc=1
    )
    (tmp_path / "takedown.txt").write_text("clips/Việt.wav\n", encoding="utf-8")
    takedown = read_takedown(tmp_path / "takedown.txt")
    found = find_caches(tmp_path / "features", takedown, NamedRows())
    assert [(cache.directory, cache.num_rows) for cache in found] == [(directory, 1)]
    cache = datasets.DatasetDict.load_from_disk(str(directory))
    with pytest.raises(FeatureCacheError, match="1 utterances in train"):
        refuse_taken_down(cache, takedown, where="", do="")


def test_caches_that_name_nothing_are_left_alone(disk: Disk) -> None:
    files = disk.files()
    found = take_down(disk.config, disk.write_list("no_such_video"))
    assert found.is_nothing
    changed = {path.name for path, time in disk.files().items() if files.get(path) != time}
    # What is written down: the list that was obeyed.
    assert changed <= {"takedown.txt", "preprocess_summary.json", "audit.json", "pinned.tsv"}


def test_a_split_that_is_empty_then_is_said_and_the_rows_are_gone_even_so(disk: Disk) -> None:
    split_of = split_of_videos(disk)
    videos = [video for video in split_of if split_of[video] == "test"]
    takedown = disk.write_list(*videos)
    found = take_down(disk.config, takedown)
    assert found.problem is not None
    assert "nothing for test" in str(found.problem)
    assert "--fresh" in found.problem.do
    assert "test" not in split_of_videos_that_are_there(disk)
    left = find(disk.config, takedown)
    assert (left.caches, any(left.num_rows.values())) == ([], False)
    assert read_audit(disk.config.paths.splits_dir)["text_overlap"] == {}
    clean = disk.config.paths.clean_manifest_path
    rows, before = read_table(clean), split_of_ids_that_are_there(disk)
    new = [{**rows[0], "id": f"new{n}", "audio_path": f"new{n}.wav", "video_id": f"new{n}"} for n in range(3)]
    write_table(clean, [*rows, *({**row, "speaker_id": ""} for row in new)], list(rows[0]))
    split_manifest(clean, disk.config.paths.splits_dir, takedown=takedown)
    after = split_of_ids(disk)
    assert {name: after[name] for name in before} == before
    assert "test" in {after[row["id"]] for row in new}, "new videos take its place, and nothing else moves"


def split_of_ids_that_are_there(disk: Disk) -> dict[str, str]:
    splits_dir = disk.config.paths.splits_dir
    return {row["id"]: split for split in ("train", "dev") for row in read_split(splits_dir, split)}


def split_of_videos_that_are_there(disk: Disk) -> set[str]:
    lines = {
        split: (disk.config.paths.splits_dir / f"{split}.csv").read_text("utf-8").count("\n")
        for split in SPLITS
    }
    return {split for split, num_lines in lines.items() if num_lines > 1}


def test_features_that_a_disk_has_changed_are_deleted_and_not_copied(disk: Disk) -> None:
    """Nor is audio read for them, which may not be there."""
    features_dir = disk.config.paths.local_features_dir
    changed = next(features_dir.glob(f"{WAVEFORM_16K.name}-*/train/data-00000-*.arrow"))
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    found = take_down(disk.config, disk.write_list(*named_videos(disk)))
    assert [directory.name.rpartition("-")[0] for directory in found.rebuilt] == [LOG_MEL_80_NANO.name]
    assert not changed.exists()


def test_without_a_rebuild_features_are_deleted_at_once(disk: Disk) -> None:
    take_down(disk.config, disk.write_list(named_videos(disk)[0]), rebuild=False)
    assert not list(disk.data.glob("features/*-*"))
    with pytest.raises(FeatureCacheError, match="none of this kind"):
        disk.open_cache()


def test_where_there_are_no_splits_features_are_deleted_at_once(disk: Disk) -> None:
    takedown = disk.write_list(named_videos(disk)[0])
    shutil.rmtree(disk.config.paths.splits_dir)
    take_down(disk.config, takedown)
    assert find(disk.config, takedown).caches == []


def test_training_refuses_what_is_named_and_names_the_command(disk: Disk) -> None:
    from vietst.training.preparation import _open_features

    takedown = disk.write_list(named_videos(disk)[0])
    with pytest.raises(FeatureCacheError, match="5 utterances in train") as caught:
        _open_features(disk.config, LOG_MEL_80_NANO)
    command = shlex.split(caught.value.do)  # a folder's name may have spaces
    assert command[:2] == ["python", "scripts/take_down.py"]
    assert command[2].startswith("paths.data_root=")
    take_down(disk.config, takedown)
    assert len(_open_features(disk.config, LOG_MEL_80_NANO).cache["train"]) > 0


def test_what_an_audit_dropped_stays_out_and_its_manifest_stays_usable(disk: Disk) -> None:
    """The splits were made from the audited manifest, which lies beside the cleaned one."""
    paths = disk.config.paths
    clean, audit_dir = paths.clean_manifest_path, disk.data / "audit"
    audited = clean.with_name("manifest_audited.tsv")
    rows = read_table(clean)
    dropped, kept = rows[3], rows[:3] + rows[4:]
    write_table(audited, kept, list(rows[0]))
    audit_dir.mkdir()
    with (audit_dir / "rejected.tsv").open("w", encoding="utf-8", newline="\n") as file:
        Journal(file).remove(5, dropped, "audit", "wer 0.9")
    unused = clean.with_name("another_drop.tsv")
    write_table(unused, rows, list(rows[0]))
    summary = {
        "made_by": "scripts/audit_manifest.py",
        "input": {"path": clean.as_posix(), "digest": file_digest(clean)},
        "output": {"path": audited.as_posix(), "digest": file_digest(audited)},
        "drop": "wer>0.7",
        "rejected": (audit_dir / "rejected.tsv").as_posix(),
    }
    write_json(summary_path(audited), summary)
    output = {"path": unused.as_posix(), "digest": file_digest(unused)}
    write_json(summary_path(unused), summary | {"output": output})
    split_manifest(audited, paths.splits_dir)
    in_splits = split_of_ids(disk)
    take_down(disk.config, disk.write_list(dropped["video_id"]))
    gone = {row["id"] for row in rows if row["video_id"] == dropped["video_id"]}
    assert split_of_ids(disk) == {name: split for name, split in in_splits.items() if name not in gone}
    assert {row["id"] for row in read_table(audited)} == {row["id"] for row in kept} - gone
    assert {row["id"] for row in read_table(unused)} == {row["id"] for row in rows} - gone
    read = read_audit_summary(audited)
    assert read is not None
    assert read["output"]["num_rows"] == len(rows) - len(gone)
    (rejected,) = read_table(audit_dir / "rejected.tsv")
    assert (rejected["reason"], rejected["transcript"]) == ("taken_down", "")


def split_of_ids(disk: Disk) -> dict[str, str]:
    return {row["id"]: split for split in SPLITS for row in read_split(disk.config.paths.splits_dir, split)}


def test_rows_of_several_sources_are_found_in_their_manifests(disk: Disk) -> None:
    """Also those that cleaning had rejected: their texts stand in `rejected.tsv` alone."""
    paths = disk.config.paths
    rows = read_table(paths.manifest_path)
    first, second = (paths.manifest_path.with_name(f"{name}.tsv") for name in ("own", "replay"))
    write_table(first, rows[:30], list(rows[0]))
    rejected = {**rows[30], "transcript": "bí mật", "translation": ""}
    write_table(second, [rejected, *rows[31:]], list(rows[0]))
    sources = {"own": SourceSection(manifest=first), "replay": SourceSection(manifest=second)}
    data = disk.config.data.model_copy(update={"sources": sources})
    config = disk.config.model_copy(update={"data": data})
    options = PreprocessOptions.from_config(config)
    manifests = {"own": first, "replay": second}
    places: Any = {"audio_root": paths.data_root, "options": options}
    preprocess_manifest(manifests, paths.clean_manifest_path, progress=False, **places)
    take_down(config, takedown := disk.write_list(rejected["video_id"]))
    assert clean_manifest_is_current(manifests, paths.clean_manifest_path, takedown=takedown, **places)
    assert disk.files_with("bí mật".encode()) == {"replay.tsv"}
    lines = read_table(paths.clean_manifest_path.with_name("rejected.tsv"))
    assert {row["reason"] for row in lines} == {"taken_down"}
    assert [row["line"] for row in lines][:1] == ["replay:2"]
