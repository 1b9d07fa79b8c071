"""A memory of what was measured in audio files: unchanged files are neither decoded nor hashed twice."""

import contextlib
import csv
import operator
import os
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from vietst.data.audio import AudioFacts, hash_file, measure_audio
from vietst.data.audio_paths import normalize_audio_path, resolve_below
from vietst.data.audio_pieces import split_locator
from vietst.errors import AudioError
from vietst.runtime import keep_freed_memory

if TYPE_CHECKING:
    from tqdm import tqdm

_FACTS_PER_WRITE: Final = 256
_ENTRY: Final = struct.Struct("<q16sqiiqddd")
"""A modification time and the `AudioFacts`, packed: a sixth of the memory that the objects take."""
_SETTLED_NS: Final = 2_000_000_000
"""A file written this short a time before it was measured may be written again without a visible change of
its modification time (whose steps are up to 2 s on some file systems); it is hashed again next time."""


class AudioFactsFile:
    """A TSV that remembers the facts of files that have not changed (same size, same modification time).

    What was measured goes by its locator (see `audio_pieces`): the path, with the times of a piece behind it.

    New facts are appended as they come, so that an interrupted pass over a large corpus is not lost;
    `save` writes the file anew, sorted. An unreadable or foreign file is treated as empty: it only
    saves work. Not for writing by several processes at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, bytes] = {}
        self._unsaved: list[str] = []
        self._changed = False
        last_key = ""
        for key, entry in _read_entries(path):
            self._changed |= key <= last_key  # as a killed process left it
            self._entries[key], last_key = entry, key

    @property
    def is_saved(self) -> bool:
        """Whether the file holds all that is known, sorted."""
        return not self._changed and self.path.is_file()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, locator: str, file: Path | str) -> AudioFacts | None:
        """The facts of `locator` (in a manifest's spelling), if `file` still is what was measured."""
        entry = self._entries.get(normalize_audio_path(locator))
        if entry is None:
            return None
        try:
            status = os.stat(file)  # noqa: PTH116 - making a `Path` takes longer than all the rest
        except OSError:
            return None
        mtime_ns, facts = _unpacked(entry)
        return facts if (status.st_mtime_ns, status.st_size) == (mtime_ns, facts.num_bytes) else None

    def remembered(self, locator: str) -> AudioFacts | None:
        """The facts of `locator` whatever became of the file since."""
        entry = self._entries.get(normalize_audio_path(locator))
        return None if entry is None else _unpacked(entry)[1]

    def forget(self, locators: Iterable[str]) -> int:
        """Drops what is known of files, until they are measured again; returns of how many it was."""
        known = [key for key in map(normalize_audio_path, locators) if self._entries.pop(key, None)]
        self._changed |= bool(known)
        return len(known)

    def measure(self, locator: str, file: Path) -> AudioFacts:
        """The remembered facts, or new ones. Raises AudioError as `measure_audio` does."""
        facts = self.get(locator, file)
        if facts is None:
            facts = self._measure_again(normalize_audio_path(locator), file)
        return facts

    def _measure_again(self, key: str, file: Path) -> AudioFacts:
        _, piece = split_locator(key)
        try:
            # Asked before measuring: a file that changes meanwhile is measured again next time.
            status = file.stat()
        except OSError:
            return measure_audio(file, piece)  # which says what is wrong
        known = self.remembered(key)
        # A file that was copied or touched has a new time and the old bytes.
        is_same = known is not None and (known.digest, known.num_bytes) == hash_file(file, piece)
        facts = known if known is not None and is_same else measure_audio(file, piece)
        is_settled = abs(time.time_ns() - status.st_mtime_ns) > _SETTLED_NS
        self._entries[key] = _packed(status.st_mtime_ns if is_settled else 0, facts)
        self._unsaved.append(key)
        self._changed = True
        return facts

    def add_from(self, path: Path) -> None:
        """Takes over all that another such file knows."""
        for key, entry in _read_entries(path):
            if self._entries.get(key) != entry:
                self._entries[key] = entry
                self._changed = True

    def measure_all(
        self,
        audio_root: Path,
        locators: Sequence[str],
        *,
        num_threads: int = 1,
        bar: "tqdm[object] | None" = None,
    ) -> Iterator[AudioFacts | AudioError]:
        """`measure` for many locators under `audio_root`; yields one for each, the error for an unusable one.

        Decoding and hashing release Python's lock, so threads use several cores. What was measured is on the
        disk when this ends or is given up, unsorted until `save`.

        Args:
            bar: moves on by one for each locator.
        """
        real_root = os.path.realpath(audio_root)
        keep_freed_memory()

        def measure_one(locator: str) -> AudioFacts | AudioError:
            audio_path, _ = split_locator(locator)
            try:
                return self.measure(locator, Path(resolve_below(real_root, audio_path)))
            except AudioError as error:
                return error

        pool = ThreadPoolExecutor(max(1, num_threads))
        try:
            for start in range(0, len(locators), _FACTS_PER_WRITE):
                for result in pool.map(measure_one, locators[start : start + _FACTS_PER_WRITE]):
                    yield result
                    if bar is not None:
                        bar.update()
                self._append()
        finally:
            # After Ctrl-C the files that are still queued are not waited for.
            pool.shutdown(cancel_futures=True)
            self._append()

    def save(self) -> None:
        """Writes everything that is known, sorted by path; does nothing when nothing is new."""
        if self._changed or not self.path.is_file():
            # Without a place to write (a read-only disk), the same files are measured again next time.
            with contextlib.suppress(OSError):
                self._write_all()

    def _write_all(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        with temporary.open("w", encoding="utf-8", newline="") as file:
            self._write_rows(file, sorted(self._entries), header=True)
        temporary.replace(self.path)
        self._unsaved, self._changed = [], False
        # What killed processes left. Another one that writes just now would lose no more than its memory.
        for abandoned in self.path.parent.glob(f".{self.path.name}.*.tmp"):
            abandoned.unlink(missing_ok=True)

    def _append(self) -> None:
        keys, self._unsaved = self._unsaved, []
        if not keys:
            return
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not self.path.is_file()
            with self.path.open("a", encoding="utf-8", newline="") as file:
                self._write_rows(file, keys, header=is_new)

    def _write_rows(self, file: TextIO, keys: Sequence[str], *, header: bool) -> None:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        if header:
            writer.writerow(_COLUMNS)
        for key in keys:
            mtime_ns, facts = _unpacked(self._entries[key])
            writer.writerow((key, mtime_ns, *_values_of(facts)))


_FACT_NAMES: Final = tuple(field.name for field in fields(AudioFacts))
_COLUMNS: Final = ("audio_path", "mtime_ns", *_FACT_NAMES)
_values_of: Final = operator.attrgetter(*_FACT_NAMES)
"""As `dataclasses.astuple`, which copies every value deeply: most of the time that this file takes."""


def _read_entries(path: Path) -> Iterator[tuple[str, bytes]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = csv.reader((line.replace("\0", "") for line in file), delimiter="\t")
        if tuple(next(rows, ())) != _COLUMNS:
            return
        for row in rows:
            # The last line may have been cut off by a kill.
            if len(row) == len(_COLUMNS):
                with contextlib.suppress(ValueError, struct.error):
                    yield row[0], _packed(int(row[1]), _facts_of_row(row[2:]))


def _packed(mtime_ns: int, facts: AudioFacts) -> bytes:
    digest, *numbers = _values_of(facts)
    return _ENTRY.pack(mtime_ns, bytes.fromhex(digest), *numbers)


def _unpacked(entry: bytes) -> tuple[int, AudioFacts]:
    mtime_ns, digest, *numbers = _ENTRY.unpack(entry)
    return mtime_ns, AudioFacts(digest.hex(), *numbers)


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
