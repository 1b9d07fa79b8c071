"""The ways of building features that the benchmark compares: our own, what others do, and a floor.

* `here`: by `build_feature_cache`, after a cleaning that has measured all audio, as scripts/build_features.py
  runs it; `here_unmeasured`: reading and hashing all audio once more before.
* `recipe`: as the fine-tuning guides do: `map` with `WhisperFeatureExtractor` over every clip, padded to
  30 s, float32, in an `input_features` column (audio decoded by soundfile and librosa, since `datasets` 5
  decodes by torchcodec only).
* `lhotse`: `CutSet.compute_and_store_features` with its `WhisperFbank`, resampled and stored by its defaults,
  but with one thread in each process: with as many as there are cores it takes twice as long.
* `openai_whisper`: its `log_mel_spectrogram` of the clip without padding, one half-precision .npy file each
  (its own `load_audio` starts an ffmpeg for every clip; decoded by soundfile and soxr instead).
* `floor`: decoding (soundfile), resampling (soxr), and a Fourier transform (torch) of the windowed frames. No
  filterbank, no logarithm, nothing planned, nothing kept.

Each has imported everything before the clock starts. The floor's processes start as ours do, inside of the
clock, with one thread each, and keep freed memory as ours (without that they would be no floor). Ours reads
plain WAV files without soundfile, as the floor does not.
"""

import functools
import importlib.util
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from vietst.benchmarks.feature_corpus import Corpus
from vietst.constants import SAMPLE_RATE_HZ
from vietst.data.feature_cache import build_feature_cache, features_of
from vietst.data.features import LOG_MEL_80, extract, pad_log_mel
from vietst.data.shard_processes import START_METHOD
from vietst.runtime import keep_freed_memory

EXTRA_MODULES: Final = {"lhotse": ("lhotse", "lilcom"), "openai_whisper": ("whisper",)}
"""Yardsticks that the extra `benchmark` installs, and what they import."""

_NUM_COMPARED: Final = 32
_FLOOR_FFT, _FLOOR_HOP = LOG_MEL_80.fft_size_samples, LOG_MEL_80.hop_length_samples


@dataclass(frozen=True)
class Built:
    """One way of building, measured."""

    seconds: float
    cpu_seconds: float
    """Of all processes together."""
    num_bytes: int
    compared: list[np.ndarray] = field(default_factory=list)
    """Padded features [num_mel_bins, num_frames] of the first clips, to see that both made the same."""


def ways() -> dict[str, Callable[[Corpus, Path], Built]]:
    """All that can be measured here: each builds into a folder that is not there yet."""
    all_ways: dict[str, Callable[[Corpus, Path], Built]] = {
        "here": _build_cache,
        "here_unmeasured": functools.partial(_build_cache, is_measured=False),
        "recipe": _run_recipe,
        "lhotse": _run_lhotse,
        "openai_whisper": _run_openai_whisper,
        "floor": _run_floor,
    }
    missing = {
        name for name, modules in EXTRA_MODULES.items() if not all(map(importlib.util.find_spec, modules))
    }
    return {name: way for name, way in all_ways.items() if name not in missing}


class _Clock:
    """Seconds since it was made, and those of the processor in this process and the ended ones it started."""

    def __init__(self) -> None:
        self._start, self._cpu_start = time.perf_counter(), sum(os.times()[:4])

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._start, sum(os.times()[:4]) - self._cpu_start


def _build_cache(corpus: Corpus, folder: Path, *, is_measured: bool = True) -> Built:
    import datasets

    # Its parts, too, are loaded at the first call.
    extract(np.zeros(SAMPLE_RATE_HZ, np.float32), LOG_MEL_80)

    clock = _Clock()
    directory = build_feature_cache(
        corpus.splits_dir,
        folder,
        LOG_MEL_80,
        audio_root=corpus.root,
        num_proc=corpus.num_proc,
        measured=corpus.facts_path if is_measured else None,
        progress=False,
    )
    seconds = clock.read()
    cache = datasets.load_from_disk(str(directory))
    rows = [cache["test"][0], cache["dev"][0]]
    rows += [cache["train"][index] for index in range(min(_NUM_COMPARED, len(cache["train"])))]
    padded = pad_log_mel(
        [features_of(row, LOG_MEL_80) for row in rows],
        [row["pad_value"] for row in rows],
        LOG_MEL_80.num_window_frames,
    )
    return Built(*seconds, _size_of_files(directory), list(padded))


def _run_recipe(corpus: Corpus, folder: Path) -> Built:
    import datasets
    import librosa
    import torch
    from transformers import WhisperFeatureExtractor

    torch.set_num_threads(1)
    # librosa and the extractor load their parts at the first call.
    extractor = WhisperFeatureExtractor()
    silence = librosa.resample(np.zeros(22_050), orig_sr=22_050, target_sr=SAMPLE_RATE_HZ, res_type="soxr_hq")
    extractor(silence, sampling_rate=SAMPLE_RATE_HZ)
    folder.mkdir()

    clock = _Clock()
    dataset = datasets.Dataset.from_dict({"path": [str(corpus.root / clip) for clip in corpus.clips]}).map(
        _recipe_row,
        fn_kwargs={"extractor": extractor},
        remove_columns=["path"],
        num_proc=corpus.num_proc if corpus.num_proc > 1 else None,
        cache_file_name=str(folder / "recipe.arrow"),
    )
    seconds = clock.read()
    num_compared = min(_NUM_COMPARED + 2, len(dataset))
    compared = [np.asarray(dataset[index]["input_features"], np.float32) for index in range(num_compared)]
    return Built(*seconds, _size_of_files(folder), compared)


