"""The same audio found again, whatever its level, its file format and some milliseconds at its start.

After Haitsma and Kalker 2002 ("A Highly Robust Audio Fingerprinting System", ISMIR): every 20 ms, 32 bits say
whether the difference between neighbouring bands of the spectrum, smoothed over a third of a second, grew or
fell. An index holds a few of each clip's words, chosen by their values, so that two copies choose the same;
a clip is looked up with all of its words, and what shares some is compared bit by bit.

A fingerprint is uint32 [num_words]; a word of 0 stands where nearly nothing is heard.
"""

from typing import Final

import numpy as np

_NUM_BANDS: Final = 33
_LOWEST_HZ: Final = 200.0
_HIGHEST_HZ: Final = 4000.0
_NUM_BINS: Final = 257
_BIN_HZ: Final = 31.25
_SMOOTHED_FRAMES: Final = 37
_FRAMES_APART: Final = 2
_AUDIBLE_RATIO: Final = 1e-4
"""Words of frames 40 dB below the loudest one are noise."""

_INDEXED_WORDS: Final = 32
"""Of each clip; more make the index larger, fewer miss copies of which few words survive."""
_MAX_ROWS_OF_A_WORD: Final = 64
"""A word that more rows have says little; the first of them are looked at."""
_MAX_CANDIDATES: Final = 8
_MAX_BIT_ERRORS: Final = 0.15
"""Mean share over the whole overlap. Words of different audio differ in half of their bits; copies as MP3,
Vorbis or Opus, softer or begun elsewhere, differed in at most 8 % (40 clips of the sample corpus)."""
_MAX_LOCAL_BIT_ERRORS: Final = 0.3
_LOCAL_WORDS: Final = 8
"""Over 0.16 s, where such copies differed in at most 21 %: a sentence of the same voice that is another in
one word is no copy."""
_MIN_OVERLAP: Final = 0.85
"""Of the longer clip, and of what is heard in it."""
_MIN_COMPARED_WORDS: Final = 15


def fingerprint(spectrum: np.ndarray) -> np.ndarray:
    """Of a power spectrum [num_frames, 257], 10 ms apart, of audio at 16 kHz."""
    smooth = _smoothed(spectrum @ _BANDS)[::_FRAMES_APART]  # [num_words + 1, bands]
    bits = np.diff(np.diff(smooth, axis=1), axis=0) > 0
    words = np.packbits(bits, axis=1, bitorder="little").view("<u4").ravel().astype(np.uint32)
    loudness = smooth.sum(axis=1)[1:]
    return np.where(loudness > _AUDIBLE_RATIO * loudness.max(initial=0.0), words, np.uint32(0))


def _bands() -> np.ndarray:
    """Triangles, equally far apart in mel: float64 [bins, bands]."""
    lowest, highest = (2595 * np.log10(1 + frequency_hz / 700) for frequency_hz in (_LOWEST_HZ, _HIGHEST_HZ))
    edges_hz = 700 * (10 ** (np.linspace(lowest, highest, _NUM_BANDS + 2) / 2595) - 1)
    bins_hz = np.arange(_NUM_BINS)[:, None] * _BIN_HZ
    rising = (bins_hz - edges_hz[:-2]) / (edges_hz[1:-1] - edges_hz[:-2])
    falling = (edges_hz[2:] - bins_hz) / (edges_hz[2:] - edges_hz[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling))


_BANDS: Final = _bands()


def _smoothed(energies: np.ndarray) -> np.ndarray:
    """Hann-weighted sums over a third of a second, [num_frames, bands]; there is nothing around the clip."""
    window = np.hanning(_SMOOTHED_FRAMES + 2)[1:-1]
    size = 1 << (len(energies) + _SMOOTHED_FRAMES).bit_length()
    transformed = np.fft.rfft(energies, size, axis=0) * np.fft.rfft(window, size)[:, None]
    start = _SMOOTHED_FRAMES // 2
    return np.asarray(np.fft.irfft(transformed, size, axis=0)[start : start + len(energies)])


# --- comparing two clips ------------------------------------------------------------------------------------


def is_same_audio(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two fingerprints are those of one recording, but for level, coding and a little at the ends."""
    shift = _best_shift(one, other)
    if shift is None:
        return False
    start, end = max(0, shift), min(len(one), len(other) + shift)
    if end - start < _MIN_OVERLAP * max(len(one), len(other)):
        return False
    mine, theirs = one[start:end], other[start - shift : end - shift]
    is_heard = (mine != 0) & (theirs != 0)
    num_heard = max(np.count_nonzero(one), np.count_nonzero(other))
    if is_heard.sum() < max(_MIN_COMPARED_WORDS, _MIN_OVERLAP * num_heard):
        return False
    errors = np.bitwise_count((mine ^ theirs)[is_heard]) / 32
    length = min(_LOCAL_WORDS, len(errors))
    worst = np.convolve(errors, np.full(length, 1 / length), mode="valid").max()
    return bool(errors.mean() <= _MAX_BIT_ERRORS and worst <= _MAX_LOCAL_BIT_ERRORS)


def _best_shift(one: np.ndarray, other: np.ndarray) -> int | None:
    """How many words later `other` begins in `one`: what most equal words agree on; None without any."""
    places = np.flatnonzero(other)
    places = places[np.argsort(other[places], kind="stable")]
    values = other[places]
    mine = np.flatnonzero(one)
    first = np.searchsorted(values, one[mine], side="left")
    last = np.searchsorted(values, one[mine], side="right")
    shifts = [
        place - places[start:end] for place, start, end in zip(mine, first, last, strict=True) if end > start
    ]
    if not shifts:
        return None
    found, counts = np.unique(np.concatenate(shifts), return_counts=True)
    return int(found[np.argmax(counts)])


# --- finding a clip among many ------------------------------------------------------------------------------

_ENTRY: Final = np.dtype([("word", "<u4"), ("row", "<u4")])


class FingerprintIndex:
    """Which earlier rows may have a row's audio. It holds some 260 bytes for each row.

    All rows are added first; then each can be looked up.
    """

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []
        self._entries = np.empty(0, _ENTRY)

    def add(self, row: int, words: np.ndarray) -> None:
        """Takes a choice of the row's words: those with the smallest hashes, which copies choose too."""
        distinct = np.unique(words[words != 0])
        hashes = distinct * np.uint32(2654435761)  # Knuth's multiplicative hash, modulo 2^32
        chosen = distinct[np.argsort(hashes, kind="stable")[:_INDEXED_WORDS]]
        part = np.empty(len(chosen), _ENTRY)
        part["word"], part["row"] = chosen, row
        self._parts.append(part)

    def earlier_rows(self, row: int, words: np.ndarray) -> list[int]:
        """A few rows before this one that share words with it, those with most first."""
        self._sort_added()
        distinct = np.unique(words[words != 0])
        first = np.searchsorted(self._entries["word"], distinct, side="left")
        last = np.searchsorted(self._entries["word"], distinct, side="right")
        last = np.minimum(last, first + _MAX_ROWS_OF_A_WORD)
        rows = [
            self._entries["row"][start:end] for start, end in zip(first, last, strict=True) if end > start
        ]
        if not rows:
            return []
        found, counts = np.unique(np.concatenate(rows), return_counts=True)
        found, counts = found[found < row], counts[found < row]
        return [int(other) for other in found[np.lexsort((found, -counts))][:_MAX_CANDIDATES]]

    def _sort_added(self) -> None:
        if self._parts:
            entries = np.concatenate([self._entries, *self._parts])
            self._parts.clear()
            self._entries = entries[np.lexsort((entries["row"], entries["word"]))]
