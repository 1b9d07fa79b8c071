"""Benchmark stage `training_step`: encoding once for both tasks against the doubled batch.

The doubled batch is how the guide (and most recipes) train two tasks: the stock class in a plain
Seq2SeqTrainer, every clip twice in the batch. Both ways train the very same weights, random ones of the
published sizes, with one optimizer, on the same made-up clips and texts; forward, backward and optimizer step
are timed, turn by turn. On a machine with other work on it, look at the processor time, not at the clock.
"""

import dataclasses
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import nn
from transformers import (
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    SpeechEncoderDecoderModel,
    WhisperForConditionalGeneration,
)

from vietst.benchmarks.inputs import made_up_targets
from vietst.benchmarks.results import Bar
from vietst.constants import SAMPLE_RATE_HZ, TASKS
from vietst.models import e2e, whisper
from vietst.models.architectures import E2E, WHISPER
from vietst.models.published_sizes import TRIMMED_VOCABULARY, e2e_config, whisper_config
from vietst.runtime import get_logger

Batch = dict[str, torch.Tensor]

AUDIO: Final[tuple[str, ...]] = ("input_features", "input_values", "attention_mask")
"""What the doubled batch holds twice."""

logger = get_logger(__name__)


@dataclasses.dataclass(frozen=True)
class StepCase:
    """A model to compare the two ways with; its feature encoder, if it has one, is frozen in both."""

    name: str
    ours: type[nn.Module]
    stock: type[nn.Module]
    config: Any
    vocab_size: int
    min_times_faster: float
    """How much faster than the doubled batch a step should be."""


@dataclasses.dataclass(frozen=True)
class StepWorkload:
    """The batch of every step: both targets of each clip, all equally long.

    `duration_s` is that of wav2vec2's clips; Whisper's take its window. `num_label_tokens` counts the prompt.
    """

    num_utterances: int = 2
    duration_s: float = 10.0
    num_label_tokens: int = 40


def measure(num_rounds: int, **workload: Any) -> dict[str, Any]:
    """`compare_cases` of the published sizes; `workload` are the fields of `StepWorkload`."""
    return compare_cases(published_cases(), StepWorkload(**workload), num_rounds=num_rounds)


def bars(results: dict[str, Any]) -> list[Bar]:
    """By the clock."""
    return [
        Bar(
            f"{case['name']}: times faster than the doubled batch",
            case["times_faster_seconds"],
            case["min_times_faster"],
            at_least=True,
        )
        for case in results["cases"]
    ]


def published_cases() -> list[StepCase]:
    """Whisper tiny, and wav2vec2-base with mBART-50's decoder, whole and trimmed."""
    cases = [whisper_case("Whisper tiny", whisper_config("openai/whisper-tiny"), 1.85)]
    for vocab_size, bar in ((None, 1.6), (TRIMMED_VOCABULARY, 1.75)):
        config = e2e_config("facebook/wav2vec2-base", vocab_size)
        name = f"wav2vec2-base + mBART-50, {config.decoder.vocab_size:,} tokens"
        cases.append(e2e_case(name, config, bar))
    return cases


def whisper_case(name: str, config: Any, min_times_faster: float) -> StepCase:
    """Of a `WhisperConfig`."""
    return StepCase(
        name,
        whisper.MultitaskWhisper,
        WhisperForConditionalGeneration,
        config,
        config.vocab_size,
        min_times_faster,
    )


def e2e_case(name: str, config: Any, min_times_faster: float) -> StepCase:
    """Of a `SpeechEncoderDecoderConfig`, without masks and without layers that are skipped at random."""
    config.encoder.layerdrop = config.decoder.decoder_layerdrop = 0.0
    config.encoder.apply_spec_augment = False
    vocab_size = config.decoder.vocab_size
    return StepCase(name, e2e.MultitaskE2E, SpeechEncoderDecoderModel, config, vocab_size, min_times_faster)


def compare_cases(
    cases: Sequence[StepCase], workload: StepWorkload, *, num_rounds: int = 5
) -> dict[str, Any]:
    """`compare_training_steps` for each, one after the other: up to 16 GB at a time.

    Returns:
        What all cases share, and `cases`, a list of results.
    """
    results = []
    for case in cases:
        logger.info("measuring %s", case.name)
        results.append({"name": case.name, **compare_training_steps(case, workload, num_rounds=num_rounds)})
        logger.info("%s", _row(results[-1]))
        gc.collect()
    return {
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "num_threads": torch.get_num_threads(),
        "dtype": "float32",
        "num_rounds": num_rounds,
        **dataclasses.asdict(workload),
        "cases": results,
    }


def compare_training_steps(case: StepCase, workload: StepWorkload, *, num_rounds: int) -> dict[str, Any]:
    """Median seconds of a training step both ways, by the clock and of the processor, and their ratios.

    Args:
        num_rounds: timed steps of each way, after one that is not counted.
    """
    torch.manual_seed(0)
    ours = case.ours(case.config)
    with torch.device("meta"):
        stock = case.stock(case.config)
    share_parameters(ours, stock)
    for model in (ours, stock):
        freeze_feature_encoder(model)
    once = made_up_batch(case, workload)
    doubled = doubled_batch(once)
    with tempfile.TemporaryDirectory(prefix="vietst-benchmark-") as folder:
        steps = TrainerSteps(folder)
        ways: dict[str, Callable[[], None]] = {
            "doubled_batch": steps.of(stock, doubled),
            "encode_once": steps.of(ours, once),
        }
        losses = [steps.loss_in_evaluation(model, batch) for model, batch in ((stock, doubled), (ours, once))]
        by_clock: dict[str, list[float]] = {way: [] for way in ways}
        by_processor: dict[str, list[float]] = {way: [] for way in ways}
        for round_number in range(num_rounds + 1):
            for way, take_step in ways.items():
                clock, processor = time.perf_counter(), time.process_time()
                take_step()
                if round_number > 0:
                    by_clock[way].append(time.perf_counter() - clock)
                    by_processor[way].append(time.process_time() - processor)
    results: dict[str, Any] = {"min_times_faster": case.min_times_faster}
    for unit, measured in (("seconds", by_clock), ("cpu_seconds", by_processor)):
        for way, values in measured.items():
            results[f"{way}_{unit}"] = round(statistics.median(values), 4)
            results[f"{way}_spread_{unit}"] = [round(min(values), 4), round(max(values), 4)]
        results[f"times_faster_{unit}"] = round(
            statistics.median(measured["doubled_batch"]) / statistics.median(measured["encode_once"]), 2
        )
    return {**results, "loss_difference": abs(losses[0] - losses[1])}


