"""The feature cache holds what the splits say, is found again when it fits, and reuses what it can."""

import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow.ipc import RecordBatchStreamWriter
from tiny_splits import write_clip, write_corpus, write_splits
from transformers import WhisperFeatureExtractor

from tests.small_files import needs_limits, only_files_up_to
from vietst.constants import SPLITS
from vietst.data import (
    audio_facts,
    feature_cache,
    feature_card,
    feature_plan,
    feature_shards,
    shard_files,
    shard_processes,
)
from vietst.data.audio import load_waveform
from vietst.data.audio_facts import AudioFactsFile
from vietst.data.feature_cache import build_feature_cache, features_of, open_feature_cache
from vietst.data.features import (
    FEATURE_CODE_VERSION,
    LOG_MEL_80,
    LOG_MEL_80_NANO,
    LOG_MEL_128,
    WAVEFORM_16K,
    InputKind,
    extract,
    log_mel_kind,
    pad_log_mel,
)
from vietst.errors import FeatureCacheError, ManifestError


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of some 2 s and batches of 2 rows, so that a dozen tiny clips make several of each."""
    monkeypatch.setattr(feature_plan, "MIN_SHARD_DURATION_S", 2.0)
    monkeypatch.setattr(feature_plan, "MIN_NUM_SHARDS", 2)
    monkeypatch.setattr(feature_shards, "_ROWS_PER_BATCH", 2)


def build(root: Path, kind: InputKind = LOG_MEL_80, *, features: str = "features", **options: Any) -> Path:
    return build_feature_cache(
        root / "splits",
        root / features,
        kind,
        audio_root=root,
        **{"num_proc": 1, "progress": False} | options,
    )


def open_cache(
    root: Path, kind: InputKind = LOG_MEL_80, *, features: str = "features"
) -> datasets.DatasetDict:
    return open_feature_cache(root / "splits", root / features, kind, audio_root=root)


def contents(directory: Path) -> dict[str, object]:
    """Every file below a cache by relative path; the card without what is listed as time."""
    found: dict[str, object] = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            found[path.relative_to(directory).as_posix()] = path.read_bytes()
    card = json.loads(found[feature_card.CARD_FILE_NAME])
    found[feature_card.CARD_FILE_NAME] = {
        key: value for key, value in card.items() if key not in feature_card.CARD_TIME_FIELDS
    }
    return found


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of samples of each clip that features were computed from, in this process."""
    lengths: list[int] = []

    def counting(waveform: np.ndarray, kind: InputKind) -> Any:
        lengths.append(len(waveform))
        return extract(waveform, kind)

    monkeypatch.setattr(feature_shards, "extract", counting)
    return lengths


# --- what it holds ----------------------------------------------------------------------------------------


def test_rows_are_the_splits_rows_in_order_with_all_columns(tmp_path: Path) -> None:
    splits = write_corpus(tmp_path)
    directory = build(tmp_path)
    loaded = datasets.load_from_disk(str(directory))
    assert isinstance(loaded, datasets.DatasetDict)
    assert list(loaded) == list(SPLITS)
    for split, rows in splits.items():
        cached = loaded[split]
        assert cached.column_names == [
            *("id", "audio_path", "video_id", "transcript", "translation", "topic"),
            *("audio_digest", "duration_s", "features", "num_frames", "pad_value"),
        ]
        texts = [{key: value for key, value in row.items() if key != "duration"} for row in rows]
        assert [{key: row[key] for key in texts[0]} for row in cached] == texts
        assert cached["duration_s"][:] == pytest.approx([float(row["duration"]) for row in rows], abs=1e-6)
        assert cached.features["num_frames"].dtype == "int32"
        assert cached.features["pad_value"].dtype == "float32"
        assert cached.features["features"].dtype == "binary"


