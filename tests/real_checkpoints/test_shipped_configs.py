"""The same code for real models: shipped configs on repositories of the true shape and files, from a Hub."""

import csv
import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.hub.server import LoopbackHub
from tests.real_shapes import LARGE_V3, MEDIUM, TINY, PublishedWhisper, write_whisper_repository
from tests.user_machine import Machine
from vietst.data.audio import load_waveform
from vietst.data.features import input_kind_of
from vietst.evaluation.decode import DecodingOptions, decode_rows
from vietst.models import whisper, whisper_inputs
from vietst.models.architectures import WHISPER

pytestmark = pytest.mark.slow


def evaluated(
    machine: Machine, model: str, output: Path, **environment: str
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Score a model on the test split; returns metrics and predictions."""
    finished = machine.run("run_evaluation.py", "--model_dir", model, "--output", str(output), **environment)
    assert finished.returncode == 0, finished.stderr
    (metrics_path,), (predictions_path,) = output.glob("*_metrics.json"), output.glob("*_predictions.csv")
    with predictions_path.open(encoding="utf-8-sig", newline="") as file:
        predictions = list(csv.DictReader(file))
    return json.loads(metrics_path.read_text(encoding="utf-8")), predictions


def history(run_dir: Path) -> list[dict[str, Any]]:
    (path,) = (run_dir / "metrics").glob("*_metrics.json")
    entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["history"]
    return entries


def downloads(hub: LoopbackHub) -> Counter[str]:
    """How often each file was fetched."""
    fetched = (request.split() for request in hub.requests)
    return Counter(
        path.rsplit("/", 1)[-1] for method, path in fetched if method == "GET" and "/resolve/" in path
    )


def assert_whole_model(run_dir: Path, published: PublishedWhisper, base: Path) -> None:
    """The folder holds a model of the true shape that stock transformers loads, trained all over."""
    from transformers import WhisperForConditionalGeneration

    model, loading = WhisperForConditionalGeneration.from_pretrained(run_dir, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert model.config.num_mel_bins == published.num_mel_bins
    assert (model.config.max_source_positions, model.config.max_target_positions) == (1500, 448)
    before, after = load_file(base / "model.safetensors"), load_file(run_dir / "model.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        assert tensor.dtype == torch.float32, name
        assert tensor.shape == before[name].shape, name
    unchanged = {name for name in after if torch.equal(after[name], before[name].float())}
    assert unchanged == {"model.encoder.embed_positions.weight"}, (
        "the sinusoids, and only they, are constants"
    )


def test_the_network_guard_catches_who_leaves_the_machine(repo_root: Path, tmp_path: Path) -> None:
    with LoopbackHub(tmp_path / "hub") as hub:
        machine = Machine(repo_root, tmp_path, tmp_path, hub)
        finished = machine.python(["-c", "import urllib.request as r; r.urlopen('http://example.org')"])
    assert "the network guard of the tests refuses example.org" in finished.stderr
    assert machine.network_record.read_text(encoding="utf-8") == "example.org\n"


# --- shipped configs on the repositories that they name ----------------------------------------------


@dataclasses.dataclass
class TrainedTiny:
    """`dev_whisper` after its few steps, on a machine whose Hub is gone since."""

    machine: Machine
    run_dir: Path
    base: Path
    finished: Any


@pytest.fixture(scope="session")
def trained_tiny(
    repo_root: Path, shared_data: Path, spoken_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> TrainedTiny:
    folder = tmp_path_factory.mktemp("tiny")
    base = write_whisper_repository(folder / "base", TINY, shared_data)
    with LoopbackHub(folder / "hub") as hub:
        hub.store.publish(TINY.repo_id, base)
        machine = Machine(repo_root, spoken_corpus, folder, hub)
        finished = machine.train("dev_whisper", "dev", launched=True)
    assert finished.returncode == 0, finished.stderr
    return TrainedTiny(machine, folder / "dev", base, finished)


def test_dev_whisper_trains_evaluates_both_tasks_and_saves(trained_tiny: TrainedTiny) -> None:
    assert_whole_model(trained_tiny.run_dir, TINY, trained_tiny.base)
    (evaluation,) = [entry for entry in history(trained_tiny.run_dir) if "eval_loss" in entry]
    assert {"eval_wer", "eval_cer", "eval_bleu", "eval_chrf", "eval_loss_translate"} <= evaluation.keys()
    assert evaluation["eval_num_utterances"] == 2
    assert "openai/whisper-tiny for transcribe and translate" in trained_tiny.finished.stderr
    assert not trained_tiny.machine.network_record.exists()
    assert set(downloads(trained_tiny.machine.hub).values()) == {1}, "one download"


def test_without_hub_and_network_the_cache_gives_the_same_run(trained_tiny: TrainedTiny) -> None:
    machine, num_requests = trained_tiny.machine, len(trained_tiny.machine.hub.requests)
    finished = machine.train("dev_whisper", "offline", launched=True, HF_HUB_OFFLINE="1")
    assert finished.returncode == 0, finished.stderr
    losses = [
        [entry[key] for entry in history(run_dir) for key in ("train_loss", "eval_loss") if key in entry]
        for run_dir in (trained_tiny.run_dir, machine.folder / "offline")
    ]
    assert losses[0] == losses[1]
    assert len(machine.hub.requests) == num_requests
    assert not machine.network_record.exists()


def test_run_evaluation_scores_the_run_and_the_base_model_from_the_cache(
    trained_tiny: TrainedTiny, tmp_path: Path
) -> None:
    machine = trained_tiny.machine
    of_both_tasks = {"wer", "cer", "bleu", "chrf"}
    # OpenAI's translate into English.
    for model, scores in ((str(trained_tiny.run_dir), of_both_tasks), (TINY.repo_id, {"wer", "cer"})):
        metrics, predictions = evaluated(machine, model, tmp_path / Path(model).name, HF_HUB_OFFLINE="1")
        assert of_both_tasks & metrics.keys() == scores
        assert metrics["code_switching"]["mixed_error_rate"] == metrics["wer"]
        assert metrics["num_utterances"] == len(predictions) > 0
        texts = ["transcript_hypothesis", *(["translation_hypothesis"] if "bleu" in scores else [])]
        assert all(row[text] for row in predictions for text in texts)
    assert not machine.network_record.exists()


def test_a_stock_pipeline_writes_what_our_decoding_writes(
    trained_tiny: TrainedTiny, shared_data: Path, tmp_path: Path
) -> None:
    clip = shared_data / "speech_en" / "ljspeech" / "LJ001-0002.wav"
    torch.save(torch.from_numpy(load_waveform(clip)), tmp_path / "clip.pt")
    program = f"""
import json, torch
from transformers import pipeline
recognizer = pipeline("automatic-speech-recognition", model={str(trained_tiny.run_dir)!r})
texts = []
for num_beams in (1, 5):
    for task in ({{}}, {{"task": "translate"}}):
        audio = {{"raw": torch.load({str(tmp_path / "clip.pt")!r}).numpy(), "sampling_rate": 16000}}
        options = {{"max_new_tokens": 40, "num_beams": num_beams, **task}}
        texts.append(recognizer(audio, generate_kwargs=options)["text"].strip())
print(json.dumps(texts))
"""
    finished = trained_tiny.machine.python(["-c", program])
    assert finished.returncode == 0, finished.stderr
    texts = json.loads(finished.stdout)
    assert texts == [
        text for num_beams in (1, 5) for text in our_texts(trained_tiny.run_dir, clip, num_beams)
    ]
    assert len(set(texts)) == len(texts), "tasks and beams make a difference"
    assert not trained_tiny.machine.network_record.exists()


def our_texts(run_dir: Path, clip: Path, num_beams: int) -> tuple[str | None, str | None]:
    """Transcript and translation of a clip, of at most 40 tokens."""
    processor = whisper_inputs.load_processor(str(run_dir))
    row = {"id": "1", "video_id": "1", "duration": 1.9, "transcript": "", "translation": ""}
    decoded = decode_rows(
        [{**row, "audio_path": clip.name}],
        audio_root=clip.parent,
        input_kind=input_kind_of(processor.feature_extractor),
        architecture=WHISPER,
        model=whisper.load_model(str(run_dir)).eval(),
        tokenizer=processor.tokenizer,
        options=DecodingOptions(("transcribe", "translate"), "vi", 1, num_beams, 0.0, 40),
    )
    (prediction,) = decoded.predictions
    return prediction.transcript_hypothesis, prediction.translation_hypothesis


@pytest.mark.parametrize(
    ("config", "published", "overrides"),
    [
        ("prod_whisper", MEDIUM, ("training.warmup_steps=1",)),
        ("dev_whisper", LARGE_V3, ("model.name=openai/whisper-large-v3",)),
    ],
    ids=["prod_whisper", "dev_whisper on large-v3"],
)
def test_other_sizes_train_and_are_scored(
    config: str,
    published: PublishedWhisper,
    overrides: tuple[str, ...],
    repo_root: Path,
    shared_data: Path,
    spoken_corpus: Path,
    tmp_path: Path,
) -> None:
    base = write_whisper_repository(tmp_path / "base", published, shared_data)
    with LoopbackHub(tmp_path / "hub") as hub:
        hub.store.publish(published.repo_id, base)
        machine = Machine(repo_root, spoken_corpus, tmp_path, hub)
        finished = machine.train(config, "run", *overrides, launched=True)
        assert finished.returncode == 0, finished.stderr
        metrics, predictions = evaluated(machine, str(tmp_path / "run"), tmp_path / "results")
    assert_whole_model(tmp_path / "run", published, base)
    facts = json.loads((tmp_path / "run" / "run_facts.json").read_text(encoding="utf-8"))
    assert facts["input_kind"] == f"log_mel-{published.num_mel_bins}"
    assert metrics["num_utterances"] == len(predictions) > 0
    assert {"wer", "cer", "bleu", "chrf"} <= metrics.keys()
    assert not machine.network_record.exists()
