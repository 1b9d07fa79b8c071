"""Export to faster-whisper: it runs, says the same token by token, and what it cannot run is refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny_e2e
from tests.real_shapes import TINY, write_whisper_repository
from tests.tiny_models import whisper_model, whisper_processor
from vietst.errors import ModelError, VietstError
from vietst.export import faster_whisper, parity
from vietst.models import whisper, whisper_inputs

pytest.importorskip("ctranslate2", reason="the extra `export` is not installed")
pytest.importorskip("faster_whisper", reason="the extra `export` is not installed")


@pytest.fixture(scope="module")
def published(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of the true shape and files, of small width."""
    return write_whisper_repository(tmp_path_factory.mktemp("hub") / "whisper", TINY, shared_data)


@pytest.fixture(scope="module")
def run_folder(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as training leaves it: with other files, and nothing suppressed."""
    folder = tmp_path_factory.mktemp("run")
    model = whisper.load_model(str(published))
    whisper.set_generation_defaults(model, "vi", "transcribe")
    model.save_pretrained(folder)
    whisper_inputs.load_processor(str(published)).save_pretrained(folder)
    assert not (folder / "preprocessor_config.json").exists()
    return folder


@pytest.fixture(scope="module")
def converted(
    repo_root: Path, run_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """What the script makes of the run folder, and what it prints."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    script = str(repo_root / "scripts" / "export_ctranslate2.py")
    command = [sys.executable, script, "--model", str(run_folder), "--output", str(folder), "--check_audio"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return folder, finished.stdout


def test_both_say_the_same_token_by_token(converted: tuple[Path, str]) -> None:
    rows = {line.split()[0]: line.split() for line in converted[1].splitlines()}
    for task in ("transcribe", "translate"):
        agreement, num_tokens = rows[task][1], rows[task][2]
        assert (
            float(agreement.removesuffix("%")) > 98
        )  # features here have half precision, there they have not
        assert int(num_tokens) > 100


def test_where_the_export_cannot_use_the_gpu_both_are_compared_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def loaded(name: object, device: torch.device, language: str) -> parity.Generate:
        asked.append((name, device.type))

        def generate(clip: np.ndarray, task: str) -> list[int]:
            if (name, device.type) == (tmp_path, "cuda"):  # what CTranslate2 says beside PyTorch for CUDA 13
                raise RuntimeError("Library libcublas.so.12 is not found or cannot be loaded")
            return [1, 2]

        return generate

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(parity, "read_model_record", lambda name: None)
    monkeypatch.setattr(parity, "_ours", loaded)
    monkeypatch.setattr(parity, "_theirs", loaded)
    results = parity.compare("model", tmp_path, [np.zeros(16_000, np.float32)])
    assert [result.agreement for result in results] == [1.0, 1.0]
    assert asked == [(tmp_path, "cuda"), (tmp_path, "cpu"), ("model", "cpu")]


def test_equal_tokens_are_counted_in_order() -> None:
    assert parity.num_equal_tokens([1, 2, 3, 4], [1, 9, 3, 4]) == 3
    assert parity.num_equal_tokens([1, 2, 3, 4], [2, 3, 4]) == 3
    assert parity.num_equal_tokens([1, 2], []) == 0
    halves = parity.Parity("transcribe", 4, 8, 4, compute_s=2.0, exported_compute_s=0.5)
    assert (halves.agreement, halves.speed_ratio) == (0.5, 4.0)


def test_padding_is_silence_to_the_end_of_a_window() -> None:
    assert len(parity.padded(np.ones(16_000, np.float32))) == 480_000
    assert len(parity.padded(np.ones(480_000, np.float32))) == 480_000
    assert parity.padded(np.ones(480_001, np.float32))[480_001:].max() == 0


def test_an_export_made_here_is_replaced_and_another_folder_is_not(run_folder: Path, tmp_path: Path) -> None:
    sizes = []
    for quantization in ("float32", "int8"):
        faster_whisper.export_for_faster_whisper(str(run_folder), tmp_path / "model", quantization)
        sizes.append((tmp_path / "model" / "model.bin").stat().st_size)
    assert sizes[1] < 0.5 * sizes[0]
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match="other files"):
        faster_whisper.export_for_faster_whisper(str(run_folder), tmp_path, "int8")


def test_what_faster_whisper_cannot_run_is_refused_with_the_reason(tmp_path: Path) -> None:
    base = tiny_e2e.write_base(tmp_path / "e2e")
    with pytest.raises(ModelError, match="no model of a wav2vec2 encoder with an mBART decoder"):
        faster_whisper.export_for_faster_whisper(str(base), tmp_path / "out", "int8")
    processor = whisper_processor()
    whisper_model(processor).save_pretrained(tmp_path / "nano")
    processor.save_pretrained(tmp_path / "nano")
    with pytest.raises(ModelError, match="window of 30 s"):
        faster_whisper.export_for_faster_whisper(str(tmp_path / "nano"), tmp_path / "out", "int8")
    path = tmp_path / "nano" / "processor_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["feature_extractor"] |= {
        "hop_length": 160,
        "chunk_length": 30,
        "n_samples": 480_000,
        "nb_max_frames": 3000,
    }
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match="English-only"):
        faster_whisper.export_for_faster_whisper(str(tmp_path / "nano"), tmp_path / "out", "int8")
    assert not (tmp_path / "out").exists()


def test_without_the_extra_the_command_that_brings_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(VietstError, match="export"):
        faster_whisper.require_packages()
