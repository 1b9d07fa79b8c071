"""Benchmark stage `features`: building the feature cache against the public Hugging Face recipe.

The recipe is the one of the fine-tuning guides: `map` with `WhisperFeatureExtractor` over every clip, padded
to 30 s, float32, in an `input_features` column (audio decoded by soundfile and librosa, since `datasets` 5
decodes by torchcodec only). Both read the same files with the same number of processes. Each runs in a
process of its own that has imported everything before the clock starts, and the files are read once before,
so neither pays for a cold disk. The cache's time includes measuring and hashing all audio.
"""

import csv
import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from vietst.constants import SAMPLE_RATE_HZ, SPLITS
from vietst.data.audio_paths import resolve_audio_path
from vietst.data.feature_cache import build_feature_cache, features_of
from vietst.data.features import LOG_MEL_80, pad_log_mel
from vietst.data.splits import REQUIRED_COLUMNS
from vietst.data.tables import open_table
from vietst.errors import ManifestError

MIN_SPEED_RATIO: Final = 6.0
"""Times faster than the recipe that the build should be."""
MIN_SIZE_RATIO: Final = 18.0
"""Times smaller than the recipe's files that the cache should be, on clips of about 3 s."""

_NUM_COMPARED: Final = 32
_MIN_ROWS: Final = 3


@dataclass(frozen=True)
class Built:
    """One way of building, measured."""

    seconds: float
    num_bytes: int
    compared: list[np.ndarray]
    """Padded features [num_mel_bins, num_frames] of the first rows, to see that both made the same."""


def benchmark_manifest(
    manifest_path: Path, audio_root: Path, *, num_utterances: int, num_proc: int, work_dir: Path | None
) -> dict[str, Any]:
    """`compare_feature_builds` on the first rows of a cleaned manifest.

    Raises:
        ManifestError: no such manifest, or fewer than 3 rows.
    """
    table = open_table(
        manifest_path,
        REQUIRED_COLUMNS,
        if_missing="make one: python scripts/make_sample_corpus.py and python scripts/build_features.py",
        if_columns_missing="clean it first: python scripts/preprocess_manifest.py",
    )
    rows = [row for _, row in itertools.islice(table.rows(), num_utterances)]
    if len(rows) < _MIN_ROWS:
        raise ManifestError(
            where=str(manifest_path),
            rule=f"at least {_MIN_ROWS} rows to measure",
            found=str(len(rows)),
            do="take a larger manifest or a larger --num_utterances (2000 say something)",
        )
    return compare_feature_builds(rows, audio_root, num_proc=num_proc, work_dir=work_dir)


def compare_feature_builds(
    rows: Sequence[dict[str, str]], audio_root: Path, *, num_proc: int, work_dir: Path | None = None
) -> dict[str, Any]:
    """Builds the features of the same rows both ways, in a temporary folder that is removed.

    Args:
        rows: at least 3, with the columns of a clean manifest.
        work_dir: where the temporary folder is made; the recipe takes 1 MB per utterance.

    Returns:
        Seconds, bytes, their ratios, and the largest difference between the features of both.
    """
    with tempfile.TemporaryDirectory(dir=work_dir, prefix="vietst-benchmark-") as folder:
        temporary = Path(folder)
        audio_seconds = _read_once(rows, audio_root)
        _write_splits(temporary / "splits", rows)
        cache = _in_own_process(_build_cache, temporary, audio_root, num_proc)
        recipe = _in_own_process(
            _run_recipe,
            temporary,
            [str(resolve_audio_path(audio_root, row["audio_path"])) for row in rows],
            num_proc,
        )
    differences = [
        float(np.abs(ours - theirs).max())
        for ours, theirs in zip(cache.compared, recipe.compared, strict=True)
    ]
    return {
        "num_utterances": len(rows),
        "audio_hours": round(audio_seconds / 3600, 4),
        "mean_clip_s": round(audio_seconds / len(rows), 3),
        "num_proc": num_proc,
        "cache_seconds": round(cache.seconds, 2),
        "recipe_seconds": round(recipe.seconds, 2),
        "times_faster": round(recipe.seconds / cache.seconds, 2),
        "cache_bytes": cache.num_bytes,
        "recipe_bytes": recipe.num_bytes,
        "times_smaller": round(recipe.num_bytes / cache.num_bytes, 2),
        "largest_feature_difference": max(differences),
    }