def test_padded_rows_equal_the_extractors_window(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    write_clip(tmp_path / "clips/v0/00.wav", 1.3, seed=9, sample_rate_hz=22_050)
    build(tmp_path)
    rows = list(open_cache(tmp_path)["train"])
    batch = pad_log_mel(
        [features_of(row, LOG_MEL_80) for row in rows], [row["pad_value"] for row in rows], 3000
    )
    waveforms = [load_waveform(tmp_path / row["audio_path"]) for row in rows]
    expected = WhisperFeatureExtractor()(waveforms, sampling_rate=16_000, return_tensors="np").input_features
    np.testing.assert_allclose(batch, expected, atol=2**-11 + 2e-6, rtol=0)
    assert [row["num_frames"] for row in rows] == [len(features_of(row, LOG_MEL_80)) for row in rows]


def test_waveforms_are_cached_normalized(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    build(tmp_path, WAVEFORM_16K)
    row = open_cache(tmp_path, WAVEFORM_16K)["dev"][0]
    values = features_of(row, WAVEFORM_16K)
    assert values.dtype == np.float16
    assert values.shape == (row["num_frames"],) == (round(row["duration_s"] * 16_000),)
    assert float(values.astype(np.float32).std()) == pytest.approx(1.0, abs=1e-3)
    assert row["pad_value"] == 0


@pytest.mark.parametrize(
    "kind", [LOG_MEL_80, LOG_MEL_128, LOG_MEL_80_NANO, WAVEFORM_16K], ids=lambda k: k.name
)
def test_the_forecast_is_close_to_the_real_size(tmp_path: Path, kind: InputKind) -> None:
    write_corpus(tmp_path)
    directory = build(tmp_path, kind)
    plan = plan_of(tmp_path, kind)
    card = json.loads((directory / feature_card.CARD_FILE_NAME).read_text(encoding="utf-8"))
    overhead = 4_000 * len(plan.shards)  # Arrow's schema and padding: much only for shards as tiny as these
    assert 0 < card["num_bytes"] - plan.forecast_bytes(plan.shards) < overhead


def test_the_card_says_what_made_it(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    directory = build(tmp_path)
    card = json.loads((directory / feature_card.CARD_FILE_NAME).read_text(encoding="utf-8"))
    assert directory.name == f"log_mel-80-{card['key']}"
    assert card["input_kind"]["hop_length_samples"] == 160
    assert card["num_utterances"] == {"train": 8, "dev": 2, "test": 2}
    assert card["split_hash"].startswith("sha256:")
    assert {"torch", "soxr", "datasets"} <= set(card["packages"])
    assert str(tmp_path) not in json.dumps(card)


def test_columns_that_bear_the_caches_own_names_are_kept_under_another(tmp_path: Path) -> None:
    splits = write_corpus(tmp_path)
    for row in (row for rows in splits.values() for row in rows):
        row["features"], row["pad_value"] = "nice", "0"
    write_splits(tmp_path / "splits", splits)
    build(tmp_path)
    row = open_cache(tmp_path)["train"][0]
    assert row["manifest_features"] == "nice"
    assert isinstance(row["features"], bytes)


def test_audio_that_the_manifest_truncates_is_cut(tmp_path: Path) -> None:
    splits = write_corpus(tmp_path)
    for row in (row for rows in splits.values() for row in rows):
        row["truncated_to_s"] = "0.25" if row["id"] == "u00" else ""
    write_splits(tmp_path / "splits", splits)
    build(tmp_path, WAVEFORM_16K)
    rows = {row["id"]: row for row in open_cache(tmp_path, WAVEFORM_16K)["train"]}
    assert (rows["u00"]["duration_s"], rows["u00"]["num_frames"]) == (0.25, 4_000)
    assert rows["u01"]["num_frames"] > 4_000


def test_audio_behind_the_models_window_is_left_out_and_its_length_kept(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    write_clip(tmp_path / "clips/v0/00.wav", 5.0, seed=1)
    build(tmp_path, LOG_MEL_80_NANO)
    row = open_cache(tmp_path, LOG_MEL_80_NANO)["train"][0]
    assert (row["duration_s"], row["num_frames"]) == (5.0, 200)


# --- building ---------------------------------------------------------------------------------------------


def test_processes_and_order_of_work_leave_the_bytes_alone(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    alone = build(tmp_path)
    together = build(tmp_path, features="features2", num_proc=3)
    assert contents(together) == contents(alone)
    assert len(list(alone.glob("train/*.arrow"))) > 1


@pytest.mark.parametrize("num_proc", [1, 2])
def test_several_kinds_are_made_of_one_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_proc: int
) -> None:
    write_corpus(tmp_path)
    kinds = [LOG_MEL_80, LOG_MEL_80_NANO, WAVEFORM_16K]
    alone = [contents(build(tmp_path, kind)) for kind in kinds]
    decoded = tmp_path / "decoded"
    load = feature_shards.load_waveform

    def noting(path: Path, piece: None) -> np.ndarray:
        with decoded.open("a", encoding="utf-8") as file:
            file.write(f"{path.name}\n")
        return load(path, piece)

    monkeypatch.setattr(feature_shards, "load_waveform", noting)
    together = feature_cache.build_feature_caches(
        *(tmp_path / "splits", tmp_path / "features2", kinds),
        audio_root=tmp_path,
        num_proc=num_proc,
        progress=False,
    )
    assert [contents(directory) for directory in together] == alone
    names = decoded.read_text(encoding="utf-8").split()
    assert len(names) == len(set(names)) == 12


@pytest.mark.slow
def test_processes_may_be_spawned_as_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpus(tmp_path)
    alone = build(tmp_path)
    monkeypatch.setattr(shard_processes, "START_METHOD", "spawn")
    spawned = build(tmp_path, features="features2", num_proc=2)
    # Batches of two rows are this process's patch; spawned ones write the same rows in their own batches.
    for split in SPLITS:
        ours, theirs = datasets.load_from_disk(str(alone)), datasets.load_from_disk(str(spawned))
        assert theirs[split].to_list() == ours[split].to_list()


def test_building_twice_does_nothing_twice(tmp_path: Path, computed: list[int]) -> None:
    write_corpus(tmp_path)
    directory = build(tmp_path)
    assert len(computed) == 12
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "features").rglob("*")}
    assert build(tmp_path) == directory
    assert len(computed) == 12
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "features").rglob("*")} == before


