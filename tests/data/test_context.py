"""Windows of Whisper's encoder: which one a clip is heard in, and what is drawn in training."""

import numpy as np
import pytest

from vietst.config_schema import AudioSection
from vietst.data.context import Context, ContextWindows, WindowDraws, windows_of
from vietst.data.duration_batches import DurationBatchSampler
from vietst.data.features import LOG_MEL_80, LOG_MEL_80_NANO, WAVEFORM_16K
from vietst.errors import ConfigError

WINDOWS_S = (4.0, 6.0, 10.0, 30.0)


def test_a_clip_is_heard_in_the_shortest_window_that_keeps_the_margin_behind_it():
    context = Context.of(LOG_MEL_80, ContextWindows((4.0, 6.0), margin_s=0.5))
    assert context.windows_s == (4.0, 6.0, 30.0)
    windows_s = [context.of_clip(num_frames).window_s for num_frames in (1, 350, 351, 550, 551, 3000)]
    assert windows_s == [4.0, 4.0, 6.0, 6.0, 30.0, 30.0]
    assert context.of_rows([{"num_frames": 100}, {"num_frames": 400}]).num_window_frames == 600


def test_without_windows_the_models_own_is_the_only_one():
    for kind in (LOG_MEL_80, WAVEFORM_16K):
        context = Context.of(kind, None)
        assert [context.of_clip(num_frames) for num_frames in (1, kind.num_window_frames)] == [kind, kind]


def test_windows_are_whole_encoder_positions_and_no_longer_than_the_models():
    context = Context.of(LOG_MEL_80_NANO, ContextWindows((1.01, 1.03, 4.0, 6.0), margin_s=0.0))
    assert [kind.num_window_frames for kind in context.input_kinds] == [52, 200]
    assert context.num_margin_frames == 1, "a frame of silence, from which a window can be lengthened"


def test_the_windows_of_the_defaults_are_few_and_each_is_little_longer_than_the_one_before():
    context = Context.of(LOG_MEL_80, windows_of(AudioSection()))
    ratios = np.array(context.windows_s[1:]) / context.windows_s[:-1]
    assert len(context.windows_s) == 8, "torch.compile gives up after as many shapes"
    assert ratios.max() <= 1.5
    assert context.of_clip(LOG_MEL_80.num_frames(5 * 16_000)).window_s == 6.0


# --- batches by seconds --------------------------------------------------------------------------------


def sampler_of(own: np.ndarray, longer_share: float, **options: int) -> DurationBatchSampler:
    durations_s = np.array(WINDOWS_S)[own] - 0.6
    return DurationBatchSampler(
        durations_s, 60.0, seed=3, windows=WindowDraws(WINDOWS_S, own, longer_share), **options
    )


def own_windows(num_utterances: int = 1000) -> np.ndarray:
    return np.random.default_rng(0).choice(3, num_utterances, p=[0.6, 0.3, 0.1])


@pytest.mark.parametrize("longer_share", [0.0, 0.2, 1.0])
def test_no_batch_exceeds_its_budget_in_the_window_that_is_drawn(longer_share):
    own = own_windows()
    sampler = sampler_of(own, longer_share, batches_per_step=4)
    for epoch in range(12):
        batches, lengths_s = sampler.batches(epoch), sampler.padded_lengths_s(epoch)
        assert sorted(index for batch in batches for index in batch) == list(range(len(own)))
        assert len(batches) == len(sampler)
        for batch, length_s in zip(batches, lengths_s, strict=True):
            assert length_s >= np.array(WINDOWS_S)[own[batch]].max()
            assert length_s * len(batch) <= 60.0


def test_the_share_of_longer_windows_is_as_stated_and_all_longer_ones_come():
    own = own_windows()
    sampler = sampler_of(own, 0.2)
    heard_s = [
        (own[index], length_s)
        for epoch in range(10)
        for batch, length_s in zip(sampler.batches(epoch), sampler.padded_lengths_s(epoch), strict=True)
        for index in batch
    ]
    longer = [length_s for window, length_s in heard_s if length_s > WINDOWS_S[window]]
    # A batch that is not full of long windows takes in clips of shorter ones.
    assert 0.2 <= len(longer) / len(heard_s) < 0.22
    of_short = [length_s for window, length_s in heard_s if window == 0 and length_s > WINDOWS_S[0]]
    counts = [of_short.count(length_s) for length_s in WINDOWS_S[1:]]
    assert min(counts) > 0.25 * sum(counts)


def test_a_budget_below_the_longest_window_is_refused():
    windows = WindowDraws(WINDOWS_S, np.array([0, 1]), 0.2)
    with pytest.raises(ConfigError, match="the longest window that a clip may be heard in has 30 s"):
        DurationBatchSampler([3.0, 5.0], 20.0, seed=0, windows=windows)
    without = WindowDraws(WINDOWS_S, np.array([0, 1]), 0.0)
    assert len(DurationBatchSampler([3.0, 5.0], 20.0, seed=0, windows=without)) == 1
