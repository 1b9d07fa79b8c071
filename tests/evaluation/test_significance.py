"""Intervals hold what they promise, and tests of two runs find differences that are there and no others."""

import numpy as np
import pytest

from vietst.evaluation.score_counts import ScoreCounts, bleu_counts, mean, rate, word_error_counts
from vietst.evaluation.significance import (
    MIN_VIDEOS,
    confidence_interval,
    paired_difference,
    sums_by_video,
)

TRUE_RATE = 10.0


def simulated_rate(num_videos: int, generator: np.random.Generator) -> tuple[ScoreCounts, list[str]]:
    """Videos of unequal length (about 100 to 600 words) whose rates differ: mean 10 %, deviation 7 points."""
    words = generator.lognormal(5.5, 0.4, num_videos).round()
    errors = generator.poisson(words * generator.gamma(2, TRUE_RATE / 200, num_videos))
    return rate("wer", errors, words), [f"video-{number:03}" for number in range(num_videos)]


@pytest.mark.slow
@pytest.mark.parametrize("num_videos", [10, 20, 40, 80])
def test_95_percent_intervals_hold_the_true_rate_in_93_to_97_of_100_simulated_test_sets(
    num_videos: int,
) -> None:
    generator = np.random.default_rng(num_videos)
    num_sets, num_held = 1000, 0
    for _ in range(num_sets):
        interval = confidence_interval(*simulated_rate(num_videos, generator))
        num_held += interval.low <= TRUE_RATE <= interval.high
    assert 0.93 <= num_held / num_sets <= 0.97


def test_a_mean_of_any_numbers_has_the_interval_of_students_t() -> None:
    """COMET's models may score below 0: no scale from 0 to 100 may cut that off."""
    values = np.random.default_rng(3).normal(-40, 5, 30)
    counts = mean("comet", list(values), 0.01)
    interval = confidence_interval(counts, [f"v{number}" for number in range(30)])
    half_width = 2.045 * values.std(ddof=1) / np.sqrt(30)  # t of 29 degrees of freedom
    assert counts.score == pytest.approx(values.mean())
    assert interval.high - counts.score == pytest.approx(half_width, rel=0.1)
    assert counts.score - interval.low == pytest.approx(half_width, rel=0.1)


def test_clustering_matters_utterances_of_one_video_are_not_independent() -> None:
    """Ten videos that are wholly right or wholly wrong: the interval is wide, though there are 1,000 rows."""
    errors = np.repeat([0, 1] * 5, 100) * 10
    counts = rate("wer", errors, np.full(1000, 10))
    by_video = confidence_interval(counts, [f"v{index // 100}" for index in range(1000)])
    as_if_independent = confidence_interval(counts, [f"v{index}" for index in range(1000)])
    assert by_video.high - by_video.low > 5 * (as_if_independent.high - as_if_independent.low)


def test_few_videos_give_a_reason_instead_of_an_interval() -> None:
    counts = rate("wer", np.ones(50), np.full(50, 10))
    interval = confidence_interval(counts, [f"v{index % (MIN_VIDEOS - 1)}" for index in range(50)])
    assert interval.low is None
    assert "too few videos for an interval: 9" in str(interval)


def test_videos_without_part_in_the_score_do_not_count_as_videos() -> None:
    errors, words = np.ones(20), np.where(np.arange(20) < 9, 10, 0)
    errors[words == 0] = 0
    interval = confidence_interval(rate("wer", errors, words), [f"v{index}" for index in range(20)])
    assert "9" in str(interval)


def test_no_error_at_all_gives_no_interval_of_width_zero() -> None:
    interval = confidence_interval(rate("wer", np.zeros(20), np.full(20, 9)), list(map(str, range(20))))
    assert interval.as_record() == {"why_none": "no interval: 0.00 whichever videos are drawn"}


def test_intervals_stay_between_0_and_100_for_bleu() -> None:
    references = [f"câu số {index} nói về deadline của team" for index in range(12)]
    hypotheses = [*references[:11], "x"]
    interval = confidence_interval(bleu_counts(references, hypotheses), list(map(str, range(12))))
    assert 0 < interval.low < bleu_counts(references, hypotheses).score < interval.high < 100


def test_the_same_predictions_give_the_same_interval() -> None:
    counts, videos = simulated_rate(15, np.random.default_rng(0))
    assert confidence_interval(counts, videos) == confidence_interval(counts, videos)


def test_order_of_utterances_does_not_matter() -> None:
    counts, videos = simulated_rate(15, np.random.default_rng(0))
    order = np.random.default_rng(1).permutation(15)
    shuffled = confidence_interval(counts.select(order), [videos[index] for index in order])
    assert shuffled == confidence_interval(counts, videos)


def test_a_run_against_itself_shows_no_difference() -> None:
    counts, videos = simulated_rate(30, np.random.default_rng(3))
    difference = paired_difference(counts, counts, videos)
    assert (difference.difference, difference.p_value) == (0.0, 1.0)
    assert difference.verdict == "no difference shown"


def test_equal_models_differ_significantly_in_about_5_of_100_comparisons() -> None:
    generator = np.random.default_rng(7)
    num_pairs, num_found = 200, 0
    for _ in range(num_pairs):
        words = generator.lognormal(5, 0.4, 20).round()
        hardness = generator.gamma(2, 0.05, 20)
        a, b = (rate("wer", generator.poisson(words * hardness), words) for _ in range(2))
        num_found += paired_difference(a, b, list(map(str, range(20)))).p_value < 0.05
    # 1 % … 10 %: about three standard errors around 5 %
    assert 2 <= num_found <= 20


def test_a_small_but_steady_gain_is_found_although_videos_differ_much_more() -> None:
    generator = np.random.default_rng(5)
    words = np.full(40, 500.0)
    hardness = generator.gamma(2, 0.05, 40)
    a = rate("wer", generator.poisson(words * hardness), words)
    b = rate("wer", generator.poisson(words * hardness * 0.85), words)
    difference = paired_difference(a, b, list(map(str, range(40))))
    assert difference.verdict == "B is better"
    assert difference.interval.low < difference.difference < difference.interval.high < 0
    alone = confidence_interval(a, list(map(str, range(40))))
    assert alone.low < b.score < alone.high, "unpaired intervals would not have told"


def test_the_better_run_is_named_for_scores_where_higher_is_better_too() -> None:
    references = [f"câu số {index} nói về deadline của team mình nhé" for index in range(20)]
    good = bleu_counts(references, [*references[:19], "x y"])
    bad = bleu_counts(references, [text.replace("deadline của", "x y z") for text in references])
    videos = list(map(str, range(20)))
    assert paired_difference(bad, good, videos).verdict == "B is better"
    assert paired_difference(good, bad, videos).verdict == "A is better"


def test_pairs_must_count_the_same_utterances() -> None:
    one, two = word_error_counts(["a"], ["a"]), word_error_counts(["a", "b"], ["a", "b"])
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_difference(one, two, ["v"])


def test_sums_by_video_add_up_whatever_the_order() -> None:
    counts = np.arange(8.0).reshape(4, 2)
    assert sums_by_video(counts, ["b", "a", "b", "a"]).tolist() == [[8.0, 10.0], [4.0, 6.0]]
