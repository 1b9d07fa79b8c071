"""What is recorded about a run."""

import json
import re
from pathlib import Path

import pytest
import torch

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


def test_a_gpu_whose_driver_is_too_old_is_recorded_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_old(index: int) -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old")

    # as PyTorch for CUDA 13 beside driver 550: it counts by the driver's own library
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", too_old)
    assert environment_record()["gpus"] == []
