"""Batches of equally many utterances for several processes, such that they learn what one process learns.

Where an epoch's last utterances do not fill a batch on every process, accelerate repeats some of its first
ones for that, and the last step of every epoch differs from that of one process.
"""

from collections.abc import Iterator

import numpy as np
import torch

from vietst.data.source_weights import DrawnUtterances


class DealtBatchSampler(torch.utils.data.Sampler[list[int]]):
    """All processes' batches of an epoch, in the order in which accelerate deals them: batch i is for process
    i mod `num_processes`, and all get equally many.

    The utterances of the last step are shared out in smaller batches. If they are fewer than the processes,
    every process takes all of them: a loss that is divided by the label tokens of all processes is then that
    of taking them once. Some are repeated only if neither can be: that many do not fit a batch, or batches
    are of one.

    Args:
        sampler: the order of the utterances.
        batch_size: utterances per batch.
        num_processes: how many share the batches.
        accumulation: batches of each process in an optimizer step.
    """

    def __init__(
        self,
        sampler: "torch.utils.data.RandomSampler | DrawnUtterances",
        batch_size: int,
        num_processes: int,
        accumulation: int,
    ) -> None:
        # accelerate puts a sampler in its place that it can seed. It takes batches as they are, of any size,
        # from a batch sampler without the attribute `batch_size`.
        self.sampler = sampler
        self.num_utterances_per_batch = batch_size
        self.num_processes, self.accumulation = num_processes, accumulation

    def __len__(self) -> int:
        return self._num_batches(len(self.sampler))

    def _num_batches(self, num_utterances: int) -> int:
        per_round = self.num_utterances_per_batch * self.num_processes
        return -(-num_utterances // per_round) * self.num_processes

    def __iter__(self) -> Iterator[list[int]]:
        order, size = list(self.sampler), self.num_utterances_per_batch
        per_step = size * self.num_processes * self.accumulation
        num_in_whole_steps = len(order) // per_step * per_step
        for start in range(0, num_in_whole_steps, size):
            yield order[start : start + size]
        if num_in_whole_steps < len(order):
            yield from self._last_step(order[num_in_whole_steps:])

    def _last_step(self, utterances: list[int]) -> list[list[int]]:
        num_batches = self._num_batches(len(utterances))
        if num_batches <= len(utterances):
            return [part.tolist() for part in np.array_split(utterances, num_batches)]
        if num_batches == self.num_processes and len(utterances) <= self.num_utterances_per_batch:
            return [utterances] * num_batches
        return [[utterances[batch % len(utterances)]] for batch in range(num_batches)]
