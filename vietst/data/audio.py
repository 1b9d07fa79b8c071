"""Audio files: what they hold, how they become a 16 kHz waveform, and a memory of what was measured.

A file that cannot be used raises `AudioError` with a code of `audio_paths.AUDIO_RULES`; it never turns into
silence. soundfile decodes (WAV, FLAC, OGG, Opus, MP3), soxr resamples.
"""

import csv
import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Final, TextIO

import numpy as np
import soundfile
import soxr

from vietst.constants import SAMPLE_RATE_HZ
from vietst.data.audio_headers import missing_bytes, promises_length
from vietst.data.audio_paths import audio_error, normalize_audio_path, resolve_below
from vietst.data.audio_paths import resolve_audio_path as resolve_audio_path
from vietst.errors import AudioError

SILENCE_PEAK: Final = 1e-3
"""Largest |sample| (full scale 1.0) that still counts as silence: -60 dBFS."""

_BLOCK_FRAMES: Final = 1 << 18
_HASH_BLOCK_BYTES: Final = 1 << 20
_FACTS_PER_WRITE: Final = 256
_UNKNOWN_NUM_FRAMES: Final = 1 << 48
"""libsndfile gives a frame count near 2^63 for a stream whose header does not know its length."""


@dataclass(frozen=True)
class AudioFacts:
    """What one audio file holds, measured by decoding all of it."""

    digest: str
    """BLAKE2b-128 of the file's bytes, hexadecimal."""
    num_bytes: int
    sample_rate_hz: int
    """Rate of the file, before resampling."""
    num_channels: int
    num_samples: int
    """Per channel, at the file's own rate."""
    duration_s: float
    peak: float
    """Largest |sample| of the mono mix; full scale is 1.0."""
    rms_dbfs: float
    """Root mean square of the mono mix in decibels relative to 1.0."""


def load_waveform(path: Path, *, sample_rate_hz: int = SAMPLE_RATE_HZ) -> np.ndarray:
    """Decodes a file to mono (mean of the channels) at `sample_rate_hz` (soxr's HQ quality).

    Returns:
        float32 [num_samples], C-contiguous, in [-1, 1] but for float files that hold louder samples.

    Raises:
        AudioError: any `audio_*` code of `audio_paths.AUDIO_RULES`.
    """
    with _open(path) as file:
        blocks = [_mono(block, path) for block in _decoded_blocks(file, path)]
        source_rate_hz = file.samplerate
    waveform = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    _refuse_silence(float(max(waveform.max(), -waveform.min())), path)
    if source_rate_hz != sample_rate_hz:
        waveform = soxr.resample(waveform, source_rate_hz, sample_rate_hz, quality="HQ")
    return waveform


def measure_audio(path: Path) -> AudioFacts:
    """Decodes and hashes a whole file, in blocks: a file of hours takes no more memory than one of seconds.

    Raises:
        AudioError: any `audio_*` code of `audio_paths.AUDIO_RULES`. Too short or too long is the
            manifest's decision.
    """
    num_samples, peak, sum_of_squares = 0, 0.0, 0.0
    with _open(path) as file:
        for block in _decoded_blocks(file, path):
            mono = _mono(block, path)
            num_samples += len(mono)
            peak = max(peak, float(mono.max()), -float(mono.min()))
            sum_of_squares += float(np.dot(mono, mono))
        sample_rate_hz, num_channels = file.samplerate, file.channels
    _refuse_silence(peak, path)
    digest, num_bytes = hash_file(path)
    return AudioFacts(
        digest=digest,
        num_bytes=num_bytes,
        sample_rate_hz=sample_rate_hz,
        num_channels=num_channels,
        num_samples=num_samples,
        duration_s=num_samples / sample_rate_hz,
        peak=peak,
        rms_dbfs=10.0 * math.log10(sum_of_squares / num_samples),
    )


def hash_file(path: Path) -> tuple[str, int]:
    """BLAKE2b-128 of a file's bytes (hexadecimal), and how many bytes these are."""
    hasher, num_bytes = hashlib.blake2b(digest_size=16), 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            hasher.update(block)
            num_bytes += len(block)
    return hasher.hexdigest(), num_bytes


