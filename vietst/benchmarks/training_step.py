"""Benchmark stage `training_step`: encoding once for both tasks against the doubled batch.

The doubled batch is how the guide (and most recipes) train two tasks: stock Whisper in a plain
Seq2SeqTrainer, every clip twice in the batch. Both train the same random weights on the same made-up clips
and texts, at Whisper tiny's dimensions; forward, backward and optimizer step are timed, turn by turn.
"""

import statistics
import tempfile
import time
from typing import Any, Final

import torch
from torch import nn
from transformers import (
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from vietst.constants import IGNORE_INDEX, TASKS
from vietst.models.whisper import MultitaskWhisper

MIN_SPEED_RATIO: Final = 1.6
"""Times faster than the doubled batch that a step should be."""

WHISPER_TINY: Final = {
    "vocab_size": 51_865,
    "num_mel_bins": 80,
    "d_model": 384,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 6,
    "encoder_ffn_dim": 1536,
    "decoder_ffn_dim": 1536,
}


def compare_training_steps(
    *, num_utterances: int = 2, num_label_tokens: int = 40, num_rounds: int = 7
) -> dict[str, Any]:
    """Median seconds of a training step both ways, their ratio, and how far the two losses are apart.

    Args:
        num_utterances: clips in a batch, each a full 30 s window.
        num_label_tokens: tokens of each target.
        num_rounds: timed steps of each way, after one that is not counted.
    """
    torch.manual_seed(0)
    config = WhisperConfig(**WHISPER_TINY)
    stock = WhisperForConditionalGeneration(config)
    ours = MultitaskWhisper(config)
    ours.load_state_dict(stock.state_dict())
    once = _batch(config, num_utterances, num_label_tokens)
    doubled = {
        "input_features": once["input_features"].repeat(len(TASKS), 1, 1),
        "labels": once["labels"],
        "decoder_input_ids": once["decoder_input_ids"],
    }
    with tempfile.TemporaryDirectory(prefix="vietst-benchmark-") as folder:
        steps = [_Steps(stock, doubled, folder), _Steps(ours, once, folder)]
        first_losses = [step.run()[1] for step in steps]
        seconds: list[list[float]] = [[], []]
        for _ in range(num_rounds):
            for step, measured in zip(steps, seconds, strict=True):
                measured.append(step.run()[0])
    doubled_s, once_s = (statistics.median(measured) for measured in seconds)
    return {
        "model": "Whisper tiny's dimensions, random weights",
        "dtype": "float32",
        "device": str(steps[0].device),
        "num_threads": torch.get_num_threads(),
        "num_utterances": num_utterances,
        "num_label_tokens": num_label_tokens,
        "num_rounds": num_rounds,
        "doubled_batch_seconds": round(doubled_s, 4),
        "encode_once_seconds": round(once_s, 4),
        "doubled_batch_spread_s": [round(min(seconds[0]), 4), round(max(seconds[0]), 4)],
        "encode_once_spread_s": [round(min(seconds[1]), 4), round(max(seconds[1]), 4)],
        "times_faster": round(doubled_s / once_s, 2),
        "loss_difference": abs(first_losses[0] - first_losses[1]),
    }


def describe(results: dict[str, Any]) -> str:
    """The results in a few lines."""
    verdict = "met" if results["times_faster"] >= MIN_SPEED_RATIO else "MISSED"
    return (
        f"{results['model']}, {results['num_utterances']} utterances of 30 s, both tasks, "
        f"{results['num_label_tokens']} label tokens each, {results['dtype']}, {results['device']}, "
        f"{results['num_threads']} thread(s), median of {results['num_rounds']}\n"
        f"doubled batch {results['doubled_batch_seconds']:.3f} s   "
        f"encoded once {results['encode_once_seconds']:.3f} s   "
        f"{results['times_faster']:.2f} times faster (bar {MIN_SPEED_RATIO}: {verdict})   "
        f"losses differ by {results['loss_difference']:.1e}"
    )


class _Steps:
    """Training steps of one model on one batch, as the Trainer takes them."""

    def __init__(self, model: nn.Module, batch: dict[str, torch.Tensor], folder: str) -> None:
        arguments = Seq2SeqTrainingArguments(
            output_dir=folder, use_cpu=not torch.cuda.is_available(), report_to="none", disable_tqdm=True
        )
        self.trainer = Seq2SeqTrainer(model=model, args=arguments)
        self.trainer.create_optimizer_and_scheduler(num_training_steps=1000)
        self.trainer.current_gradient_accumulation_steps = 1  # train() would set it
        self.batch, self.device = batch, arguments.device

    def run(self) -> tuple[float, float]:
        """(seconds, loss) of one forward, backward and optimizer step."""
        start = time.perf_counter()
        loss = self.trainer.training_step(self.trainer.model, dict(self.batch))
        self.trainer.optimizer.step()
        self.trainer.optimizer.zero_grad()
        value = float(loss)  # on a GPU this waits for the step to end
        return time.perf_counter() - start, value


def _batch(config: WhisperConfig, num_utterances: int, num_label_tokens: int) -> dict[str, torch.Tensor]:
    """A made-up batch in which every utterance has both targets, all equally long."""
    num_targets = len(TASKS) * num_utterances
    num_frames = 2 * config.max_source_positions
    labels = torch.randint(100, 50_000, (num_targets, num_label_tokens))
    labels[:, :3] = IGNORE_INDEX
    return {
        "input_features": torch.randn(num_utterances, config.num_mel_bins, num_frames),
        "decoder_input_ids": torch.randint(100, 50_000, (num_targets, num_label_tokens)),
        "labels": labels,
        "utterance_index": torch.arange(num_utterances).repeat(len(TASKS)),
        "task_index": torch.arange(len(TASKS)).repeat_interleave(num_utterances),
    }
