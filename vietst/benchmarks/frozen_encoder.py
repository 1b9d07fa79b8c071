"""Benchmark stage `frozen_encoder`: training on cached states of a frozen encoder against computing them.

Three ways to take the same step, timed turn by turn, forward, backward and optimizer step, with everything
from the row on disk on: the encoder computed in every step; its states read from the cache; and, as the bound
below, the decoder alone on states that are in memory already.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, WhisperConfig

from vietst.benchmarks.training_step import WHISPER_TINY
from vietst.constants import IGNORE_INDEX, SAMPLE_RATE_HZ, TASKS
from vietst.data.encoder_state_cache import build_states, plan_states
from vietst.data.encoder_states import EncodedUtteranceDataset, FrozenEncoder
from vietst.data.features import LOG_MEL_80, InputKind
from vietst.models import whisper

MAX_OVER_DECODER_ALONE: Final = 1.15
"""How much a step on cached states should cost at most, in steps of the decoder alone (asked of wav2vec2)."""

Batch = dict[str, torch.Tensor]


def compare_whisper_tiny(
    *, num_utterances: int = 2, duration_s: float = 6.0, num_label_tokens: int = 40, num_rounds: int = 7
) -> dict[str, Any]:
    """The comparison for random weights of Whisper tiny's dimensions, on made-up clips and texts."""
    torch.manual_seed(0)
    model = whisper.MultitaskWhisper(WhisperConfig(**WHISPER_TINY))
    model.freeze_encoder()
    compared = compare_frozen_encoder_steps(
        model,
        whisper.frozen_encoder(model, LOG_MEL_80),
        made_up_rows(LOG_MEL_80, num_utterances, duration_s),
        input_batch=lambda rows: whisper.input_batch(rows, LOG_MEL_80),
        labels=made_up_labels(num_utterances, num_label_tokens),
        num_rounds=num_rounds,
    )
    return {
        "model": "Whisper tiny's dimensions, random weights",
        "duration_s": duration_s,
        "num_label_tokens": num_label_tokens,
        **compared,
    }


def compare_frozen_encoder_steps(
    model: nn.Module,
    encoder: FrozenEncoder,
    rows: Sequence[dict[str, Any]],
    *,
    input_batch: Callable[[Sequence[dict[str, Any]]], Batch],
    labels: Batch,
    num_rounds: int = 7,
) -> dict[str, Any]:
    """Median seconds of a training step each way, and their ratios.

    Args:
        model: of any architecture, its encoder frozen.
        encoder: of that model.
        rows: of the feature cache; they are the batch.
        input_batch: the architecture's.
        labels: what a batch has besides its inputs.
        num_rounds: timed steps of each way, after one that is not counted.
    """
    import datasets

    with tempfile.TemporaryDirectory(prefix="vietst-benchmark-", ignore_cleanup_errors=True) as folder:
        steps = _Steps(model, labels, folder)
        features_dir = Path(folder) / "features"
        datasets.Dataset.from_list(list(rows)).save_to_disk(str(features_dir / "train"))
        featured = datasets.load_from_disk(str(features_dir / "train"))
        plan = plan_states({"train": featured}, features_dir, encoder)
        states = build_states(plan, {"train": featured}, encoder, batch_size=len(rows))
        encoded = EncodedUtteranceDataset(featured, states["train"])
        indices = range(len(rows))
        ready = input_batch([encoded[index] for index in indices])
        ways: dict[str, Callable[[], Batch]] = {
            "computed": lambda: input_batch([featured[index] for index in indices]),
            "cached": lambda: input_batch([encoded[index] for index in indices]),
            "decoder_alone": lambda: dict(ready),
        }
        first_losses = {way: steps.loss_without_step(make()) for way, make in ways.items()}
        measured: dict[str, list[float]] = {way: [] for way in ways}
        for round_number in range(num_rounds + 1):
            for way, make in ways.items():
                seconds = steps.run(make)
                if round_number > 0:
                    measured[way].append(seconds)
    seconds_of = {way: statistics.median(values) for way, values in measured.items()}
    return {
        "device": str(steps.device),
        "num_threads": torch.get_num_threads(),
        "num_utterances": len(rows),
        "num_rounds": num_rounds,
        **{f"{way}_seconds": round(value, 4) for way, value in seconds_of.items()},
        **{
            f"{way}_spread_s": [round(min(values), 4), round(max(values), 4)]
            for way, values in measured.items()
        },
        "times_faster": round(seconds_of["computed"] / seconds_of["cached"], 2),
        "over_decoder_alone": round(seconds_of["cached"] / seconds_of["decoder_alone"], 2),
        "bytes_per_utterance": round(plan.num_bytes(plan.shards) / len(rows)),
        "loss_difference": abs(first_losses["computed"] - first_losses["cached"]),
    }


