"""Benchmark stage `gpu_step`: how much of a GPU's matrix rate a training on both tasks reaches.

A model with a published Whisper's dimensions and random weights trains as `prod_whisper` says, in bfloat16,
on made-up clips that fill its window and texts of one length: no operation goes into padding. A step has the
utterances of `prod_whisper`'s effective batch, in as many micro batches as one GPU needs for them. Useful
operations are those of `vietst.training.model_flops`. They are compared with a plain product of two large
bfloat16 matrices, on the same device in the same process. Without a GPU it runs, but says nothing about one.
All steps are of one epoch: a training waits for its first batch whenever another begins.
"""

import dataclasses
import gc
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from vietst.benchmarks.results import Bar
from vietst.benchmarks.untrained_whisper import WhisperShape, make_untrained_whisper
from vietst.config import load_config
from vietst.constants import TASKS
from vietst.data.batching import UtteranceDataset
from vietst.data.features import LOG_MEL_80, InputKind
from vietst.errors import ConfigError
from vietst.models import whisper_inputs
from vietst.models.architectures import ARCHITECTURES
from vietst.models.published_sizes import WHISPER
from vietst.runtime import get_logger
from vietst.training.arguments import training_arguments
from vietst.training.model_flops import flops_of_batches
from vietst.training.preparation import Preparation
from vietst.training.runner import build_trainer

MIN_SHARE_OF_MATRIX_RATE: Final = 0.45
MAX_WAIT_SHARE: Final = 0.01

_NUM_BATCHES_ON_DISK: Final = 8
_NUM_PRODUCTS: Final = 30

logger = get_logger(__name__)


@dataclasses.dataclass(frozen=True)
class Work:
    """What is timed: `num_rounds` times `num_steps` steps, after as many that are not counted."""

    num_utterances: int
    """Of a micro batch."""
    num_micro_batches: int
    """Of a step."""
    num_words: int
    """Of each text."""
    num_steps: int
    num_rounds: int
    num_workers: int
    matrix_size: int
    """Rows and columns of the plain product."""

    @property
    def utterances_per_step(self) -> int:
        return self.num_utterances * self.num_micro_batches

    @property
    def num_drawn(self) -> int:
        """Utterances of all steps."""
        return self.utterances_per_step * self.num_steps * (1 + self.num_rounds)


def measure(model: str, **work: int) -> dict[str, Any]:
    """`measure_steps` of a published size.

    Args:
        model: openai/whisper-…, with 80 mel bins.
        work: the fields of `Work`.
    """
    sizes = WHISPER[model]
    shape = WhisperShape(sizes["d_model"], sizes["encoder_layers"], sizes["encoder_attention_heads"])
    return {"model": model, **measure_steps(shape, Work(**work))}


