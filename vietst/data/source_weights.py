"""How often an epoch hears each source: weights of `data.sources`, the same for every number of processes.

A weight of w means w times the source's utterances in every epoch, rounded to whole utterances. What is above
a whole number is drawn systematically: of the source's utterances in the order of their length every 1/w-th,
and in the next epoch those that follow them. So every epoch has as many draws, of about the same lengths; an
utterance comes back after as many epochs as any other, give or take one; and which are drawn follows from the
seed and the epoch alone, so that going on in the middle of a training costs nothing.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch


class EpochDraws:
    """Which utterances an epoch hears, each as often as its source's weight says.

    Args:
        source_of: [num_utterances] the source of each utterance.
        durations_s: [num_utterances] seconds of audio.
        weights: of each source, above 0.
        seed: where each source begins.
    """

    def __init__(
        self, source_of: Sequence[str], durations_s: Sequence[float], weights: Mapping[str, float], seed: int
    ) -> None:
        durations, names = np.asarray(durations_s, dtype=np.float64), np.asarray(source_of)
        self._in_order: dict[str, np.ndarray] = {}
        self._num_draws: dict[str, int] = {}
        self._first: dict[str, int] = {}
        for name, weight in weights.items():
            members = np.flatnonzero(names == name)
            if len(members):
                self._in_order[name] = members[np.argsort(-durations[members], kind="stable")]
                self._num_draws[name] = max(1, round(weight * len(members)))
                self._first[name] = zlib.crc32(f"{seed} {name}".encode()) % len(members)

    def __len__(self) -> int:
        """Draws of an epoch."""
        return sum(self._num_draws.values())

    @property
    def num_by_source(self) -> dict[str, int]:
        """Draws of an epoch."""
        return dict(self._num_draws)

    def utterances(self, epoch: int) -> np.ndarray:
        """int64 [num_draws] positions of the utterances of an epoch, from 0 on, source by source."""
        return np.concatenate([self._of_source(name, self._first[name] + epoch) for name in self._in_order])

    def longest(self) -> np.ndarray:
        """As `utterances`, of an epoch that none exceeds: its k-th longest draw is as long as any other's.

        Of each stretch of 1/w utterances it takes the first, which is the longest. Every epoch is this
        selection, turned, and evenly spread as it is, it has no more draws before any place than this one.
        """
        return np.concatenate([self._of_source(name, 0) for name in self._in_order])

    def _of_source(self, name: str, turn: int) -> np.ndarray:
        in_order, num_draws = self._in_order[name], self._num_draws[name]
        num_whole, num_drawn = divmod(num_draws, len(in_order))
        drawn = np.arange(num_drawn) * len(in_order) // max(1, num_drawn)
        return np.concatenate([np.tile(in_order, num_whole), in_order[(drawn + turn) % len(in_order)]])


class DrawnUtterances(torch.utils.data.Sampler[int]):
    """An epoch's draws in random order, which follows from the seed and the epoch, as a sampler."""

    def __init__(self, draws: EpochDraws, seed: int) -> None:
        self.draws, self.seed, self.epoch = draws, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch, from 0 on, that the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.draws)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self.seed, self.epoch))
        return iter(generator.permutation(self.draws.utterances(self.epoch)).tolist())
