"""Folders that cannot be loaded: every fault is a ModelError that names it and what to do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny_models import whisper_model, whisper_processor
from vietst.doctor.model import check_model
from vietst.errors import ModelError
from vietst.hub.release import require_model
from vietst.inference import SpeechTranslator
from vietst.models import e2e_inputs, whisper, whisper_inputs
from vietst.models.architectures import architecture_of
from vietst.models.loading import model_folder, model_version
from vietst.models.model_record import read_model_record
from vietst.models.text_translation import LanguagePair, TextTranslator

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


# --- adapters ----------------------------------------------------------------------------------------


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """What peft saves of a LoRA training elsewhere, without the weights."""
    from peft import LoraConfig

    LoraConfig(base_model_name_or_path="openai/whisper-small", target_modules=["q_proj"]).save_pretrained(
        tmp_path
    )
    return tmp_path


ASKED_FOR_A_MODEL: list[Callable[[str], object]] = [
    SpeechTranslator.from_pretrained,  # transcribe.py, demo.py
    read_model_record,  # run_evaluation.py
    model_version,  # audit_manifest.py --model
    lambda name: require_model(Path(name)),  # push_to_hub.py
    lambda name: list(check_model(name)),  # doctor.py
    architecture_of,
    whisper_inputs.load_processor,  # the base of a training
    e2e_inputs.load_processor,
    lambda name: TextTranslator(name, LanguagePair(), torch.device("cpu"), torch.float32),
]


@pytest.mark.parametrize("ask", ASKED_FOR_A_MODEL)
def test_an_adapter_is_told_from_a_model_wherever_one_is_named(
    adapter: Path, ask: Callable[[str], object]
) -> None:
    with pytest.raises(ModelError) as refused:
        ask(str(adapter))
    assert refused.value.where == f"model {adapter}"
    assert refused.value.found == "a LoRA adapter of openai/whisper-small, not merged into it"
    assert "merge_and_unload" in refused.value.do


def test_an_adapter_beside_a_model_is_refused_since_it_would_be_loaded_into_it(
    sound_folder: Path, adapter: Path
) -> None:
    model = adapter / "model"
    shutil.copytree(sound_folder, model)
    shutil.copy(adapter / "adapter_config.json", model)
    for ask in ASKED_FOR_A_MODEL:
        with pytest.raises(ModelError) as refused:
            ask(str(model))
        assert "a LoRA adapter of openai/whisper-small" in refused.value.found


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"peft_type": "IA3", "base_model_name_or_path": "a/b"}, "an adapter of peft of a/b,"),
        ({"base_model_name_or_path": "https://an:secret@host/a"}, "of https://host/a,"),
        ({"base_model_name_or_path": "a\nfound: all is well"}, "does not name"),
        ({"base_model_name_or_path": "\x1b[2Ja"}, "does not name"),
        ({"base_model_name_or_path": "\u202ea"}, "does not name"),
        ({"base_model_name_or_path": "a" * 10_000}, "does not name"),
        ({"base_model_name_or_path": ["a"], "peft_type": ["LORA"]}, "does not name"),
        ([], "does not name"),
        ("[" * 100_000, "does not name"),
        (b"\xff", "does not name"),
    ],
)
def test_what_an_adapter_says_of_its_base_is_shown_only_where_it_is_a_name(
    tmp_path: Path, content: Any, found: str
) -> None:
    text = content if isinstance(content, (str, bytes)) else json.dumps(content)
    (tmp_path / "adapter_config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ModelError) as refused:
        architecture_of(str(tmp_path))
    assert found in refused.value.found
    assert refused.value.found.isprintable()
    assert len(str(refused.value)) < 1000
