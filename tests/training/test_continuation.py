"""What is said when a run goes on that is not what it was: processes, data, schedule, optimizer, model."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_runs import history
from vietst.errors import CheckpointError
from vietst.training.checkpoints import LATEST, RECORD_FILE, read_record
from vietst.training.continuation import check_continuation
from vietst.training.runner import run_training

OPTIONS = (
    "training.max_steps=4",
    "training.save_steps=2",
    "training.eval_strategy=no",
    "training.load_best_model_at_end=false",
    "training.learning_rate=1e-3",
)


@pytest.fixture(scope="module")
def checkpoint(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`checkpoint-2` of a run of 4 steps."""
    from tests.tiny_runs import tiny_run_overrides
    from vietst.config import load_config

    folder = tmp_path_factory.mktemp("before")
    overrides = [*tiny_run_overrides(tiny_corpus, folder), *OPTIONS]
    return run_training(load_config("nano_whisper", overrides)) / "checkpoint-2"


@pytest.fixture
def record(checkpoint: Path) -> dict[str, Any]:
    """Of the same run once more."""
    found = read_record(checkpoint)
    assert found is not None
    return copy.deepcopy(found)


def test_nothing_is_said_where_nothing_differs(checkpoint, record):
    record["config"]["output"]["dir"] = "outputs/elsewhere"
    record["config"]["dataloader"]["num_workers"] = 7
    record["config"]["training"]["logging_steps"] = 3
    assert check_continuation(checkpoint, record) == []


@pytest.mark.parametrize(
    ("section", "key", "value", "effect"),
    [
        ("training", "seed", 7, "another order"),
        ("training", "batch_size", 2, "another order"),
        ("model", "task", "transcribe", "another order"),
        (None, "split_hash", "other", "another order"),
        ("training", "max_steps", 9, "new schedule"),
        ("training", "learning_rate", 0.5, "without effect"),
        ("training", "weight_decay", 0.5, "without effect"),
        ("model", "name", "outputs/other", "without effect"),
        ("augmentation", "mask_time_prob", 0.3, "others than in the run before"),
        ("loss", "label_smoothing", 0.3, "others than in the run before"),
        ("training", "compile", True, "others than in the run before"),
        ("training", "metric_for_best_model", "eval_loss", "compared by it"),
        ("evaluation", "num_beams", 3, "scored otherwise"),
    ],
)
def test_what_differs_is_named_with_both_values_and_what_comes_of_it(
    checkpoint, record, section, key, value, effect
):
    entries = record["config"][section] if section else record
    before, entries[key] = entries[key], value
    (line,) = check_continuation(checkpoint, record)
    name = f"{section}.{key}" if section else key
    assert line.startswith(f"{name}: {before} → {value} (")
    assert effect in line


def test_languages_of_sources_are_told_as_such_and_not_where_an_older_record_knows_none(
    checkpoint, record, tmp_path
):
    source = {"manifest": "own.tsv", "weight": 1.0}
    config = record["config"]
    older = {**config, "data": {**config["data"], "sources": {"own": source}}}
    before = with_other_record(checkpoint, tmp_path, config=older)
    config["data"]["sources"] = {"own": {**source, "language": None}}
    assert check_continuation(before, record) == []
    config["data"]["sources"] = {"own": {**source, "language": "en"}}
    (line,) = check_continuation(before, record)
    assert line.startswith("data.sources: languages: {'own': None} → {'own': 'en'} (")
    assert "others than in the run before" in line
    config["data"]["sources"] = {"own": {**source, "weight": 2.0, "language": None}}
    (line,) = check_continuation(before, record)
    assert "another order" in line


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model", "finetune", "lora"),
        ("model", "freeze_encoder", True),
        ("training", "optim", "adafactor"),
        (None, "num_parameters", 1),
    ],
)
def test_another_model_or_optimizer_is_refused_with_what_can_be_done(checkpoint, record, section, key, value):
    (record["config"][section] if section else record)[key] = value
    with pytest.raises(CheckpointError, match=key) as refused:
        check_continuation(checkpoint, record)
    assert f"model.name={checkpoint}" in refused.value.do


def test_other_numbers_of_processes_are_named_where_every_process_has_all(checkpoint, record):
    record["num_processes"] = 2
    (line,) = check_continuation(checkpoint, record)
    assert line.startswith("processes: 1 → 2 (")


