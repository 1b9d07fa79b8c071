"""Benchmark stage `generation`: decoding clips for both tasks, as evaluation does, and as others do.

A Whisper of a released one's dimensions with random weights hears clips of a manifest and generates equally
many tokens for each and task, greedily: by `decode_rows`, both tasks from one encoder pass; by the pipeline
of transformers, one task after the other; and exported for faster-whisper, whose batched calls encode for
each task anew, too, in float32 and with 8-bit weights. Each takes the batch size at which it is fastest. All
from the samples on is timed, turn by turn; ours reads the files besides.

What bounds the ratio: where the encoder takes E seconds and decoding one task D, the pipeline takes 2 E + 2 D
and ours E + D', with D' for both tasks together. It is 2 or more where D' is no more than D: keys and values
of the encoder states are made once, and a step reads them and the weights once for both tasks. The encoder
alone is timed as a way of its own. By arithmetic, a clip and task at tiny's dimensions costs 37 billion
operations in the encoder, 3.5 for those keys and values, and 0.07 for each token, which takes more time than
its share, since a step waits for the weights.
"""

import dataclasses
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor, pipeline

from vietst.benchmarks.inputs import manifest_rows
from vietst.benchmarks.results import Bar
from vietst.benchmarks.untrained_whisper import SHAPES, WhisperShape, make_untrained_whisper
from vietst.constants import SAMPLE_RATE_HZ, TASKS
from vietst.data.audio import load_utterance
from vietst.data.features import LOG_MEL_80
from vietst.errors import VietstError
from vietst.evaluation.decode import DecodingOptions, decode_rows, feature_row
from vietst.models import whisper, whisper_generation, whisper_inputs
from vietst.models.architectures import WHISPER

MIN_RATIO: Final = 2.0
"""How many times as fast as the pipeline both tasks together should be."""

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
    model: str,
    num_utterances: int,
    num_tokens: int,
    num_rounds: int,
    shapes: Mapping[str, WhisperShape] = SHAPES,
    batch_sizes: Sequence[int] = _BATCH_SIZES,
) -> dict[str, Any]:
    """Seconds of every way, and how many times as long as ours the others take.

    Args:
        manifest: its first clips are decoded.
        data_root: `audio_path` is relative to it.
        model: name of one of the `shapes`.
        num_tokens: generated for each clip and task.
        num_rounds: timed decodings of each way, after one for each batch size, which are not counted.

    Raises:
        VietstError: a manifest or an audio file that cannot be used.
    """
    clips = _read_clips(manifest, data_root, num_utterances)
    with tempfile.TemporaryDirectory(prefix="vietst-benchmark-", ignore_cleanup_errors=True) as folder:
        model_dir = make_untrained_whisper(Path(folder, "model"), shapes[model])
        ways: dict[str, Decode] = {}
        best_batch_sizes, left_out = {}, {}
        for name, make in _WAYS.items():
            try:
                in_batches = make(model_dir, clips, num_tokens)
            except VietstError as error:
                left_out[name] = f"{error.rule}; found: {error.found}"
            else:
                best_batch_sizes[name], ways[name] = _at_best_batch_size(in_batches, batch_sizes)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(num_rounds):
            for name, decode in ways.items():
                seconds[name].append(_seconds_of(decode))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "model": model,
        "shape": dataclasses.asdict(shapes[model]),
        "dtype": "float32",
        "num_threads": torch.get_num_threads(),
        "num_utterances": len(clips.rows),
        "mean_duration_s": round(statistics.mean(len(clip) for clip in clips.waveforms) / SAMPLE_RATE_HZ, 2),
        "num_tokens": num_tokens,
        "best_batch_size": best_batch_sizes,
        "seconds": {name: [round(value, 3) for value in values] for name, values in seconds.items()},
        "times_faster": {name: round(median / medians["here"], 2) for name, median in medians.items()},
        "left_out": left_out,
    }


