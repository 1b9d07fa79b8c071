"""What a model says about itself: it stays with the weights, and what cannot be understood is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForSpeechSeq2Seq

from tests.tiny_e2e import write_base
from tests.tiny_models import whisper_model, whisper_processor
from vietst.config import load_config
from vietst.data.context import ContextWindows
from vietst.errors import ModelError, VietstError
from vietst.models.e2e import load_model
from vietst.models.model_record import ModelRecord, read_model_record, record_of, write_model_record


def record_of_shipped(name: str, *overrides: str) -> ModelRecord:
    return record_of(load_config(name, overrides).config)


def folder_with(tmp_path: Path, **config: Any) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper", **config}), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("architecture", ["whisper", "e2e"])
def test_stock_transformers_loads_a_model_with_a_record_and_saves_it_again(
    tmp_path: Path, architecture: str
) -> None:
    model = (
        whisper_model(whisper_processor())
        if architecture == "whisper"
        else load_model(str(write_base(tmp_path / "parts")))
    )
    record = record_of_shipped(f"nano_{architecture}", "model.task=transcribe", "evaluation.test_num_beams=5")
    assert (record.architecture, record.tasks, record.num_beams) == (architecture, ("transcribe",), 5)
    write_model_record(model, record)
    model.save_pretrained(tmp_path / "ours")
    AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    assert read_model_record(str(tmp_path / "theirs")) == record


def test_the_record_names_the_windows_of_the_training(tmp_path: Path) -> None:
    assert record_of_shipped("nano_whisper").context is None
    windows = ("audio.context=bucketed", "audio.context_windows_s=[1.5,2]", "audio.context_margin_s=0.1")
    record = record_of_shipped("nano_whisper", *windows)
    assert record.context == ContextWindows((1.5, 2.0), 0.1)
    folder = folder_with(tmp_path, vietst=json.loads(json.dumps(record.model_dump(mode="json"))))
    assert read_model_record(str(folder)) == record


def test_the_style_of_writing_goes_with_the_weights_and_older_models_write_as_they_were_taught(
    tmp_path: Path,
) -> None:
    record = record_of_shipped("nano_whisper", "text.style=lower_nopunct")
    assert record.text_style == "lower_nopunct"
    written = record.model_dump(mode="json")
    assert read_model_record(str(folder_with(tmp_path, vietst=written))) == record
    del written["text_style"]
    older = read_model_record(str(folder_with(tmp_path, vietst=written)))
    assert older is not None
    assert older.text_style == "as_is"


def test_a_model_that_was_trained_elsewhere_has_none(tmp_path: Path) -> None:
    assert read_model_record(str(folder_with(tmp_path))) is None


def test_keys_of_later_versions_are_left_unread(tmp_path: Path) -> None:
    record = record_of_shipped("nano_whisper")
    folder = folder_with(tmp_path, vietst={**record.model_dump(mode="json"), "length_penalty": 2})
    assert read_model_record(str(folder)) == record


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tasks": ["summarize"]}, "vietst.tasks.0"),
        ({"tasks": []}, "vietst.tasks"),
        ({"num_beams": 0}, "vietst.num_beams"),
        ({"architecture": "mamba"}, "vietst.architecture"),
    ],
)
def test_a_record_that_cannot_be_understood_is_refused_with_its_key(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    written = record_of_shipped("nano_whisper").model_dump(mode="json") | changed
    with pytest.raises(ModelError) as refused:
        read_model_record(str(folder_with(tmp_path, vietst=written)))
    assert refused.value.where.startswith(f"{said} in config.json")


def test_a_run_folder_from_before_there_were_records_is_known_by_its_configuration(tmp_path: Path) -> None:
    config = load_config("nano_e2e", ["model.task=transcribe", "evaluation.max_new_tokens_base=7"]).config
    resolved = folder_with(tmp_path) / "resolved_config.yaml"
    resolved.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    record = read_model_record(str(tmp_path))
    assert record is not None
    assert (record.architecture, record.tasks, record.max_new_tokens_base) == ("e2e", ("transcribe",), 7)
    assert record.vietst_version is None
    resolved.write_text("model: {", encoding="utf-8")
    with pytest.raises(VietstError, match="restore the file from the run"):
        read_model_record(str(tmp_path))