def with_other_record(checkpoint: Path, folder: Path, **entries: Any) -> Path:
    copied = folder / checkpoint.name
    shutil.copytree(checkpoint, copied)
    record = json.loads((copied / RECORD_FILE).read_text(encoding="utf-8")) | entries
    (copied / RECORD_FILE).write_text(json.dumps(record), encoding="utf-8")
    return copied


def test_zero_goes_on_with_other_numbers_of_processes_and_says_so(checkpoint, record, tmp_path):
    zero = with_other_record(checkpoint, tmp_path, parallelism="zero-2", num_processes=8)
    now = {**record, "parallelism": "zero-2", "num_processes": 8}
    assert check_continuation(zero, now) == []
    (line,) = check_continuation(zero, {**now, "num_processes": 4})
    assert line.startswith("processes: 8 → 4 (")
    assert "shared out anew" in line


def test_zero_with_another_optimizer_goes_on_with_as_many_processes_only(checkpoint, record, tmp_path):
    record["config"]["training"]["optim"] = "adafactor"
    zero = with_other_record(
        checkpoint, tmp_path, parallelism="zero-2", num_processes=8, config=record["config"]
    )
    now = {**record, "parallelism": "zero-2", "num_processes": 8}
    assert check_continuation(zero, now) == []
    with pytest.raises(CheckpointError, match=r"8 process\(es\), zero-2 → 4 process\(es\), zero-2"):
        check_continuation(zero, {**now, "num_processes": 4})


def test_another_kind_of_launch_configuration_is_refused(checkpoint, record, tmp_path):
    zero = with_other_record(checkpoint, tmp_path, parallelism="zero-2", num_processes=2)
    with pytest.raises(CheckpointError, match="kind of launch configuration"):
        check_continuation(zero, record)


def test_a_checkpoint_of_plain_transformers_tells_by_its_files(checkpoint, record, tmp_path):
    plain = tmp_path / "run" / "checkpoint-2"
    shutil.copytree(checkpoint, plain)
    (plain / RECORD_FILE).unlink()
    assert check_continuation(plain, record) == []
    shutil.copy(checkpoint.parent / "resolved_config.yaml", plain.parent)
    record["config"]["training"]["seed"] = 7
    (line,) = check_continuation(plain, record)
    assert line.startswith("training.seed: 42 → 7")
    for rank in range(4):
        shutil.copy(plain / "rng_state.pth", plain / f"rng_state_{rank}.pth")
    assert check_continuation(plain, record)[0].startswith("processes: 4 → 1")
    (plain / "global_step2").mkdir()
    with pytest.raises(CheckpointError, match=r"4 process\(es\), zero-2 → 1 process\(es\), data"):
        check_continuation(plain, record)
    with pytest.raises(CheckpointError, match=RECORD_FILE):  # files of unknown origin are not unpickled
        check_continuation(plain, {**record, "parallelism": "zero-2"})


def test_the_effects_are_as_they_are_said_to_be(checkpoint, nano_config):
    """Of those that a user may hope for or be surprised by."""

    def go_on(name: str, *overrides: str) -> Path:
        run_dir = Path(nano_config().config.output.dir).with_name(name)
        shutil.copytree(checkpoint, run_dir / checkpoint.name)
        base = f"model.name={(checkpoint.parents[1] / 'nano').as_posix()}"
        options = (*OPTIONS, base, f"output.dir={run_dir.as_posix()}", *overrides)
        return run_training(nano_config(*options), resume=LATEST)

    same = go_on("same")
    assert history(same, "loss") == history(checkpoint.parent, "loss")
    other_rate = go_on("other_rate", "training.learning_rate=0.5", "training.weight_decay=0.5")
    assert history(other_rate, "learning_rate") == history(same, "learning_rate")
    assert (other_rate / "model.safetensors").read_bytes() == (same / "model.safetensors").read_bytes()
    longer = go_on("longer", "training.max_steps=6", "training.save_steps=3")
    assert len(history(longer, "loss")) == 6
    assert history(longer, "learning_rate")[2:4] != history(same, "learning_rate")[2:4]
    assert (longer / "checkpoint-3").is_dir(), "intervals are this configuration's"
    other_order = go_on("other_order", "training.seed=7")
    assert history(other_order, "loss")[2:] != history(same, "loss")[2:]
