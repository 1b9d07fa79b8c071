"""Benchmark stage `generation`: decoding clips for both tasks, as evaluation does, and as others do.

A Whisper of tiny's dimensions with random weights hears clips of a manifest and generates equally many tokens
for each and task, greedily: by `decode_rows`, both tasks from one encoder pass; and by the pipeline of
transformers, one task after the other. Each takes the batch size at which it is fastest. All from the samples
on is timed, turn by turn; ours reads the files besides.
Where faster-whisper stands, scripts/export_ctranslate2.py tells.
"""

import dataclasses
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor, pipeline

from vietst.benchmarks.untrained_whisper import WhisperShape, make_untrained_whisper
from vietst.constants import SAMPLE_RATE_HZ, TASKS
from vietst.data.audio import load_utterance
from vietst.data.features import LOG_MEL_80
from vietst.data.tables import read_table
from vietst.errors import VietstError
from vietst.evaluation.decode import DecodingOptions, decode_rows
from vietst.models import whisper

MIN_RATIO: Final = 2.0
"""How many times as fast as the pipeline both tasks together should be."""

WHISPER_TINY: Final = WhisperShape(d_model=384, num_layers=4, num_heads=6)
_BATCH_SIZES: Final = (1, 4, 8, 16)

Decode = Callable[[], None]
"""All clips, both tasks."""


@dataclasses.dataclass(frozen=True)
class Clips:
    """What is decoded: rows as of a split, and their samples (float32 [num_samples], 16 kHz)."""

    rows: list[dict[str, Any]]
    audio_root: Path
    waveforms: list[np.ndarray]


def compare_generation(
    manifest: Path,
    data_root: Path,
    *,
    num_utterances: int,
    num_tokens: int,
    num_rounds: int,
    shape: WhisperShape = WHISPER_TINY,
    batch_sizes: Sequence[int] = _BATCH_SIZES,
) -> dict[str, Any]:
    """Seconds of every way, and how many times as long as ours the others take.

    Args:
        manifest: its first clips are decoded.
        data_root: `audio_path` is relative to it.
        num_tokens: generated for each clip and task.
        num_rounds: timed decodings of each way, after one for each batch size, which are not counted.

    Raises:
        VietstError: a manifest or an audio file that cannot be used.
    """
    clips = _read_clips(manifest, data_root, num_utterances)
    with tempfile.TemporaryDirectory(prefix="vietst-benchmark-", ignore_cleanup_errors=True) as folder:
        model_dir = make_untrained_whisper(Path(folder, "model"), shape)
        ways: dict[str, Decode] = {}
        best_batch_sizes = {}
        for name, make in (("here", _ours), ("pipeline", _pipeline)):
            best_batch_sizes[name], ways[name] = _at_best_batch_size(
                make(model_dir, clips, num_tokens), batch_sizes
            )
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(num_rounds):
            for name, decode in ways.items():
                seconds[name].append(_seconds_of(decode))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "shape": dataclasses.asdict(shape),
        "dtype": "float32",
        "num_threads": torch.get_num_threads(),
        "num_utterances": len(clips.rows),
        "mean_duration_s": round(statistics.mean(len(clip) for clip in clips.waveforms) / SAMPLE_RATE_HZ, 2),
        "num_tokens": num_tokens,
        "best_batch_size": best_batch_sizes,
        "seconds": {name: [round(value, 3) for value in values] for name, values in seconds.items()},
        "times_faster": round(medians["pipeline"] / medians["here"], 2),
    }


def _read_clips(manifest: Path, data_root: Path, num_utterances: int) -> Clips:
    rows: list[dict[str, Any]] = [dict(row) for row in read_table(manifest)][:num_utterances]
    if not rows:
        raise VietstError(
            where=str(manifest), rule="a manifest with utterances", found="none", do="name another manifest"
        )
    waveforms = [load_utterance(data_root, row) for row in rows]
    for row, waveform in zip(rows, waveforms, strict=True):
        row["duration"] = len(waveform) / SAMPLE_RATE_HZ
    return Clips(rows, data_root, waveforms)


def _at_best_batch_size(
    decode_in_batches: Callable[[int], None], batch_sizes: Sequence[int]
) -> tuple[int, Decode]:
    seconds = {size: _seconds_of(functools.partial(decode_in_batches, size)) for size in batch_sizes}
    best = min(seconds, key=lambda size: seconds[size])
    return best, functools.partial(decode_in_batches, best)


def _seconds_of(decode: Decode) -> float:
    started_at = time.perf_counter()
    decode()
    return time.perf_counter() - started_at


def _ours(model_dir: Path, clips: Clips, num_tokens: int) -> Callable[[int], None]:
    model = whisper.load_model(str(model_dir)).eval()
    model.generation_config.min_new_tokens = num_tokens
    tokenizer = whisper.load_processor(str(model_dir)).tokenizer

    def decode(batch_size: int) -> None:
        decode_rows(
            clips.rows,
            audio_root=clips.audio_root,
            input_kind=LOG_MEL_80,
            architecture=whisper,
            model=model,
            tokenizer=tokenizer,
            options=DecodingOptions(
                tasks=TASKS,
                language="vi",
                batch_size=batch_size,
                num_beams=1,
                tokens_per_second=1e-6,  # rounded up to one
                tokens_base=num_tokens - 1,
            ),
        )

    return decode


def _pipeline(model_dir: Path, clips: Clips, num_tokens: int) -> Callable[[int], None]:
    processor = WhisperProcessor.from_pretrained(model_dir)
    recognizer = pipeline(
        "automatic-speech-recognition",
        model=WhisperForConditionalGeneration.from_pretrained(model_dir).eval(),
        tokenizer=processor.tokenizer,
        feature_extractor=processor.feature_extractor,
        device="cpu",
    )
    # The pipeline's own default is five beams.
    length = {"min_new_tokens": num_tokens, "max_new_tokens": num_tokens, "num_beams": 1}

    def decode(batch_size: int) -> None:
        for task in TASKS:
            recognizer(
                [{"raw": waveform, "sampling_rate": SAMPLE_RATE_HZ} for waveform in clips.waveforms],
                batch_size=batch_size,
                generate_kwargs={"language": "vi", "task": task, **length},
            )

    return decode


def describe(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    names = {"here": "here", "pipeline": "transformers' pipeline"}
    shape, best = results["shape"], results["best_batch_size"]
    lines = [
        f"{results['num_utterances']} clips of {results['mean_duration_s']:g} s on average, both tasks, "
        f"{results['num_tokens']} tokens each; Whisper of {shape['num_layers']} layers of "
        f"{shape['d_model']}, {results['dtype']}, {results['num_threads']} thread(s)"
    ]
    for name, seconds in results["seconds"].items():
        lines.append(
            f"{names[name]}, batches of {best[name]}: {statistics.median(seconds):.2f} s "
            f"({min(seconds):.2f} to {max(seconds):.2f})"
        )
    return "\n".join([*lines, f"ratio {results['times_faster']:.2f} (should be at least {MIN_RATIO:g})"])
