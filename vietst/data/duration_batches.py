"""Batches by seconds of audio instead of by number of utterances: little padding, an even load.

Clips of about the same length come together, as many as fit a budget of seconds that counts padding:
longest clip × clips ≤ budget. The order is drawn anew for every epoch from the seed, and is known as a whole
before any data is read, so that going on in the middle of an epoch costs nothing. Where clips are padded to
windows (`vietst.data.context`), their windows are drawn with it, and it is these that count.
"""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from vietst.data.context import WindowDraws
from vietst.data.features import InputKind
from vietst.data.source_weights import EpochDraws
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

    Whisper's encoder takes whole windows, of one length with `audio.context: full`. wav2vec2's takes any.
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
        windows: instead of a fixed length, the windows that clips are padded to.
        draws: which utterances an epoch hears, if that is not each of them once.

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
        windows: WindowDraws | None = None,
        draws: EpochDraws | None = None,
    ) -> None:
        self.durations_s = np.asarray(durations_s, dtype=np.float64)
        self._fixed_length_s, self._windows, self._draws = fixed_length_s, windows, draws
        if windows is not None:
            self._lengths_s = windows.own_s
        elif fixed_length_s is not None:
            self._lengths_s = np.full(len(self.durations_s), fixed_length_s, dtype=np.float64)
        else:
            self._lengths_s = self.durations_s
        self.batch_seconds, self.seed, self.batches_per_step = batch_seconds, seed, batches_per_step
        self._group_size = (
            math.gcd(batches_per_step, _NUM_NEIGHBOURS)
            if _NUM_NEIGHBOURS % num_processes == 0
            else num_processes
        )
        self._refuse_clips_over_budget()
        self._num_batches = self._even_num_batches()
        self.epoch = 0
        self._made: tuple[int, list[list[int]], list[float]] | None = None

    def set_epoch(self, epoch: int) -> None:
        """The epoch, from 0 on, whose batches the next iteration gives."""
        self.epoch = epoch

    @property
    def num_utterances(self) -> int:
        """That an epoch hears."""
        return len(self.durations_s) if self._draws is None else len(self._draws)

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
        return self._epoch(epoch)[0]

    def padded_lengths_s(self, epoch: int) -> list[float]:
        """What the clips of each of `batches` are padded to, in seconds."""
        return self._epoch(epoch)[1]

    def _epoch(self, epoch: int) -> tuple[list[list[int]], list[float]]:
        """`batches` and `padded_lengths_s`; those of the epoch that was asked for last are kept."""
        if self._made is None or self._made[0] != epoch:
            self._made = (epoch, *self._make_epoch(epoch))
        return self._made[1:]

    def _make_epoch(self, epoch: int) -> tuple[list[list[int]], list[float]]:
        generator, utterances = np.random.default_rng((self.seed, epoch)), self._utterances(epoch)
        draw, scale = self._draw(generator), 1.0
        batches, lengths_s = self._fill(utterances, draw, scale)
        while len(batches) > self._num_batches:
            # An unlucky draw. Without any the batches are few enough.
            scale = scale / 2 if scale > 2e-3 else 0.0
            batches, lengths_s = self._fill(utterances, draw, scale)
        batches = self._split(batches, lengths_s)
        groups = np.arange(self._num_batches).reshape(-1, self._group_size)
        shuffled = [batches[position] for position in generator.permutation(groups).ravel()]
        return shuffled, [float(lengths_s[batch].max()) for batch in shuffled]

    def facts(self) -> BatchFacts:
        """Figures of the first epoch."""
        batches, audio_s = self.batches(0), float(self.durations_s[self._utterances(0)].sum())
        padded_s = sum(
            len(batch) * length_s for batch, length_s in zip(batches, self.padded_lengths_s(0), strict=True)
        )
        return BatchFacts(
            num_batches=len(batches),
            utterances_per_batch=self.num_utterances / len(batches),
            audio_s_per_step=audio_s / self.num_steps,
            padding_share=1 - audio_s / padded_s,
            fixed_batches_padding_share=self.padding_share(self.fixed_batches()),
        )

    def fixed_batches(self) -> list[list[int]]:
        """What to compare with: about as many batches, of equally many utterances, in random order."""
        num_utterances = self.num_utterances
        shuffled = np.random.default_rng(self.seed).permutation(self._utterances(0)).tolist()
        size = max(1, round(num_utterances / self._num_batches))
        return [shuffled[start : start + size] for start in range(0, num_utterances, size)]

    def padding_share(self, batches: Sequence[Sequence[int]]) -> float:
        """Padded seconds that are no audio, of all padded seconds of these batches; 0 to 1.

        In windows, without longer ones than the clips need.
        """
        audio_s = sum(float(self.durations_s[batch].sum()) for batch in batches)
        return 1 - audio_s / sum(_padded_s(batch, self._lengths_s) for batch in batches)

    def describe(self) -> str:
        """The facts in words, for the start of a training."""
        facts = self.facts()
        budget = f"at most {self.batch_seconds:g} s"
        if self._fixed_length_s is not None:
            budget += f" (every clip takes {self._fixed_length_s:g} s)"
        if self._windows is not None:
            budget += " (every clip takes its window)"
        return (
            f"batches by seconds: {facts.num_batches} per epoch, of {budget}, "
            f"{facts.utterances_per_batch:.1f} utterances on average; {facts.audio_s_per_step:.1f} s of "
            f"audio per step; padding share {facts.padding_share:.1%} (fixed batches in random order: "
            f"{facts.fixed_batches_padding_share:.1%})"
        )

    # --- building an epoch -------------------------------------------------------------------------------

    def _utterances(self, epoch: int) -> np.ndarray:
        """int64 [num_utterances] positions in `durations_s`."""
        return np.arange(len(self.durations_s)) if self._draws is None else self._draws.utterances(epoch)

    def _draw(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        """What chance decides in an epoch: a spread of the lengths of what it hears, and windows of all."""
        spread = generator.uniform(-1.0, 1.0, self.num_utterances)
        of_all = (2, len(self.durations_s))
        return spread, None if self._windows is None else generator.uniform(size=of_all)

    def _fill(
        self, utterances: np.ndarray, draw: tuple[np.ndarray, np.ndarray | None], scale: float
    ) -> tuple[list[list[int]], np.ndarray]:
        """Batches of neighbours by noisy length, the longest first, each as full as the budget allows.

        Args:
            utterances: see `_utterances`.
            draw: see `_draw`.
            scale: how much of it counts, 0 to 1.

        Returns:
            The batches, and the length in seconds that each clip of `durations_s` asks for.
        """
        spread, chances = draw
        noisy_s = self.durations_s[utterances] * (1 + scale * _LENGTH_NOISE * spread)
        padded_s = self._lengths_s
        if self._windows is not None and chances is not None:
            padded_s = self._windows.drawn_s(chances, scale)
            order = np.lexsort((-noisy_s, -padded_s[utterances]))
        else:
            order = np.argsort(-noisy_s, kind="stable")
        lengths_s = padded_s.tolist()
        batches: list[list[int]] = []
        batch: list[int] = []
        longest_s = 0.0
        for index in utterances[order].tolist():
            with_it_s = max(longest_s, lengths_s[index])
            if batch and with_it_s * (len(batch) + 1) > self.batch_seconds:
                batches.append(batch)
                batch, with_it_s = [], lengths_s[index]
            batch.append(index)
            longest_s = with_it_s
        return [*batches, batch], padded_s

    def _split(self, batches: list[list[int]], lengths_s: np.ndarray) -> list[list[int]]:
        """Halves the batches of most seconds until they are `_num_batches`, and keeps them in order."""
        # (negative padded seconds, place in the order: of the batch, then of the part inside it, batch)
        heap = [(-_padded_s(batch, lengths_s), (place, 0), batch) for place, batch in enumerate(batches)]
        heapq.heapify(heap)
        single: list[tuple[float, tuple[int, int], list[int]]] = []
        while len(heap) + len(single) < self._num_batches:
            seconds, (place, start), batch = heapq.heappop(heap)
            if len(batch) == 1:
                single.append((seconds, (place, start), batch))
                continue
            half = (len(batch) + 1) // 2
            for offset, part in ((0, batch[:half]), (half, batch[half:])):
                heapq.heappush(heap, (-_padded_s(part, lengths_s), (place, start + offset), part))
        return [batch for _, _, batch in sorted([*heap, *single], key=lambda entry: entry[1])]

    # --- how many batches --------------------------------------------------------------------------------

    def _refuse_clips_over_budget(self) -> None:
        longest_s, what = float(self._lengths_s.max()), "the longest clip"
        if self._fixed_length_s is not None:
            what = "the window that every clip is padded to"
        if self._windows is not None:
            longest_s, what = self._windows.longest_s, "the longest window that a clip may be heard in"
        if longest_s > self.batch_seconds:
            raise ConfigError(
                where="training.batch_seconds",
                rule="a batch holds at least one utterance, whichever it is",
                found=f"{self.batch_seconds:g} s, and {what} has {longest_s:g} s",
                do=f"set training.batch_seconds to {math.ceil(longest_s)} or more",
            )

    def _even_num_batches(self) -> int:
        """The same for every epoch: a multiple of `batches_per_step`, enough for the first epochs' draws."""
        num_utterances, unit = self.num_utterances, self.batches_per_step
        # What any epoch needs at most, where chance plays no part.
        longest = self._utterances(0) if self._draws is None else self._draws.longest()
        least = self._num_filled(longest, epoch=0, scale=0.0)
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
        needed = max(
            least,
            *(self._num_filled(self._utterances(n), n, scale=1.0) for n in range(_NUM_TRIAL_EPOCHS)),
        )
        return min(-(-needed // unit) * unit, most)

    def _num_filled(self, utterances: np.ndarray, epoch: int, scale: float) -> int:
        draw = self._draw(np.random.default_rng((self.seed, epoch)))
        return len(self._fill(utterances, draw, scale)[0])


def _padded_s(batch: Sequence[int], lengths_s: np.ndarray) -> float:
    return float(lengths_s[batch].max()) * len(batch)
