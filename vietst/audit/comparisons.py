"""The second stage of an audit: what a row is among the others. Speaking rates, copies of audio, overlaps.

Memory holds some numbers for each row; the fingerprints lie in a file.
"""

import tempfile
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from vietst.audit.fingerprints import FingerprintIndex, is_same_audio
from vietst.audit.rows import AuditRow
from vietst.audit.speaking_rate import robust_z

NO_ROW: Final = -1


@dataclass(frozen=True)
class Comparisons:
    """One number for each row."""

    syllable_rate_z: np.ndarray
    """float [num_rows], NaN where the rate was not measured."""
    duplicate_of: np.ndarray
    """int [num_rows], the number of the earlier row; `NO_ROW`: none."""
    overlap_s: np.ndarray
    """float [num_rows], NaN where no times are given."""


@dataclass(frozen=True)
class MeasuredRow:
    """A row and what the first stage found, as far as rows are compared."""

    row: AuditRow
    syllables_per_second: float
    """NaN: not measured."""
    fingerprint: np.ndarray
    """uint32 [num_words], empty where the audio cannot be used."""


def compare_rows(rows: Iterable[MeasuredRow], work_dir: Path) -> Comparisons:
    """Compares all rows, which are gone through once.

    Args:
        work_dir: takes a file of the fingerprints while this runs.
    """
    numbers_of: tuple[dict[str, int], ...] = ({}, {}, {}, {})
    groups = tuple(array("q") for _ in numbers_of)
    rates, starts, ends = array("d"), array("d"), array("d")
    with tempfile.TemporaryFile(dir=work_dir) as file:
        store, index = _FingerprintStore(file), FingerprintIndex()
        for number, measured in enumerate(rows):
            row = measured.row
            rates.append(measured.syllables_per_second)
            start_s, end_s = row.span_s
            starts.append(start_s)
            ends.append(end_s)
            keys = (row.speaker_id, row.channel_id, row.video_id, row.recording)
            for of_rows, numbers, key in zip(groups, numbers_of, keys, strict=True):
                of_rows.append(numbers.setdefault(key, len(numbers)) if key else NO_ROW)
            store.append(measured.fingerprint)
            index.add(number, measured.fingerprint)
        duplicates = _duplicates(index, store)
    speakers, channels, videos, recordings = (np.array(of_rows) for of_rows in groups)
    return Comparisons(
        robust_z(np.array(rates), (speakers, channels, videos)),
        duplicates,
        overlaps_s(recordings, np.stack([np.array(starts), np.array(ends)], axis=1)),
    )


class _FingerprintStore:
    """Fingerprints in a file, in the order of the rows."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, words: np.ndarray) -> None:
        self._file.write(words.astype("<u4").tobytes())
        self._ends.append(self._ends[-1] + 4 * len(words))

    def __getitem__(self, row: int) -> np.ndarray:
        self._file.seek(self._ends[row])
        return np.frombuffer(self._file.read(self._ends[row + 1] - self._ends[row]), "<u4")


def _duplicates(index: FingerprintIndex, store: _FingerprintStore) -> np.ndarray:
    first_of = np.full(len(store), NO_ROW)
    for row in range(len(store)):
        words = store[row]
        for earlier in index.earlier_rows(row, words):
            if is_same_audio(store[earlier], words):
                first_of[row] = earlier if first_of[earlier] == NO_ROW else first_of[earlier]
                break
    return first_of


def overlaps_s(recordings: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Seconds that each segment shares with the one of its recording that shares most with it.

    Args:
        recordings: int [num_rows], the number of the recording; `NO_ROW`: not known.
        times_s: float [num_rows, 2], start and end, NaN where not given.

    Returns:
        float [num_rows], NaN where there is no recording or no times.
    """
    shared_s = np.full(len(recordings), np.nan)
    is_known = ~np.isnan(times_s).any(axis=1) & (recordings != NO_ROW)
    shared_s[is_known] = 0.0
    rows = np.flatnonzero(is_known)
    rows = rows[np.lexsort((times_s[rows, 0], recordings[rows]))]
    for position, row in enumerate(rows):
        for other in rows[position + 1 :]:
            if recordings[other] != recordings[row] or times_s[other, 0] >= times_s[row, 1]:
                break
            overlap_s = min(times_s[row, 1], times_s[other, 1]) - times_s[other, 0]
            shared_s[row] = max(shared_s[row], overlap_s)
            shared_s[other] = max(shared_s[other], overlap_s)
    return shared_s
