"""What is recorded about a run."""

import json
import re
from pathlib import Path

import pytest

from vietst.environment import environment_record


def test_the_environment_record_names_versions_and_hardware_but_no_person_and_no_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    record = environment_record()
    text = json.dumps(record)
    packages = record["packages"]
    assert isinstance(packages, dict)
    assert {"vietst", "torch", "transformers", "accelerate", "datasets"} <= packages.keys()
    assert record["cpu"]
    assert record["world_size"] == 1
    for private in ("hf_secret", str(Path.home()), str(Path.cwd()), __file__):
        assert private not in text


def test_the_environment_record_knows_the_commit_of_a_checkout(repo_root: Path) -> None:
    commit = environment_record()["git_commit"]
    if (repo_root / ".git").exists():
        assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", str(commit))
    else:
        assert commit is None