def describe(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    return "\n".join(
        (
            f"both tasks, {results['num_utterances']} clips (Whisper: 30 s; wav2vec2: "
            f"{results['duration_s']:g} s), {results['num_label_tokens']} label tokens each, "
            f"{results['dtype']}, {results['device']}, {results['num_threads']} thread(s), "
            f"median of {results['num_rounds']}",
            f"{'seconds per step:':<42}{'doubled':>9}{'once':>9}{'faster':>9}"
            f"{'CPU: doubled':>14}{'once':>9}{'faster':>9}{'bar':>7}",
            *map(_row, results["cases"]),
        )
    )


def _row(case: dict[str, Any]) -> str:
    met = case["times_faster_seconds"] >= case["min_times_faster"]
    return (
        f"{case['name']:<42}"
        f"{case['doubled_batch_seconds']:>9.3f}{case['encode_once_seconds']:>9.3f}"
        f"{case['times_faster_seconds']:>8.2f}x"
        f"{case['doubled_batch_cpu_seconds']:>14.3f}{case['encode_once_cpu_seconds']:>9.3f}"
        f"{case['times_faster_cpu_seconds']:>8.2f}x{case['min_times_faster']:>7.2f}: "
        f"{'met' if met else 'MISSED'}; losses differ by {case['loss_difference']:.0e}"
    )


# --- two classes with the same weights ---------------------------------------------------------------


def share_parameters(owner: nn.Module, other: nn.Module) -> None:
    """Give `other` the very parameters and buffers of `owner`, of the same names: two sets would not fit."""
    tensors = [*owner.named_parameters(remove_duplicate=False), *owner.named_buffers(remove_duplicate=False)]
    for name, tensor in tensors:
        parent, _, child = name.rpartition(".")
        setattr(other.get_submodule(parent), child, tensor)
    missing = [name for name, parameter in other.named_parameters() if parameter.is_meta]
    if missing:
        raise ValueError(f"the two models differ: {missing}")


class TrainerSteps:
    """Training steps of models that share their parameters, as the Trainer takes them."""

    def __init__(self, folder: str) -> None:
        self.arguments = Seq2SeqTrainingArguments(
            output_dir=folder, use_cpu=not torch.cuda.is_available(), report_to="none", disable_tqdm=True
        )
        self.optimizer: Any = None

    def of(self, model: nn.Module, batch: Batch) -> Callable[[], None]:
        """A function that takes a step: forward and backward pass, and the optimizer's step."""
        trainer = Seq2SeqTrainer(model=model, args=self.arguments, optimizers=(self.optimizer, None))
        if self.optimizer is None:
            self.optimizer = trainer.create_optimizer()
        trainer.current_gradient_accumulation_steps = 1  # train() would set it

        def take() -> None:
            loss = trainer.training_step(model, dict(batch))
            self.optimizer.step()
            self.optimizer.zero_grad()
            float(loss)  # on a GPU this waits for the step to end

        return take

    def loss_in_evaluation(self, model: nn.Module, batch: Batch) -> float:
        """Without dropout, which the two would draw differently."""
        model.eval()
        device = self.arguments.device
        with torch.no_grad():
            return float(model(**{name: tensor.to(device) for name, tensor in batch.items()}).loss)


def freeze_feature_encoder(model: Any) -> None:
    """That of wav2vec2, as all recipes do; Whisper has none."""
    if isinstance(model, SpeechEncoderDecoderModel):
        model.freeze_feature_encoder()  # the stock class's way, or it would compute gradients of the waveform


def doubled_batch(once: Batch) -> Batch:
    """The same training data for the stock class: the audio of every clip once for each task."""
    audio = {name: once[name] for name in AUDIO if name in once}
    return {
        **{name: tensor.repeat(len(TASKS), *[1] * (tensor.dim() - 1)) for name, tensor in audio.items()},
        **{name: once[name] for name in ("labels", "decoder_input_ids")},
    }


def made_up_batch(case: StepCase, workload: StepWorkload) -> Batch:
    """A batch in which every utterance has both targets, all equally long."""
    num_utterances = workload.num_utterances
    architecture = WHISPER if case.ours is whisper.MultitaskWhisper else E2E
    targets = made_up_targets(
        num_utterances,
        workload.num_label_tokens,
        prompt_length=architecture.prompt_length,
        vocab_size=case.vocab_size,
    )
    if architecture is WHISPER:
        num_frames = 2 * case.config.max_source_positions
        features = torch.randn(num_utterances, case.config.num_mel_bins, num_frames)
        return {"input_features": features, **targets}
    num_samples = round(workload.duration_s * SAMPLE_RATE_HZ)
    return {
        "input_values": torch.randn(num_utterances, num_samples),
        "attention_mask": torch.ones(num_utterances, num_samples, dtype=torch.int64),
        **targets,
    }
