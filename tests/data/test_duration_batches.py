"""Laws of batches by seconds, for all lengths, budgets and numbers of processes."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vietst.data.duration_batches import DurationBatchSampler, fixed_length_s
from vietst.data.features import LOG_MEL_80, LOG_MEL_80_NANO, WAVEFORM_16K
from vietst.errors import ConfigError

BUDGET_S = 20.0
durations = st.lists(st.floats(0.5, BUDGET_S), min_size=1, max_size=120)
processes = st.sampled_from([1, 2, 3, 4, 8])
accumulations = st.integers(1, 4)


def sampler_or_refusal(durations_s: list[float], **options: object) -> DurationBatchSampler | None:
    """None where the utterances cannot make whole steps, which is then checked."""
    try:
        return DurationBatchSampler(durations_s, BUDGET_S, **options)
    except ConfigError:
        unit = options["batches_per_step"]
        if options.get("fixed_length_s") is None:
            assert len(durations_s) // unit * unit < least_num_batches(durations_s)
        return None


def least_num_batches(durations_s: list[float]) -> int:
    """Of the simplest kind: sorted, and filled one after the other."""
    count, batch_size, longest_s = 0, 0, 0.0
    for duration_s in sorted(durations_s, reverse=True):
        if batch_size == 0 or longest_s * (batch_size + 1) > BUDGET_S:
            count, batch_size, longest_s = count + 1, 0, duration_s
        batch_size += 1
    return count


@settings(max_examples=200)
@given(
    durations,
    processes,
    accumulations,
    st.integers(0, 5),
    st.integers(0, 7),
    st.sampled_from([None, BUDGET_S, 20 / 3]),
)
def test_every_utterance_comes_once_in_whole_steps_within_the_budget(
    durations_s, num_processes, accumulation, seed, epoch, fixed_s
):
    unit = num_processes * accumulation
    durations_s = [min(duration_s, fixed_s or BUDGET_S) for duration_s in durations_s]
    sampler = sampler_or_refusal(
        durations_s, seed=seed, batches_per_step=unit, num_processes=num_processes, fixed_length_s=fixed_s
    )
    if sampler is None:
        return
    batches = sampler.batches(epoch)
    assert sorted(index for batch in batches for index in batch) == list(range(len(durations_s)))
    assert len(batches) == len(sampler), "equally many in every epoch: transformers counts the first one's"
    assert len(batches) % unit == 0
    assert all(batches)
    for batch in batches:
        longest_s = fixed_s or max(durations_s[index] for index in batch)
        assert longest_s * len(batch) <= BUDGET_S


@settings(max_examples=50)
@given(durations, st.integers(0, 5), st.integers(0, 3))
def test_the_order_is_the_same_for_a_seed_and_epoch(durations_s, seed, epoch):
    first, second = (DurationBatchSampler(durations_s, BUDGET_S, seed=seed) for _ in range(2))
    list(first), first.batches(epoch + 1)  # what was drawn before does not matter
    assert first.batches(epoch) == second.batches(epoch)
    second.set_epoch(epoch)
    assert list(second) == first.batches(epoch)


def sample_durations(num_utterances: int, seed: int = 0) -> np.ndarray:
    """Like a corpus of cut videos: most clips between 2 and 12 seconds."""
    return np.random.default_rng(seed).lognormal(1.6, 0.5, num_utterances).clip(0.5, BUDGET_S)


def test_epochs_and_seeds_differ_in_order_and_company():
    durations_s = sample_durations(400)
    sampler = DurationBatchSampler(durations_s, BUDGET_S, seed=1)
    other_seed = DurationBatchSampler(durations_s, BUDGET_S, seed=2)
    first, second = sampler.batches(0), sampler.batches(1)
    assert first != second
    assert first != other_seed.batches(0)
    companies = [{frozenset(batch) for batch in batches} for batches in (first, second)]
    assert len(companies[0] & companies[1]) < len(first) / 4


@pytest.mark.parametrize("unit", [1, 4, 8, 24])
def test_one_process_that_accumulates_takes_the_steps_of_several(unit):
    durations_s = sample_durations(700)
    alone = DurationBatchSampler(durations_s, BUDGET_S, seed=0, batches_per_step=unit, num_processes=1)
    for num_processes in (2, 4, 8):
        if unit % num_processes == 0:
            several = DurationBatchSampler(
                durations_s, BUDGET_S, seed=0, batches_per_step=unit, num_processes=num_processes
            )
            assert several.batches(3) == alone.batches(3)


@pytest.mark.parametrize(("num_processes", "accumulation"), [(2, 1), (2, 4), (4, 2), (8, 1), (3, 2), (16, 1)])
def test_processes_of_one_step_get_about_equal_batches(num_processes, accumulation):
    """Clips of one length on all of them, so that none waits for another."""
    durations_s = sample_durations(4000)
    sampler = DurationBatchSampler(
        durations_s, 60.0, seed=0, batches_per_step=num_processes * accumulation, num_processes=num_processes
    )
    longest_s = np.array([durations_s[batch].max() for batch in sampler.batches(0)])
    dealt_together = longest_s.reshape(-1, num_processes)
    ratio = dealt_together.max(axis=1) / dealt_together.min(axis=1)
    assert np.median(ratio) < 1.15
    assert np.median(ratio) < np.median(longest_s.max() / longest_s), "random batches are far more uneven"


def test_padding_is_a_small_share_and_far_below_that_of_fixed_batches():
    sampler = DurationBatchSampler(sample_durations(4000), 60.0, seed=0, batches_per_step=4)
    facts = sampler.facts()
    assert facts.padding_share < 0.06
    assert facts.fixed_batches_padding_share > 0.4
    assert f"{facts.padding_share:.1%}" in sampler.describe()


def test_the_share_of_padding_is_what_the_batches_have():
    sampler = DurationBatchSampler([4.0, 4.0, 2.0, 1.0], 8.0, seed=0)
    batches = sampler.batches(0)
    assert {frozenset(batch) for batch in batches} == {frozenset({0, 1}), frozenset({2, 3})}
    facts = sampler.facts()
    assert facts.padding_share == pytest.approx(1 / 12)
    assert facts.utterances_per_batch == 2
    assert facts.audio_s_per_step == 5.5


def test_where_every_clip_is_padded_to_a_window_the_budget_is_a_count():
    sampler = DurationBatchSampler(
        sample_durations(161), 160.0, seed=0, fixed_length_s=fixed_length_s(LOG_MEL_80)
    )
    sizes = [len(batch) for batch in sampler.batches(0)]
    assert max(sizes) == 5
    assert len(sizes) == math.ceil(161 / 5)
    assert sampler.facts().padding_share == pytest.approx(1 - sample_durations(161).sum() / (161 * 30))
    assert fixed_length_s(LOG_MEL_80_NANO) == 4
    assert fixed_length_s(WAVEFORM_16K) is None


def test_a_clip_beyond_the_budget_is_refused_with_the_budget_that_fits():
    with pytest.raises(ConfigError, match=r"the longest clip has 7\.25 s") as excinfo:
        DurationBatchSampler([3.0, 7.25], 6.0, seed=0)
    assert "training.batch_seconds to 8 " in excinfo.value.do
    with pytest.raises(ConfigError, match=r"every clip is padded to has 30 s"):
        DurationBatchSampler([3.0], 20.0, seed=0, fixed_length_s=30.0)


def test_too_few_utterances_for_a_step_are_refused():
    with pytest.raises(ConfigError, match="3 utterances, in 1 batches or more"):
        DurationBatchSampler([1.0, 1.0, 1.0], 60.0, seed=0, batches_per_step=4)
    # batches of one clip cannot be split
    with pytest.raises(ConfigError, match=r"training\.batch_size"):
        DurationBatchSampler([10.0] * 9, 12.0, seed=0, batches_per_step=4)
    assert len(DurationBatchSampler([10.0] * 8, 12.0, seed=0, batches_per_step=4)) == 8


def test_the_time_to_draw_an_epoch_grows_with_the_utterances_not_with_their_square():
    """Processor time, compared with itself: 32 times as many utterances; the square would be 1,024."""

    def cpu_s(num_utterances: int) -> float:
        durations_s = sample_durations(num_utterances)
        started = time.process_time()
        DurationBatchSampler(durations_s, 120.0, seed=0, batches_per_step=8).batches(5)
        return time.process_time() - started

    assert min(cpu_s(160_000) for _ in range(3)) < 300 * min(cpu_s(5_000) for _ in range(3))
