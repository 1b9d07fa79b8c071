"""The windows that the batches of a training are heard in, where `audio.context` is bucketed.

Collators cut a batch to the window that its longest clip needs. For a share of the training a longer one is
drawn, from the seed and the number of the optimizer step (or epoch) alone: a training that is resumed, or
shared by another number of processes, draws the same, and in one step no process waits for another's window.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vietst.constants import SAMPLE_RATE_HZ
from vietst.data.context import Context, longer_window
from vietst.data.duration_batches import DurationBatchSampler
from vietst.data.packed_clips import PackedClips


@dataclass(frozen=True)
class TrainingWindows:
    """What decides about the windows of a training.

    `by_seconds` draws windows itself, since they count there; without it they are drawn here, one chance for
    all batches of a step. Of the `batches_per_step` batches, in the order in which they are dealt, this
    process has those from `rank` on, `num_processes` apart.
    """

    context: Context
    longer_share: float
    seed: int
    by_seconds: DurationBatchSampler | None
    batches_per_step: int
    num_processes: int
    rank: int

    def heard(self, batches: Iterator[dict[str, Any]], step: int) -> Iterator[dict[str, Any]]:
        """The same batches of this process, of the step after `step` others, each in its window."""
        for number, batch in enumerate(batches):
            own_frames = batch["input_features"].padded_length
            yield in_longer_window(batch, self.num_frames(own_frames, step, number))

    def num_frames(self, own_frames: int, step: int, number: int) -> int:
        """Of the window of a batch.

        Args:
            own_frames: of the window that its collator gave it.
            step: optimizer steps before it.
            number: batches of this process before it, in its step.
        """
        kinds = self.context.input_kinds
        if self.by_seconds is not None:
            position = step * self.batches_per_step + number * self.num_processes + self.rank
            epoch, position = divmod(position, len(self.by_seconds))
            seconds = self.by_seconds.padded_lengths_s(epoch)[position]
            return round(seconds * SAMPLE_RATE_HZ) // kinds[0].hop_length_samples
        frames = [kind.num_window_frames for kind in kinds]
        own = np.array(frames.index(own_frames))
        chances = np.random.default_rng((self.seed, step)).uniform(size=2)
        return frames[int(longer_window(own, len(frames), self.longer_share, chances))]


def in_longer_window(batch: dict[str, Any], num_frames: int) -> dict[str, Any]:
    """A batch of `WhisperCollator` as it would be in a window of so many frames, if that is longer."""
    clips: PackedClips = batch["input_features"]
    if num_frames <= clips.padded_length:
        return batch
    return {**batch, "input_features": dataclasses.replace(clips, padded_length=num_frames)}