@pytest.mark.parametrize("damage", ["missing", "cut off", "empty", "rubbish"])
def test_only_a_damaged_shard_is_built_again(tmp_path: Path, computed: list[int], damage: str) -> None:
    write_corpus(tmp_path)
    directory = build(tmp_path)
    expected = contents(directory)
    shard = next(directory.glob("train/data-00001-*.arrow"))
    num_rows = shard_files.shard_num_rows(shard)
    content = shard.read_bytes()
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes({"cut off": content[:-300], "empty": b"", "rubbish": b"rubbish " * 99}[damage])
        (directory / feature_card.COMPLETE_MARK).unlink()
    computed.clear()
    build(tmp_path)
    assert len(computed) == num_rows
    assert contents(directory) == expected


def test_a_shard_that_was_cut_off_later_is_named_and_the_same_command_mends_it(
    tmp_path: Path, computed: list[int]
) -> None:
    write_corpus(tmp_path)
    directory = build(tmp_path)
    expected = contents(directory)
    shard = next(directory.glob("train/data-00001-*.arrow"))
    num_rows = shard_files.shard_num_rows(shard)
    shard.write_bytes(shard.read_bytes()[:-300])
    with pytest.raises(FeatureCacheError, match=r"build_features\.py --kinds log_mel-80") as refused:
        open_cache(tmp_path)
    assert refused.value.where == str(shard)
    computed.clear()
    build(tmp_path)
    assert len(computed) == num_rows
    assert contents(directory) == expected


def flip_a_bit(shard: Path, of: str) -> None:
    with pyarrow.memory_map(str(shard)) as file, pyarrow.ipc.open_stream(file) as stream:
        batch = stream.read_next_batch()
        buffer = batch.column({"texts": "transcript"}.get(of, "features")).buffers()[
            1 if of == "lengths" else 2
        ]
        place = shard.read_bytes().index(buffer.to_pybytes()) + 5
    content = bytearray(shard.read_bytes())
    content[place] ^= 1
    shard.write_bytes(content)


@pytest.mark.parametrize("of", ["features", "texts", "lengths"])
def test_a_flipped_bit_is_found_when_asked_for_and_only_its_shard_is_built_again(
    tmp_path: Path, computed: list[int], of: str
) -> None:
    write_corpus(tmp_path)
    directory = build(tmp_path)
    expected = contents(directory)
    shard = next(directory.glob("train/data-00001-*.arrow"))
    flip_a_bit(shard, of)
    assert len(open_cache(tmp_path)["train"]) > 0, "nobody notices"
    computed.clear()
    build(tmp_path)
    assert computed == []
    build(tmp_path, verify=True)
    assert len(computed) == shard_files.shard_num_rows(shard)
    assert contents(directory) == expected
    computed.clear()
    build(tmp_path, verify=True)
    assert computed == [], "what is sound stays"


