"""Batches by seconds of audio instead of by number of utterances: little padding, an even load.

Clips of about the same length come together, as many as fit a budget of seconds that counts padding:
longest clip × clips ≤ budget. The order is drawn anew for every epoch from the seed, and is known as a whole
before any data is read, so that going on in the middle of an epoch costs nothing.
"""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from vietst.data.features import InputKind
from vietst.errors import ConfigError

_LENGTH_NOISE: Final = 0.05
"""Before they are sorted, lengths are scaled by a random factor of at most 1 ± this, so that a clip meets
others in every epoch. Padding grows with it, to about this share."""

_NUM_TRIAL_EPOCHS: Final = 4
"""Epochs that are drawn to find out how many batches an epoch needs."""

_NUM_NEIGHBOURS: Final = 8
"""So many batches of about the same length stay together when the order is drawn, for the processes of one
step to take equally long. It is fixed, and not the number of processes, so that 1, 2, 4 and 8 processes learn
alike."""


def fixed_length_s(kind: InputKind) -> float | None:
    """The length to which every clip is padded, whatever else is in the batch; None: to the longest in it.

    Whisper's encoder takes whole windows. wav2vec2's takes any length.
    """
    return kind.window_s if kind.kind == "log_mel" else None


@dataclass(frozen=True)
class BatchFacts:
    """What an epoch of batches looks like."""

    num_batches: int
    utterances_per_batch: float
    audio_s_per_step: float
    """Seconds of audio per optimizer step, without padding."""
    padding_share: float
    """Padded seconds that are no audio, of all padded seconds; 0 to 1."""
    fixed_batches_padding_share: float
    """The same for batches of equally many utterances each, in random order."""


