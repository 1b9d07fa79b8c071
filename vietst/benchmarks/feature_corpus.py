"""Clips of equal length, with splits and the facts of their audio: what the benchmark builds features of."""

import csv
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vietst.constants import SPLITS
from vietst.data.audio import load_waveform
from vietst.data.audio_facts import AudioFactsFile
from vietst.data.audio_paths import resolve_audio_path
from vietst.data.audio_pieces import piece_of
from vietst.data.feature_cache import num_usable_cores


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


def write_clips(
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