def describe(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    table = (
        ("", "seconds", "MB"),
        ("Hugging Face recipe", f"{results['recipe_seconds']:.1f}", f"{results['recipe_bytes'] / 1e6:.1f}"),
        ("vietst feature cache", f"{results['cache_seconds']:.1f}", f"{results['cache_bytes'] / 1e6:.1f}"),
        ("ratio", f"{results['times_faster']:.1f}x", f"{results['times_smaller']:.1f}x"),
        ("should be at least", f"{MIN_SPEED_RATIO:.1f}x", f"{MIN_SIZE_RATIO:.1f}x"),
    )
    return "\n".join(
        (
            f"{results['num_utterances']} utterances of {results['mean_clip_s']:.1f} s on average "
            f"({results['audio_hours']:.2f} h), {results['num_proc']} process(es)",
            *(f"{name:24}{seconds:>10}{size:>10}" for name, seconds, size in table),
            f"largest difference between the features of both: {results['largest_feature_difference']:.1e}",
        )
    )


def _read_once(rows: Sequence[dict[str, str]], audio_root: Path) -> float:
    """Brings the files into the system's cache. Returns their seconds of audio."""
    import soundfile

    audio_seconds = 0.0
    for row in rows:
        path = resolve_audio_path(audio_root, row["audio_path"])
        path.read_bytes()
        audio_seconds += soundfile.info(path).duration
    return audio_seconds


def _write_splits(splits_dir: Path, rows: Sequence[dict[str, str]]) -> None:
    """The first row as test, the second as dev, all others as train: only their number matters here."""
    splits_dir.mkdir()
    parts = dict(zip(reversed(SPLITS), (rows[:1], rows[1:2], rows[2:]), strict=True))
    for split, part in parts.items():
        with (splits_dir / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(part)


def _in_own_process(build: Callable[..., Built], *arguments: object) -> Built:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(build, *arguments).result()


def _build_cache(temporary: Path, audio_root: Path, num_proc: int) -> Built:
    import datasets
    import torch  # noqa: F401
    import transformers.audio_utils  # noqa: F401

    start = time.perf_counter()
    directory = build_feature_cache(
        temporary / "splits", temporary / "features", LOG_MEL_80, audio_root=audio_root, num_proc=num_proc
    )
    seconds = time.perf_counter() - start
    cache = datasets.load_from_disk(str(directory))
    rows = [cache["test"][0], cache["dev"][0]]
    rows += [cache["train"][index] for index in range(min(_NUM_COMPARED, len(cache["train"])))]
    padded = pad_log_mel(
        [features_of(row, LOG_MEL_80) for row in rows],
        [row["pad_value"] for row in rows],
        LOG_MEL_80.num_window_frames,
    )
    return Built(seconds, _size_of_files(directory), list(padded))


def _run_recipe(temporary: Path, audio_paths: list[str], num_proc: int) -> Built:
    import datasets
    import librosa
    import torch
    from transformers import WhisperFeatureExtractor

    torch.set_num_threads(1)
    # librosa and the extractor load their parts at the first call.
    extractor = WhisperFeatureExtractor()
    silence = librosa.resample(np.zeros(22_050), orig_sr=22_050, target_sr=SAMPLE_RATE_HZ, res_type="soxr_hq")
    extractor(silence, sampling_rate=SAMPLE_RATE_HZ)

    start = time.perf_counter()
    dataset = datasets.Dataset.from_dict({"path": audio_paths}).map(
        _recipe_row,
        fn_kwargs={"extractor": extractor},
        remove_columns=["path"],
        num_proc=num_proc if num_proc > 1 else None,
        cache_file_name=str(temporary / "recipe.arrow"),
    )
    seconds = time.perf_counter() - start
    num_bytes = sum(Path(file["filename"]).stat().st_size for file in dataset.cache_files)
    num_compared = min(_NUM_COMPARED + 2, len(dataset))
    compared = [np.asarray(dataset[index]["input_features"], np.float32) for index in range(num_compared)]
    return Built(seconds, num_bytes, compared)


def _recipe_row(row: dict[str, Any], extractor: Any) -> dict[str, Any]:
    import librosa
    import soundfile

    samples, sample_rate_hz = soundfile.read(row["path"], dtype="float32")
    if samples.ndim > 1:
        samples = samples.mean(axis=1)
    if sample_rate_hz != SAMPLE_RATE_HZ:
        samples = librosa.resample(
            samples, orig_sr=sample_rate_hz, target_sr=SAMPLE_RATE_HZ, res_type="soxr_hq"
        )
    return {"input_features": extractor(samples, sampling_rate=SAMPLE_RATE_HZ).input_features[0]}


def _size_of_files(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