def _recipe_row(row: dict[str, Any], extractor: Any) -> dict[str, Any]:
    import librosa

    samples, sample_rate_hz = _decoded(row["path"])
    if sample_rate_hz != SAMPLE_RATE_HZ:
        samples = librosa.resample(
            samples, orig_sr=sample_rate_hz, target_sr=SAMPLE_RATE_HZ, res_type="soxr_hq"
        )
    return {"input_features": extractor(samples, sampling_rate=SAMPLE_RATE_HZ).input_features[0]}


def _run_lhotse(corpus: Corpus, folder: Path) -> Built:
    import torch
    from lhotse import CutSet, Recording, RecordingSet
    from lhotse.features.whisper_fbank import WhisperFbank

    torch.set_num_threads(1)
    # As lhotse's data preparation leaves them, which has read the headers.
    recordings = RecordingSet.from_recordings(
        Recording.from_file(corpus.root / clip, recording_id=clip) for clip in corpus.clips
    )
    cuts = CutSet.from_manifests(recordings=recordings).resample(SAMPLE_RATE_HZ).to_eager()
    extractor = WhisperFbank()
    extractor.extract(np.zeros(SAMPLE_RATE_HZ, np.float32), SAMPLE_RATE_HZ)

    clock = _Clock()
    context = multiprocessing.get_context("spawn")  # as lhotse's own pool
    with ProcessPoolExecutor(corpus.num_proc, context, _use_one_thread) as pool:
        cuts.compute_and_store_features(
            extractor, storage_path=folder / "features", num_jobs=corpus.num_proc, executor=pool
        )
    return Built(*clock.read(), _size_of_files(folder))


def _use_one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _run_openai_whisper(corpus: Corpus, folder: Path) -> Built:
    import whisper.audio

    folder.mkdir()
    whisper.audio.log_mel_spectrogram(np.zeros(SAMPLE_RATE_HZ, np.float32))
    clock = _Clock()
    _for_each_clip(_openai_whisper_clip, corpus, folder)
    return Built(*clock.read(), _size_of_files(folder))


def _openai_whisper_clip(path: str, folder: Path) -> None:
    import whisper.audio

    features = whisper.audio.log_mel_spectrogram(_resampled(path))
    np.save(folder / f"{Path(path).stem}.npy", features.half().numpy())


def _run_floor(corpus: Corpus, folder: Path) -> Built:
    _floor_clip(str(corpus.root / corpus.clips[0]), folder)
    clock = _Clock()
    _for_each_clip(_floor_clip, corpus, folder)
    return Built(*clock.read(), 0)


def _floor_clip(path: str, folder: Path) -> None:
    import torch

    frames = torch.from_numpy(_resampled(path)).unfold(0, _FLOOR_FFT, _FLOOR_HOP)
    torch.fft.rfft(frames * _window())


@functools.cache
def _window() -> Any:
    import torch

    return torch.hann_window(_FLOOR_FFT)


def _decoded(path: str) -> tuple[np.ndarray, int]:
    """float32 [num_samples], mono, and its rate."""
    import soundfile

    samples, sample_rate_hz = soundfile.read(path, dtype="float32")
    return samples.mean(axis=1) if samples.ndim > 1 else samples, sample_rate_hz


def _resampled(path: str) -> np.ndarray:
    """float32 [num_samples] at 16 kHz."""
    import soxr

    samples, sample_rate_hz = _decoded(path)
    if sample_rate_hz == SAMPLE_RATE_HZ:
        return samples
    return soxr.resample(samples, sample_rate_hz, SAMPLE_RATE_HZ, quality="HQ")


def _for_each_clip(function: Callable[[str, Path], None], corpus: Corpus, folder: Path) -> None:
    """Calls `function` for all clips, every process for its part of them."""
    parts = [corpus.clips[number :: corpus.num_proc] for number in range(corpus.num_proc)]
    paths = [[str(corpus.root / clip) for clip in part] for part in parts]
    if corpus.num_proc == 1:
        _call_for_each(function, paths[0], folder)
        return
    context = multiprocessing.get_context(START_METHOD)
    with ProcessPoolExecutor(corpus.num_proc, mp_context=context) as pool:
        for future in [pool.submit(_call_for_each, function, part, folder) for part in paths]:
            future.result()


def _call_for_each(function: Callable[[str, Path], None], paths: Sequence[str], folder: Path) -> None:
    _use_one_thread()
    keep_freed_memory()
    for path in paths:
        function(path, folder)


def _size_of_files(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