def _open(path: Path) -> soundfile.SoundFile:
    """Opens a file for decoding; refuses what is missing, empty, not audio, or visibly cut off."""
    try:
        num_bytes = path.stat().st_size
    except (OSError, ValueError) as error:
        raise audio_error(
            "audio_missing", path, str(error), "restore the file, or remove the row from the manifest"
        ) from error
    if path.is_dir():
        raise audio_error("audio_missing", path, "a folder", "write the path of an audio file")
    if num_bytes == 0:
        raise audio_error("audio_empty", path, "a file of 0 bytes", "cut the clip again")
    try:
        file = soundfile.SoundFile(os.fspath(path))
    # soundfile asks for rate and channels of a headerless .raw file by a TypeError.
    except (soundfile.SoundFileError, RuntimeError, TypeError, OSError) as error:
        raise audio_error(
            "audio_unreadable",
            path,
            f"libsndfile: {error}",
            "convert it, for example: ffmpeg -i IN -ac 1 -ar 16000 OUT.flac",
        ) from error
    with path.open("rb") as raw:
        num_missing = missing_bytes(raw, num_bytes)
    if num_missing:
        file.close()
        raise audio_error(
            "audio_truncated",
            path,
            f"{num_missing} bytes fewer than its header promises",
            "copy or cut it again",
        )
    return file


