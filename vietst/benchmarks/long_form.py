"""Benchmark stage `long_form`: long recordings through `SpeechTranslator` and through transformers' pipeline.

Clips of a manifest, with pauses between them, make a recording. A Whisper with random weights generates
equally many tokens for every window both ways, in equal batches, with equal threads: `SpeechTranslator` both
tasks at once, transformers' chunked pipeline (`chunk_length_s=30`, its recommended way for long recordings)
one task after the other. Each way runs in a process of its own, which also tells the most memory it had; for
`SpeechTranslator` that is compared with what a short recording takes.
"""

import dataclasses
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from vietst.benchmarks.inputs import manifest_rows
from vietst.benchmarks.results import Bar
from vietst.benchmarks.untrained_whisper import WHISPER_SMALL, WhisperShape, make_untrained_whisper
from vietst.constants import SAMPLE_RATE_HZ, TASKS
from vietst.data.audio import load_utterance

MIN_RATIO: Final = 2.0
"""How many times as fast as the pipeline `SpeechTranslator` should be."""

MAX_MEMORY_GROWTH: Final = 0.1
"""By which share of its peak the memory may grow from the short recording to the whole one."""

SHORT_MINUTES: Final = 6.0
_SECONDS_PER_WINDOW: Final = {"translator": 28, "pipeline": 10}
"""The pipeline's chunks overlap by a third, and it encodes them for each task anew."""
_PAUSES_S: Final = (0.2, 1.0)
_SEED: Final = 1


@dataclasses.dataclass(frozen=True)
class Run:
    """What one process measures."""

    way: str
    """`translator` or `pipeline`."""
    recording: str
    model_dir: str
    num_tokens: int
    batch_size: int
    num_threads: int


