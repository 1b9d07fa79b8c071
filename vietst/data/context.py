"""In which window Whisper's encoder hears a clip: its own of 30 s, or a shorter one that the clip fits.

Whisper was trained on windows of 30 s, filled up with silence, and takes as long for 3 s of speech as for 30.
Nothing in it asks for so many positions, but weights that never heard less of them answer with repetitions.
FUTO showed that a little training mends that (https://github.com/futo-org/whisper-acft): they teach the
hidden states of the full window. Here the training that is done anyway hears short windows, and for a share
of the time longer ones, so that the same weights stay good with all of them.

A clip in a window sounds the same whatever the batch holds beside it. In another window it sounds a little
different: the encoder attends to the silence behind the speech, and to how much of it there is.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vietst.config_schema import AudioSection
from vietst.constants import SAMPLE_RATE_HZ
from vietst.data.features import InputKind


@dataclass(frozen=True)
class ContextWindows:
    """Windows that clips may be heard in besides the model's own, and the silence that stays behind a clip.

    Both in seconds; the windows ascend.
    """

    windows_s: tuple[float, ...]
    margin_s: float


def windows_of(audio: AudioSection) -> ContextWindows:
    """Those of a configuration, for `audio.context: bucketed`."""
    return ContextWindows(audio.context_windows_s, audio.context_margin_s)


@dataclass(frozen=True)
class Context:
    """The windows of a model. `input_kinds` differ in nothing else; the shortest is first, its own last."""

    input_kinds: tuple[InputKind, ...]
    num_margin_frames: int = 0

    @classmethod
    def of(cls, input_kind: InputKind, windows: ContextWindows | None) -> "Context":
        """Of a model that reads this kind; without `windows`, its own is the only one."""
        if windows is None:
            return cls((input_kind,))
        shorter = {
            num_frames: dataclasses.replace(input_kind, window_s=_seconds(num_frames, input_kind))
            for num_frames in (_even_frames(window_s, input_kind) for window_s in windows.windows_s)
            if num_frames < input_kind.num_window_frames
        }
        # With a frame of silence at its end, a window can be lengthened.
        return cls((*shorter.values(), input_kind), max(1, _even_frames(windows.margin_s, input_kind)))

    @property
    def input_kind(self) -> InputKind:
        """With the model's own window."""
        return self.input_kinds[-1]

    @property
    def windows_s(self) -> tuple[float, ...]:
        return tuple(kind.window_s for kind in self.input_kinds)

    def index_of_clip(self, num_frames: int) -> int:
        """Which of `input_kinds` a clip of so many feature frames is heard with: the shortest that it and the
        margin fit, or the last."""
        needed = num_frames + self.num_margin_frames
        for index, kind in enumerate(self.input_kinds[:-1]):
            if needed <= kind.num_window_frames:
                return index
        return len(self.input_kinds) - 1

    def index_of_duration(self, duration_s: float) -> int:
        """The same for a clip of so many seconds."""
        return self.index_of_clip(self.input_kind.num_frames(round(duration_s * SAMPLE_RATE_HZ)))

    def of_clip(self, num_frames: int) -> InputKind:
        """What a clip of so many feature frames is heard with."""
        return self.input_kinds[self.index_of_clip(num_frames)]

    def of_rows(self, rows: Sequence[Mapping[str, Any]]) -> InputKind:
        """What a batch is heard with: its longest clip decides."""
        return self.of_clip(max(row["num_frames"] for row in rows))


def _even_frames(seconds: float, kind: InputKind) -> int:
    """Frames that cover so many seconds: two for each encoder position."""
    num_samples = round(seconds * SAMPLE_RATE_HZ)
    return 2 * -(-num_samples // (2 * kind.hop_length_samples))


def num_window_positions(window_s: float, kind: InputKind) -> int:
    """Encoder positions of a window of log-mel features."""
    return _even_frames(window_s, kind) // 2


def _seconds(num_frames: int, kind: InputKind) -> float:
    return num_frames * kind.hop_length_samples / SAMPLE_RATE_HZ


@dataclass(frozen=True)
class WindowDraws:
    """The windows of a training's clips: a share of them, drawn anew every epoch, hears a longer one.

    `windows_s` are all windows, ascending; `own` int64 [num_utterances] says which is each clip's.
    """

    windows_s: tuple[float, ...]
    own: np.ndarray
    longer_share: float

    @property
    def own_s(self) -> np.ndarray:
        """float64 [num_utterances], the window of each clip where none is drawn."""
        return np.array(self.windows_s)[self.own]

    @property
    def longest_s(self) -> float:
        """The longest window that is heard in any epoch."""
        return self.windows_s[-1] if self.longer_share > 0 else float(self.own_s.max())

    def drawn_s(self, chances: np.ndarray, scale: float) -> np.ndarray:
        """float64 [num_utterances], the window of each clip in an epoch.

        Args:
            chances: float64 [2, num_utterances], uniform from 0 to 1.
            scale: the share is multiplied with it.
        """
        longer = longer_window(self.own, len(self.windows_s), self.longer_share * scale, chances)
        return np.array(self.windows_s)[longer]


def longer_window(own: np.ndarray, num_windows: int, longer_share: float, chances: np.ndarray) -> np.ndarray:
    """The window, `own` or with probability `longer_share` one of the longer ones, all of them equally often.

    Args:
        own: int64, positions in the ascending windows.
        chances: float64 [2, *own.shape], uniform from 0 to 1.
    """
    num_longer = num_windows - 1 - own
    drawn = own + 1 + (chances[1] * num_longer).astype(np.int64)
    return np.where((chances[0] < longer_share) & (num_longer > 0), drawn, own)