class DurationBatchSampler(torch.utils.data.Sampler[list[int]]):
    """A batch sampler of all processes' batches, in the order in which they are dealt.

    The batches of one optimizer step stand together: with W processes, batch i is for process i mod W, as
    accelerate deals them to loaders of its own. Every epoch has equally many batches, a multiple of
    W × accumulation; larger batches are split for that, and no utterance is left out or repeated. The list
    depends on W × accumulation, but not on W (unless W does not divide 8): one process that accumulates four
    batches takes the same steps as four processes.

    Args:
        durations_s: [num_utterances] seconds of audio.
        batch_seconds: budget of a batch, in padded seconds.
        batches_per_step: W × accumulation.
        num_processes: W.
        fixed_length_s: see `fixed_length_s`.

    Raises:
        ConfigError: a clip does not fit the budget, or the utterances are too few for a step.
    """

    # No attribute `batch_size`: from that accelerate knows that batches vary.

    def __init__(
        self,
        durations_s: Sequence[float],
        batch_seconds: float,
        *,
        seed: int,
        batches_per_step: int = 1,
        num_processes: int = 1,
        fixed_length_s: float | None = None,
    ) -> None:
        self.durations_s = np.asarray(durations_s, dtype=np.float64)
        self._fixed_length_s = fixed_length_s
        self._lengths_s = (
            self.durations_s
            if fixed_length_s is None
            else np.full(len(self.durations_s), fixed_length_s, dtype=np.float64)
        )
        self.batch_seconds, self.seed, self.batches_per_step = batch_seconds, seed, batches_per_step
        self._group_size = (
            math.gcd(batches_per_step, _NUM_NEIGHBOURS)
            if _NUM_NEIGHBOURS % num_processes == 0
            else num_processes
        )
        self._refuse_clips_over_budget()
        self._num_batches = self._even_num_batches()
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch, from 0 on, whose batches the next iteration gives."""
        self.epoch = epoch

    @property
    def num_steps(self) -> int:
        """Optimizer steps in an epoch."""
        return self._num_batches // self.batches_per_step

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches(self.epoch))

    def batches(self, epoch: int) -> list[list[int]]:
        """All batches of an epoch, each a list of positions in `durations_s`."""
        generator = np.random.default_rng((self.seed, epoch))
        spread = generator.uniform(-1.0, 1.0, len(self.durations_s))
        noise = _LENGTH_NOISE
        batches = self._fill(spread * noise)
        while len(batches) > self._num_batches:
            # An unlucky draw. Without noise the batches are few enough.
            noise = noise / 2 if noise > 1e-4 else 0.0
            batches = self._fill(spread * noise)
        batches = self._split(batches)
        groups = np.arange(self._num_batches).reshape(-1, self._group_size)
        return [batches[position] for position in generator.permutation(groups).ravel()]

    def facts(self) -> BatchFacts:
        """Figures of the first epoch."""
        batches = self.batches(0)
        return BatchFacts(
            num_batches=len(batches),
            utterances_per_batch=len(self.durations_s) / len(batches),
            audio_s_per_step=float(self.durations_s.sum()) / self.num_steps,
            padding_share=self.padding_share(batches),
            fixed_batches_padding_share=self.padding_share(self.fixed_batches()),
        )

    def fixed_batches(self) -> list[list[int]]:
        """What to compare with: about as many batches, of equally many utterances, in random order."""
        num_utterances = len(self.durations_s)
        shuffled = np.random.default_rng(self.seed).permutation(num_utterances).tolist()
        size = max(1, round(num_utterances / self._num_batches))
        return [shuffled[start : start + size] for start in range(0, num_utterances, size)]

    def padding_share(self, batches: Sequence[Sequence[int]]) -> float:
        """Padded seconds that are no audio, of all padded seconds of these batches; 0 to 1."""
        audio_s = sum(float(self.durations_s[batch].sum()) for batch in batches)
        return 1 - audio_s / sum(map(self._padded_s, batches))

    def describe(self) -> str:
        """The facts in words, for the start of a training."""
        facts = self.facts()
        budget = f"at most {self.batch_seconds:g} s"
        if self._fixed_length_s is not None:
            budget += f" (every clip takes {self._fixed_length_s:g} s)"
        return (
            f"batches by seconds: {facts.num_batches} per epoch, of {budget}, "
            f"{facts.utterances_per_batch:.1f} utterances on average; {facts.audio_s_per_step:.1f} s of "
            f"audio per step; padding share {facts.padding_share:.1%} (fixed batches in random order: "
            f"{facts.fixed_batches_padding_share:.1%})"
        )

    # --- building an epoch -------------------------------------------------------------------------------

    def _padded_s(self, batch: Sequence[int]) -> float:
        return float(self._lengths_s[batch].max()) * len(batch)

    def _fill(self, noise: np.ndarray) -> list[list[int]]:
        """Batches of neighbours by noisy length, the longest first, each as full as the budget allows."""
        order = np.argsort(-self.durations_s * (1 + noise), kind="stable")
        lengths_s = self._lengths_s.tolist()
        batches: list[list[int]] = []
        batch: list[int] = []
        longest_s = 0.0
        for index in order.tolist():
            with_it_s = max(longest_s, lengths_s[index])
            if batch and with_it_s * (len(batch) + 1) > self.batch_seconds:
                batches.append(batch)
                batch, with_it_s = [], lengths_s[index]
            batch.append(index)
            longest_s = with_it_s
        return [*batches, batch]

    def _split(self, batches: list[list[int]]) -> list[list[int]]:
        """Halves the batches of most seconds until they are `_num_batches`, and keeps them in order."""
        # (negative padded seconds, place in the order: of the batch, then of the part inside it, batch)
        heap = [(-self._padded_s(batch), (place, 0), batch) for place, batch in enumerate(batches)]
        heapq.heapify(heap)
        single: list[tuple[float, tuple[int, int], list[int]]] = []
        while len(heap) + len(single) < self._num_batches:
            seconds, (place, start), batch = heapq.heappop(heap)
            if len(batch) == 1:
                single.append((seconds, (place, start), batch))
                continue
            half = (len(batch) + 1) // 2
            for offset, part in ((0, batch[:half]), (half, batch[half:])):
                heapq.heappush(heap, (-self._padded_s(part), (place, start + offset), part))
        return [batch for _, _, batch in sorted([*heap, *single], key=lambda entry: entry[1])]

    # --- how many batches --------------------------------------------------------------------------------

    def _refuse_clips_over_budget(self) -> None:
        longest_s = float(self._lengths_s.max())
        if longest_s > self.batch_seconds:
            what = (
                "the longest clip"
                if self._fixed_length_s is None
                else "the window that every clip is padded to"
            )
            raise ConfigError(
                where="training.batch_seconds",
                rule="a batch holds at least one utterance, whichever it is",
                found=f"{self.batch_seconds:g} s, and {what} has {longest_s:g} s",
                do=f"set training.batch_seconds to {math.ceil(longest_s)} or more",
            )

    def _even_num_batches(self) -> int:
        """The same for every epoch: a multiple of `batches_per_step`, enough for the first epochs' draws."""
        num_utterances, unit = len(self.durations_s), self.batches_per_step
        least = len(self._fill(np.zeros(num_utterances)))
        most = num_utterances // unit * unit
        if least > most:
            raise ConfigError(
                where="training.batch_seconds",
                rule="an epoch is whole steps, with a batch for every process and accumulated pass, and no "
                "utterance is repeated or left out for that",
                found=f"{num_utterances} utterances, in {least} batches or more of {self.batch_seconds:g} s; "
                f"{unit} batches per step",
                do="set a larger training.batch_seconds, accumulate less, or use training.batch_size "
                "(with training.batch_seconds=null)",
            )
        needed = max(least, *(self._num_filled(epoch) for epoch in range(_NUM_TRIAL_EPOCHS)))
        return min(-(-needed // unit) * unit, most)

    def _num_filled(self, epoch: int) -> int:
        spread = np.random.default_rng((self.seed, epoch)).uniform(-1.0, 1.0, len(self.durations_s))
        return len(self._fill(spread * _LENGTH_NOISE))