def compare_long_form(
    manifest: Path,
    data_root: Path,
    *,
    minutes: float,
    speed_minutes: float | None = None,
    num_tokens: int = 60,
    batch_size: int = 8,
    num_threads: int = 1,
    shape: WhisperShape = WHISPER_SMALL,
) -> dict[str, Any]:
    """Seconds of both ways, and the memory of ours.

    Args:
        minutes: of the recording whose memory is measured.
        speed_minutes: of the recording that both ways are timed on; None: the same.
        num_tokens: that are generated for each window and task.
        batch_size: windows in a batch.

    Raises:
        VietstError: a manifest or an audio file that cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="vietst-benchmark-", ignore_cleanup_errors=True) as folder:
        model_dir = make_untrained_whisper(Path(folder, "model"), shape)
        wanted = {SHORT_MINUTES, minutes, speed_minutes or minutes}
        recordings = {
            length: _write_recording(Path(folder, f"{length:g}.wav"), manifest, data_root, length)
            for length in wanted
        }

        def measure(way: str, length: float) -> dict[str, Any]:
            num_windows = length * 60 / _SECONDS_PER_WINDOW[way]
            print(f"{way}: {length:g} minutes, about {num_windows:.0f} windows", flush=True)
            settings = (str(recordings[length]), str(model_dir), num_tokens, batch_size, num_threads)
            return _in_process(Run(way, *settings))

        ours = {length: measure("translator", length) for length in sorted(wanted)}
        theirs = measure("pipeline", speed_minutes or minutes)
    timed = ours[speed_minutes or minutes]
    return {
        "minutes": minutes,
        "speed_minutes": speed_minutes or minutes,
        "num_tokens": num_tokens,
        "batch_size": batch_size,
        "num_threads": num_threads,
        "translator": timed,
        "pipeline": theirs,
        "times_faster": round(theirs["seconds"] / timed["seconds"], 2),
        "peak_bytes": {f"{length:g}": ours[length]["peak_bytes"] for length in (SHORT_MINUTES, minutes)},
    }


def _in_process(run: Run) -> dict[str, Any]:
    """Its progress goes to the terminal as it is made."""
    command = [sys.executable, "-m", "vietst.benchmarks.long_form", json.dumps(dataclasses.asdict(run))]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}  # both on the CPU
    finished = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, encoding="utf-8", check=True
    )
    return json.loads(finished.stdout.splitlines()[-1])


# --- what is listened to, and what listens -----------------------------------------------------------------


def _write_recording(path: Path, manifest: Path, data_root: Path, minutes: float) -> Path:
    """Clips of the manifest in a random order, as often as it takes, with pauses of hardly audible noise."""
    import numpy as np
    import soundfile

    rows = manifest_rows(manifest)
    generator, noise = random.Random(_SEED), np.random.default_rng(_SEED)
    missing = round(minutes * 60 * SAMPLE_RATE_HZ)
    with soundfile.SoundFile(path, "w", samplerate=SAMPLE_RATE_HZ, channels=1, subtype="PCM_16") as file:
        while missing > 0:
            clip = load_utterance(data_root, generator.choice(rows))
            pause = noise.normal(0, 1e-4, round(generator.uniform(*_PAUSES_S) * SAMPLE_RATE_HZ))
            samples = np.concatenate([pause.astype(np.float32), clip])[:missing]
            file.write(samples)
            missing -= len(samples)
    return path


# --- in a process of its own -------------------------------------------------------------------------------


def _measure(run: Run) -> dict[str, Any]:
    import torch

    from vietst.runtime import quiet_libraries
    from vietst.training.throughput import peak_memory_bytes

    quiet_libraries()
    torch.set_num_threads(run.num_threads)
    ways = {"translator": _prepare_translator, "pipeline": _prepare_pipeline}
    model, listen = ways[run.way](run)
    windows = _count_windows(model)
    start, cpu_start = time.perf_counter(), time.process_time()
    listen()
    return {
        "seconds": round(time.perf_counter() - start, 3),
        "cpu_seconds": round(time.process_time() - cpu_start, 3),
        "num_windows": windows[0],
        "peak_bytes": peak_memory_bytes(),
    }


def _prepare_translator(run: Run) -> tuple[Any, Callable[[], None]]:
    """The model, and what is timed."""
    from vietst.data.features import LOG_MEL_80
    from vietst.inference.clip_decoder import ClipDecoder
    from vietst.inference.translator import SpeechTranslator
    from vietst.inference.voice_activity import load_network
    from vietst.models import whisper, whisper_inputs
    from vietst.models.architectures import WHISPER
    from vietst.models.model_record import ModelRecord

    model = whisper.load_model(run.model_dir).eval()
    model.generation_config.min_new_tokens = run.num_tokens
    record = ModelRecord(
        vietst_version=None,
        architecture="whisper",
        tasks=TASKS,
        language="vi",
        num_beams=1,
        max_new_tokens_per_second=1e-6,  # rounded up to one
        max_new_tokens_base=run.num_tokens - 1,
    )
    decoder = ClipDecoder(
        WHISPER, model, whisper_inputs.load_processor(run.model_dir).tokenizer, LOG_MEL_80, record
    )
    translator = SpeechTranslator(
        decoder, load_network(), "benchmark", batch_budget_s=LOG_MEL_80.window_s * run.batch_size
    )

    def listen() -> None:
        result = translator(run.recording)
        generated = {said.num_tokens for segment in result.segments for said in segment.said.values()}
        assert generated == {run.num_tokens}, generated

    return model, listen


def _prepare_pipeline(run: Run) -> tuple[Any, Callable[[], None]]:
    """The model, and what is timed."""
    import soundfile
    from transformers import WhisperForConditionalGeneration, WhisperProcessor, pipeline

    model = WhisperForConditionalGeneration.from_pretrained(run.model_dir).eval()
    processor = WhisperProcessor.from_pretrained(run.model_dir)
    # Random weights say timestamps though told not to, and transformers would hear windows again from there.
    first_timestamp = model.generation_config.no_timestamps_token_id + 1
    model.generation_config.suppress_tokens = list(range(first_timestamp, model.config.vocab_size))
    recognizer = pipeline(
        "automatic-speech-recognition",
        model=model,
        tokenizer=processor.tokenizer,
        feature_extractor=processor.feature_extractor,
        chunk_length_s=30,
        batch_size=run.batch_size,
        device="cpu",
    )

    def listen() -> None:
        samples, _ = soundfile.read(run.recording, dtype="float32")
        # The pipeline's own default is five beams.
        length = {"min_new_tokens": run.num_tokens, "max_new_tokens": run.num_tokens, "num_beams": 1}
        for task in TASKS:
            recognizer(
                {"raw": samples, "sampling_rate": SAMPLE_RATE_HZ},
                generate_kwargs={"language": "vi", "task": task, **length},
            )

    return model, listen


def _count_windows(model: Any) -> list[int]:
    """A number that grows with what the encoder hears, and is printed."""
    count, start = [0], time.perf_counter()

    def add(module: Any, inputs: Any, output: Any) -> None:
        count[0] += len(output.last_hidden_state)
        print(f"  {count[0]} windows, {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)

    model.model.encoder.register_forward_hook(add)
    return count


def memory_growth(results: dict[str, Any]) -> float:
    """From the shorter recording to the longer one, as a share."""
    peaks = results["peak_bytes"]
    return peaks[max(peaks, key=float)] / peaks[min(peaks, key=float)] - 1


def bars(results: dict[str, Any]) -> list[Bar]:
    longest = f"growth of memory to {max(map(float, results['peak_bytes'])):g} minutes"
    return [
        Bar("times faster than the chunked pipeline", results["times_faster"], MIN_RATIO, at_least=True),
        Bar(longest, memory_growth(results), MAX_MEMORY_GROWTH, at_least=False),
    ]


def describe(results: dict[str, Any]) -> str:
    """The results for people."""
    ours, theirs = results["translator"], results["pipeline"]
    peaks = {length: number / 2**30 for length, number in results["peak_bytes"].items()}
    shortest, longest = min(peaks, key=float), max(peaks, key=float)
    return "\n".join(
        [
            f"{results['speed_minutes']:g} minutes, both tasks, {results['num_tokens']} tokens for each "
            f"window and task, batches of {results['batch_size']}, {results['num_threads']} thread(s)",
            f"SpeechTranslator: {ours['seconds']:.1f} s ({ours['cpu_seconds']:.1f} s of CPU time) for "
            f"{ours['num_windows']} windows",
            f"transformers' pipeline: {theirs['seconds']:.1f} s ({theirs['cpu_seconds']:.1f} s of CPU time) "
            f"for {theirs['num_windows']} windows, at most {theirs['peak_bytes'] / 2**30:.2f} GiB",
            f"ratio {results['times_faster']:.2f} (should be at least {MIN_RATIO:g})",
            f"most memory: {peaks[shortest]:.2f} GiB for {shortest} minutes, {peaks[longest]:.2f} GiB for "
            f"{longest} ({memory_growth(results):+.1%}; should grow by less than {MAX_MEMORY_GROWTH:.0%})",
        ]
    )


if __name__ == "__main__":
    print(json.dumps(_measure(Run(**json.loads(sys.argv[1])))))
