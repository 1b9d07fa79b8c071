"""The model card says what is recorded, and nothing else: no path of this machine, no token, no guess."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from tests.hub.recorded_runs import COMMIT, SPLIT_HASH, evaluate, write_json, write_run, write_state
from tests.tiny_e2e import write_base
from tests.tiny_models import tone, whisper_model, whisper_processor
from vietst.config import load_config
from vietst.config_schema import HubSection
from vietst.errors import HubError
from vietst.hub import model_card
from vietst.hub.metadata_rules import check_card
from vietst.hub.model_card import write_model_card
from vietst.models import e2e, e2e_inputs, whisper
from vietst.models.loading import model_version
from vietst.models.model_record import record_of, write_model_record

HUB = HubSection(license="apache-2.0", dataset_license="cc-by-4.0")


def card_of(model_dir: Path, hub: HubSection = HUB, **options: Any) -> ModelCard:
    return ModelCard.load(
        write_model_card(model_dir, published(model_dir), repo_id="a/b", hub=hub, **options)
    )


def published(model_dir: Path) -> Path:
    return model_dir.parent / "published"


def test_the_hub_lists_it_by_language_task_license_base_and_scores(tmp_path: Path) -> None:
    run = write_run(tmp_path, "prod_whisper")
    metrics = json.loads(evaluate(run).read_text(encoding="utf-8"))
    card = card_of(run, HUB.model_copy(update={"datasets": ("owner/corpus",)}))
    data = card.data
    metadata = data.to_dict()
    assert [metadata[key] for key in ("language", "pipeline_tag", "library_name")] == [
        ["vi", "en"],
        "automatic-speech-recognition",
        "transformers",
    ]
    assert (data.license, data.base_model, data.datasets) == (
        "apache-2.0",
        ["openai/whisper-medium"],
        ["owner/corpus"],
    )
    assert {"code-switching", "speech-translation", "whisper"} <= set(data.tags)
    assert data.metrics == ["wer", "cer", "bleu", "chrf"]
    assert [result.metric_type for result in data.eval_results] == data.metrics
    for result in data.eval_results:
        interval = metrics["intervals"][result.metric_type]
        assert result.metric_value == round(metrics[result.metric_type], 2)
        assert result.metric_args["confidence_interval"]["low"] == round(interval["low"], 2)
        assert result.metric_args["confidence_interval"]["high"] == round(interval["high"], 2)
        assert f"{interval['low']:.2f} – {interval['high']:.2f}" in card.text
        assert (result.dataset_type, result.dataset_split) == ("owner/corpus", "test")
        assert result.dataset_args == {"split_hash": SPLIT_HASH}
        assert result.verified is None
    assert {result.task_type for result in data.eval_results[2:]} == {"translation"}


def test_an_e2e_model_names_encoder_and_decoder(tmp_path: Path) -> None:
    run = write_run(tmp_path, "prod_e2e")
    evaluate(run)
    card = card_of(run)
    assert card.data.base_model == ["facebook/wav2vec2-large-xlsr-53", "facebook/mbart-large-50"]
    assert "- `vi_VN <2translate>`: the same **in Vietnamese**" in card.text
    assert "speech-encoder-decoder" in card.data.tags


@pytest.mark.parametrize("origin", ["local", "untrained", None])
def test_a_base_that_is_not_on_the_hub_is_said_in_words(tmp_path: Path, origin: str | None) -> None:
    run = write_run(tmp_path, "prod_whisper", base_origin=origin, base_hub_ids=[])
    card = card_of(run, HUB.model_copy(update={"base_license": "mit"}))
    assert card.data.base_model is None
    words = {"local": "a local folder", "untrained": "This is a toy", None: "base model: not recorded"}
    assert words[origin] in card.text


def test_features_from_the_hub_are_a_data_set_with_its_commit(tmp_path: Path) -> None:
    run = write_run(tmp_path, "prod_whisper", features=f"hf://datasets/owner/features@{COMMIT}")
    evaluate(run)
    card = card_of(run)
    assert card.data.datasets == ["owner/features"]
    assert {result.dataset_revision for result in card.data.eval_results} == {COMMIT}


@pytest.mark.parametrize("test_csv", ["elsewhere/hard_cases.csv", "elsewhere/test.csv"])
def test_scores_of_another_set_are_not_those_of_the_data_set(tmp_path: Path, test_csv: str) -> None:
    run = write_run(tmp_path, "prod_whisper")
    path = evaluate(run)
    metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics["facts"]["test_csv"] = test_csv
    write_json(path, metrics)
    card = card_of(run, HUB.model_copy(update={"datasets": ("owner/corpus",)}))
    assert {(r.dataset_type, r.dataset_split) for r in card.data.eval_results} == {("unpublished", None)}


def test_the_text_has_the_facts(tmp_path: Path) -> None:
    run = write_run(tmp_path, "prod_whisper", ["training.batch_size=32", "training.effective_batch=256"])
    evaluate(run)
    text = card_of(run).text
    for fact in (
        "| hardware | NVIDIA H100 80GB HBM3; 8 processes |",
        "31,800 utterances, 23.17 hours",
        SPLIT_HASH,
        "256 utterances in each step",
        "those of step 200, the best",
        "120.0 minutes",
        "with 5 beams",
        "vietst-1",
        "English WER % (PIER)",
        "101.00",
        "40.00",
        "switch points WER %",
        "By degree of code-mixing",
        "- none of these: repetition loops, empty outputs",
        "- WER: `jiwer:",
        "hears 30 s at once",
        "base model openai/whisper-medium: apache-2.0",
        "training data: cc-by-4.0",
        "Train, dev and test share no video",
        "| transformers | 5.23.0 |",
        COMMIT,
    ):
        assert fact in text
    assert "not recorded" in text, "the data set's name, at least"


def test_a_plainer_style_of_writing_is_said_to_its_users(tmp_path: Path) -> None:
    runs = (
        write_run(tmp_path / style, "prod_whisper", [f"text.style={style}"])
        for style in ("as_is", "lower_nopunct")
    )
    as_is, plain = (card_of(run, metrics_json=evaluate(run)).text for run in runs)
    assert "| writing | case and punctuation of the training texts |" in as_is
    assert "| writing | lower case, no punctuation |" in plain
    assert "It writes lower case without punctuation" in plain
    assert "on raw text, the references brought into this model's style" in plain
    assert "It writes" not in as_is
    assert "on raw text. PIER" in as_is


def test_the_windows_of_training_are_said_and_how_to_choose_one(tmp_path: Path) -> None:
    run = write_run(tmp_path / "short", "prod_whisper", ["audio.context=bucketed"])
    evaluate(run, windows={"windows_s": [3.0, 4.0], "margin_s": 0.5})
    short = card_of(run).text
    windows = "3, 4, 6, 8, 11, 15, 20 s"
    assert f"| windows | the shortest that a batch fits: {windows} or the whole one (30 s) |" in short
    share = load_config("prod_whisper").config.audio.context_longer_share
    assert f"| longer windows than a batch needs | {share:.0%} of the training |" in short
    assert f"short windows ({windows}) beside its whole one" in short
    assert '`context="full"`' in short
    assert "| windows | the shortest that a clip fits |" in short, "in which the scores were made"
    (run / "resolved_config.yaml").unlink()
    assert "| longer windows than a batch needs | not recorded |" in card_of(run).text
    run = write_run(tmp_path / "whole", "prod_whisper")
    evaluate(run)
    whole = card_of(run).text
    assert "| windows | the whole one (30 s) |" in whole
    assert "| windows | the whole one |" in whole
    assert "It was trained in its whole window alone" in whole
    assert "short windows" not in whole
    assert "windows" not in card_of(write_run(tmp_path / "e2e", "prod_e2e")).text


def test_what_is_not_recorded_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    write_json(folder / "config.json", {"model_type": "whisper"})
    card = card_of(folder, HubSection())
    assert card.data.license is None
    assert card.data.eval_results is None
    assert "Test scores: not recorded." in card.text
    assert "| learning rate | not recorded |" in card.text
    assert "| split hash | not recorded |" in card.text
    assert "share no video" not in card.text
    assert "training data: license not recorded" in card.text


def test_without_test_results_dev_scores_are_called_dev_scores(tmp_path: Path) -> None:
    card = card_of(write_run(tmp_path, "prod_whisper"))
    assert card.data.eval_results is None
    assert card.data.metrics is None
    assert "Dev scores of these weights" in card.text
    assert "| 200 | 1.00 | 40.00 | 20.00 |" in card.text, "the best step's, whose weights these are"
    assert "| 300 |" not in card.text


def test_a_checkpoint_has_the_scores_of_its_own_step(tmp_path: Path) -> None:
    run = write_run(tmp_path, "prod_whisper")
    checkpoint = run / "checkpoint-100"
    checkpoint.mkdir()
    for name in ("config.json", "generation_config.json", "processor_config.json"):
        shutil.copy(run / name, checkpoint)
    (checkpoint / "run_record.json").touch()
    write_state(checkpoint, 100)
    text = card_of(checkpoint).text
    assert "| optimizer steps | 100 |" in text
    assert "| 100 | 1.00 | 50.00 | 10.00 |" in text
    assert SPLIT_HASH in text, "from the run folder"


def test_results_of_another_training_are_not_this_models(tmp_path: Path) -> None:
    run = write_run(tmp_path, "prod_whisper")
    path = evaluate(run)
    facts = json.loads((run / "run_facts.json").read_text(encoding="utf-8"))
    write_json(run / "run_facts.json", facts | {"split_hash": "sha256:" + "0" * 64})
    assert card_of(run).data.eval_results is None
    with pytest.raises(HubError, match="another run"):
        card_of(run, metrics_json=path)


def test_results_of_a_namesake_are_not_this_models(tmp_path: Path) -> None:
    run = write_run(tmp_path, "prod_whisper")
    path = evaluate(run)
    (run / "run_facts.json").unlink()  # of what was trained elsewhere there are none
    metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics["facts"] |= {"run": None, "model_version": "sha256:" + "0" * 64}
    write_json(path, metrics)
    assert card_of(run, HubSection()).data.eval_results is None
    metrics["facts"]["model_version"] = model_version(str(run))
    write_json(path, metrics)
    assert card_of(run, HubSection()).data.eval_results is not None


def test_results_from_before_the_last_training_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path, "prod_whisper")
    path = evaluate(run)
    os.utime(path, (1e9, 1e9))
    assert card_of(run).data.eval_results is None
    assert card_of(run, metrics_json=path).data.eval_results is not None, "named, they count"


def test_a_permissive_card_over_a_non_commercial_corpus_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, "prod_whisper")
    with pytest.raises(HubError, match=r"training data is under cc-by-nc-4\.0"):
        card_of(run, HubSection(license="mit", dataset_license="cc-by-nc-4.0"))
    assert not published(run).exists()


# --- nothing of this machine --------------------------------------------------------------------------------

AWKWARD = (
    "/home/lan/khách hàng/mật/corpus.tsv",
    "/Users/Lan Nguyen/secret project",
    "C:\\Users\\lan\\secret\\model",
    "c:/Users/lan/secret",
    "\\\\fileserver\\secret$\\corpus",
    "file:///home/lan/secret",
    "~/secret/corpus",
    "~lan/secret",
    "$HOME/secret",
    "%USERPROFILE%\\secret",
    "../../secret/corpus",
    "outputs/secret",
    "secret\\run",
    "s3://secret-bucket/corpus",
    "/lustre/secret",
    "| [secret](/home/lan/secret) |",
    "<script>alert('secret')</script>",
    "secret\n---\nlicense: mit",
    "hf_SecretSecretSecretSecretSecret12",
)


def replaced(value: Any, text: str) -> Any:
    """All texts of a record become one text."""
    if isinstance(value, dict):
        return {key: replaced(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [replaced(item, text) for item in value]
    return text if isinstance(value, str) else value


def test_whatever_text_is_recorded_no_place_and_no_token_comes_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_card, "_write_charts", lambda *_: {})  # they show the repository's name alone
    run = write_run(tmp_path, "prod_whisper", features="text", cache="text")
    results = evaluate(run)
    names = ("run_facts.json", "environment.json", "processor_config.json", "trainer_state.json")
    records = {
        path: json.loads(path.read_text(encoding="utf-8")) for path in [*map(run.joinpath, names), results]
    }
    config = yaml.safe_load((run / "resolved_config.yaml").read_text(encoding="utf-8"))
    for text in AWKWARD:
        for path, record in records.items():
            write_json(path, replaced(record, text))
        # Training knows Hub ids from folders whose names look alike, and evaluation copies its facts.
        write_json(run / names[0], replaced(records[run / names[0]], text) | {"base_hub_ids": []})
        of_results = replaced(records[results], text)
        of_results["facts"]["run"] = json.loads((run / names[0]).read_text(encoding="utf-8"))
        write_json(results, of_results)
        (run / "resolved_config.yaml").write_text(yaml.safe_dump(replaced(config, text)), encoding="utf-8")
        write_model_card(run, published(run), repo_id="a/b", hub=HubSection(), metrics_json=results)
        for name in ("README.md", "results/metrics.json"):
            assert "secret" not in (published(run) / name).read_text(encoding="utf-8").lower(), text


def test_published_results_name_no_video_no_person_and_no_text_of_the_corpus(tmp_path: Path) -> None:
    run = write_run(tmp_path, "prod_whisper")
    path = evaluate(run)
    metrics = json.loads(path.read_text(encoding="utf-8"))
    note = "other stands here without scores: it has no predictions of 1 of 36 utterances, such as video_0-1."
    metrics["baselines"]["other"] = {"note": note}
    write_json(path, metrics)
    card_of(run)
    results = (published(run) / "results" / "metrics.json").read_text(encoding="utf-8")
    for name in ("video_0", "video_1", "nguyen_van", "cái", str(tmp_path)):
        assert name not in results
    assert json.loads(results)["slices"].keys() == {"code_mixing_index", "duration_s"}
    assert json.loads(results)["wer"] > 0


def test_charts_lie_beside_the_card_and_are_called_after_the_repository(tmp_path: Path) -> None:
    run = write_run(tmp_path, "prod_whisper")
    evaluate(run)
    card = card_of(run)
    for name in ("training_loss", "learning_curve", "slices"):
        assert f"(charts/{name}.png)" in card.text
        assert (published(run) / "charts" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    (published(run) / "charts" / "slices.png").unlink()
    assert any("slices.png" in problem for problem in check_card(published(run) / "README.md"))


# --- its lines of code --------------------------------------------------------------------------------------


def tiny_model(tmp_path: Path, architecture: str) -> Path:
    folder = tmp_path / "model"
    if architecture == "whisper":
        processor = whisper_processor()
        model = whisper_model(processor)
        whisper.set_generation_defaults(model, "vi", "transcribe")
    else:
        base = str(write_base(tmp_path / "parts"))
        processor, model = e2e_inputs.load_processor(base), e2e.load_model(base)
    write_model_record(model, record_of(load_config(f"nano_{architecture}").config))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("architecture", ["whisper", "e2e"])
def test_its_lines_of_code_run(tmp_path: Path, architecture: str) -> None:
    folder = tiny_model(tmp_path, architecture)
    text = card_of(folder, HubSection()).text
    plain, ours = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    printed: list[str] = []

    def run(code: str, file_name: str, sound: Callable[[], Any]) -> None:
        code = code.replace('"a/b"', repr(str(folder))).replace(f'"{file_name}"', "sound()")
        exec(code, {"print": lambda *texts, **_: printed.extend(texts), "sound": sound})

    run(plain, "clip.wav", lambda: {"raw": tone(1.0, 0), "sampling_rate": 16_000})
    run(ours, "recording.mp4", lambda: tone(1.0, 0))
    assert [type(text) for text in printed] == [str] * 4
