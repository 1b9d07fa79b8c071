"""The whole round of a model, in the README's words: train, evaluate, push, download, use, examine.

Every step is the script or the library that a user calls, in a process of its own. Whoever decodes, and from
whichever copy, gets the same texts.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub.server import TOKEN, LoopbackHub
from tests.tiny_runs import tiny_e2e_run_overrides, tiny_run_overrides
from tests.user_machine import Machine
from vietst.inference import SpeechTranslator

pytestmark = pytest.mark.slow

MAX_TOKENS = 12


def num_steps(number: int) -> tuple[str, ...]:
    return tuple(f"training.{name}={number}" for name in ("max_steps", "eval_steps", "save_steps"))


LEARN_A_LITTLE = (
    *("training.batch_size=8", "training.learning_rate=2e-3", "training.logging_steps=40"),
    "evaluation.max_dev_utterances=4",
    # The same cap for clips of all lengths, since a stock pipeline knows no other.
    *(f"evaluation.max_new_tokens_base={MAX_TOKENS - 1}", "evaluation.max_new_tokens_per_second=0.01"),
)
"""Enough for words, and others for each task."""

OVERRIDES = {"whisper": tiny_run_overrides, "e2e": tiny_e2e_run_overrides}
OF_KIND = {
    "whisper": ("nano.d_model=64", "nano.ffn_dim=128", *num_steps(160)),
    "e2e": num_steps(80),
}

WITHOUT_VIETST = """
import json, sys
sys.modules["vietst"] = None  # importing it would be an error
import librosa
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor, pipeline

name, max_tokens, *clips = sys.argv[1:]
speech = pipeline("automatic-speech-recognition", model=name)
model, processor = AutoModelForSpeechSeq2Seq.from_pretrained(name), AutoProcessor.from_pretrained(name)
if model.config.model_type == "whisper":
    options = {task: {"task": task} for task in ("transcribe", "translate")}
    num_new = int(max_tokens)
else:
    ids = model.generation_config.task_to_id
    options = {task: {"forced_bos_token_id": ids[task]} for task in ("transcribe", "translate")}
    num_new = int(max_tokens) + 1  # the task's token is generated
texts = {}
for clip in clips:
    audio, _ = librosa.load(clip, sr=16_000, res_type="soxr_hq")
    (inputs,) = [
        tensor
        for key, tensor in processor(audio, sampling_rate=16_000, return_tensors="pt").items()
        if key in ("input_features", "input_values")
    ]
    for task, chosen in {"": {}, **options}.items():
        chosen = {**chosen, "max_new_tokens": num_new}
        in_pipeline = speech({"raw": audio.copy(), "sampling_rate": 16_000}, generate_kwargs=dict(chosen))
        (generated,) = processor.batch_decode(model.generate(inputs, **chosen), skip_special_tokens=True)
        texts[f"{clip} {task}"] = [in_pipeline["text"].strip(), generated.strip()]
print("TOLD", json.dumps(texts))
"""


@pytest.fixture
def machine(repo_root: Path, tiny_corpus: Path, tmp_path: Path) -> Iterator[Machine]:
    with LoopbackHub(tmp_path / "hub") as hub:
        yield Machine(repo_root, tiny_corpus, tmp_path, hub)


def succeeded(finished: Any) -> Any:
    assert finished.returncode == 0, finished.stderr[-4000:]
    return finished


@pytest.mark.parametrize("kind", ["whisper", "e2e"])
def test_everybody_gets_the_same_texts_from_every_copy(kind: str, machine: Machine) -> None:
    run_dir, repo_id = machine.folder / "run", f"tester/nano_{kind}"
    overrides = (*OVERRIDES[kind](machine.corpus, machine.folder), *LEARN_A_LITTLE, *OF_KIND[kind])
    succeeded(machine.run(f"train_{kind}.py", "--config", f"nano_{kind}", *overrides, launched=True))
    scored = evaluated(machine, kind, run_dir)
    clips = list(scored)[:3]

    push = ("push_to_hub.py", "--model_dir", str(run_dir), "--repo_id", repo_id)
    succeeded(machine.run(*push, HF_TOKEN=TOKEN))
    empty = {"HF_HOME": str(machine.folder / "empty"), "HF_TOKEN": TOKEN}
    paths = [str(machine.corpus / clip) for clip in clips]
    told = succeeded(machine.python(["-c", WITHOUT_VIETST, repo_id, str(MAX_TOKENS), *paths], **empty))
    texts = json.loads(told.stdout.rpartition("TOLD ")[2])

    translator = SpeechTranslator.from_pretrained(run_dir)
    for clip, path in zip(clips, paths, strict=True):
        result = translator(path)
        for task in ("transcribe", "translate"):
            said = result.text(task)
            assert texts[f"{path} {task}"] == [said, said], "pipeline, generate of the stock model"
            assert scored[clip][task] == said, "run_evaluation.py"
        assert texts[f"{path} "] == texts[f"{path} transcribe"], "what a pipeline does unasked"

    assert all(said for both in texts.values() for said in both)
    assert len({said for both in texts.values() for said in both}) > 1, "the task makes a difference"

    examined = machine.run("doctor.py", repo_id, HF_TOKEN=TOKEN)
    assert examined.returncode == 0, examined.stdout + examined.stderr
    for line in ("download ", "weights ", "tensors ", "card ", "clip, transcribe ", "clip, translate "):
        assert f"\nok       {line}" in f"\n{examined.stdout}", examined.stdout
    assert not machine.network_record.exists()


def evaluated(machine: Machine, kind: str, run_dir: Path) -> dict[str, dict[str, str]]:
    """Audio path of a test clip → task → hypothesis."""
    results = machine.folder / "results"
    test_csv = machine.corpus / "data" / "splits" / "test.csv"
    options = ("--model_dir", str(run_dir), "--model_type", kind, "--output", str(results))
    succeeded(machine.run("run_evaluation.py", *options, "--test_csv", str(test_csv)))
    (predictions,) = results.glob("*_predictions.csv")
    with test_csv.open(encoding="utf-8", newline="") as file:
        path_of = {row["id"]: row["audio_path"] for row in csv.DictReader(file)}
    with predictions.open(encoding="utf-8-sig", newline="") as file:
        return {
            path_of[row["id"]]: {
                "transcribe": row["transcript_hypothesis"],
                "translate": row["translation_hypothesis"],
            }
            for row in csv.DictReader(file)
        }