def measure_steps(shape: WhisperShape, work: Work) -> dict[str, Any]:
    """The matrix rate, and for eager and compiled training the share of it that is useful, and the waiting.

    Where compiling is impossible, or the GPU's memory full, the entry says so.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    results: dict[str, Any] = {
        "shape": dataclasses.asdict(shape),
        "device": device,
        "device_name": torch.cuda.get_device_name() if device == "cuda" else None,
        **dataclasses.asdict(work),
        "matrix_flops_per_s": matrix_rate(work.matrix_size, device),
    }
    with tempfile.TemporaryDirectory(prefix="vietst-benchmark-", ignore_cleanup_errors=True) as folder:
        base = make_untrained_whisper(Path(folder, "base"), shape)
        rows = _made_up_rows(Path(folder, "rows"), LOG_MEL_80, work)
        for way, compiles in (("eager", False), ("compiled", True)):
            logger.info("measuring %s", way)
            try:
                figures = _train(Path(folder, way), base, rows, work, compiles)
                share = figures["useful_flops_per_s"] / results["matrix_flops_per_s"]
                results[way] = {**figures, "share_of_matrix_rate": share}
            except (ConfigError, torch.OutOfMemoryError) as error:
                results[way] = {"impossible": str(error).partition(". ")[0]}
            gc.collect()
            if device == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
    return results


def matrix_rate(size: int, device: str) -> float:
    """Operations per second of a product of two square bfloat16 matrices; the median of several."""
    left, right = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    seconds = []
    for number in range(_NUM_PRODUCTS + 3):
        _wait_for(device)
        started_at = time.perf_counter()
        left @ right
        _wait_for(device)
        if number >= 3:
            seconds.append(time.perf_counter() - started_at)
    return 2.0 * size**3 / statistics.median(seconds)


def _wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _train(folder: Path, base: Path, rows: UtteranceDataset, work: Work, compiles: bool) -> dict[str, Any]:
    """Medians over the rounds, from the log of a training."""
    size = work.num_utterances
    config = load_config(
        "prod_whisper",
        [
            *(f"model.name={base.as_posix()}", f"output.dir={folder.as_posix()}"),
            *(f"training.batch_size={size}", f"training.effective_batch={work.utterances_per_step}"),
            *("training.bf16=true", f"training.compile={str(compiles).lower()}"),
            f"training.max_steps={work.num_steps * (1 + work.num_rounds)}",
            *(f"training.logging_steps={work.num_steps}", f"dataloader.num_workers={work.num_workers}"),
            *("training.eval_strategy=no", "training.load_best_model_at_end=false"),
            *("training.early_stopping_patience=null", "training.report_to=none"),
        ],
    ).config
    preparation = _preparation(base, rows)
    arguments = training_arguments(config, work.num_micro_batches)
    arguments.save_strategy = "no"  # a checkpoint of medium takes 9 GB
    trainer = build_trainer(config, arguments, preparation)
    batch = trainer.data_collator([rows[index] for index in range(size)])
    flops_per_utterance = flops_of_batches(config, trainer.model, preparation.input_kind)(batch) / size
    trainer.train()
    rounds = [entry for entry in trainer.state.log_history if "loss" in entry][1:]
    medians = {
        key: statistics.median(entry[key] for entry in rounds)
        for key in ("utterances_per_s", "data_wait_share", "peak_memory_gb")
    }
    return {
        "attention": trainer.model.config._attn_implementation,
        "num_label_tokens": batch["labels"].shape[1],
        "flops_per_utterance": flops_per_utterance,
        "useful_flops_per_s": medians["utterances_per_s"] * flops_per_utterance,
        **medians,
        "utterances_per_s_of_rounds": [entry["utterances_per_s"] for entry in rounds],
    }


# --- made-up data ------------------------------------------------------------------------------------


def _made_up_rows(folder: Path, kind: InputKind, work: Work) -> UtteranceDataset:
    """Rows as the feature cache holds them: noise that fills the window, and the same two texts.

    As many as all steps take; a few batches of them are on disk, and come again.
    """
    import datasets

    noise, text = np.random.default_rng(0), " ".join(["a"] * work.num_words)  # a token each
    shape = (kind.num_window_frames, kind.num_mel_bins)
    num_rows = _NUM_BATCHES_ON_DISK * work.num_utterances

    def rows() -> Any:
        for index in range(num_rows):
            yield {
                "id": f"utterance-{index}",
                "video_id": "noise",
                "transcript": text,
                "translation": text,
                "duration_s": kind.window_s,
                "features": noise.standard_normal(shape, dtype=np.float32).astype("<f2").tobytes(),
                "num_frames": kind.num_window_frames,
                "pad_value": 0.0,
            }

    # Not from_generator, which would leave its copy in the user's cache.
    datasets.Dataset.from_list(list(rows())).save_to_disk(str(folder))
    repeated = [number % num_rows for number in range(work.num_drawn)]
    return UtteranceDataset(datasets.load_from_disk(str(folder)).select(repeated))


def _preparation(base: Path, rows: UtteranceDataset) -> Preparation:
    return Preparation(
        architecture=ARCHITECTURES["whisper"],
        processor=whisper_inputs.load_processor(str(base)),
        input_kind=LOG_MEL_80,
        tasks=TASKS,
        train=rows,
        dev=rows,
        extra_sets=[],
        dev_languages=["vi"] * len(rows),
        ctc_table=None,
        train_batches=None,
        drawn=None,
        facts={},
    )


# --- what is told ------------------------------------------------------------------------------------


def bars(results: dict[str, Any]) -> list[Bar]:
    """Of the faster way; none without a GPU, nor on one that cannot train in bfloat16."""
    measured = [results[way] for way in ("eager", "compiled") if "impossible" not in results[way]]
    if results["device"] == "cpu" or not measured:
        return []
    best = max(measured, key=lambda way: way["share_of_matrix_rate"])
    return [
        Bar(
            f"{results['model']}, both tasks: share of the matrix rate",
            best["share_of_matrix_rate"],
            MIN_SHARE_OF_MATRIX_RATE,
            at_least=True,
        ),
        Bar("share of training spent waiting", best["data_wait_share"], MAX_WAIT_SHARE, at_least=False),
    ]


def describe(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    lines = [
        f"{results.get('model', 'Whisper')} on {results['device_name'] or 'a CPU'}, bf16, batches of "
        f"{results['num_utterances']} clips of 30 s, {results['num_micro_batches']} of them in a step, "
        f"both tasks; {results['num_workers']} workers; a plain product of {results['matrix_size']} × "
        f"{results['matrix_size']}: {results['matrix_flops_per_s'] / 1e12:.3g} TFLOP/s",
        f"{'':<10}{'clips/s':>9}{'useful TFLOP/s':>16}{'of the product':>16}{'data wait':>11}{'peak':>10}",
    ]
    for way in ("eager", "compiled"):
        figures = results[way]
        if "impossible" in figures:
            lines.append(f"{way:<10}not measured: {figures['impossible']}")
            continue
        lines.append(
            f"{way:<10}{figures['utterances_per_s']:>9.1f}{figures['useful_flops_per_s'] / 1e12:>16.3g}"
            f"{figures['share_of_matrix_rate']:>16.1%}{figures['data_wait_share']:>11.2%}"
            f"{figures['peak_memory_gb']:>7.1f} GB"
        )
    if results["device"] == "cpu":
        lines.append("This was not a GPU: the figures say nothing about one, and no bar is judged.")
    return "\n".join(lines)
