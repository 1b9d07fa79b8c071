"""Weights in `.bin` files, and models that cannot be used: what the scripts do with them."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.hub.server import TOKEN, LoopbackHub
from tests.real_shapes import TINY, TINY_ENGLISH, save_bin, write_whisper_repository
from tests.user_machine import Machine, assert_refused

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def machine(
    repo_root: Path, shared_data: Path, spoken_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A machine whose Hub holds what cannot be used, and a `.bin` repository that can."""
    folder = tmp_path_factory.mktemp("repositories")
    usable = write_whisper_repository(folder / "bin", TINY, shared_data, save_bin)
    english = write_whisper_repository(folder / "english", TINY_ENGLISH, shared_data)
    with LoopbackHub(folder / "hub") as hub:
        hub.store.publish("tester/only-bin", usable)
        hub.store.publish("tester/private", usable, "private")
        hub.store.publish("tester/gated", usable, "gated")
        hub.store.publish("tester/malicious", malicious(usable, folder))
        hub.store.publish("tester/without-vietnamese", without_vietnamese(usable, folder))
        hub.store.publish("tester/wav2vec2", wav2vec2(folder / "wav2vec2"))
        hub.store.publish(TINY_ENGLISH.repo_id, english)
        yield Machine(repo_root, spoken_corpus, folder, hub)


class MakesFolder:
    """A pickle of this object makes a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def malicious(usable: Path, folder: Path) -> Path:
    repository = Path(shutil.copytree(usable, folder / "malicious"))
    weights = torch.load(repository / "pytorch_model.bin", weights_only=True)
    torch.save(weights | {"extra": MakesFolder(folder / "executed")}, repository / "pytorch_model.bin")
    return repository


def without_vietnamese(usable: Path, folder: Path) -> Path:
    """A tokenizer that lacks the language, in all of its files."""
    repository = Path(shutil.copytree(usable, folder / "without_vietnamese"))
    names = ("tokenizer.json", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")
    for name in names:
        path = repository / name
        path.write_text(path.read_text(encoding="utf-8").replace("<|vi|>", "<|xx|>"), encoding="utf-8")
    return repository


def wav2vec2(folder: Path) -> Path:
    """As facebook/wav2vec2-large-xlsr-53: a feature extractor, no tokenizer."""
    folder.mkdir()
    extractor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": 16000,
    }
    for name, content in (
        ("config.json", {"model_type": "wav2vec2"}),
        ("preprocessor_config.json", extractor),
    ):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    torch.save({}, folder / "pytorch_model.bin")
    return folder


def test_weights_in_a_bin_file_are_loaded_and_saved_as_safetensors(machine: Machine) -> None:
    finished = machine.train("dev_whisper", "from_bin", "model.name=tester/only-bin")
    assert finished.returncode == 0, finished.stderr
    run_dir = machine.folder / "from_bin"
    base = torch.load(machine.folder / "bin" / "pytorch_model.bin", weights_only=True)
    trained = load_file(run_dir / "model.safetensors")
    assert trained.keys() == base.keys()
    for name, tensor in trained.items():  # two small steps away
        assert torch.allclose(tensor, base[name], atol=1e-3), name
    assert not list(run_dir.rglob("pytorch_model*"))
    assert not machine.network_record.exists(), "no conversion service was asked"


def test_a_bin_file_that_would_execute_code_is_refused_and_does_not(machine: Machine) -> None:
    executed = machine.folder / "executed"
    torch.load(machine.folder / "malicious" / "pytorch_model.bin", weights_only=False)
    assert executed.exists(), "the file is dangerous"
    executed.rmdir()
    finished = machine.train("dev_whisper", "malicious_run", "model.name=tester/malicious")
    assert_refused(finished, "tester/malicious", "nothing in it was executed", "model.safetensors")
    assert not executed.exists()


# --- clear errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "environment", "parts"),
    [
        ("tester/missing", {}, ("knows no such repository", "check the spelling")),
        ("tester/private", {}, ("private", "HF_TOKEN")),
        ("tester/private", {"HF_TOKEN": "hf_expired"}, ("refuses the token",)),
        ("tester/gated", {"HF_TOKEN": TOKEN}, ("gated", "ask for access")),
        ("tester/only-bin", {"HF_HUB_OFFLINE": "1", "HF_HOME": "empty"}, ("HF_HUB_OFFLINE is set",)),
        ("tester/wav2vec2", {}, ("a wav2vec2 model", "a whisper model")),
        ("openai/whisper-tiny.en", {}, ("English-only", ".en")),
        ("tester/without-vietnamese", {}, ("no <|vi|>", "model.language")),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value) if isinstance(value, dict) else "",
)
def test_a_model_that_cannot_be_used_is_a_clear_error(
    machine: Machine, tmp_path: Path, model: str, environment: dict[str, str], parts: tuple[str, ...]
) -> None:
    if "HF_HOME" in environment:
        environment = environment | {"HF_HOME": str(tmp_path / environment["HF_HOME"])}
    finished = machine.train("dev_whisper", "refused", f"model.name={model}", launched=False, **environment)
    assert_refused(finished, model, *parts)
    assert not (machine.folder / "refused" / "model.safetensors").exists()


def test_a_hub_that_does_not_answer_is_told_at_once(machine: Machine, tmp_path: Path) -> None:
    with LoopbackHub(tmp_path / "hub") as gone:
        pass
    finished = machine.train("dev_whisper", "refused", HF_ENDPOINT=gone.endpoint)
    assert_refused(finished, f"{gone.endpoint} does not answer", "HF_ENDPOINT")
    assert "Retrying" not in finished.stderr


def test_evaluation_of_a_missing_model_is_a_clear_error(machine: Machine) -> None:
    finished = machine.run("run_evaluation.py", "--model_dir", "outputs/mistyped")
    assert_refused(finished, "outputs/mistyped", "a local folder is named by its path")
