"""Copies of audio are found, whatever was done to them; other speech is not."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from vietst.audit.audio_signals import power_spectrum
from vietst.audit.fingerprints import FingerprintIndex, fingerprint, is_same_audio
from vietst.data.audio import load_waveform

RATE = 16_000


@pytest.fixture(scope="module")
def clips(tiny_corpus: Path) -> list[np.ndarray]:
    paths = sorted((tiny_corpus / "data" / "export" / "audio").rglob("*.wav"))[:20]
    return [load_waveform(path) for path in paths]


def marks(clip: np.ndarray) -> np.ndarray:
    return fingerprint(power_spectrum(clip.astype(np.float32)))


def coded(clip: np.ndarray, rate_hz: int, **form: str) -> np.ndarray:
    """Written at another rate in a lossy format, and read again at 16 kHz."""
    file = io.BytesIO()
    soundfile.write(file, soxr.resample(clip, RATE, rate_hz), rate_hz, **form)
    decoded, _ = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")
    return soxr.resample(decoded, rate_hz, RATE)


CHANGES = {
    "softer": lambda clip: 0.1 * clip,
    "louder, and clipped a little": lambda clip: np.clip(2 * clip, -0.7, 0.7),
    "50 ms later": lambda clip: clip[800:],
    "50 ms earlier": lambda clip: np.pad(clip, (800, 0)),
    "0.2 s shorter": lambda clip: clip[1500:-1700],
    "as MP3": lambda clip: coded(clip, 22_050, format="MP3", subtype="MPEG_LAYER_III"),
    "as Ogg Vorbis": lambda clip: coded(clip, 44_100, format="OGG", subtype="VORBIS"),
    "as Opus, later and softer": lambda clip: coded(0.3 * clip[500:], 48_000, format="OGG", subtype="OPUS"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_found_among_others(clips, change) -> None:
    copies = [CHANGES[change](clip) for clip in clips[:10]]
    index = FingerprintIndex()
    for row, clip in enumerate([*clips, *copies]):
        index.add(row, marks(clip))
    found = []
    for row, copy in enumerate(copies, start=len(clips)):
        earlier = index.earlier_rows(row, marks(copy))
        same = [
            other
            for other in earlier
            if other < len(clips) and is_same_audio(marks(clips[other]), marks(copy))
        ]
        found.append(same)
    assert found == [[row] for row in range(10)]


def test_different_sentences_of_one_speaker_are_no_copies(clips) -> None:
    for one in range(5):
        for other in range(one):
            assert not is_same_audio(marks(clips[one]), marks(clips[other]))


def test_a_sentence_that_differs_in_one_word_is_no_copy(clips) -> None:
    changed = clips[0].copy()
    middle = len(changed) // 2
    changed[middle : middle + 5000] = clips[1][middle : middle + 5000]
    assert is_same_audio(marks(clips[0]), marks(clips[0]))
    assert not is_same_audio(marks(clips[0]), marks(changed))


def test_what_has_nothing_to_hear_is_no_copy() -> None:
    silence = marks(np.zeros(3 * RATE))
    assert not silence.any()
    assert not is_same_audio(silence, silence)
    assert not is_same_audio(marks(np.ones(100)), silence)


def test_only_earlier_rows_are_named_and_those_with_most_words_first(clips) -> None:
    index = FingerprintIndex()
    for row, clip in enumerate([clips[0], clips[1], clips[0][:RATE], clips[0]]):
        index.add(row, marks(clip))
    assert index.earlier_rows(0, marks(clips[0])) == []
    assert index.earlier_rows(3, marks(clips[0]))[0] == 0
