"""Trainings on several sources hear each as often as its weight says; resumed and launched as well."""

import dataclasses
import json
import shlex
import shutil
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest

from tests.launches import launch
from tests.tiny_runs import history, tiny_run_overrides
from vietst.config import load_config
from vietst.data.features import LOG_MEL_80_NANO
from vietst.data.preparation import prepare_features
from vietst.data.splits import read_split
from vietst.data.tables import read_table, write_table
from vietst.errors import ConfigError
from vietst.evaluation.beside import BesideOptions
from vietst.evaluation.evaluate_model import evaluate_model
from vietst.evaluation.scoring import ScoringOptions, SplitOptions
from vietst.models.architectures import ARCHITECTURES, WHISPER
from vietst.training.checkpoints import LATEST
from vietst.training.preparation import build_command
from vietst.training.runner import run_training

BATCHES = {
    "by number": ("training.batch_size=4", "training.effective_batch=8"),
    "by seconds": (
        "training.effective_batch=null",
        "training.batch_seconds=20",
        "training.effective_batch_seconds=40",
    ),
}
WEIGHTS = {"own": 1.0, "other": 0.5}


def sources(folder: Path, weights: dict[str, float]) -> str:
    named = {
        name: {"manifest": (folder / f"{name}.tsv").as_posix(), "weight": weight}
        for name, weight in weights.items()
    }
    return f"data.sources={json.dumps(named)}"