def test_a_shard_without_checksums_is_older_than_they_are(
    tmp_path: Path, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path)
    write_batch = RecordBatchStreamWriter.write_batch
    monkeypatch.setattr(
        RecordBatchStreamWriter, "write_batch", lambda self, batch, **_: write_batch(self, batch)
    )
    directory = build(tmp_path)
    schema = shard_files.cache_features(plan_of(tmp_path).cached_columns).arrow_schema
    assert {shard_files.is_as_written(path, schema) for path in directory.glob("*/*.arrow")} == {None}
    computed.clear()
    build(tmp_path, verify=True)
    assert computed == []


@pytest.mark.parametrize("name", [feature_card.COMPLETE_MARK, feature_card.CARD_FILE_NAME, "dev/state.json"])
def test_a_file_beside_the_shards_that_a_power_cut_emptied_is_written_again_by_the_same_command(
    tmp_path: Path, computed: list[int], name: str
) -> None:
    write_corpus(tmp_path)
    directory = build(tmp_path)
    whole, num_computed = contents(directory), len(computed)
    (directory / name).write_bytes(b"")
    assert "unfinished build" in found_instead(tmp_path).found
    build(tmp_path)
    assert contents(directory) == whole
    assert len(computed) == num_computed, "no features are computed again"


def test_a_damaged_cache_of_other_splits_is_not_copied_from(
    tmp_path: Path, computed: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    splits = write_corpus(tmp_path)
    shard = next(build(tmp_path).glob("train/data-00001-*.arrow"))
    shard.write_bytes(shard.read_bytes()[:-300])
    computed.clear()
    splits["train"][0]["transcript"] = "Sửa lại rồi"
    write_splits(tmp_path / "splits", splits)
    build(tmp_path)
    assert len(computed) == 12
    assert "is damaged, and nothing is copied from it" in caplog.text


@pytest.mark.parametrize("num_proc", [1, 2])
def test_values_that_a_disk_has_changed_are_not_copied_into_another_cache(
    tmp_path: Path, computed: list[int], caplog: pytest.LogCaptureFixture, num_proc: int
) -> None:
    """They would get a checksum there that says they are right."""
    splits = write_corpus(tmp_path)
    shard = next(build(tmp_path).glob("train/data-00001-*.arrow"))
    flip_a_bit(shard, "features")
    computed.clear()
    splits["train"][0]["transcript"] = "Sửa lại rồi"
    write_splits(tmp_path / "splits", splits)
    directory = build(tmp_path, num_proc=num_proc)
    if num_proc == 1:
        assert len(computed) == shard_files.shard_num_rows(shard)
        assert str(shard) in caplog.text
    assert contents(directory) == contents(build(tmp_path, features="elsewhere"))


def test_what_an_interrupted_build_left_lying_is_removed(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    directory = build(tmp_path)
    expected = contents(directory)
    (directory / feature_card.COMPLETE_MARK).unlink()
    for place in (directory / "train", directory):
        (place / ".tmp-data-00000-of-00003.arrow-123").mkdir()
        (place / ".tmp-data-00000-of-00003.arrow-123" / "tmpabc").write_bytes(b"half")
        (place / ".tmp-state.json-123").write_bytes(b"{")
    (directory / "train" / "data-00000-of-00099.arrow").write_bytes(b"of a plan with other shards")
    build(tmp_path)
    assert contents(directory) == expected


def test_edited_texts_and_new_videos_reuse_what_is_computed(
    tmp_path: Path, computed: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    splits = write_corpus(tmp_path)
    first = build(tmp_path)
    computed.clear()
    splits["train"][0]["transcript"] = "Sửa lại rồi"
    duration_s = write_clip(tmp_path / "clips/new/99.wav", 0.5, seed=99)
    new = {**splits["train"][0], "id": "u99", "audio_path": "clips/new/99.wav", "duration": str(duration_s)}
    splits["train"].insert(1, new)
    write_splits(tmp_path / "splits", splits)
    second = build(tmp_path)
    assert second != first
    assert first.is_dir()
    assert len(computed) == 1
    assert "12 utterances are copied from another cache" in caplog.text
    assert contents(second) == contents(
        build_feature_cache(
            tmp_path / "splits",
            tmp_path / "fresh",
            LOG_MEL_80,
            audio_root=tmp_path,
            progress=False,
            num_proc=1,
        )
    )
    assert open_cache(tmp_path)["train"][0]["transcript"] == "Sửa lại rồi"


def test_caches_of_other_settings_are_not_reused(
    tmp_path: Path, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path)
    build(tmp_path)
    monkeypatch.setattr(feature_plan, "FEATURE_CODE_VERSION", 99)
    monkeypatch.setattr(feature_card, "FEATURE_CODE_VERSION", 99)
    build(tmp_path)
    build(tmp_path, LOG_MEL_128)
    assert len(computed) == 36


def test_a_disk_that_is_too_small_is_noticed_before_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path)
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 10_000))
    with pytest.raises(FeatureCacheError, match=r"10\.0 kB free"):
        build(tmp_path)
    assert not list((tmp_path / "features").glob("log_mel*"))


