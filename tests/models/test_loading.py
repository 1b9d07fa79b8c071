"""Folders that cannot be loaded: every fault is a ModelError that names it and what to do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.tiny_models import whisper_model, whisper_processor
from vietst.errors import ModelError
from vietst.models import whisper, whisper_inputs
from vietst.models.architectures import architecture_of
from vietst.models.loading import model_folder

LFS_POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 151061672\n"
"""What a git clone without LFS leaves in the place of a large file."""


@pytest.fixture(scope="module")
def sound_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    processor = whisper_processor()
    processor.save_pretrained(folder)
    whisper_model(processor).save_pretrained(folder)
    return folder


def load(folder: Path) -> None:
    whisper_inputs.load_processor(str(folder))
    whisper.load_model_config(str(folder))
    whisper.load_model(str(folder))


def leave_pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text(LFS_POINTER)


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def leave_pointer_to_bin(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_text(LFS_POINTER)


def remove_decoder(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    encoder = {name: tensor for name, tensor in weights.items() if name.startswith("model.encoder")}
    save_file(encoder, folder / "model.safetensors", metadata={"format": "pt"})


def change_width(folder: Path) -> None:
    edit_json(folder / "config.json", d_model=64)


def make_english_only(folder: Path) -> None:
    edit_json(folder / "generation_config.json", is_multilingual=False)


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "found", "do"),
    [
        (leave_pointer, "damaged model.safetensors", "git lfs pull"),
        (cut_weights, "damaged model.safetensors", "download it again"),
        (leave_pointer_to_bin, "nothing in it was executed", "model.safetensors"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights beside", "whole"),
        (remove_decoder, "without, such as model.decoder", "whole model"),
        (change_width, "other sizes than config.json", "same checkpoint"),
        (lambda folder: (folder / "config.json").write_text("{"), "not valid JSON", "download"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json", "whisper"),
        (lambda folder: edit_json(folder / "config.json", model_type="wav2vec2"), "a wav2vec2 model", ""),
        (lambda folder: (folder / "tokenizer.json").write_text(LFS_POINTER), "not valid JSON", "download"),
        (lambda folder: (folder / "generation_config.json").unlink(), "no lang_to_id", "generation_config"),
        (make_english_only, "English-only", ".en"),
    ],
)  # fmt: skip
def test_a_damaged_folder_is_named_with_its_fault(
    sound_folder: Path, tmp_path: Path, damage: Callable[[Path], object], found: str, do: str
) -> None:
    folder = Path(shutil.copytree(sound_folder, tmp_path / "copy"))
    load(folder)
    damage(folder)
    with pytest.raises(ModelError) as refused:
        load(folder)
    assert refused.value.where == f"model {folder}"
    assert found in refused.value.found
    assert do in refused.value.do


def test_a_folder_without_a_model_and_a_file_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"no config\.json that says one"):
        architecture_of(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    Path("clips/a.wav").write_bytes(b"")
    for ask in (architecture_of, model_folder):  # "clips/a.wav" might be a repository's name as well
        with pytest.raises(ModelError, match="found: a file"):
            ask("clips/a.wav")


def test_a_path_that_is_not_there_is_not_taken_for_a_hub_id(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        whisper_inputs.load_processor(str(tmp_path / "mistyped"))