def _decoded_blocks(file: soundfile.SoundFile, path: Path) -> Iterator[np.ndarray]:
    """Yields float32 [num_frames, num_channels] until the end; at least one block, none of them empty."""
    num_promised = file.frames if file.frames < _UNKNOWN_NUM_FRAMES else None
    num_read = 0
    while num_promised is None or num_read < num_promised:
        num_wanted = _BLOCK_FRAMES if num_promised is None else min(_BLOCK_FRAMES, num_promised - num_read)
        try:
            block = file.read(num_wanted, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise audio_error(
                "audio_truncated",
                path,
                f"decoding broke off after {num_read} of {num_promised} frames: {error}",
                "copy or cut it again",
            ) from error
        if len(block) == 0:
            break
        num_read += len(block)
        yield block
    if num_read == 0:
        raise audio_error("audio_empty", path, "a header without samples", "cut the clip again")
    if num_promised is not None and num_read < num_promised:
        with path.open("rb") as raw:
            if not promises_length(raw, file.format, num_promised - num_read):
                return
        raise audio_error(
            "audio_truncated",
            path,
            f"{num_read} of the {num_promised} promised frames",
            "copy or cut it again",
        )


def _mono(block: np.ndarray, path: Path) -> np.ndarray:
    """[num_frames, num_channels] -> float32 [num_frames]: the mean of the channels."""
    # Without a copy for the usual mono file; a sum is not finite exactly when a sample is not (or when it
    # overflows, which the second look tells apart).
    mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
    if not math.isfinite(float(mono.sum(dtype=np.float64))) and not np.isfinite(block).all():
        raise audio_error("audio_not_finite", path, "NaN or infinite samples", "export the file again")
    return np.ascontiguousarray(mono)


def _refuse_silence(peak: float, path: Path) -> None:
    if peak <= SILENCE_PEAK:
        level = f"{20.0 * math.log10(peak):.0f} dBFS" if peak > 0 else "digital silence"
        raise audio_error("audio_silent", path, f"peak {level}", "remove the row, or record it again")


class AudioFactsFile:
    """A TSV that remembers the facts of files that have not changed (same size, same modification time).

    New facts are appended as they come, so that an interrupted pass over a large corpus is not lost;
    `save` writes the file anew, sorted. An unreadable or foreign file is treated as empty: it only
    saves work. Not for writing by several processes at once.
    """

    _COLUMNS: Final = ("audio_path", "mtime_ns", *(field.name for field in fields(AudioFacts)))

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, tuple[int, AudioFacts]] = {}
        self._unsaved: list[str] = []
        self._changed = False
        if path.is_file():
            self._read()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, audio_path: str, file: Path) -> AudioFacts | None:
        """The facts of `audio_path` (a manifest's spelling), if `file` still is what was measured."""
        entry = self._entries.get(normalize_audio_path(audio_path))
        if entry is None:
            return None
        try:
            status = file.stat()
        except OSError:
            return None
        mtime_ns, facts = entry
        return facts if (status.st_mtime_ns, status.st_size) == (mtime_ns, facts.num_bytes) else None

    def measure(self, audio_path: str, file: Path) -> AudioFacts:
        """The remembered facts, or new ones. Raises AudioError as `measure_audio` does."""
        facts = self.get(audio_path, file)
        if facts is None:
            # Asked before measuring: a file that changes meanwhile is measured again next time.
            mtime_ns = file.stat().st_mtime_ns if file.exists() else 0
            facts = measure_audio(file)
            key = normalize_audio_path(audio_path)
            self._entries[key] = (mtime_ns, facts)
            self._unsaved.append(key)
            self._changed = True
        return facts

    def measure_all(
        self, audio_root: Path, audio_paths: Sequence[str], *, num_threads: int = 1, progress: bool = True
    ) -> list[AudioFacts | AudioError]:
        """`measure` for many paths under `audio_root`; an entry per path, the error for an unusable one.

        Decoding and hashing release Python's lock, so threads use several cores.
        """
        from tqdm import tqdm

        real_root = os.path.realpath(audio_root)

        def measure_one(audio_path: str) -> AudioFacts | AudioError:
            try:
                return self.measure(audio_path, Path(resolve_below(real_root, audio_path)))
            except AudioError as error:
                return error

        results: list[AudioFacts | AudioError] = []
        pool = ThreadPoolExecutor(max(1, num_threads))
        try:
            bar = tqdm(total=len(audio_paths), desc="measure audio", unit=" files", disable=not progress)
            with bar:
                for result in pool.map(measure_one, audio_paths):
                    results.append(result)
                    bar.update()
                    if len(self._unsaved) >= _FACTS_PER_WRITE:
                        self._append()
        finally:
            # After Ctrl-C the files that are still queued are not waited for.
            pool.shutdown(cancel_futures=True)
            self.save()
        return results

    def save(self) -> None:
        """Writes everything that is known, sorted by path; does nothing when nothing is new."""
        if not self._changed and self.path.is_file():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        with temporary.open("w", encoding="utf-8", newline="") as file:
            self._write_rows(file, sorted(self._entries), header=True)
        temporary.replace(self.path)
        self._unsaved, self._changed = [], False

    def _append(self) -> None:
        keys, self._unsaved = self._unsaved, []
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.is_file()
        with self.path.open("a", encoding="utf-8", newline="") as file:
            self._write_rows(file, keys, header=is_new)

    def _write_rows(self, file: TextIO, keys: Sequence[str], *, header: bool) -> None:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        if header:
            writer.writerow(self._COLUMNS)
        for key in keys:
            mtime_ns, facts = self._entries[key]
            writer.writerow((key, mtime_ns, *astuple(facts)))

    def _read(self) -> None:
        with self.path.open(encoding="utf-8", errors="replace", newline="") as file:
            rows = csv.reader((line.replace("\0", "") for line in file), delimiter="\t")
            if tuple(next(rows, ())) != self._COLUMNS:
                return
            for row in rows:
                # The last line may have been cut off by a kill.
                if len(row) == len(self._COLUMNS):
                    try:
                        self._entries[row[0]] = (int(row[1]), _facts_of_row(row[2:]))
                    except ValueError:
                        continue


def _facts_of_row(values: Sequence[str]) -> AudioFacts:
    digest, num_bytes, sample_rate_hz, num_channels, num_samples, duration_s, peak, rms_dbfs = values
    return AudioFacts(
        digest=digest,
        num_bytes=int(num_bytes),
        sample_rate_hz=int(sample_rate_hz),
        num_channels=int(num_channels),
        num_samples=int(num_samples),
        duration_s=float(duration_s),
        peak=float(peak),
        rms_dbfs=float(rms_dbfs),
    )