def test_preprocessings_measurements_are_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = write_corpus(tmp_path)
    paths = [row["audio_path"] for rows in splits.values() for row in rows]
    list(AudioFactsFile(tmp_path / "facts.tsv").measure_all(tmp_path, paths))
    monkeypatch.delattr(audio_facts, "measure_audio")
    monkeypatch.delattr(audio_facts, "hash_file")
    build_feature_cache(
        *(tmp_path / "splits", tmp_path / "features", LOG_MEL_80),
        audio_root=tmp_path,
        num_proc=1,
        measured=tmp_path / "facts.tsv",
        progress=False,
    )
    open_cache(tmp_path)


# --- unusable audio ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("audio_path", "content", "code"),
    [
        ("clips/gone.wav", None, "audio_missing"),
        ("clips/text.wav", b"not audio at all", "audio_unreadable"),
        ("../outside.wav", None, "path_outside_root"),
        ("/etc/passwd", None, "path_absolute"),
    ],
)
def test_unusable_audio_is_named_with_its_reason(
    tmp_path: Path, audio_path: str, content: bytes | None, code: str
) -> None:
    splits = write_corpus(tmp_path)
    splits["train"][2]["audio_path"] = audio_path
    write_splits(tmp_path / "splits", splits)
    if content:
        (tmp_path / audio_path).write_bytes(content)
    with pytest.raises(FeatureCacheError) as caught:
        build(tmp_path)
    assert f"{audio_path}: {code}" in caught.value.found
    assert "1 of 12 audio files" in caught.value.where


@pytest.mark.parametrize("num_proc", [1, 2])
def test_audio_that_changes_while_features_are_built_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_proc: int
) -> None:
    write_corpus(tmp_path)
    make_jobs = shard_processes.make_jobs

    def changing(*arguments: Any, **options: Any) -> Any:
        write_clip(tmp_path / "clips/v0/01.wav", 0.9, seed=5)
        return make_jobs(*arguments, **options)

    monkeypatch.setattr(shard_processes, "make_jobs", changing)
    with pytest.raises(FeatureCacheError, match="another size"):
        build(tmp_path, num_proc=num_proc)
    with pytest.raises(FeatureCacheError):
        open_cache(tmp_path)


