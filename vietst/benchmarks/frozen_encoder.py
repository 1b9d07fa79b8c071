"""Benchmark stage `frozen_encoder`: training on cached states of a frozen encoder against computing them.

Three ways to take the same step, timed turn by turn, forward, backward and optimizer step, with everything
from the row on disk on: the encoder computed in every step; its states read from the cache; and, as the bound
below, the decoder alone on states that are in memory already. The models have the published sizes and random
weights, the clips are noise.
"""

import dataclasses
import functools
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from vietst.benchmarks.inputs import made_up_targets
from vietst.benchmarks.results import Bar
from vietst.constants import SAMPLE_RATE_HZ
from vietst.data.encoder_state_cache import build_states, plan_states
from vietst.data.encoder_states import EncodedUtteranceDataset
from vietst.data.features import LOG_MEL_80, WAVEFORM_16K, InputKind
from vietst.models import e2e, whisper
from vietst.models.architectures import E2E, WHISPER, Architecture
from vietst.models.published_sizes import TRIMMED_VOCABULARY, e2e_config, whisper_config
from vietst.models.trainable import ENCODER_PARTS, TrainingScope
from vietst.runtime import get_logger

MAX_OVER_DECODER_ALONE: Final = 1.15
"""How much a step on cached states should cost at most, in steps of the decoder alone; asked of wav2vec2.
Whisper's decoder attends to 1,500 positions of any clip, and they are read from disk for every clip."""

Batch = dict[str, torch.Tensor]

logger = get_logger(__name__)


@dataclasses.dataclass(frozen=True)
class FrozenEncoderCase:
    """A model to compare the three ways with."""

    name: str
    architecture: Architecture
    build: Callable[[], Any]
    input_kind: InputKind
    vocab_size: int
    """Tokens that labels are drawn from."""


@dataclasses.dataclass(frozen=True)
class Workload:
    """The batch that every step takes: clips of equal length, both targets of each, equally long."""

    num_utterances: int = 2
    duration_s: float = 10.0
    num_label_tokens: int = 40
    """Of each target, prompt included."""


def measure(num_rounds: int, **workload: Any) -> dict[str, Any]:
    """`compare_cases` of the published sizes; `workload` are the fields of `Workload`."""
    return compare_cases(published_cases(), Workload(**workload), num_rounds=num_rounds)


def bars(results: dict[str, Any]) -> list[Bar]:
    """Of wav2vec2 alone."""
    return [
        Bar(
            f"{case['name']}: in steps of the decoder alone",
            case["over_decoder_alone"],
            MAX_OVER_DECODER_ALONE,
            at_least=False,
        )
        for case in results["cases"]
        if case["has_bar"]
    ]


def published_cases() -> list[FrozenEncoderCase]:
    """Whisper tiny, and wav2vec2-base and XLSR-53 with mBART-50's decoder, trimmed and whole."""
    tiny = whisper_config("openai/whisper-tiny")
    cases = [
        FrozenEncoderCase(
            "Whisper tiny",
            WHISPER,
            functools.partial(whisper.MultitaskWhisper, tiny),
            LOG_MEL_80,
            tiny.vocab_size,
        )
    ]
    encoders = {"wav2vec2-base": "facebook/wav2vec2-base", "XLSR-53": "facebook/wav2vec2-large-xlsr-53"}
    for name, encoder in encoders.items():
        for num_tokens in (TRIMMED_VOCABULARY, None):
            config = e2e_config(encoder, num_tokens)
            build = functools.partial(e2e.MultitaskE2E, config)
            vocab_size = config.decoder.vocab_size
            cases.append(
                FrozenEncoderCase(f"{name}, {vocab_size:,} tokens", E2E, build, WAVEFORM_16K, vocab_size)
            )
    return cases


def compare_cases(
    cases: Sequence[FrozenEncoderCase], workload: Workload, *, num_rounds: int = 5
) -> dict[str, Any]:
    """`compare_ways` for each, one after the other: up to 10 GB at a time.

    Returns:
        What all cases share, and `cases`, a list of results.
    """
    results = []
    for case in cases:
        logger.info("measuring %s", case.name)
        results.append({"name": case.name, **compare_ways(case, workload, num_rounds=num_rounds)})
        logger.info("%s", _row(results[-1]))
        gc.collect()
    return {
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "num_threads": torch.get_num_threads(),
        "trained": "all of the decoder, AdamW, float32",
        "num_rounds": num_rounds,
        **dataclasses.asdict(workload),
        "cases": results,
    }


