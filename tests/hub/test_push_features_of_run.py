"""A push of a run's features sends what is there, or says which command makes it; it changes no data."""

import json
import shlex
from pathlib import Path

import pytest

from tests.data.tiny_splits import write_corpus
from vietst.config import load_config
from vietst.data.feature_cache import build_feature_cache
from vietst.data.feature_card import read_cards
from vietst.data.features import LOG_MEL_80_NANO
from vietst.errors import FeatureCacheError
from vietst.hub.by_hand import push_features_of_run


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of `nano_whisper` beside its splits and features; there is no manifest any more."""
    write_corpus(tmp_path)
    build_feature_cache(
        tmp_path / "splits",
        tmp_path / "features",
        LOG_MEL_80_NANO,
        audio_root=tmp_path,
        num_proc=1,
        progress=False,
    )
    paths = {
        "data_root": "",
        "manifest_path": "manifest.tsv",
        "clean_manifest_path": "manifest_clean.tsv",
        "splits_dir": "splits",
        "features_dir": "features",
        "takedown_path": "takedown.txt",
    }
    overrides = [f"paths.{key}={(tmp_path / place).as_posix()}" for key, place in paths.items()]
    folder = tmp_path / "a run"
    folder.mkdir()
    described = load_config("nano_whisper", overrides).describe()
    (folder / "resolved_config.yaml").write_text(described, encoding="utf-8")
    return folder


def refused_push(run_dir: Path) -> FeatureCacheError:
    """Why a push does not succeed; the last of the reasons is that tests are offline. Nothing is written."""
    before = {path: path.stat().st_mtime_ns for path in run_dir.parent.rglob("*")}
    with pytest.raises(FeatureCacheError) as refused:
        push_features_of_run(run_dir, "tester/features", [], public=False)
    assert {path: path.stat().st_mtime_ns for path in run_dir.parent.rglob("*")} == before
    return refused.value


def test_features_that_are_there_get_as_far_as_the_hub(run_dir: Path) -> None:
    assert refused_push(run_dir).where == "--push_to_hub tester/features"


def test_features_of_other_splits_are_not_built_by_a_push(run_dir: Path) -> None:
    splits = run_dir.parent / "splits" / "train.csv"
    splits.write_text(splits.read_text(encoding="utf-8").replace("gấp", "gấp lắm"), encoding="utf-8")
    refused = refused_push(run_dir)
    assert "the splits have changed" in refused.found
    config = str(run_dir / "resolved_config.yaml")
    assert shlex.split(refused.do) == ["python", "scripts/build_features.py", "--config", config]


def test_features_of_splits_that_were_made_anew_since_the_run_are_not_those_it_was_trained_on(
    run_dir: Path,
) -> None:
    (card,) = read_cards(run_dir.parent / "features", LOG_MEL_80_NANO).values()
    current = card["split_hash"]
    facts = run_dir / "run_facts.json"
    facts.write_text(json.dumps({"split_hash": current}), encoding="utf-8")
    assert refused_push(run_dir).where == "--push_to_hub tester/features"
    facts.write_text(json.dumps({"split_hash": "xxh3:0123"}), encoding="utf-8")
    refused = refused_push(run_dir)
    assert "xxh3:0123" in refused.rule
    assert current in refused.found


def test_features_of_what_was_taken_down_are_not_pushed(run_dir: Path) -> None:
    (run_dir.parent / "takedown.txt").write_text("v1\n", encoding="utf-8")
    refused = refused_push(run_dir)
    assert "1 utterances in train" in refused.found
    assert "takedown.txt names" in refused.rule
    assert shlex.split(refused.do)[1] == "scripts/take_down.py"
