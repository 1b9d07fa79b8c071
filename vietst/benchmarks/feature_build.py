"""Benchmark stage `features`: building the feature cache, against what others do and against a floor.

Clips of exactly equal length, cut from the speech of a manifest, 16 bits at its rate, are turned into log-mel
features, on the same processes:

* `here`: by `build_feature_cache`, after a cleaning that has measured all audio, as scripts/build_features.py
  runs it; `here_unmeasured`: reading and hashing all audio once more before.
* `recipe`: as the fine-tuning guides do: `map` with `WhisperFeatureExtractor` over every clip, padded to
  30 s, float32, in an `input_features` column (audio decoded by soundfile and librosa, since `datasets` 5
  decodes by torchcodec only).
* `lhotse`: `CutSet.compute_and_store_features` with its `WhisperFbank`, resampled and stored by its defaults.
* `openai_whisper`: its `log_mel_spectrogram` of the clip without padding, one half-precision .npy file each
  (its own `load_audio` starts an ffmpeg for every clip; decoded by soundfile and soxr instead).
* `floor`: decoding (soundfile), resampling (soxr), and a Fourier transform (torch) of the windowed frames. No
  filterbank, no logarithm, nothing kept.

Each runs in a process of its own that has imported everything before the clock starts, turn by turn, and the
files were written a moment before, so none pays for a cold disk.
"""

import csv
import functools
import importlib.util
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from vietst.benchmarks.inputs import manifest_rows
from vietst.benchmarks.results import Bar
from vietst.constants import SAMPLE_RATE_HZ, SPLITS
from vietst.data.audio import load_waveform
from vietst.data.audio_facts import AudioFactsFile
from vietst.data.audio_paths import resolve_audio_path
from vietst.data.audio_pieces import piece_of
from vietst.data.feature_cache import build_feature_cache, features_of, num_usable_cores
from vietst.data.feature_shards import START_METHOD
from vietst.data.features import LOG_MEL_80, extract, pad_log_mel
from vietst.errors import ConfigError

MAX_OVER_FLOOR: Final = 1.4
"""Of the build after cleaning."""
MIN_RATIOS: Final = {3.0: (9.0, 19.0), 10.0: (4.5, 5.8)}
"""By seconds of a clip: times faster, measuring included, and times smaller than the recipe."""

EXTRA_MODULES: Final = {"lhotse": ("lhotse", "lilcom"), "openai_whisper": ("whisper",)}
"""Yardsticks that the extra `benchmark` installs, and what they import."""

_NUM_COMPARED: Final = 32
_MIN_CLIPS: Final = 3
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


@dataclass(frozen=True)
class Corpus:
    """What is built from, and where to."""

    root: Path
    clips: list[str]
    """Paths below the root; `splits` and the facts that a cleaning leaves lie there, too."""
    num_proc: int

    @property
    def splits_dir(self) -> Path:
        return self.root / "splits"

    @property
    def facts_path(self) -> Path:
        return self.root / "audio_facts.tsv"


