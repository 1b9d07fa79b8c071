"""A feature build that is killed anywhere continues, and ends with the bytes of an undisturbed one.

Each case forks a process that builds and sends itself SIGKILL at a chosen call of a chosen function; the
functions are wrapped here, in the test, only.
"""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
from pyarrow.ipc import RecordBatchStreamWriter
from tiny_splits import write_corpus

from tests.patience import HANGS_AFTER_S
from vietst.data import (
    audio_facts,
    feature_cache,
    feature_card,
    feature_files,
    feature_plan,
    feature_shards,
    shard_processes,
)
from vietst.data.features import LOG_MEL_80, InputKind
from vietst.errors import FeatureCacheError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks and kills processes as POSIX has it")

NUM_CLIPS = 30

# What is wrapped: owner and name of the function, and the calls at which a build (30 clips, 10 shards of some
# 3 batches) is killed. "before" the call does anything, or "after" it did.
KILL_POINTS = [
    *[(audio_facts, "measure_audio", "before", call) for call in (1, 17)],
    *[(audio_facts.AudioFactsFile, "_write_all", "after", call) for call in (1,)],
    *[(feature_shards, "extract", "before", call) for call in (1, 2, 8, 16, 30)],
    *[(RecordBatchStreamWriter, "write_batch", "before", call) for call in (2, 7)],
    *[(RecordBatchStreamWriter, "write_batch", "after", call) for call in (1, 2, 5, 9, 13)],
    *[(RecordBatchStreamWriter, "close", "before", call) for call in (1, 6)],
    *[(os, "fsync", "before", call) for call in (1, 4)],
    *[(os, "fsync", "after", call) for call in (3,)],
    *[(Path, "replace", "before", call) for call in (1, 2, 6)],
    *[(Path, "replace", "after", call) for call in (2, 3, 8)],
    *[(feature_files, "_write_json", "before", call) for call in (1, 4, 7, 8)],
    *[(feature_files, "_write_json", "after", call) for call in (1, 7)],
    *[(Path, "write_text", "after", call) for call in (1, 6, 8)],
]


def point_name(point: tuple[Any, str, str, int]) -> str:
    owner, name, moment, call = point
    return f"{moment} {owner.__name__.rpartition('.')[2]}.{name} {call}"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("killed")
    write_corpus(root, NUM_CLIPS)
    return root


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_plan, "MIN_SHARD_DURATION_S", 2.0)
    monkeypatch.setattr(feature_plan, "MIN_NUM_SHARDS", 100)
    monkeypatch.setattr(feature_shards, "_ROWS_PER_BATCH", 2)


def build(corpus: Path, features_dir: Path, num_proc: int = 1) -> Path:
    return feature_cache.build_feature_cache(
        corpus / "splits", features_dir, LOG_MEL_80, audio_root=corpus, num_proc=num_proc, progress=False
    )


def open_cache(corpus: Path, features_dir: Path) -> datasets.DatasetDict:
    return feature_cache.open_feature_cache(corpus / "splits", features_dir, LOG_MEL_80, audio_root=corpus)


def contents(features_dir: Path) -> dict[str, object]:
    """Every file and folder below by relative path; of the card, all but what is listed as time."""
    found: dict[str, object] = {}
    for path in sorted(features_dir.rglob("*")):
        name = path.relative_to(features_dir).as_posix()
        found[name] = path.read_bytes() if path.is_file() else "folder"
        if path.name == feature_card.CARD_FILE_NAME:
            card = json.loads(path.read_text(encoding="utf-8"))
            for field in feature_card.CARD_TIME_FIELDS:
                del card[field]
            found[name] = card
    return found


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    features_dir = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as monkeypatch:
        small_shards.__wrapped__(monkeypatch)
        build(corpus, features_dir)
    return contents(features_dir)


def kill_at(point: tuple[Any, str, str, int], kill: Callable[[], None]) -> None:
    """Wraps a function so that its n-th call kills."""
    owner, name, moment, fatal_call = point
    function, num_calls = getattr(owner, name), 0

    def wrapped(*arguments: Any, **options: Any) -> Any:
        nonlocal num_calls
        num_calls += 1
        if num_calls == fatal_call and moment == "before":
            kill()
        result = function(*arguments, **options)
        if num_calls == fatal_call and moment == "after":
            kill()
        return result

    setattr(owner, name, wrapped)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_parent() -> None:
    os.kill(os.getppid(), signal.SIGKILL)