@pytest.fixture(scope="module")
def two_sources(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two manifests of the tiny corpus' videos, with splits and features of both."""
    folder = tmp_path_factory.mktemp("sources")
    rows = read_table(tiny_corpus / "data/export/manifest.tsv")
    videos = sorted({row["video_id"] for row in rows})
    for name, of_source in (("own", videos[::2]), ("other", videos[1::2])):
        chosen = [row for row in rows if row["video_id"] in of_source]
        write_table(folder / f"{name}.tsv", chosen, list(rows[0]))
    config = load_config("nano_whisper", [*paths(tiny_corpus, folder), sources(folder, WEIGHTS)]).config
    prepare_features(config, [LOG_MEL_80_NANO], num_proc=1, progress=False)
    return folder


def paths(corpus: Path, folder: Path) -> list[str]:
    return [
        f"paths.data_root={corpus.as_posix()}",
        f"paths.clean_manifest_path={(folder / 'clean.tsv').as_posix()}",
        f"paths.splits_dir={(folder / 'splits').as_posix()}",
        f"paths.features_dir={(folder / 'features').as_posix()}",
    ]


@pytest.fixture
def overrides(tiny_corpus: Path, two_sources: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """`overrides("run", …)`: of two epochs over both sources, whose files lie in a folder of their own."""

    def of_run(name: str, *more: str) -> list[str]:
        return [
            *tiny_run_overrides(tiny_corpus, tmp_path / "base"),
            *paths(tiny_corpus, two_sources),
            "training.max_steps=-1",
            "training.num_train_epochs=2",
            "training.save_steps=1000",
            "training.save_total_limit=null",
            "training.eval_steps=1000",
            "training.load_best_model_at_end=false",
            "evaluation.max_dev_utterances=2",
            "dataloader.num_workers=0",
            f"output.dir={(tmp_path / name).as_posix()}",
            *more,
        ]

    return of_run


@pytest.mark.parametrize("batches", BATCHES)
def test_an_epoch_hears_each_source_by_its_weight_and_goes_on_where_it_was(
    two_sources: Path, tmp_path: Path, overrides, seen, batches: str
) -> None:
    options = (sources(two_sources, WEIGHTS), *BATCHES[batches], "training.save_steps=1")
    straight = run_training(load_config("nano_whisper", overrides("straight", *options)))
    facts = json.loads((straight / "run_facts.json").read_text(encoding="utf-8"))["sources"]
    source_of = [row["data_source"] for row in read_split(two_sources / "splits", "train")]
    num_of = Counter(source_of)
    expected = {"own": num_of["own"], "other": round(0.5 * num_of["other"])}
    assert {name: of_it["num_heard_in_an_epoch"] for name, of_it in facts.items()} == expected
    num_heard = sum(expected.values())
    all_batches, heard = seen.copy(), list(chain(*seen))
    assert len(heard) == 2 * num_heard
    for epoch in (heard[:num_heard], heard[num_heard:]):
        assert Counter(source_of[row] for row in epoch) == expected
        assert len(set(epoch)) == num_heard
    assert set(heard) == set(range(len(source_of))), "the other half in the second epoch"
    middle = len(history(straight, "loss")) // 2 - 1
    run_dir = tmp_path / "resumed"
    shutil.copytree(straight / f"checkpoint-{middle}", run_dir / f"checkpoint-{middle}")
    seen.clear()
    run_training(load_config("nano_whisper", overrides("resumed", *options)), resume=LATEST)
    assert seen == all_batches[-len(seen) :]
    assert history(run_dir, "loss") == history(straight, "loss")


def test_a_source_in_another_language_is_trained_and_scored_with_its_prompt(
    tiny_corpus: Path, two_sources: Path, overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {
        "own": {"manifest": (two_sources / "own.tsv").as_posix()},
        "other": {"manifest": (two_sources / "other.tsv").as_posix(), "language": "en"},
    }
    more = (*paths(tiny_corpus, tmp_path), f"data.sources={json.dumps(named)}", "training.max_steps=1")
    config = load_config("nano_whisper", overrides("run", *more, "evaluation.max_dev_utterances=null"))
    prepare_features(config.config, [LOG_MEL_80_NANO], num_proc=1, progress=False)
    asked: Counter[tuple[str, ...]] = Counter()

    def counting(model, tokenizer, states, tasks, *, language, **options):
        asked[(*tasks, language)] += len(states.last_hidden_state)
        return WHISPER.generate(model, tokenizer, states, tasks, language=language, **options)

    monkeypatch.setitem(ARCHITECTURES, "whisper", dataclasses.replace(WHISPER, generate=counting))
    run_dir = run_training(config)
    spoken = Counter(row["language"] for row in read_split(tmp_path / "splits", "dev"))
    assert _spoken(asked) == spoken + Counter({"": 1}), "dev, and the clip that the doctor compares"
    asked.clear()
    evaluate_model(
        model_dir=str(run_dir),
        model_type=None,
        task=None,
        split=SplitOptions(tmp_path / "splits" / "test.csv", tiny_corpus, 4, None, 0),
        scoring=ScoringOptions(tmp_path / "results"),
        beside=BesideOptions(),
    )
    assert _spoken(asked) == Counter(row["language"] for row in read_split(tmp_path / "splits", "test"))


def _spoken(asked: Counter[tuple[str, ...]]) -> Counter[str]:
    """How many utterances were transcribed in the language that is stated; "": in the model's."""
    transcribed: Counter[str] = Counter()
    for (*tasks, language), number in asked.items():
        if "transcribe" in tasks:
            transcribed["" if language == "vi" else language] += number
    return transcribed


def test_weights_of_one_are_the_training_without_sources(two_sources: Path, overrides, seen) -> None:
    ones = sources(two_sources, dict.fromkeys(WEIGHTS, 1.0))
    trained = []
    for name, more in (("ones", (ones,)), ("plain", ())):
        seen.clear()
        run_dir = run_training(
            load_config("nano_whisper", overrides(name, *more, *BATCHES["by number"], "training.max_steps=3"))
        )
        trained.append((seen.copy(), (run_dir / "model.safetensors").read_bytes()))
    assert trained[0] == trained[1]


def test_features_that_know_no_source_are_refused(tiny_corpus: Path, two_sources: Path, overrides) -> None:
    older = [
        f"paths.{name}_dir={(tiny_corpus / 'data' / name).as_posix()}" for name in ("splits", "features")
    ]
    loaded = load_config("nano_whisper", overrides("run", *older, sources(two_sources, WEIGHTS)))
    with pytest.raises(ConfigError) as refused:
        run_training(loaded)
    assert "no source" in refused.value.found
    assert "data.sources=" in refused.value.do


def test_a_source_that_was_added_since_the_features_were_built_is_not_silently_left_out(
    two_sources: Path, overrides
) -> None:
    loaded = load_config("nano_whisper", overrides("run", sources(two_sources, {**WEIGHTS, "third": 1.0})))
    with pytest.raises(ConfigError) as refused:
        run_training(loaded)
    assert refused.value.found == "features of other, own"
    assert "third" in refused.value.do


def test_the_command_that_builds_features_keeps_the_rows_of_a_monolingual_source(tmp_path: Path) -> None:
    for name, translation in (("own", "câu"), ("talks", "")):
        row = {"audio_path": f"{name}.wav", "transcript": "câu", "translation": translation}
        write_table(tmp_path / f"{name}.tsv", [row], list(row))

    def command(*names: str) -> list[str]:
        config = load_config("nano_whisper", [sources(tmp_path, dict.fromkeys(names, 1.0))]).config
        return shlex.split(build_command(config, LOG_MEL_80_NANO))

    assert "data.require_translation=false" in command("own", "talks")
    assert "data.require_translation=false" not in command("own")


def test_the_command_that_builds_features_cleans_and_splits_as_the_run_says() -> None:
    """Read by `base`, as build_features.py does without --config."""
    overrides = [
        "data.min_duration_s=1.25",
        "data.split_ratios=[0.6, 0.2, 0.2]",
        "data.too_long=truncate",
        "data.require_translation=false",
        "data.eval_from=verified",
        "data.num_proc=3",
        r"data.video_id_pattern='(?P<video_id>[^/#]+): \d'",
        "audio.max_length_seconds=12.5",
        "paths.splits_dir=data/an other",
    ]
    run = load_config("nano_whisper", overrides).config
    words = shlex.split(build_command(run, LOG_MEL_80_NANO))
    built = load_config("base", words[4:]).config
    assert (built.data, built.audio, built.paths) == (run.data, run.audio, run.paths)


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(two_sources: Path, tmp_path: Path, overrides, seen) -> None:
    # Batches by seconds are the same list for both, by the laws of tests/data/test_source_weights.py.
    options = (sources(two_sources, WEIGHTS), *BATCHES["by number"])
    one = run_training(load_config("nano_whisper", overrides("one", *options)))
    finished = launch("cpu_x2", "tests/training/recording_run.py", str(tmp_path), *overrides("two", *options))
    assert finished.returncode == 0, finished.stderr
    pair = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("rank-*.json"))]
    dealt = list(chain(*zip(*pair, strict=True)))
    assert len(pair) == 2
    assert [sorted(batch) for batch in dealt[:-2]] == [sorted(batch) for batch in seen[: len(dealt) - 2]]
    assert history(tmp_path / "two", "loss") == pytest.approx(history(one, "loss"), rel=1e-4)
