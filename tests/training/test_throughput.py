"""The figures of a training's speed agree with what was counted otherwise."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.tiny_runs import tiny_e2e_run_overrides, tiny_run_overrides
from tests.training.known_batches import BY_SECONDS, assert_figures, ids_of_batches
from vietst.config import load_config
from vietst.data.batching import UtteranceDataset
from vietst.data.packed_clips import PackedClips, padded_batch
from vietst.models.multitask import LossWeights
from vietst.training import throughput as throughput_module
from vietst.training.model_flops import flops_of_batches, peak_flops
from vietst.training.preparation import prepare
from vietst.training.runner import run_training
from vietst.training.throughput import (
    Span,
    ThroughputMeter,
    describe_throughput,
    peak_memory_bytes,
    throughput,
)
from vietst.training.trainer import SpeechTrainer

FIGURES = ("utterances_per_s", "audio_s_per_s", "padding_share", "data_wait_share", "peak_memory_gb")


def entries(run_dir: Path) -> list[dict[str, float]]:
    text = next((run_dir / "metrics").glob("*_metrics.json")).read_text(encoding="utf-8")
    return json.loads(text)["history"]


def test_every_log_and_the_results_have_the_figures_of_the_batches_that_were_seen(nano_config, tiny_corpus):
    batches = ids_of_batches(tiny_corpus, num_processes=1, batches_per_step=2)
    run_dir = run_training(
        nano_config(
            *BY_SECONDS,
            "training.gradient_accumulation_steps=2",
            "training.logging_steps=2",
            "training.eval_steps=2",
            "training.report_to=tensorboard",
        )
    )
    first, second = [entry for entry in entries(run_dir) if "loss" in entry]
    assert_figures(first, tiny_corpus, batches[:4])
    assert_figures(second, tiny_corpus, batches[4:8])
    results = json.loads((run_dir / "train_results.json").read_text(encoding="utf-8"))
    assert_figures(results, tiny_corpus, batches[:8])
    for figures in (first, second, results):
        assert 0 < figures["data_wait_share"] < 1
        assert 0.1 < figures["peak_memory_gb"] <= peak_memory_bytes() / 2**30
    assert results["utterances_per_s"] > sum(map(len, batches[:8])) / results["train_runtime"]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir / "logs"))
    events.Reload()
    assert {f"train/{name}" for name in FIGURES} <= set(events.Tags()["scalars"])


def test_waveforms_are_padded_to_the_longest_of_their_batch(tiny_corpus, tmp_path, monkeypatch):
    seen: list[list[int]] = []
    step = SpeechTrainer.training_step

    def recording_step(self: SpeechTrainer, model: Any, inputs: dict[str, Any], *args: Any) -> torch.Tensor:
        seen.append(inputs["row_index"].tolist())
        return step(self, model, inputs, *args)

    monkeypatch.setattr(SpeechTrainer, "training_step", recording_step)
    run_dir = run_training(load_config("nano_e2e", tiny_e2e_run_overrides(tiny_corpus, tmp_path)))
    (cache,) = (tiny_corpus / "data" / "features").glob("waveform*")
    rows = datasets.load_from_disk(str(cache))["train"]
    lengths = [[rows[index]["num_frames"] for index in batch] for batch in seen]
    num_padded = sum(len(batch) * max(batch) for batch in lengths)
    results = json.loads((run_dir / "train_results.json").read_text(encoding="utf-8"))
    assert results["padding_share"] == pytest.approx(1 - sum(map(sum, lengths)) / num_padded, rel=1e-12)
    audio_s = sum(map(sum, lengths)) / 16_000
    num_utterances = sum(map(len, seen))
    found = results["utterances_per_s"] / results["audio_s_per_s"]
    assert found == pytest.approx(num_utterances / audio_s, rel=1e-3)


def test_a_slower_loader_shows_as_waiting_for_data(nano_config, monkeypatch, tmp_path):
    """Slower by a clock that reading an utterance sets forward: the machine's own speed does not matter."""
    clock, set_forward_s, reading_s = time.perf_counter, 0.0, 0.0
    monkeypatch.setattr(
        throughput_module, "time", SimpleNamespace(perf_counter=lambda: clock() + set_forward_s)
    )
    read = UtteranceDataset.__getitem__

    def slow(self: UtteranceDataset, index: int) -> dict[str, Any]:
        nonlocal set_forward_s
        set_forward_s += reading_s
        return read(self, index)

    monkeypatch.setattr(UtteranceDataset, "__getitem__", slow)

    def wait_share(name: str) -> float:
        run_dir = run_training(nano_config(f"output.dir={(tmp_path / name).as_posix()}"))
        return json.loads((run_dir / "train_results.json").read_text(encoding="utf-8"))["data_wait_share"]

    before = wait_share("quick")
    reading_s = 1000.0
    assert before < 0.99 < wait_share("slow")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there, it is the memory of the GPU")
