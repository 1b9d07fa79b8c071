"""What of a model folder is published, made from real tiny models saved as training saves them."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration

from tests.tiny_models import whisper_model, whisper_processor
from vietst.config import load_config
from vietst.config_schema import HubSection, LoraSection
from vietst.errors import HubError, ModelError
from vietst.hub.privacy import refuse_private_text
from vietst.hub.publishing import publish_model
from vietst.hub.release import WEIGHTS, make_release, take_snapshot
from vietst.models import lora

TRAINING_ONLY = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "run_record.json",
                 "trainer_state.json", "clip.wav", "notes.txt", ".env")  # fmt: skip


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run folder with a checkpoint that has a CTC head and LoRA's adapters besides the model."""
    folder = tmp_path / "run"
    processor = whisper_processor()
    model = whisper_model(processor)
    lora.add_adapters(model, LoraSection(rank=2), lambda name: True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_()
    checkpoint = folder / "checkpoint-2"
    for place, keeps in ((folder, False), (checkpoint, True)):
        weights = lora.merged_weights(model, model.state_dict(), keep_adapters=keeps)
        model.save_pretrained(place, state_dict=weights)
        processor.save_pretrained(place)
    weights = load_file(checkpoint / WEIGHTS)
    save_file(weights | {"ctc_head.weight": torch.zeros(3, 4)}, checkpoint / WEIGHTS, {"format": "pt"})
    for name in TRAINING_ONLY:
        (checkpoint / name).write_text('{"global_step": 2, "max_steps": 4}', encoding="utf-8")
    facts = {
        "base_model": "outputs/base_models/nano",
        "base_origin": "local",
        "base_hub_ids": [],
        "split_hash": "sha256:abc",
    }
    (folder / "run_facts.json").write_text(json.dumps(facts), encoding="utf-8")
    config = load_config(
        "nano_whisper",
        [
            "paths.data_root=/home/an/speech",
            "output.dir=/home/an/out/run",
            "evaluation.extra_sets={english: {path: /home/an/librispeech.tsv, audio_root: /home/an/audio}}",
        ],
    )
    (folder / "resolved_config.yaml").write_text(config.describe(), encoding="utf-8")
    return folder


def released(model_dir: Path, tmp_path: Path) -> dict[str, Path]:
    work = tmp_path / "work"
    work.mkdir()
    return make_release(model_dir, work, "an/model", HubSection())


def test_a_checkpoint_is_published_as_the_final_model_would_be(run_dir: Path, tmp_path: Path) -> None:
    release = released(run_dir / "checkpoint-2", tmp_path)
    ours, final = load_file(release[WEIGHTS]), load_file(run_dir / WEIGHTS)
    assert ours.keys() == final.keys()
    assert all(torch.equal(ours[name], final[name]) for name in final)
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for path, file in release.items():
        shutil.copy(file, folder / path)
    _, info = WhisperForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


def test_nothing_but_what_users_need_is_published(run_dir: Path, tmp_path: Path) -> None:
    (run_dir / "checkpoint-2" / "self_check").mkdir()
    (run_dir / "checkpoint-2" / "self_check" / "clip.flac").write_bytes(b"fLaC")
    release = released(run_dir / "checkpoint-2", tmp_path)
    assert set(release) == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "processor_config.json",
        "resolved_config.yaml",
        "run_facts.json",
        "self_check/clip.flac",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_an_older_configuration_loses_the_places_of_its_parts(run_dir: Path, tmp_path: Path) -> None:
    config = json.loads((run_dir / "config.json").read_text())
    config["encoder"] = {"_name_or_path": "outputs/base_models/encoder", "hidden_size": 8}
    (run_dir / "config.json").write_text(json.dumps(config), encoding="utf-8")
    published = json.loads(released(run_dir, tmp_path)["config.json"].read_text())
    assert published["encoder"] == {"hidden_size": 8}
    assert published["d_model"] == config["d_model"]


def test_weights_that_need_no_change_are_not_copied(run_dir: Path, tmp_path: Path) -> None:
    assert released(run_dir, tmp_path)[WEIGHTS] == run_dir / WEIGHTS


def test_weights_that_are_cut_off_are_not_published(run_dir: Path, tmp_path: Path) -> None:
    os.truncate(run_dir / WEIGHTS, 5_000)
    with pytest.raises(ModelError, match=r"a damaged model\.safetensors"):
        released(run_dir, tmp_path)


def test_the_record_says_what_was_trained_and_not_where(run_dir: Path, tmp_path: Path) -> None:
    release = released(run_dir, tmp_path)
    text = "".join(
        release[name].read_text(encoding="utf-8")
        for name in ("run_facts.json", "resolved_config.yaml", "README.md")
    )
    assert "/home" not in text
    assert "outputs" not in text
    assert '"base_model": "nano"' in text
    assert "sha256:abc" in text
    config = yaml.safe_load(release["resolved_config.yaml"].read_text(encoding="utf-8"))
    assert not {"paths", "output", "hub", "dataloader"} & config.keys()
    assert "max_steps: 1500" in text
    assert json.loads((run_dir / "run_facts.json").read_text())["base_model"] == "outputs/base_models/nano"


@pytest.mark.parametrize("name", ["run_facts.json", "environment.json", "resolved_config.yaml"])
def test_a_damaged_record_is_named(name: str, run_dir: Path, tmp_path: Path) -> None:
    (run_dir / name).write_text('{"cut off": [', encoding="utf-8")
    with pytest.raises(HubError, match=rf"(?s){name}.*restore the file"):
        released(run_dir, tmp_path)


def test_a_base_model_of_the_hub_keeps_its_name(run_dir: Path, tmp_path: Path) -> None:
    facts = {
        "base_model": "openai/whisper-tiny",
        "base_origin": "hub",
        "base_hub_ids": ["openai/whisper-tiny"],
    }
    (run_dir / "run_facts.json").write_text(json.dumps(facts), encoding="utf-8")
    release = released(run_dir, tmp_path)
    assert json.loads(release["run_facts.json"].read_text())["base_model"] == "openai/whisper-tiny"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("/home/an/speech/clip.wav", "/home/an/speech/clip.wav"),
        ("C:\\Users\\an\\speech", "C:"),
        ("hf_" + "aB3" * 11, "token"),
    ],
)
def test_what_tells_about_the_machine_or_the_account_is_not_published(
    value: str, found: str, run_dir: Path, tmp_path: Path
) -> None:
    facts: dict[str, Any] = json.loads((run_dir / "run_facts.json").read_text())
    (run_dir / "run_facts.json").write_text(json.dumps(facts | {"note": value}), encoding="utf-8")
    release = released(run_dir, tmp_path)
    with pytest.raises(HubError, match=r"run_facts\.json") as refused:
        refuse_private_text(release)
    assert found in str(refused.value)
    assert "aB3aB3aB3aB3aB3" not in str(refused.value)


