"""Benchmark stage `batch_seconds`: training on batches by seconds against batches of equally many clips.

The model of the configuration nano_e2e takes real training steps on the corpus at hand, turn by turn: on a
batch by seconds, and on one of the same mean number of clips in random order. Reading rows and padding them
are part of a step.
"""

import dataclasses
import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from vietst.benchmarks.results import Bar
from vietst.config import load_config
from vietst.config_rules import accumulation_steps
from vietst.data.duration_batches import DurationBatchSampler
from vietst.errors import ConfigError
from vietst.training.arguments import training_arguments
from vietst.training.preparation import Preparation, prepare
from vietst.training.runner import build_trainer
from vietst.training.trainer import SpeechTrainer

MAX_PADDING_SHARE: Final = 0.10
"""How much of the padded seconds should at most be padding, on the sample corpus."""


@dataclasses.dataclass
class Measured:
    """Steps of one way, added up."""

    num_steps: int = 0
    num_utterances: int = 0
    audio_s: float = 0.0
    seconds: float = 0.0

    def add(self, durations_s: Sequence[float], seconds: float) -> None:
        self.num_steps += 1
        self.num_utterances += len(durations_s)
        self.audio_s += sum(durations_s)
        self.seconds += seconds


def compare_batches(overrides: Sequence[str], *, max_steps: int | None = None) -> dict[str, Any]:
    """Throughput and padding of an epoch both ways.

    Args:
        overrides: changes to the configuration nano_e2e, `section.key=value`.
        max_steps: of each way; None: the whole epoch.

    Raises:
        VietstError: no corpus where the configuration looks for it, or batches that are not by seconds.
    """
    with tempfile.TemporaryDirectory(prefix="vietst-benchmark-", ignore_cleanup_errors=True) as folder:
        own = [
            f"output.dir={Path(folder, 'run').as_posix()}",
            f"model.name={Path(folder, 'base').as_posix()}",
            *(f"model.{part}={Path(folder, 'parts', part).as_posix()}" for part in ("encoder", "decoder")),
            "training.report_to=none",
        ]
        config = load_config("nano_e2e", [*own, *overrides]).config
        preparation = prepare(config)
        by_seconds = preparation.train_batches
        if by_seconds is None:
            raise ConfigError(
                where="training.batch_seconds",
                rule="a number of seconds: batches by seconds are what is measured",
                found="null",
                do="leave it as nano_e2e has it",
            )
        arguments = training_arguments(config, accumulation_steps(config.training, num_processes=1))
        steps = _Steps(build_trainer(config, arguments, preparation), preparation)
        ways = {
            "by_seconds": by_seconds.batches(0)[:max_steps],
            "fixed": by_seconds.fixed_batches()[:max_steps],
        }
        measured = {way: Measured() for way in ways}
        for batches in ways.values():
            steps.run(batches[0])  # not counted
        for turn in itertools.zip_longest(*ways.values()):
            for way, batch in zip(ways, turn, strict=True):
                if batch is not None:
                    measured[way].add(by_seconds.durations_s[batch].tolist(), steps.run(batch))
    return {
        "device": str(arguments.device),
        "num_threads": torch.get_num_threads(),
        "precision": "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else "fp32",
        "budget_s": by_seconds.batch_seconds,
        "num_train_utterances": len(preparation.train),
        **{way: _result(measured[way], by_seconds, batches) for way, batches in ways.items()},
        "times_faster": round(
            (measured["by_seconds"].audio_s / measured["by_seconds"].seconds)
            / (measured["fixed"].audio_s / measured["fixed"].seconds),
            3,
        ),
    }


def _result(
    measured: Measured, sampler: DurationBatchSampler, batches: Sequence[Sequence[int]]
) -> dict[str, float]:
    return {
        "num_steps": measured.num_steps,
        "utterances_per_batch": round(measured.num_utterances / measured.num_steps, 2),
        "seconds": round(measured.seconds, 3),
        "utterances_per_s": round(measured.num_utterances / measured.seconds, 2),
        "audio_s_per_s": round(measured.audio_s / measured.seconds, 2),
        "padding_share": round(sampler.padding_share(batches), 4),
    }


def bars(results: dict[str, Any]) -> list[Bar]:
    share = results["by_seconds"]["padding_share"]
    return [Bar("share of padding, batches by seconds", share, MAX_PADDING_SHARE, at_least=False)]


def describe(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    names = {"by_seconds": f"by seconds (at most {results['budget_s']:g} s)", "fixed": "fixed, random order"}
    lines = [
        f"nano_e2e on {results['num_train_utterances']} utterances, {results['precision']}, "
        f"{results['device']}, {results['num_threads']} thread(s), turn by turn",
        f"{'batches':<28}{'steps':>6}{'clips each':>12}{'clips/s':>9}{'audio s/s':>11}{'padding':>9}",
    ]
    for way, name in names.items():
        result = results[way]
        lines.append(
            f"{name:<28}{result['num_steps']:>6}{result['utterances_per_batch']:>12.1f}"
            f"{result['utterances_per_s']:>9.1f}{result['audio_s_per_s']:>11.1f}{result['padding_share']:>9.1%}"
        )
    verdict = "met" if results["by_seconds"]["padding_share"] < MAX_PADDING_SHARE else "MISSED"
    lines.append(
        f"audio per second: {results['times_faster']:.2f} times that of fixed batches; "
        f"padding under {MAX_PADDING_SHARE:.0%} on the sample corpus: {verdict}"
    )
    return "\n".join(lines)


class _Steps:
    """Training steps of one model, as the Trainer takes them."""

    def __init__(self, trainer: SpeechTrainer, preparation: Preparation) -> None:
        self.trainer, self.rows = trainer, preparation.train
        trainer.create_optimizer_and_scheduler(num_training_steps=100_000)
        trainer.current_gradient_accumulation_steps = 1  # train() would set it
        # with the precision that training has
        self.model, self.optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)

    def run(self, batch: Sequence[int]) -> float:
        """Seconds of one step on these rows, from reading them on."""
        start = time.perf_counter()
        inputs = self.trainer.data_collator([self.rows[index] for index in batch])
        loss = self.trainer.training_step(self.model, inputs)
        self.optimizer.step()
        self.optimizer.zero_grad()
        float(loss)  # on a GPU this waits for the step to end
        return time.perf_counter() - start