def compare_ways(case: FrozenEncoderCase, workload: Workload, *, num_rounds: int = 5) -> dict[str, Any]:
    """Median seconds of a training step each way, and their ratios.

    Args:
        num_rounds: timed steps of each way, after one that is not counted.
    """
    import datasets

    torch.manual_seed(0)
    model = case.build()
    TrainingScope("full", ENCODER_PARTS).apply(model)
    encoder = case.architecture.frozen_encoder(model, case.input_kind)
    rows = made_up_rows(case.input_kind, workload)
    with tempfile.TemporaryDirectory(prefix="vietst-benchmark-", ignore_cleanup_errors=True) as folder:
        labels = made_up_targets(
            workload.num_utterances,
            workload.num_label_tokens,
            prompt_length=case.architecture.prompt_length,
            vocab_size=case.vocab_size,
        )
        steps = _Steps(model, labels, folder)
        features_dir = Path(folder) / "features"
        datasets.Dataset.from_list(rows).save_to_disk(str(features_dir / "train"))
        featured = datasets.load_from_disk(str(features_dir / "train"))
        plan = plan_states({"train": featured}, features_dir, encoder)
        states = build_states(plan, {"train": featured}, encoder, batch_size=len(rows))
        encoded = EncodedUtteranceDataset(featured, states["train"])

        def batch_of(dataset: Any) -> Batch:
            return case.architecture.input_batch(
                [dataset[index] for index in range(len(rows))], case.input_kind
            )

        ready = batch_of(encoded)
        ways: dict[str, Callable[[], Batch]] = {
            "computed": lambda: batch_of(featured),
            "cached": lambda: batch_of(encoded),
            "decoder_alone": lambda: dict(ready),
        }
        first_losses = {way: steps.loss_alone(make()) for way, make in ways.items()}
        measured: dict[str, list[float]] = {way: [] for way in ways}
        for round_number in range(num_rounds + 1):
            for way, make in ways.items():
                seconds = steps.run(make)
                if round_number > 0:
                    measured[way].append(seconds)
    seconds_of = {way: statistics.median(values) for way, values in measured.items()}
    return {
        "num_trained": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "has_bar": case.architecture is E2E,
        **{f"{way}_seconds": round(value, 4) for way, value in seconds_of.items()},
        **{
            f"{way}_spread_s": [round(min(values), 4), round(max(values), 4)]
            for way, values in measured.items()
        },
        "times_faster": round(seconds_of["computed"] / seconds_of["cached"], 2),
        "over_decoder_alone": round(seconds_of["cached"] / seconds_of["decoder_alone"], 3),
        "bytes_per_utterance": round(plan.num_bytes(plan.shards) / len(rows)),
        "loss_difference": abs(first_losses["computed"] - first_losses["cached"]),
    }


def describe(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    missed = [
        case["name"]
        for case in results["cases"]
        if case["has_bar"] and case["over_decoder_alone"] > MAX_OVER_DECODER_ALONE
    ]
    verdict = f"MISSED by {', '.join(missed)}" if missed else "met"
    return "\n".join(
        (
            f"encoder frozen, {results['num_utterances']} clips of {results['duration_s']:g} s, both tasks, "
            f"{results['num_label_tokens']} label tokens each; trained: {results['trained']}; "
            f"{results['device']}, {results['num_threads']} thread(s), median of {results['num_rounds']}",
            f"{'seconds per step:':<28}{'computed':>10}{'cached':>9}{'decoder':>9}{'faster':>9}"
            f"{'over decoder':>14}{'MB per clip':>13}{'loss differs':>14}",
            *map(_row, results["cases"]),
            f"bar for wav2vec2: {MAX_OVER_DECODER_ALONE} times the decoder alone: {verdict}",
        )
    )


def _row(case: dict[str, Any]) -> str:
    return (
        f"{case['name']:<28}{case['computed_seconds']:>10.3f}{case['cached_seconds']:>9.3f}"
        f"{case['decoder_alone_seconds']:>9.3f}{case['times_faster']:>8.2f}x"
        f"{case['over_decoder_alone']:>13.3f}x{case['bytes_per_utterance'] / 1e6:>13.2f}"
        f"{case['loss_difference']:>14.0e}"
    )


# --- a made-up batch ---------------------------------------------------------------------------------


def made_up_rows(kind: InputKind, workload: Workload) -> list[dict[str, Any]]:
    """Rows as the feature cache holds them, of noise."""
    num_frames = kind.num_frames(round(workload.duration_s * SAMPLE_RATE_HZ))
    shape = (num_frames, kind.num_mel_bins) if kind.kind == "log_mel" else (num_frames,)
    noise = np.random.default_rng(0)
    return [
        {
            "id": f"utterance-{index}",
            "audio_digest": f"noise-{index}",
            "duration_s": workload.duration_s,
            "features": noise.standard_normal(shape).astype("<f2").tobytes(),
            "num_frames": num_frames,
            "pad_value": 0.0,
        }
        for index in range(workload.num_utterances)
    ]


class _Steps:
    """Training steps of one model, as the Trainer takes them."""

    def __init__(self, model: nn.Module, labels: Batch, folder: str) -> None:
        arguments = Seq2SeqTrainingArguments(
            output_dir=folder, use_cpu=not torch.cuda.is_available(), report_to="none", disable_tqdm=True
        )
        self.trainer = Seq2SeqTrainer(model=model, args=arguments)
        self.trainer.create_optimizer_and_scheduler(num_training_steps=1000)
        self.trainer.current_gradient_accumulation_steps = 1  # train() would set it
        self.labels = labels

    def run(self, make_inputs: Callable[[], Batch]) -> float:
        """Seconds of one step, from making its batch on."""
        start = time.perf_counter()
        loss = self.trainer.training_step(self.trainer.model, {**make_inputs(), **self.labels})
        self.trainer.optimizer.step()
        self.trainer.optimizer.zero_grad()
        float(loss)  # on a GPU this waits for the step to end
        return time.perf_counter() - start

    def loss_alone(self, inputs: Batch) -> float:
        """The loss of a batch, without a step."""
        torch.manual_seed(0)  # the same dropout in the decoder every time
        self.trainer.model.train()
        with torch.no_grad():
            batch = self.trainer._prepare_inputs({**inputs, **self.labels})
            return float(self.trainer.compute_loss(self.trainer.model, batch))
