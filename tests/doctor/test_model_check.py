"""The doctor on a model: each way in which a folder can be broken is named."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import tiny_e2e
from tests.tiny_models import whisper_model, whisper_processor
from vietst.doctor.findings import Finding, Status
from vietst.doctor.model import architecture_of, check_model
from vietst.doctor.prompts import check_prompts
from vietst.doctor.tokenizer import check_tokenizer
from vietst.errors import ModelError
from vietst.inference.self_check import record_self_check
from vietst.models import e2e, e2e_inputs, whisper, whisper_inputs
from vietst.models.architectures import ARCHITECTURES, WHISPER
from vietst.models.model_record import ModelRecord, write_model_record


def record(architecture: str) -> ModelRecord:
    return ModelRecord(
        vietst_version="0",
        architecture=architecture,
        tasks=("transcribe", "translate"),
        language="vi",
        num_beams=1,
        max_new_tokens_per_second=12.0,
        max_new_tokens_base=20,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each architecture, as training leaves it."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("whisper", "e2e")}
    processor = whisper_processor()
    model = whisper_model(processor)
    whisper.set_generation_defaults(model, "vi", "transcribe")
    write_model_record(model, record("whisper"))
    model.save_pretrained(folders["whisper"])
    processor.save_pretrained(folders["whisper"])
    base = tiny_e2e.write_base(tmp_path_factory.mktemp("parts"))
    model, processor = e2e.load_model(str(base)), e2e_inputs.load_processor(str(base))
    e2e.set_generation_defaults(model, "vi", "transcribe")
    write_model_record(model, record("e2e"))
    model.save_pretrained(folders["e2e"])
    processor.save_pretrained(folders["e2e"])
    return folders


@pytest.fixture
def copy(whole: dict[str, Path], tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    return lambda name: Path(shutil.copytree(whole[name], tmp_path / name))


def findings(folder: Path) -> dict[str, Finding]:
    return {finding.subject: finding for finding in check_model(str(folder))}


def to_mend(folder: Path) -> dict[str, str]:
    return {
        subject: finding.found
        for subject, finding in findings(folder).items()
        if finding.status == Status.MEND
    }


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize("name", ["whisper", "e2e"])
def test_what_training_leaves_is_whole(name: str, whole: dict[str, Path]) -> None:
    found = findings(whole[name])
    assert to_mend(whole[name]) == {}
    for subject in ("weights", "tensors", "vocabulary", "pipeline's defaults"):
        assert found[subject].status == Status.OK, found[subject]
    assert "translates into vi" in found["prompt of translate"].found


def test_a_weight_that_is_no_number_is_found(copy: Callable[[str], Path]) -> None:
    path = copy("whisper") / "model.safetensors"
    weights = load_file(path)
    weights["model.decoder.layer_norm.weight"][3] = torch.nan
    save_file(weights, path, metadata={"format": "pt"})
    wrong = to_mend(path.parent)
    assert list(wrong) == ["weights"]
    assert "model.decoder.layer_norm.weight" in wrong["weights"]


def test_missing_and_surplus_tensors_are_found(copy: Callable[[str], Path]) -> None:
    path = copy("e2e") / "model.safetensors"
    weights = load_file(path)
    del weights["enc_to_dec_proj.bias"]
    weights["ctc_head.weight"] = torch.zeros(2, 2)
    save_file(weights, path, metadata={"format": "pt"})
    wrong = to_mend(path.parent)
    assert list(wrong) == ["tensors"]
    assert "1 missing, such as enc_to_dec_proj.bias" in wrong["tensors"]
    assert "1 unexpected, such as ctc_head.weight" in wrong["tensors"]


def test_weights_cut_off_in_the_middle_are_one_finding_and_the_rest_is_checked(
    copy: Callable[[str], Path],
) -> None:
    path = copy("whisper") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    wrong = to_mend(path.parent)
    assert list(wrong) == ["weights"]
    assert "a damaged model.safetensors" in wrong["weights"]
    assert "prompt of translate" in findings(path.parent)


def test_pickles_are_no_weights(copy: Callable[[str], Path]) -> None:
    folder = copy("whisper")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "no model.safetensors" in to_mend(folder)["weights"]
    assert "the whole folder again" in str(findings(folder)["weights"].do)


def test_a_tokenizer_with_more_tokens_than_the_embedding_is_found(copy: Callable[[str], Path]) -> None:
    folder = copy("whisper")
    processor = whisper_inputs.load_processor(str(folder))
    processor.tokenizer.add_tokens(["<|one more|>"])
    processor.save_pretrained(folder)
    assert "vocabulary" in to_mend(folder)


def test_letters_that_the_vocabulary_lacks_are_named(whole: dict[str, Path]) -> None:
    tokenizer = findings(whole["e2e"])["tokenizer"]  # of four sentences
    assert tokenizer.status == Status.WARNING
    assert "code-switched (ớ)" in tokenizer.found
    assert findings(whole["whisper"])["tokenizer"].status == Status.OK


@pytest.mark.parametrize(
    ("name", "changes", "subject", "words"),
    [
        ("whisper", {"forced_decoder_ids": [[1, 5], [2, 6]]}, "prompt of translate", "forced_decoder_ids"),
        ("whisper", {"task_to_id": {"transcribe": 1, "translate": 2}}, "prompt of transcribe", "task_to_id"),
        ("whisper", {"task": "translate"}, "pipeline's defaults", "not transcribe"),
        ("whisper", {"language": "en"}, "pipeline's defaults", "not transcribe"),
        ("e2e", {"decoder_start_token_id": 2}, "prompt of transcribe", "decoder_start_token_id is 2"),
        ("e2e", {"forced_bos_token_id": None}, "pipeline's defaults", "not transcribe"),
    ],
)
def test_generation_that_begins_otherwise_than_training_is_found(
    name: str, changes: dict[str, Any], subject: str, words: str, copy: Callable[[str], Path]
) -> None:
    folder = copy(name)
    edit(folder / "generation_config.json", **changes)
    assert words in to_mend(folder)[subject]


def test_a_missing_generation_config_is_found(copy: Callable[[str], Path]) -> None:
    folder = copy("whisper")
    (folder / "generation_config.json").unlink()
    found = findings(folder)["prompts"]
    assert found.status is Status.MEND
    assert found.found == "no generation_config.json: nothing tells a pipeline how to ask for a task"


@pytest.mark.parametrize("architecture", ["whisper", "e2e"])
def test_a_generation_config_that_knows_no_tasks_is_found(
    copy: Callable[[str], Path], architecture: str
) -> None:
    folder = copy(architecture)
    (folder / "generation_config.json").write_text("{}", encoding="utf-8")
    found = {one.subject: one for one in check_prompts(folder, ARCHITECTURES[architecture])}
    assert found["pipeline's defaults"].status is Status.MEND
    assert "not transcribe" in found["pipeline's defaults"].found


def test_slow_or_other_decoding_than_scored_is_a_warning(copy: Callable[[str], Path]) -> None:
    folder = copy("whisper")
    edit(folder / "config.json", use_cache=False)
    assert "use_cache" in findings(folder)["pipeline's defaults"].found
    edit(folder / "generation_config.json", num_beams=5)
    assert "5 beams" in findings(folder)["pipeline's defaults"].found
    assert to_mend(folder) == {}


def test_translate_of_a_model_from_elsewhere_may_mean_another_language(copy: Callable[[str], Path]) -> None:
    folder = copy("whisper")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del config["vietst"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    edit(folder / "generation_config.json", forced_decoder_ids=[[1, None], [2, 6]])  # as OpenAI's have it
    assert findings(folder)["prompt of translate"].status == Status.WARNING
    assert to_mend(folder) == {}


def test_a_card_that_the_hub_would_not_take_is_found(copy: Callable[[str], Path]) -> None:
    folder = copy("whisper")
    assert findings(folder)["card"].status == Status.OK  # none yet
    (folder / "README.md").write_text("---\nlanguage: klingonese\n---\nTrained in /home/an/speech\n")
    assert "klingonese" in to_mend(folder)["card"]
    assert "/home/an" in to_mend(folder)["card"]


def test_what_is_no_model_is_a_message(tmp_path: Path) -> None:
    for config, said in ((None, r"config\.json"), ('{"model_type": "bert"}', "bert")):
        if config is not None:
            (tmp_path / "config.json").write_text(config)
        with pytest.raises(ModelError, match=said) as refused:
            architecture_of(tmp_path, "owner/name")
        assert "owner/name" in refused.value.where
        assert str(tmp_path) not in str(refused.value), "the folder of a download says nothing to anybody"
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        list(check_model("owner/name"))


# --- the recorded clip -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(whole: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(whole["whisper"], tmp_path_factory.mktemp("recorded") / "run"))
    record_self_check(folder)
    return folder


def test_an_untouched_copy_says_what_it_said(recorded: Path) -> None:
    found = findings(recorded)
    assert {found["clip, transcribe"].status, found["clip, translate"].status} == {Status.OK}


def test_other_weights_are_found_by_what_they_say(recorded: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(recorded, tmp_path / "run")) / "model.safetensors"
    weights = load_file(path)
    weights["model.decoder.layer_norm.weight"] *= 20
    save_file(weights, path, metadata={"format": "pt"})
    wrong = to_mend(path.parent)
    assert set(wrong) <= {"clip, transcribe", "clip, translate"}
    assert wrong


def test_other_texts_are_found_with_their_error_rate_and_what_else_may_be_the_reason(
    recorded: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(recorded, tmp_path / "run"))
    expected = json.loads((folder / "self_check" / "expected.json").read_text(encoding="utf-8"))
    expected["tasks"]["translate"]["text"] = "xin chào"
    edit(
        folder / "self_check" / "expected.json",
        tasks=expected["tasks"],
        versions=expected["versions"] | {"torch": "2.13.9"},
    )
    finding = findings(folder)["clip, translate"]
    assert finding.status == Status.MEND
    assert "'xin chào' at training time" in finding.found
    assert "character error rate" in finding.found
    assert "torch 2.13.9 then" in finding.do
    assert findings(folder)["clip, transcribe"].status == Status.OK


def of_tokenizer(folder: Path) -> dict[str, Finding]:
    return {finding.subject: finding for finding in check_tokenizer(folder, WHISPER)}


def test_two_exchanged_tokens_that_the_clip_does_not_show_are_found(recorded: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(recorded, tmp_path / "run")) / "tokenizer.json"
    said = (path.parent / "self_check" / "expected.json").read_text(encoding="utf-8")
    texts = "".join(then["text"] for then in json.loads(said)["tasks"].values())
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    first, second = [letter for letter in "abcdeghiklmnopqrstuvxy" if letter not in texts][:2]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    wrong = to_mend(path.parent)
    assert list(wrong) == ["tokens"]
    assert "other tokens than at training time" in wrong["tokens"]


def test_a_tokenizer_that_was_saved_again_otherwise_has_the_same_tokens(
    recorded: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(recorded, tmp_path / "run"))
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokenizer["model"]["vocab"] = dict(sorted(tokenizer["model"]["vocab"].items()))
    tokenizer["model"]["merges"] = [" ".join(merge) for merge in tokenizer["model"]["merges"]]  # as once
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    assert of_tokenizer(folder)["tokens"].status == Status.OK
    whisper_inputs.load_processor(str(folder)).save_pretrained(folder)
    assert of_tokenizer(folder)["tokens"].found == "each id stands for what it stood for at training time"


def test_a_record_of_an_older_or_later_version_is_no_fault(recorded: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(recorded, tmp_path / "run"))
    path = folder / "self_check" / "expected.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["vocabulary_digest"]
    path.write_text(json.dumps(record | {"of a later version": 1}), encoding="utf-8")
    tokens = of_tokenizer(folder)["tokens"]
    assert (tokens.status, "not recorded" in tokens.found) == (Status.OK, True)


def test_a_model_without_a_recorded_clip_is_a_warning(whole: dict[str, Path]) -> None:
    assert findings(whole["whisper"])["recorded clip"].status == Status.WARNING