def measure(
    manifest: Path,
    data_root: Path,
    *,
    num_utterances: int,
    durations_s: Sequence[float],
    num_proc: int | None,
    num_rounds: int,
    work_dir: Path | None,
) -> dict[str, Any]:
    """Builds the features of equally long clips in every way, in temporary folders that are removed.

    Args:
        manifest: cleaned; its speech is cut into clips, from the start again when it ends.
        data_root: `audio_path` is relative to it.
        num_utterances: at least 3.
        durations_s: of the clips; each is measured.
        num_proc: of every way; None: as many as there are cores.
        num_rounds: builds of each way.
        work_dir: where the temporary folders are made; the recipe takes 1 MB per utterance.

    Returns:
        `num_proc`, `num_rounds`, `left_out` (yardsticks that are not installed), and `cases`: for each length
        and way seconds, CPU seconds and bytes, ratios of medians, and the largest difference between the
        features of both.

    Raises:
        VietstError: a manifest or audio that cannot be used.
    """
    if num_utterances < _MIN_CLIPS:
        raise ConfigError(
            where="--num_utterances",
            rule=f"at least {_MIN_CLIPS} clips to measure",
            found=str(num_utterances),
            do="take more (2000 say something)",
        )
    num_proc = num_proc or num_usable_cores()
    rows = manifest_rows(manifest)
    cases = []
    for duration_s in durations_s:
        with tempfile.TemporaryDirectory(dir=work_dir, prefix="vietst-benchmark-") as folder:
            clips = _write_clips(Path(folder), rows, data_root, duration_s, num_utterances)
            cases.append(_compare(Corpus(Path(folder), clips, num_proc), duration_s, num_rounds))
    return {
        "num_utterances": num_utterances,
        "features": LOG_MEL_80.name,
        "num_proc": num_proc,
        "num_rounds": num_rounds,
        "left_out": sorted(set(EXTRA_MODULES) - set(ways())),
        "cases": cases,
    }


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


def _compare(corpus: Corpus, duration_s: float, num_rounds: int) -> dict[str, Any]:
    built: dict[str, list[Built]] = {name: [] for name in ways()}
    for round_number in range(num_rounds):
        for name, way in ways().items():
            with tempfile.TemporaryDirectory(dir=corpus.root, prefix=f"{name}-{round_number}-") as folder:
                built[name].append(_in_own_process(way, corpus, Path(folder, "built")))
    seconds = {name: [round(one.seconds, 3) for one in of_way] for name, of_way in built.items()}
    medians = {name: statistics.median(of_way) for name, of_way in seconds.items()}
    differences = [
        float(np.abs(ours - theirs).max())
        for ours, theirs in zip(built["here"][0].compared, built["recipe"][0].compared, strict=True)
    ]
    return {
        "clip_s": duration_s,
        "seconds": seconds,
        "cpu_seconds": {
            name: [round(one.cpu_seconds, 2) for one in of_way] for name, of_way in built.items()
        },
        "bytes": {name: of_way[0].num_bytes for name, of_way in built.items() if name != "floor"},
        "times_faster": {
            name: round(median / medians["here_unmeasured"], 2) for name, median in medians.items()
        },
        "over_floor": round(medians["here"] / medians["floor"], 3),
        "times_smaller": round(built["recipe"][0].num_bytes / built["here"][0].num_bytes, 2),
        "largest_feature_difference": max(differences),
    }


def bars(results: dict[str, Any]) -> list[Bar]:
    """By the clock; those against the recipe where one was set for clips of this length."""
    found = []
    for case in results["cases"]:
        name = f"{case['clip_s']:g} s clips"
        if case["clip_s"] in MIN_RATIOS:
            min_faster, min_smaller = MIN_RATIOS[case["clip_s"]]
            faster = case["times_faster"]["recipe"]
            found.append(Bar(f"{name}: times faster than the recipe", faster, min_faster, at_least=True))
            smaller = case["times_smaller"]
            found.append(Bar(f"{name}: times smaller than the recipe", smaller, min_smaller, at_least=True))
        found.append(Bar(f"{name}: in floors", case["over_floor"], MAX_OVER_FLOOR, at_least=False))
    return found


