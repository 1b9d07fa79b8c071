"""The encoder state cache: what it holds, what its key depends on, and builds that are cut off or shared."""

import collections
import copy
import dataclasses
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from tests.data.tiny_splits import write_corpus
from tests.patience import HANGS_AFTER_S
from tests.small_files import needs_limits, only_files_up_to
from tests.tiny_models import cached_rows
from vietst.data import encoder_state_cache
from vietst.data.encoder_state_cache import StatesPlan, build_states, describe_states_plan, plan_states
from vietst.data.encoder_states import (
    EncodedUtteranceDataset,
    FrozenEncoder,
    module_digest,
    pack_states,
    states_of,
)
from vietst.data.feature_cache import build_feature_cache, features_of
from vietst.data.features import LOG_MEL_80, LOG_MEL_80_NANO
from vietst.data.packed_clips import padded_batch
from vietst.errors import FeatureCacheError

WIDTH = 6
SMALL_SHARDS = 2000
"""Bytes: two or three of the made-up clips."""


class Killed(BaseException):
    """As SIGKILL, but for the clean-up of open files."""


def states_by_hand(row: dict[str, Any]) -> np.ndarray:
    """The encoder of these tests: [num_frames // 2, WIDTH] float32, of every second frame."""
    frames = features_of(row, LOG_MEL_80_NANO).astype(np.float32)
    return frames[: len(frames) // 2 * 2 : 2, :WIDTH] * 3.7


def make_encoder(**changes: Any) -> FrozenEncoder:
    """`changes` replace fields."""
    encoder = FrozenEncoder(
        module=torch.nn.Linear(2, 2),
        digest="weights",
        input_kind=LOG_MEL_80_NANO,
        width=WIDTH,
        num_positions=lambda num_frames: num_frames // 2,
        encode_batch=lambda rows: [states_by_hand(row) for row in rows],
    )
    return dataclasses.replace(encoder, **changes)


def make_splits(num_train: int = 9, num_dev: int = 3, **changed: Any) -> dict[str, datasets.Dataset]:
    rows = [
        {**row, "audio_digest": f"audio-{row['id']}", **changed} for row in cached_rows(num_train + num_dev)
    ]
    for row in rows:
        del row["row_index"]
    return {
        "train": datasets.Dataset.from_list(rows[:num_train]),
        "dev": datasets.Dataset.from_list(rows[num_train:]),
    }


def plan(folder: Path, splits: dict[str, datasets.Dataset], encoder: FrozenEncoder) -> StatesPlan:
    return plan_states(splits, folder, encoder, max_shard_bytes=SMALL_SHARDS)


def build(
    folder: Path, splits: dict[str, datasets.Dataset], encoder: FrozenEncoder, **options: Any
) -> dict[str, datasets.Dataset]:
    return build_states(plan(folder, splits, encoder), splits, encoder, batch_size=2, **options)


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


# --- content -----------------------------------------------------------------------------------------


def test_every_row_has_its_own_states_in_half_precision(tmp_path):
    splits = make_splits()
    states = build(tmp_path, splits, make_encoder())
    for split, rows in splits.items():
        assert len(states[split]) == len(rows)
        for row, cached in zip(rows, states[split], strict=True):
            np.testing.assert_array_equal(states_of(cached), states_by_hand(row).astype(np.float16))
            assert cached["audio_digest"] == row["audio_digest"]


def test_datasets_opens_it_and_the_card_says_what_made_it(tmp_path):
    splits, encoder = make_splits(), make_encoder()
    build(tmp_path, splits, encoder)
    planned = plan(tmp_path, splits, encoder)
    assert len(planned.shards) > 4
    opened = datasets.load_from_disk(str(planned.directory))
    assert {split: len(rows) for split, rows in opened.items()} == {"train": 9, "dev": 3}
    card = (planned.directory / encoder_state_cache.CARD_FILE_NAME).read_text(encoding="utf-8")
    assert '"encoder_digest": "weights"' in card
    written = sum(path.stat().st_size for path in planned.directory.rglob("*.arrow"))
    per_shard = 1000  # the schema, in each of these tiny files
    assert written - per_shard * len(planned.shards) < planned.num_bytes(planned.shards) < written


def test_a_row_carries_states_and_texts_but_no_features(tmp_path):
    splits = make_splits()
    dataset = EncodedUtteranceDataset(splits["dev"], build(tmp_path, splits, make_encoder())["dev"])
    row = dataset[1]
    assert row["row_index"] == 1
    assert row["transcript"] == splits["dev"][1]["transcript"]
    assert "features" not in row
    np.testing.assert_array_equal(states_of(row), states_by_hand(splits["dev"][1]).astype(np.float16))


def test_a_batch_is_padded_to_its_longest_and_says_what_is_real(tmp_path):
    splits = make_splits()
    states = build(tmp_path, splits, make_encoder())["train"]
    rows = [states[0], states[1]]
    packed = pack_states(rows, "states_mask")
    padded, mask = padded_batch({"states": packed}).values()
    lengths = [row["num_positions"] for row in rows]
    assert lengths[0] != lengths[1]
    assert padded.dtype == torch.float16
    assert padded.shape == (2, max(lengths), WIDTH)
    assert mask.sum(dim=1).tolist() == lengths
    for index, row in enumerate(rows):
        assert torch.equal(padded[index, : lengths[index]], torch.tensor(states_of(row)))
        assert not padded[index, lengths[index] :].any()


def test_states_beyond_half_precision_are_refused(tmp_path):
    encoder = make_encoder(encode_batch=lambda rows: [states_by_hand(row) * 1e6 for row in rows])
    with pytest.raises(FeatureCacheError, match="half precision can hold"):
        build(tmp_path, make_splits(), encoder)


# --- the key -----------------------------------------------------------------------------------------


def test_the_key_depends_on_all_that_decides_the_states_and_on_nothing_else(tmp_path):
    splits, encoder = make_splits(), make_encoder()
    directory = plan(tmp_path, splits, encoder).directory
    assert plan(tmp_path, make_splits(transcript="khác"), encoder).directory == directory
    others = [
        plan(tmp_path, splits, make_encoder(digest="other weights")),
        plan(tmp_path, splits, make_encoder(input_kind=LOG_MEL_80)),
        plan(tmp_path, make_splits(audio_digest="other audio"), encoder),
        plan(tmp_path, make_splits(duration_s=0.7), encoder),
        plan(tmp_path, make_splits(num_train=8), encoder),
        plan(tmp_path, {**splits, "train": splits["train"].select(range(8, -1, -1))}, encoder),
    ]
    assert len({directory, *(other.directory for other in others)}) == 1 + len(others)


def test_another_version_of_the_code_misses_the_cache(tmp_path, monkeypatch):
    splits, encoder = make_splits(), make_encoder()
    directory = plan(tmp_path, splits, encoder).directory
    for version in ("STATES_CODE_VERSION", "FEATURE_CODE_VERSION"):
        with monkeypatch.context() as context:
            context.setattr(encoder_state_cache, version, 99)
            assert plan(tmp_path, splits, encoder).directory != directory


def test_the_digest_of_a_module_knows_every_weight_buffer_and_setting():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    digest = module_digest(module, {"heads": 2})
    assert digest == module_digest(module, {"heads": 2})
    assert digest != module_digest(module, {"heads": 4})
    for name, tensor in module.state_dict().items():
        before = tensor.clone()
        with torch.no_grad():
            tensor.view(-1)[0] += 1
        assert module_digest(module, {"heads": 2}) != digest, name
        tensor.copy_(before)
    module.requires_grad_(False)
    assert module_digest(module, {"heads": 2}) == digest
    assert module_digest(module.to(torch.bfloat16), {"heads": 2}) != digest


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_that_were_rounded_have_the_digest_of_the_whole_ones_in_that_type(dtype):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    digest = module_digest(module, {}, rounded_to=dtype)
    assert module_digest(copy.deepcopy(module).to(dtype), {}, rounded_to=dtype) == digest
    assert module_digest(copy.deepcopy(module).to(dtype), {}) == digest
    module[0].weight.data[0, 0] *= 1.01
    assert module_digest(module, {}, rounded_to=dtype) != digest


def test_the_digest_of_a_module_that_fsdp_shares_out_is_that_of_the_whole(tmp_path):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    digest = module_digest(module, {})
    store = f"file://{(tmp_path / 'store').as_posix()}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        fully_shard(module, mesh=init_device_mesh("cpu", (1,)))
        assert module_digest(module, {}) == digest
    finally:
        torch.distributed.destroy_process_group()


# --- builds ------------------------------------------------------------------------------------------


def counting(
    encoder: FrozenEncoder, fail_after: int | None = None
) -> tuple[FrozenEncoder, collections.Counter[str]]:
    """The encoder, and how often it has encoded each utterance; killed after so many batches."""
    counts: collections.Counter[str] = collections.Counter()
    num_batches = 0

    def encode_batch(rows: Any) -> list[np.ndarray]:
        nonlocal num_batches
        if num_batches == fail_after:
            raise Killed
        num_batches += 1
        counts.update(row["id"] for row in rows)
        return encoder.encode_batch(rows)

    return dataclasses.replace(encoder, encode_batch=encode_batch), counts


def test_a_second_build_computes_nothing(tmp_path):
    splits = make_splits()
    build(tmp_path, splits, make_encoder())
    encoder, counts = counting(make_encoder())
    build(tmp_path, splits, encoder)
    assert not counts


@pytest.mark.parametrize("num_batches", [0, 1, 3, 5])
def test_a_build_that_was_cut_off_is_continued_and_ends_the_same(tmp_path, num_batches):
    splits = make_splits()
    build(tmp_path / "straight", splits, make_encoder())
    killed, first = counting(make_encoder(), fail_after=num_batches)
    with pytest.raises(Killed):
        build(tmp_path / "killed", splits, killed)
    directory = plan(tmp_path / "killed", splits, make_encoder()).directory
    assert not (directory / "dataset_dict.json").exists(), "nobody takes it for complete"
    encoder, second = counting(make_encoder())
    build(tmp_path / "killed", splits, encoder)
    again = {name for name in first if second[name]}
    assert len(again) <= 3, "only the shard that was being computed"
    assert set(first) | set(second) == {row["id"] for rows in splits.values() for row in rows}
    assert all_bytes(tmp_path / "killed") == all_bytes(tmp_path / "straight")


def test_a_shard_that_is_not_whole_is_computed_again_and_rubbish_is_removed(tmp_path):
    splits = make_splits()
    build(tmp_path / "straight", splits, make_encoder())
    shutil.copytree(tmp_path / "straight", tmp_path / "broken")
    planned = plan(tmp_path / "broken", splits, make_encoder())
    shard = planned.directory / planned.shards[1].path_in_cache
    shard.write_bytes(shard.read_bytes()[:300])
    (planned.directory / "dataset_dict.json").unlink()
    rubbish = shard.with_name(f".tmp-{shard.name}-123")
    rubbish.write_bytes(b"half a shard")
    an_hour_ago = time.time() - 3600
    os.utime(rubbish, (an_hour_ago, an_hour_ago))
    encoder, counts = counting(make_encoder())
    build(tmp_path / "broken", splits, encoder)
    assert sum(counts.values()) == planned.shards[1].stop - planned.shards[1].start
    assert all_bytes(tmp_path / "broken") == all_bytes(tmp_path / "straight")


def test_a_flipped_bit_is_found_with_those_of_the_features_and_only_its_shard_is_computed_again(
    tmp_path: Path,
) -> None:
    write_corpus(tmp_path, num_clips=24)
    corpus = (tmp_path / "splits", tmp_path / "features", LOG_MEL_80_NANO)
    options: dict[str, Any] = {"audio_root": tmp_path, "num_proc": 1, "progress": False}
    cache = datasets.load_from_disk(str(build_feature_cache(*corpus, **options)))
    splits = {"train": cache["train"]}
    states = build(tmp_path / "features", splits, make_encoder())["train"][4]["encoder_states"]
    planned = plan(tmp_path / "features", splits, make_encoder())
    assert len(planned.shards) > 1
    written = all_bytes(planned.directory)
    (name,) = [name for name, content in written.items() if states in content]
    changed = bytearray(written[name])
    changed[written[name].index(states) + 5] ^= 1
    (planned.directory / name).write_bytes(changed)
    encoder, counts = counting(make_encoder())
    build(tmp_path / "features", splits, encoder)
    assert not counts, "nobody notices"
    build_feature_cache(*corpus, **options, verify=True)
    assert [shard.path_in_cache.as_posix() for shard in planned.missing()] == [name]
    build(tmp_path / "features", splits, encoder)
    (shard,) = [shard for shard in planned.shards if shard.path_in_cache.as_posix() == name]
    assert sum(counts.values()) == shard.stop - shard.start
    assert all_bytes(planned.directory) == written


def test_states_of_features_that_had_changed_are_deleted_with_them(tmp_path: Path) -> None:
    """Their own checksums are those of what was computed."""
    write_corpus(tmp_path)
    corpus = (tmp_path / "splits", tmp_path / "features", LOG_MEL_80_NANO)
    options: dict[str, Any] = {"audio_root": tmp_path, "num_proc": 1, "progress": False}
    directory = build_feature_cache(*corpus, **options)
    (shard,) = directory.glob("train/data-*.arrow")
    written, row = shard.read_bytes(), datasets.load_from_disk(str(directory))["train"][0]
    changed = bytearray(written)
    changed[written.index(row["features"]) + 1] ^= 1
    shard.write_bytes(changed)
    splits = {"train": datasets.load_from_disk(str(directory))["train"]}
    build(tmp_path / "features", splits, make_encoder())
    states = plan(tmp_path / "features", splits, make_encoder()).directory
    assert states.is_dir()
    build_feature_cache(*corpus, **options, verify=True)
    assert shard.read_bytes() == written
    assert not states.exists()


@pytest.mark.parametrize("name", ["dataset_dict.json", "train/state.json", "dev/dataset_info.json"])
def test_a_file_beside_the_shards_that_a_power_cut_emptied_is_written_again(tmp_path, name):
    splits = make_splits()
    build(tmp_path, splits, make_encoder())
    whole = all_bytes(tmp_path)
    (plan(tmp_path, splits, make_encoder()).directory / name).write_bytes(b"")
    encoder, counts = counting(make_encoder())
    build(tmp_path, splits, encoder)
    assert all_bytes(tmp_path) == whole
    assert not counts, "no states are computed again"


def test_processes_share_the_work_and_all_open_the_same(tmp_path):
    splits = make_splits()
    build(tmp_path / "alone", splits, make_encoder())
    barrier = threading.Barrier(3)
    opened: dict[int, list[Any]] = {}
    counts = []

    def run(rank: int) -> None:
        encoder, counted = counting(make_encoder())
        counts.append(counted)
        states = build(
            *(tmp_path / "shared", splits, encoder),
            rank=rank,
            num_processes=3,
            wait_for_all=lambda: (barrier.wait(timeout=HANGS_AFTER_S), None)[1],
        )
        opened[rank] = states["train"]["encoder_states"][:]

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(counts), "each took a part"
    assert max(sum(counts, collections.Counter()).values()) == 1
    assert opened[0] == opened[1] == opened[2]
    assert all_bytes(tmp_path / "shared") == all_bytes(tmp_path / "alone")


def test_processes_that_do_not_share_a_disk_are_told(tmp_path):
    with pytest.raises(FeatureCacheError, match="all machines share"):
        build(tmp_path, make_splits(), make_encoder(), rank=0, num_processes=2)


# --- size --------------------------------------------------------------------------------------------


def disk_with(free_bytes: float, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(Path.cwd())._replace(free=int(free_bytes))
    monkeypatch.setattr(encoder_state_cache.shutil, "disk_usage", lambda path: usage)


def test_states_that_do_not_fit_the_disk_are_refused_with_the_figures(tmp_path, monkeypatch):
    """Whisper has 1,500 positions for a clip of any length."""
    splits, encoder = make_splits(9, 3), make_encoder(width=1280, num_positions=lambda num_frames: 1500)
    disk_with(40e6, monkeypatch)
    with pytest.raises(FeatureCacheError) as excinfo:
        plan_states(splits, tmp_path, encoder)
    assert "46.1 MB, 3.8 MB for a clip" in excinfo.value.rule
    assert excinfo.value.found == "40.0 MB free"
    assert "model.cache_encoder_states=false" in excinfo.value.do
    disk_with(47e6, monkeypatch)
    assert (
        "12 utterances (train, dev), 1280 wide, at most 1500 positions each: about 46.1 MB"
        in describe_states_plan(plan_states(splits, tmp_path, encoder))
    )


@needs_limits
def test_a_disk_that_fills_up_meanwhile_is_said_and_the_build_continues(tmp_path):
    splits, encoder = make_splits(), make_encoder()
    build(tmp_path / "straight", splits, encoder)
    with only_files_up_to(1500), pytest.raises(FeatureCacheError, match="cache_encoder_states=false"):
        build(tmp_path / "filled", splits, encoder)
    assert not [path for path in (tmp_path / "filled").rglob("*") if path.is_file()], "nothing is half there"
    build(tmp_path / "filled", splits, encoder)
    assert all_bytes(tmp_path / "filled") == all_bytes(tmp_path / "straight")


def test_what_is_written_already_needs_no_room(tmp_path, monkeypatch):
    splits = make_splits()
    build(tmp_path, splits, make_encoder())
    disk_with(0, monkeypatch)
    assert not plan(tmp_path, splits, make_encoder()).missing()
    with pytest.raises(FeatureCacheError, match="free"):
        plan(tmp_path, splits, make_encoder(digest="other weights"))