def _read_clips(manifest: Path, data_root: Path, num_utterances: int) -> Clips:
    rows: list[dict[str, Any]] = [dict(row) for row in manifest_rows(manifest, num_utterances)]
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
    tokenizer = whisper_inputs.load_processor(str(model_dir)).tokenizer

    def decode(batch_size: int) -> None:
        decode_rows(
            clips.rows,
            audio_root=clips.audio_root,
            input_kind=LOG_MEL_80,
            architecture=WHISPER,
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


def _encoder(model_dir: Path, clips: Clips, num_tokens: int) -> Callable[[int], None]:
    model = whisper.load_model(str(model_dir)).eval()
    rows = [feature_row(waveform, LOG_MEL_80) for waveform in clips.waveforms]
    features = whisper_inputs.input_batch(rows, LOG_MEL_80)["input_features"]

    def encode(batch_size: int) -> None:
        for batch in features.split(batch_size):
            whisper_generation.encode(model, {"input_features": batch})

    return encode


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


def _faster_whisper(
    model_dir: Path, clips: Clips, num_tokens: int, *, compute_type: str
) -> Callable[[int], None]:
    """Raises VietstError where the extra `export` is missing, or the model none that faster-whisper knows."""
    from vietst.export.faster_whisper import export_for_faster_whisper

    exported = model_dir.with_name(f"exported-{compute_type}")
    export_for_faster_whisper(str(model_dir), exported, compute_type)
    from faster_whisper import WhisperModel
    from faster_whisper.audio import pad_or_trim
    from faster_whisper.tokenizer import Tokenizer

    model = WhisperModel(
        str(exported), device="cpu", compute_type=compute_type, cpu_threads=torch.get_num_threads()
    )
    tokenizers = [Tokenizer(model.hf_tokenizer, True, task=task, language="vi") for task in TASKS]

    def decode(batch_size: int) -> None:
        for tokenizer in tokenizers:
            prompt = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
            for start in range(0, len(clips.waveforms), batch_size):
                batch = clips.waveforms[start : start + batch_size]
                features = np.stack([pad_or_trim(model.feature_extractor(waveform)) for waveform in batch])
                results = model.model.generate(
                    model.encode(features),
                    [prompt] * len(batch),
                    beam_size=1,
                    # CTranslate2 takes half of it for the prompt, or what the prompt takes if that is more.
                    max_length=max(2 * num_tokens, len(prompt) + num_tokens),
                    suppress_tokens=[tokenizer.eot],
                )
                assert all(len(result.sequences_ids[0]) == num_tokens for result in results)
                for result in results:
                    tokenizer.decode(result.sequences_ids[0])

    return decode


_WAYS: Final[dict[str, Callable[[Path, Clips, int], Callable[[int], None]]]] = {
    "here": _ours,
    "encoder_alone": _encoder,
    "pipeline": _pipeline,
    "faster_whisper_float32": functools.partial(_faster_whisper, compute_type="float32"),
    "faster_whisper_int8": functools.partial(_faster_whisper, compute_type="int8"),
}


def bars(results: dict[str, Any]) -> list[Bar]:
    """faster-whisper and the encoder alone are told of, without a bar."""
    ratio = results["times_faster"]["pipeline"]
    return [Bar("both tasks: times faster than the pipeline", ratio, MIN_RATIO, at_least=True)]


def describe(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    shape = results["shape"]
    lines = [
        f"{results['num_utterances']} clips of {results['mean_duration_s']:g} s on average, both tasks, "
        f"{results['num_tokens']} tokens each; Whisper of {results['model']}'s dimensions: "
        f"{shape['num_layers']} layers of {shape['d_model']}, {results['dtype']}, "
        f"{results['num_threads']} thread(s)"
    ]
    for name, seconds in results["seconds"].items():
        lines.append(
            f"{name}, batches of {results['best_batch_size'][name]}: {statistics.median(seconds):.2f} s "
            f"({min(seconds):.2f} to {max(seconds):.2f}), {results['times_faster'][name]:.2f} times as long"
        )
    return "\n".join([*lines, *(f"{name}: left out: {why}" for name, why in results["left_out"].items())])