def test_peak_memory_is_that_of_the_process_and_not_of_the_one_that_has_started_it():
    program = "from vietst.training.throughput import peak_memory_bytes; print(peak_memory_bytes())"
    large = np.ones(2**30, np.uint8)
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 0 < int(told.stdout) < large.nbytes <= peak_memory_bytes()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems are asked otherwise anyway")
def test_peak_memory_is_known_where_a_sandbox_does_not_tell_it_in_its_status(monkeypatch, tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmRSS:\t    1234 kB\n")
    monkeypatch.setattr(throughput_module, "_LINUX_STATUS", status)
    assert peak_memory_bytes() > 50 * 2**20, "PyTorch alone has more"


# --- the arithmetic ----------------------------------------------------------------------------------


def test_seconds_are_those_of_the_steps_and_waiting_that_of_their_batches(monkeypatch):
    now = 0.0
    monkeypatch.setattr(throughput_module.time, "perf_counter", lambda: now)
    monkeypatch.setattr(throughput_module, "peak_memory_bytes", lambda: 3 * 2**30)
    clips = PackedClips(torch.zeros(3), (1, 2), (0.0, 0.0), 2, mask_name="attention_mask")
    batch = {"duration_s": torch.tensor([1.0, 2.0]), "input_values": clips}

    def loader() -> Iterator[Any]:
        nonlocal now
        while True:
            now += 1
            yield batch

    meter, batches = ThroughputMeter(peak_flops=100.0, flops_of_batch=lambda batch: 30.0), loader()
    for _ in range(2):
        step = meter.timed(batches)
        for _ in range(2):
            next(step)
            now += 4
        meter.on_step_end(None, None, None)
        now += 1000  # an evaluation
    figures = {
        "utterances_per_s": 8 / 20,
        "audio_s_per_s": 12 / 20,
        "data_wait_share": 4 / 20,
        "padding_share": 1 / 4,
        "peak_memory_gb": 3,
        "model_flops_utilization": 4 * 30 / (20 * 100),
    }
    assert meter.since_last_time() == pytest.approx(figures)
    assert meter.since_last_time() == {}
    assert meter.of_training() == pytest.approx(figures)
    assert describe_throughput(figures) == (
        "0.4 utterances/s  0.6 s of audio/s  padding 25%  data wait 20%  peak 3.00 GB  FLOPs utilization 6%"
    )


def test_processes_add_up_their_utterances_over_their_common_time():
    one = Span(seconds=10, wait_s=1, num_utterances=40, audio_s=100, num_heard=3, num_padded=4, flops=50)
    other = Span(seconds=10, wait_s=3, num_utterances=60, audio_s=200, num_heard=1, num_padded=4, flops=150)
    figures = throughput([one, other], 2**30, peak_flops=20)
    assert figures["utterances_per_s"] == 10
    assert figures["audio_s_per_s"] == 30
    assert figures["data_wait_share"] == 0.2
    assert figures["padding_share"] == 0.5
    assert figures["model_flops_utilization"] == 0.5


# --- FLOPs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
@pytest.mark.parametrize("kind", ["whisper", "whisper in windows", "e2e"])
def test_the_operations_of_a_batch_are_those_that_pytorch_counts_when_it_is_computed(
    kind, frozen, tiny_corpus, tmp_path
):
    overrides = tiny_e2e_run_overrides if kind == "e2e" else tiny_run_overrides
    options = ["model.attention=eager", f"model.freeze_encoder={str(frozen).lower()}", "loss.ctc_weight=0"]
    if kind == "whisper in windows":
        options += ["audio.context=bucketed", "audio.context_windows_s=[2.5,3,3.5]"]
    name = "nano_e2e" if kind == "e2e" else "nano_whisper"
    config = load_config(name, [*overrides(tiny_corpus, tmp_path), *options]).config
    preparation = prepare(config)
    model = preparation.architecture.build_for_training(config, LossWeights(), None)
    collator = preparation.collator(preparation.tasks, config.model.language)
    batch = collator([preparation.train[index] for index in (1, 5, 8)])
    padded = padded_batch(batch)
    inputs = {name: value for name, value in padded.items() if name not in ("row_index", "duration_s")}
    with FlopCounterMode(display=False) as counter:
        model.train()(**inputs).loss.backward()
    forecast = flops_of_batches(config, model, preparation.input_kind)(batch)
    assert forecast == pytest.approx(counter.get_total_flops(), rel=0.005)


def packed(*shape: int) -> PackedClips:
    """Two clips of this shape."""
    return PackedClips.of([np.zeros(shape, np.float16)] * 2)


@pytest.mark.parametrize("kind", ["whisper", "e2e"])
def test_a_batch_that_brings_the_encoders_states_needs_less(kind, tiny_corpus, tmp_path):
    overrides = tiny_run_overrides if kind == "whisper" else tiny_e2e_run_overrides
    options = [*overrides(tiny_corpus, tmp_path), "model.freeze_encoder=true"]
    config = load_config(f"nano_{kind}", options).config
    preparation = prepare(config)
    model = preparation.architecture.build_for_training(config, LossWeights(), None)
    flops = flops_of_batches(config, model, preparation.input_kind)
    targets = {"labels": torch.ones(2, 10), "label_positions": torch.arange(20), "row_index": torch.ones(2)}
    window = preparation.input_kind.num_window_frames
    heard = {
        "whisper": {"input_features": packed(window, 80)},
        "e2e": {"input_values": packed(32_000)},
    }
    computed = flops({**targets, **heard[kind]})
    assert 0 < flops({**targets, "encoder_states": packed(100, 32)}) < 0.8 * computed


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA H200 NVL", 835),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA GeForce RTX 2050", 12),
        ("Tesla K80", None),
    ],
)
def test_peaks_by_the_names_that_pytorch_gives(name, tera):
    assert peak_flops(name) == (None if tera is None else tera * 1e12)