def describe(results: dict[str, Any]) -> str:
    """The results in a few lines."""
    return (
        f"{results['model']}, encoder frozen, {results['num_utterances']} clips of "
        f"{results['duration_s']:g} s, both tasks, {results['num_label_tokens']} label tokens each, "
        f"{results['device']}, "
        f"{results['num_threads']} thread(s), median of {results['num_rounds']}\n"
        f"encoder computed {results['computed_seconds']:.3f} s   "
        f"states cached {results['cached_seconds']:.3f} s   "
        f"{results['times_faster']:.2f} times faster, {results['over_decoder_alone']:.2f} times the decoder "
        f"alone   {results['bytes_per_utterance'] / 1e6:.2f} MB per clip   "
        f"losses differ by {results['loss_difference']:.1e}"
    )


def made_up_rows(kind: InputKind, num_utterances: int, duration_s: float) -> list[dict[str, Any]]:
    """Rows as the feature cache holds them, of noise."""
    num_frames = kind.num_frames(round(duration_s * SAMPLE_RATE_HZ))
    shape = (num_frames, kind.num_mel_bins) if kind.kind == "log_mel" else (num_frames,)
    noise = np.random.default_rng(0)
    return [
        {
            "id": f"utterance-{index}",
            "audio_digest": f"noise-{index}",
            "duration_s": duration_s,
            "features": noise.standard_normal(shape).astype("<f2").tobytes(),
            "num_frames": num_frames,
            "pad_value": 0.0,
        }
        for index in range(num_utterances)
    ]


def made_up_labels(num_utterances: int, num_label_tokens: int, max_token_id: int = 50_000) -> Batch:
    """Both targets of every utterance, all equally long, with a prompt of four tokens."""
    num_targets = len(TASKS) * num_utterances
    labels = torch.randint(100, max_token_id, (num_targets, num_label_tokens))
    labels[:, :3] = IGNORE_INDEX
    return {
        "decoder_input_ids": torch.randint(100, max_token_id, (num_targets, num_label_tokens)),
        "labels": labels,
        "utterance_index": torch.arange(num_utterances).repeat(len(TASKS)),
        "task_index": torch.arange(len(TASKS)).repeat_interleave(num_utterances),
    }


class _Steps:
    """Training steps of one model, as the Trainer takes them."""

    def __init__(self, model: nn.Module, labels: Batch, folder: str) -> None:
        arguments = Seq2SeqTrainingArguments(
            output_dir=folder, use_cpu=not torch.cuda.is_available(), report_to="none", disable_tqdm=True
        )
        self.trainer = Seq2SeqTrainer(model=model, args=arguments)
        self.trainer.create_optimizer_and_scheduler(num_training_steps=1000)
        self.trainer.current_gradient_accumulation_steps = 1  # train() would set it
        self.labels, self.device = labels, arguments.device

    def run(self, make_inputs: Callable[[], Batch]) -> float:
        """Seconds of one step, from making its batch on."""
        start = time.perf_counter()
        loss = self.trainer.training_step(self.trainer.model, {**make_inputs(), **self.labels})
        self.trainer.optimizer.step()
        self.trainer.optimizer.zero_grad()
        float(loss)  # on a GPU this waits for the step to end
        return time.perf_counter() - start

    def loss_without_step(self, inputs: Batch) -> float:
        loss = float(self.trainer.training_step(self.trainer.model, {**inputs, **self.labels}))
        self.trainer.optimizer.zero_grad()
        return loss
