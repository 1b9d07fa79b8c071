"""Laws of weights: how often a source is heard, whichever seed, epoch and number of processes."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vietst.data.dealt_batches import DealtBatchSampler
from vietst.data.duration_batches import DurationBatchSampler
from vietst.data.source_weights import DrawnUtterances, EpochDraws

BUDGET_S = 20.0
weights = st.floats(0.01, 4.0)
sizes = st.integers(1, 60)


def corpus(sizes_of_sources: dict[str, int], seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Sources and durations of utterances, mixed."""
    names = [name for name, size in sizes_of_sources.items() for _ in range(size)]
    generator = np.random.default_rng(seed)
    return generator.permutation(names).tolist(), generator.uniform(0.5, 10.0, len(names)).round(1)


@settings(max_examples=60)
@given(sizes, sizes, weights, weights, st.integers(0, 9))
def test_every_epoch_hears_a_source_as_often_as_its_weight_says(size_a, size_b, weight_a, weight_b, seed):
    names, durations_s = corpus({"a": size_a, "b": size_b}, seed)
    draws = EpochDraws(names, durations_s, {"a": weight_a, "b": weight_b}, seed)
    expected = {"a": max(1, round(weight_a * size_a)), "b": max(1, round(weight_b * size_b))}
    assert draws.num_by_source == expected
    heard = np.zeros(len(names), dtype=int)
    for epoch in range(max(size_a, size_b)):
        utterances = draws.utterances(epoch)
        assert len(utterances) == len(draws) == sum(expected.values())
        of_epoch = np.bincount(utterances, minlength=len(names))
        for name, size in (("a", size_a), ("b", size_b)):
            of_source = of_epoch[np.asarray(names) == name]
            assert of_source.sum() == expected[name]
            assert of_source.max() - of_source.min() <= 1
            if epoch < size:
                heard[np.asarray(names) == name] += of_source
        assert (np.sort(durations_s[utterances]) <= np.sort(durations_s[draws.longest()])).all()
    for name in expected:
        # In as many epochs as it has utterances, each is heard equally often.
        assert set(heard[np.asarray(names) == name].tolist()) == {expected[name]}


def test_every_fifth_is_heard_every_fifth_epoch() -> None:
    names, durations_s = corpus({"a": 50})
    draws = EpochDraws(names, durations_s, {"a": 0.2}, seed=1)
    epochs = [set(draws.utterances(epoch).tolist()) for epoch in range(10)]
    assert all(len(epoch) == 10 for epoch in epochs)
    assert set.union(*epochs[:5]) == set(range(50))
    assert epochs[0] == epochs[5] != epochs[1]
    assert {*EpochDraws(names, durations_s, {"a": 0.2}, seed=2).utterances(0).tolist()} != epochs[0]


@settings(max_examples=50)
@given(
    sizes,
    sizes,
    weights,
    st.sampled_from([1, 2, 4]),
    st.integers(1, 3),
    st.integers(0, 40),
    st.integers(0, 3),
)
def test_batches_by_seconds_hold_the_draws_in_whole_steps(
    size_a, size_b, weight, num_processes, accumulation, epoch, seed
):
    names, durations_s = corpus({"a": size_a + 40, "b": size_b}, seed)
    draws = EpochDraws(names, durations_s, {"a": 1.0, "b": weight}, seed)
    unit = num_processes * accumulation
    sampler = DurationBatchSampler(
        durations_s, BUDGET_S, seed=seed, batches_per_step=unit, num_processes=num_processes, draws=draws
    )
    batches = sampler.batches(epoch)
    assert len(batches) == len(sampler) == len(sampler.batches(epoch + 1))
    assert len(batches) % unit == 0
    assert all(durations_s[batch].max() * len(batch) <= BUDGET_S for batch in batches)
    assert sorted(chain(*batches)) == sorted(draws.utterances(epoch).tolist())


@pytest.mark.parametrize("weight", [0.3, 1.7])
def test_one_and_four_processes_take_the_same_steps(weight: float) -> None:
    names, durations_s = corpus({"a": 200, "b": 80})  # whole steps of 16
    draws = EpochDraws(names, durations_s, {"a": 1.0, "b": weight}, seed=3)
    one, four = (
        DurationBatchSampler(
            durations_s, BUDGET_S, seed=3, batches_per_step=4, num_processes=num_processes, draws=draws
        )
        for num_processes in (1, 4)
    )
    assert one.batches(7) == four.batches(7)
    steps = []
    for num_processes, accumulation in ((1, 4), (4, 1), (2, 2)):
        order = DrawnUtterances(draws, seed=3)
        order.set_epoch(7)
        batches = list(DealtBatchSampler(order, 4, num_processes, accumulation))
        steps.append([sorted(chain(*batches[n : n + 4])) for n in range(0, len(batches), 4)])
    assert steps[0] == steps[1] == steps[2]
    assert sorted(chain(*steps[0])) == sorted(draws.utterances(7).tolist())


def test_weights_of_one_are_every_utterance_once() -> None:
    names, durations_s = corpus({"a": 70, "b": 30})
    draws = EpochDraws(names, durations_s, {"a": 1.0, "b": 1.0}, seed=3)
    for epoch in range(3):
        assert sorted(draws.utterances(epoch).tolist()) == list(range(100))


def test_epochs_come_in_another_order_and_any_of_them_at_once() -> None:
    names, durations_s = corpus({"a": 40})
    draws = EpochDraws(names, durations_s, {"a": 2.0}, seed=0)

    def epoch_of(sampler: DrawnUtterances, epoch: int) -> list[int]:
        sampler.set_epoch(epoch)
        return list(sampler)

    one_after_the_other = DrawnUtterances(draws, seed=0)
    epochs = [epoch_of(one_after_the_other, epoch) for epoch in range(4)]
    assert epoch_of(DrawnUtterances(draws, seed=0), 3) == epochs[3] != epochs[2]
