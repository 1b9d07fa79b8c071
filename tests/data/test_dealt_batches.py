"""Batches for several processes: what one process learns in a step, they learn together."""

from collections import Counter

import pytest
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import SequentialSampler

from vietst.data.dealt_batches import DealtBatchSampler


def steps(num_utterances: int, batch_size: int, num_processes: int, accumulation: int) -> list[Counter[int]]:
    """How often each utterance is learned in each optimizer step, as accelerate deals the batches."""
    order = SequentialSampler(range(num_utterances))
    dealt = DealtBatchSampler(order, batch_size, num_processes, accumulation)
    shares = [list(BatchSamplerShard(dealt, num_processes, process)) for process in range(num_processes)]
    assert {len(share) for share in shares} == {len(dealt) // num_processes}
    assert all(0 < len(batch) <= batch_size for share in shares for batch in share)
    return [
        Counter(index for share in shares for batch in share[start : start + accumulation] for index in batch)
        for start in range(0, len(shares[0]), accumulation)
    ]


@given(st.integers(1, 200), st.integers(1, 8), st.integers(2, 8), st.integers(1, 3))
def test_every_step_weighs_the_utterances_that_one_process_takes_equally(
    num_utterances, batch_size, num_processes, accumulation
):
    found = steps(num_utterances, batch_size, num_processes, accumulation)
    effective = batch_size * num_processes * accumulation
    starts = range(0, num_utterances, effective)
    assert [sorted(step) for step in found] == [
        list(range(start, min(start + effective, num_utterances))) for start in starts
    ]
    assert all(set(step.values()) == {1} for step in found[:-1])
    num_last = len(found[-1])
    fits_nowhere = batch_size == 1 or batch_size < num_last < num_processes
    assert len(set(found[-1].values())) == 1 or fits_nowhere


@pytest.mark.parametrize(
    ("num_utterances", "last"), [(16, [[12, 13], [14, 15]]), (15, [[12, 13], [14]]), (13, [[12], [12]])]
)
def test_the_last_utterances_are_shared_out_or_taken_by_all(num_utterances, last):
    dealt = DealtBatchSampler(SequentialSampler(range(num_utterances)), 2, 2, 1)
    assert list(dealt)[-2:] == last