def describe(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    lines = []
    for case in results["cases"]:
        lines += [
            f"{results['num_utterances']} clips of {case['clip_s']:g} s, {results['features']}, "
            f"{results['num_proc']} process(es), median of {results['num_rounds']}",
            f"{'':<18}{'seconds':>9}{'from':>8}{'to':>8}{'CPU s':>8}{'of here':>9}{'MB':>9}",
        ]
        here = statistics.median(case["seconds"]["here"])
        for name, seconds in case["seconds"].items():
            size = f"{case['bytes'][name] / 1e6:.1f}" if name in case["bytes"] else "-"
            median = statistics.median(seconds)
            lines.append(
                f"{name:<18}{median:>9.2f}{min(seconds):>8.2f}{max(seconds):>8.2f}"
                f"{statistics.median(case['cpu_seconds'][name]):>8.1f}{median / here:>8.2f}x{size:>9}"
            )
        difference = case["largest_feature_difference"]
        lines.append(f"largest difference between the features of here and recipe: {difference:.1e}")
    if results["left_out"]:
        lines.append(
            f"not installed and left out: {', '.join(results['left_out'])} "
            "(pip install -e '.[benchmark]' -c constraints.txt)"
        )
    return "\n".join(lines)


# --- the corpus -------------------------------------------------------------------------------------------


def _write_clips(
    root: Path, rows: Sequence[dict[str, str]], data_root: Path, duration_s: float, num_clips: int
) -> list[str]:
    """Clips with the texts of the rows, their splits, and the facts of their audio. Returns their paths."""
    import soundfile

    rate_hz = soundfile.info(resolve_audio_path(data_root, rows[0]["audio_path"])).samplerate
    speech = _speech(rows, data_root, rate_hz, round(duration_s * rate_hz))
    clip_rows = []
    for number, (samples, row) in enumerate(
        itertools.islice(zip(speech, itertools.cycle(rows), strict=False), num_clips)
    ):
        path = f"{number:06d}.wav"
        soundfile.write(root / path, samples, rate_hz, subtype="PCM_16")
        # Dated back: the facts of files that were written just now are measured twice.
        os.utime(root / path, (0, 0))
        texts = {name: row[name] for name in ("transcript", "translation", "video_id")}
        clip_rows.append({**texts, "id": str(number), "audio_path": path, "duration": f"{duration_s:.6f}"})
    paths = [row["audio_path"] for row in clip_rows]
    _write_splits(root / "splits", clip_rows)
    facts = AudioFactsFile(root / "audio_facts.tsv")
    for _ in facts.measure_all(root, paths, num_threads=num_usable_cores()):
        pass
    facts.save()
    return paths


def _speech(
    rows: Sequence[dict[str, str]], data_root: Path, rate_hz: int, num_samples: int
) -> Iterator[np.ndarray]:
    """Yields pieces of `num_samples` of all clips of the rows one after the other, without an end."""
    rest = np.empty(0, np.float32)
    for row in itertools.cycle(rows):
        path = resolve_audio_path(data_root, row["audio_path"])
        clip = load_waveform(path, piece_of(row), sample_rate_hz=rate_hz)
        rest = np.concatenate([rest, clip])
        while len(rest) >= num_samples:
            yield rest[:num_samples]
            rest = rest[num_samples:]


def _write_splits(splits_dir: Path, rows: Sequence[dict[str, str]]) -> None:
    """The first row as test, the second as dev, all others as train: only their number matters here."""
    splits_dir.mkdir()
    parts = dict(zip(reversed(SPLITS), (rows[:1], rows[1:2], rows[2:]), strict=True))
    for split, part in parts.items():
        with (splits_dir / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(part)


# --- the ways ---------------------------------------------------------------------------------------------


def _in_own_process(build: Callable[[Corpus, Path], Built], corpus: Corpus, folder: Path) -> Built:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(build, corpus, folder).result()


class _Clock:
    """Seconds since it was made, and those of the processor in this process and the ended ones it started."""

    def __init__(self) -> None:
        self._start, self._cpu_start = time.perf_counter(), sum(os.times()[:4])

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._start, sum(os.times()[:4]) - self._cpu_start


def _build_cache(corpus: Corpus, folder: Path, *, is_measured: bool = True) -> Built:
    import datasets.arrow_writer

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
    cuts.compute_and_store_features(extractor, storage_path=folder / "features", num_jobs=corpus.num_proc)
    return Built(*clock.read(), _size_of_files(folder))


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
    import torch

    torch.set_num_threads(1)
    for path in paths:
        function(path, folder)


def _size_of_files(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