def test_what_the_model_says_of_the_clip_may_look_like_a_path_but_holds_no_token(tmp_path: Path) -> None:
    said = tmp_path / "expected.json"
    said.write_text(json.dumps({"text": "mình ~x/y /home/an"}), encoding="utf-8")
    refuse_private_text({"self_check/expected.json": said})
    with pytest.raises(HubError, match="/home/an"):
        refuse_private_text({"run_facts.json": said})
    said.write_text(json.dumps({"text": "hf_" + "aB3" * 11}), encoding="utf-8")
    with pytest.raises(HubError, match="a token"):
        refuse_private_text({"self_check/expected.json": said})


def test_a_snapshot_outlives_its_checkpoint_and_takes_no_room(run_dir: Path, tmp_path: Path) -> None:
    checkpoint, snapshot = run_dir / "checkpoint-2", run_dir / "hub_snapshots" / "checkpoint-2"
    take_snapshot(checkpoint, snapshot)
    assert (checkpoint / WEIGHTS).samefile(snapshot / WEIGHTS)
    before = load_file(checkpoint / WEIGHTS)
    shutil.rmtree(checkpoint)
    (run_dir / "run_facts.json").unlink()
    release = released(snapshot, tmp_path)
    assert load_file(release[WEIGHTS]).keys() < before.keys()
    assert "run_facts.json" in release


def test_without_links_a_snapshot_is_a_copy(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*paths: Any) -> None:
        raise OSError("this file system has no links")

    monkeypatch.setattr(os, "link", no_links)
    take_snapshot(run_dir, tmp_path / "snapshot")
    assert (tmp_path / "snapshot" / WEIGHTS).read_bytes() == (run_dir / WEIGHTS).read_bytes()


def test_a_full_disk_is_said(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_is_full(*paths: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", disk_is_full)
    with pytest.raises(HubError, match="make room there"):
        take_snapshot(run_dir, tmp_path / "snapshot")


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HubError, match=r"no config\.json and no model\.safetensors"):
        publish_model(tmp_path, HubSection(repo_id="me/model"))