def run_and_be_killed(target: Callable[[], object]) -> int | None:
    """Runs in a forked process; returns its exit code."""
    process = multiprocessing.get_context("fork").Process(target=target)
    process.start()
    process.join(HANGS_AFTER_S)
    assert not process.is_alive()
    return process.exitcode


def shards_in(features_dir: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in features_dir.glob("*/*/data-*.arrow")}


def test_there_are_enough_points_and_some_lie_inside_the_write_of_a_shard() -> None:
    assert len(KILL_POINTS) >= 20
    assert sum(owner is RecordBatchStreamWriter for owner, *_ in KILL_POINTS) >= 5


@pytest.mark.parametrize("point", KILL_POINTS, ids=point_name)
def test_a_killed_build_continues_to_the_same_bytes(
    corpus: Path, tmp_path: Path, undisturbed: dict[str, object], point: tuple[Any, str, str, int]
) -> None:
    def build_and_die() -> None:
        kill_at(point, kill_itself)
        build(corpus, tmp_path)

    assert run_and_be_killed(build_and_die) == -signal.SIGKILL
    is_finished = any(tmp_path.glob(f"*/{feature_card.COMPLETE_MARK}"))
    assert is_finished == (point_name(point) in ("after feature_files._write_json 8",))
    if not is_finished:
        with pytest.raises(FeatureCacheError):
            open_cache(corpus, tmp_path)
    if point_name(point) in (
        "after RecordBatchStreamWriter.write_batch 2",
        "after RecordBatchStreamWriter.write_batch 5",
    ):
        half_written = [path for path in tmp_path.glob("*/*/.tmp-*") if path.stat().st_size > 0]
        assert half_written
    survivors = shards_in(tmp_path)
    build(corpus, tmp_path)
    assert contents(tmp_path) == undisturbed
    assert survivors.items() <= shards_in(tmp_path).items()  # not one of them was written again
    assert open_cache(corpus, tmp_path)["train"].num_rows == 20


def test_a_build_that_is_killed_again_and_again_gets_there(
    corpus: Path, tmp_path: Path, undisturbed: dict[str, object]
) -> None:
    num_kills = 0
    for _ in range(NUM_CLIPS):

        def build_and_die() -> None:
            # A shard, of four clips at most, is in its place before the next but one is begun.
            kill_at((feature_shards, "extract", "after", 9), kill_itself)
            build(corpus, tmp_path)

        before = len(shards_in(tmp_path))
        if run_and_be_killed(build_and_die) == 0:
            break
        num_kills += 1
        assert len(shards_in(tmp_path)) >= before
    assert num_kills >= 3
    assert contents(tmp_path) == undisturbed


@pytest.mark.parametrize("call", [1, 3, 6, 9])
def test_workers_of_a_killed_build_end_and_do_no_harm(
    corpus: Path, tmp_path: Path, undisturbed: dict[str, object], call: int
) -> None:
    worker_ids = tmp_path.with_name(tmp_path.name + "-workers")
    worker_ids.mkdir()

    def build_and_die() -> None:
        start_worker = shard_processes._start_worker

        def starting(parent_pid: int, kinds: Sequence[InputKind]) -> None:
            (worker_ids / str(os.getpid())).touch()
            start_worker(parent_pid, kinds)

        shard_processes._start_worker = starting
        kill_at((feature_shards, "extract", "before", call), kill_parent)
        build(corpus, tmp_path, num_proc=2)

    assert run_and_be_killed(build_and_die) == -signal.SIGKILL
    build(corpus, tmp_path, num_proc=2)  # at once, while orphans may still be at work
    deadline = time.monotonic() + HANGS_AFTER_S
    workers = [int(path.name) for path in worker_ids.iterdir()]
    assert workers
    while any(is_running(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.1)
    assert contents(tmp_path) == undisturbed


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # gone, before or after it was opened
        return False
    return state != "Z"  # an orphan that nobody has waited for


@pytest.mark.parametrize("call", [1, 5])
def test_a_worker_that_is_killed_is_reported_and_the_build_continues(
    corpus: Path, tmp_path: Path, undisturbed: dict[str, object], call: int
) -> None:
    answer = tmp_path.with_name(tmp_path.name + "-answer")

    def build_with_dying_worker() -> None:
        kill_at((feature_shards, "extract", "before", call), kill_itself)
        try:
            build(corpus, tmp_path, num_proc=2)
        except FeatureCacheError as error:
            answer.write_text(str(error), encoding="utf-8")

    assert run_and_be_killed(build_with_dying_worker) == 0
    assert "run the same command again" in answer.read_text(encoding="utf-8")
    build(corpus, tmp_path)
    assert contents(tmp_path) == undisturbed
