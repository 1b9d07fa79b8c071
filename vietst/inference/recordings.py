"""A recording as the pieces that a model hears, one after the other, with their samples."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from torch import nn

from vietst.constants import SAMPLE_RATE_HZ
from vietst.inference.audio_input import Audio, waveform_blocks
from vietst.inference.segmentation import Piece, Segmenter
from vietst.inference.voice_activity import VoiceActivity


@dataclasses.dataclass(frozen=True)
class SpeechPiece:
    """What a model hears, and the times of the speech in it."""

    start_s: float
    end_s: float
    waveform: np.ndarray
    """Float32 [num_samples] at 16 kHz, with a little of the pauses around the speech."""

    @property
    def duration_s(self) -> float:
        """Of what is heard."""
        return len(self.waveform) / SAMPLE_RATE_HZ


def speech_pieces(audio: Audio, network: nn.Module, limit_samples: int) -> Iterator[SpeechPiece | float]:
    """The pieces of a recording in their order, and at last its duration in seconds.

    A recording that fits the limit is one piece, and heard whole, as the clips of training are; a longer one
    is cut at pauses. Where nobody speaks there are no pieces. No more samples are held than the limit and a
    block.

    Args:
        network: from `load_network`.

    Raises:
        AudioError: see `waveform_blocks`.
    """
    activity, segmenter = VoiceActivity(network), Segmenter(limit_samples)
    kept = _Samples()
    waiting: list[Piece] = []  # while the recording may still fit the limit

    def cut(pieces: Iterator[Piece]) -> Iterator[SpeechPiece]:
        waiting.extend(pieces)
        if kept.end > limit_samples:
            yield from (kept.piece(piece) for piece in waiting)
            waiting.clear()
            kept.drop_before(segmenter.earliest)

    for block in waveform_blocks(audio):
        kept.append(block)
        yield from cut(segmenter(activity(block).tolist()))
    segmenter_rest = [*segmenter(activity.finish().tolist()), *segmenter.finish(kept.end)]
    yield from cut(iter(segmenter_rest))
    if waiting:
        whole = Piece(waiting[0].start, waiting[-1].end, 0, kept.end)
        yield kept.piece(whole)
    yield kept.end / SAMPLE_RATE_HZ


class _Samples:
    """The samples of a recording that may still be needed, by their positions in it."""

    def __init__(self) -> None:
        self._samples = np.zeros(0, dtype=np.float32)
        self._start = 0

    @property
    def end(self) -> int:
        return self._start + len(self._samples)

    def append(self, block: np.ndarray) -> None:
        self._samples = np.concatenate([self._samples, block])

    def drop_before(self, position: int) -> None:
        position = min(max(position, self._start), self.end)
        self._samples = self._samples[position - self._start :]
        self._start = position

    def piece(self, piece: Piece) -> SpeechPiece:
        start, end = piece.heard_start - self._start, piece.heard_end - self._start
        return SpeechPiece(
            start_s=piece.start / SAMPLE_RATE_HZ,
            end_s=piece.end / SAMPLE_RATE_HZ,
            waveform=self._samples[start:end].copy(),
        )
