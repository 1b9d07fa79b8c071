"""A few seconds of noise with texts, already split: what the feature cache's tests build from."""

import csv
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

COLUMNS = ("id", "audio_path", "transcript", "translation", "duration", "video_id", "topic")


def write_clip(path: Path, duration_s: float, seed: int, sample_rate_hz: int = 16_000) -> float:
    """Writes noise, dated an hour back so that its facts are remembered. Returns its seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.2 * np.random.default_rng(seed).standard_normal(round(duration_s * sample_rate_hz))
    soundfile.write(path, samples, sample_rate_hz, subtype="PCM_16")
    an_hour_ago_ns = path.stat().st_mtime_ns - 3_600_000_000_000
    os.utime(path, ns=(an_hour_ago_ns, an_hour_ago_ns))
    return len(samples) / sample_rate_hz


def write_splits(splits_dir: Path, splits: dict[str, Iterable[dict[str, str]]]) -> None:
    splits_dir.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        rows = list(rows)
        with (splits_dir / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def write_corpus(root: Path, num_clips: int = 12, seed: int = 0) -> dict[str, list[dict[str, str]]]:
    """Clips below `root/clips`, splits in `root/splits` (one clip in six for dev, one for test)."""
    generator = np.random.default_rng(seed)
    splits: dict[str, list[dict[str, str]]] = {"train": [], "dev": [], "test": []}
    for number in range(num_clips):
        name = f"clips/v{number // 3}/{number:02d}.wav"
        duration_s = write_clip(root / name, float(generator.uniform(0.3, 0.7)), seed + number)
        split = {4: "dev", 5: "test"}.get(number % 6, "train")
        splits[split].append(
            {
                "id": f"u{number:02d}",
                "audio_path": name,
                "transcript": f"Deploy cái app số {number}, “gấp”",
                "translation": f"Triển khai ứng dụng số {number}",
                "duration": f"{duration_s:.6f}",
                "video_id": f"v{number // 3}",
                "topic": "" if number % 2 else "dev\nops",
            }
        )
    write_splits(root / "splits", splits)
    return splits