def test_a_place_where_no_folder_can_be_is_told(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    (tmp_path / "features").write_text("a file")
    with pytest.raises(FeatureCacheError, match=r"set paths\.features_dir") as refused:
        build(tmp_path)
    assert refused.value.where == str(tmp_path / "features")


@needs_limits
@pytest.mark.parametrize("num_proc", [1, 2])
def test_a_disk_that_fills_up_meanwhile_is_said_and_the_build_continues(
    tmp_path: Path, num_proc: int
) -> None:
    """Written by others, or by a quota: a limit of this process's files stands for it."""
    write_corpus(tmp_path)
    with only_files_up_to(20_000), pytest.raises(FeatureCacheError, match="keeps room"):
        build(tmp_path, num_proc=num_proc)
    build(tmp_path, num_proc=num_proc)
    assert len(open_cache(tmp_path)["train"]) > 0


# --- opening ----------------------------------------------------------------------------------------------


def found_instead(root: Path, kind: InputKind = LOG_MEL_80, **options: Any) -> FeatureCacheError:
    with pytest.raises(FeatureCacheError) as caught:
        open_cache(root, kind, **options)
    return caught.value


def test_without_a_cache_the_command_that_builds_it_is_named(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    error = found_instead(tmp_path)
    assert error.found == "none of this kind"
    assert error.do == "python scripts/build_features.py --kinds log_mel-80"
    build(tmp_path, LOG_MEL_128)
    assert found_instead(tmp_path).found == "none of this kind, only " + open_name(tmp_path, LOG_MEL_128)


def open_name(root: Path, kind: InputKind) -> str:
    return plan_of(root, kind).directory_name


def test_a_caller_may_name_its_own_command(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    with pytest.raises(FeatureCacheError, match="--config mine"):
        open_feature_cache(
            *(tmp_path / "splits", tmp_path / "features", LOG_MEL_80),
            audio_root=tmp_path,
            build_command="python scripts/build_features.py --config mine.yaml",
        )


def test_what_differs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = write_corpus(tmp_path)
    directory = build(tmp_path)
    same_name = InputKind("log_mel-80", "log_mel", 30.0, 80, 400, 200)
    assert "other settings" in found_instead(tmp_path, same_name).found
    monkeypatch.setattr(feature_plan, "FEATURE_CODE_VERSION", 99)
    monkeypatch.setattr(feature_card, "FEATURE_CODE_VERSION", 99)
    assert f"version {FEATURE_CODE_VERSION}, instead of" in found_instead(tmp_path).found
    monkeypatch.undo()
    monkeypatch.setattr(feature_plan, "MIN_SHARD_DURATION_S", 2.0)
    monkeypatch.setattr(feature_plan, "MIN_NUM_SHARDS", 2)

    write_clip(tmp_path / "clips/v0/00.wav", 0.4, seed=77)
    assert "other audio" in found_instead(tmp_path).found
    write_splits(tmp_path / "splits", {**splits, "train": splits["train"][1:]})
    error = found_instead(tmp_path)
    assert "splits have changed" in error.found
    assert "{'train': 8, 'dev': 2, 'test': 2}" in error.found
    assert "{'train': 7, 'dev': 2, 'test': 2}" in error.found
    write_splits(tmp_path / "splits", splits)
    write_clip(tmp_path / "clips/v0/00.wav", 0.4, seed=77)

    shutil.rmtree(directory)
    directory = build(tmp_path)
    (directory / feature_card.COMPLETE_MARK).unlink()
    next(directory.glob("train/*.arrow")).unlink()
    num_shards = len(plan_of(tmp_path).shards)
    assert f"unfinished build: {num_shards - 1} of {num_shards} shards" in found_instead(tmp_path).found


def test_without_splits_the_splits_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="split_data"):
        open_cache(tmp_path)


def test_opening_reads_no_audio_that_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpus(tmp_path)
    build(tmp_path)
    monkeypatch.delattr(audio_facts, "measure_audio")
    monkeypatch.delattr(audio_facts, "hash_file")
    monkeypatch.delattr(feature_shards, "load_waveform")
    assert open_cache(tmp_path)["train"].num_rows == 8


def test_a_cache_is_usable_where_its_audio_is_not(tmp_path: Path) -> None:
    write_corpus(tmp_path / "here")
    build(tmp_path / "here")
    for part in ("splits", "features"):
        shutil.copytree(tmp_path / "here" / part, tmp_path / "cluster" / part)
    assert open_cache(tmp_path / "cluster")["test"].num_rows == 2


def test_a_folder_that_cannot_be_written_can_be_read(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    build(tmp_path)
    for path in (tmp_path / "clips").rglob("*.wav"):
        os.utime(path)  # so that there is something new to remember
    folder = tmp_path / "features"
    folder.chmod(0o555)
    try:
        assert open_cache(tmp_path)["test"].num_rows == 2
    finally:
        folder.chmod(0o755)


# --- the key ----------------------------------------------------------------------------------------------


def plan_of(root: Path, kind: InputKind = LOG_MEL_80) -> feature_plan.CachePlan:
    facts_file = AudioFactsFile(root / "facts.tsv")
    return feature_plan.make_plan(
        root / "splits", kind, audio_root=root, facts_file=facts_file, progress=False
    )


def key_of(root: Path, kind: InputKind = LOG_MEL_80) -> str:
    return plan_of(root, kind).key


Rows = dict[str, list[dict[str, str]]]


def _edit_text(rows: Rows, column: str, number: int) -> None:
    rows["train"][number][column] += "!"


CONTENT_EDITS: dict[str, Callable[[Rows, int], object]] = {
    "transcript": lambda rows, number: _edit_text(rows, "transcript", number),
    "translation": lambda rows, number: _edit_text(rows, "translation", number),
    "carried column": lambda rows, number: _edit_text(rows, "topic", number),
    "id": lambda rows, number: _edit_text(rows, "id", number),
    "video": lambda rows, number: _edit_text(rows, "video_id", number),
    "row left out": lambda rows, number: rows["train"].pop(number),
    "rows exchanged": lambda rows, number: rows["train"].append(rows["train"].pop(number)),
    "row moved to dev": lambda rows, number: rows["dev"].append(rows["train"].pop(number)),
    "other clip": lambda rows, number: rows["train"][number].update(audio_path="clips/v1/05.wav"),
    "words moved to the next column": lambda rows, number: rows["train"][number].update(
        transcript="Deploy", translation="cái app " + rows["train"][number]["translation"]
    ),
    "truncated": lambda rows, number: rows["train"][number].update(truncated_to_s="0.1"),
    "new column": lambda rows, number: [row.update(accent="north") for rows in rows.values() for row in rows],
}


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_key_changes_with_every_edit_of_content(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    root = tmp_path_factory.mktemp("key", numbered=True)
    rows = write_corpus(root, num_clips=6)
    before = key_of(root)
    edited = copy.deepcopy(rows)
    number = data.draw(st.integers(0, len(rows["train"]) - 2), label="row")
    edit = data.draw(st.sampled_from(sorted(CONTENT_EDITS)), label="edit")
    CONTENT_EDITS[edit](edited, number)
    columns = dict.fromkeys(column for row in edited["train"] for column in row)
    write_splits(
        root / "splits",
        {split: [dict.fromkeys(columns, "") | row for row in part] for split, part in edited.items()},
    )
    assert key_of(root) != before
    write_splits(root / "splits", rows)
    assert key_of(root) == before


def test_the_key_changes_with_the_audios_content_and_not_with_its_files(tmp_path: Path) -> None:
    write_corpus(tmp_path, num_clips=6)
    before = key_of(tmp_path)
    for path in (tmp_path / "clips").rglob("*.wav"):
        os.utime(path)
    (tmp_path / "clips" / "unrelated.txt").write_text("hello", encoding="utf-8")
    assert key_of(tmp_path) == before
    shutil.copytree(tmp_path, tmp_path.with_name(tmp_path.name + "-copy"))
    assert key_of(tmp_path.with_name(tmp_path.name + "-copy")) == before
    clip = tmp_path / "clips/v0/01.wav"
    content = bytearray(clip.read_bytes())
    content[-1] ^= 1  # one bit, same size
    clip.write_bytes(content)
    assert key_of(tmp_path) != before


def test_the_key_does_not_change_with_a_duration_that_is_not_cached(tmp_path: Path) -> None:
    rows = write_corpus(tmp_path, num_clips=6)
    before = key_of(tmp_path)
    rows["train"][0]["duration"] = "0.1"
    write_splits(tmp_path / "splits", rows)
    assert key_of(tmp_path) == before


def test_the_key_changes_with_the_settings_and_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path, num_clips=6)
    kinds = [LOG_MEL_80, LOG_MEL_128, LOG_MEL_80_NANO, WAVEFORM_16K, log_mel_kind(80, 320, 5)]
    keys = {key_of(tmp_path, kind) for kind in kinds}
    monkeypatch.setattr(feature_plan, "FEATURE_CODE_VERSION", 99)
    keys |= {key_of(tmp_path, kind) for kind in kinds}
    assert len(keys) == 10
