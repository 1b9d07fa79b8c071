"""How sure a score is, and whether two runs differ: intervals and tests that resample whole videos.

Utterances of one video share its speaker, topic and noise, so they are not independent, and resampling single
utterances would give intervals that are too short. Here whole videos are drawn.

With few videos the usual percentile bootstrap is too short as well: in simulations its 95 % intervals hold
the true rate of 4 videos 78 times of 100, of 8 videos 87 times. The intervals here take the bootstrap's
standard error on a scale on which the score is about symmetric (logarithm of an error rate, log-odds of a
score from 0 to 100), widened by √(n / (n − 1)) for the n videos that it is estimated from, and Student's t
with n − 1 degrees of freedom instead of the normal distribution (Efron and Tibshirani 1993, chapter 12;
Hesterberg 2015 on the factor). A test checks their coverage by simulation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vietst.evaluation.score_counts import ScoreCounts

MIN_VIDEOS: Final = 10
"""With fewer, no interval is given: whatever the method, it would say more than the data do."""

CONFIDENCE: Final = 0.95
NUM_DRAWS: Final = 1000
NUM_PERMUTATIONS: Final = 10_000
DRAWS_AT_ONCE: Final = 100
"""Of either: how often each of many thousand videos is drawn is a large table."""
SEED: Final = 1
"""Of the draws: the same predictions give the same intervals and p-values."""


Transform = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval in points, or why there is none."""

    low: float | None
    high: float | None
    why_none: str | None = None

    def as_record(self) -> dict[str, float | str]:
        """`low` and `high`, or `why_none`: for JSON."""
        if self.low is None or self.high is None:
            return {"why_none": str(self.why_none)}
        return {"low": self.low, "high": self.high}

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return str(self.why_none)
        return f"{self.low:.2f} to {self.high:.2f}"


@dataclass(frozen=True)
class Difference:
    """Score of run B less that of run A on the same utterances."""

    name: str
    score_a: float
    score_b: float
    interval: Interval
    p_value: float | None
    """Two-sided, of the hypothesis that it does not matter which run wrote a video's hypotheses. None with
    fewer than `MIN_VIDEOS` videos."""
    lower_is_better: bool

    @property
    def difference(self) -> float:
        return self.score_b - self.score_a

    @property
    def verdict(self) -> str:
        """In words: which run is better, or that no difference is shown."""
        if self.p_value is None:
            return self.interval.why_none or ""
        if self.p_value >= 1 - CONFIDENCE or self.difference == 0:
            return "no difference shown"
        return "B is better" if (self.difference < 0) == self.lower_is_better else "A is better"


VideoIds = Sequence[str] | np.ndarray
"""Of every utterance; or numbers in their place, from `numbered`, which are sorted faster."""


def numbered(video_ids: Sequence[str]) -> np.ndarray:
    """Whole numbers that are equal where the ids are, and in the same order: int32 [num_utterances]."""
    number_of = {video_id: number for number, video_id in enumerate(sorted(set(video_ids)))}
    return np.fromiter((number_of[video_id] for video_id in video_ids), np.int32, len(video_ids))


def sums_by_video(counts: np.ndarray, video_ids: VideoIds) -> np.ndarray:
    """[num_utterances, num_counts] → [num_videos, num_counts], videos in the order of their ids."""
    videos, video_index = np.unique(np.asarray(video_ids), return_inverse=True)
    sums = np.zeros((len(videos), counts.shape[1]))
    np.add.at(sums, video_index, counts)
    return sums


def confidence_interval(score: ScoreCounts, video_ids: VideoIds) -> Interval:
    """The 95 % interval of a score.

    Args:
        video_ids: in the order of the counts. Videos that have no part in the score (all counts 0) are not
            counted.
    """
    sums = sums_by_video(score.counts, video_ids)
    sums = sums[sums.any(axis=1)]
    if (reason := _too_few(len(sums))) is not None:
        return Interval(None, None, reason)
    drawn = score.score_of(_draw(sums))
    to_scale, from_scale = _scale(score)
    scaled = to_scale(drawn)
    if scaled.std() == 0:
        return Interval(None, None, f"no interval: {score.score:.2f} whichever videos are drawn")
    half_width = _half_width(scaled, len(sums))
    centre = to_scale(np.array(score.score))
    low, high = from_scale(centre - half_width), from_scale(centre + half_width)
    return Interval(float(low), float(high))


def paired_difference(a: ScoreCounts, b: ScoreCounts, video_ids: VideoIds) -> Difference:
    """Whether run B differs from run A on the same utterances.

    The interval of the difference draws the same videos for both runs; the p-value is that of approximate
    randomization (Noreen 1989; Riezler and Maxwell 2005), which swaps the runs' hypotheses of whole videos.

    Args:
        a, b: the same score of the two runs, utterance by utterance.
        video_ids: in the order of the counts.

    Raises:
        ValueError: the two do not count the same utterances.
    """
    if a.name != b.name or a.counts.shape != b.counts.shape or len(video_ids) != len(a.counts):
        raise ValueError(f"{a.name} {a.counts.shape} and {b.name} {b.counts.shape} cannot be paired")
    sums = np.concatenate([sums_by_video(a.counts, video_ids), sums_by_video(b.counts, video_ids)], axis=1)
    sums = sums[sums.any(axis=1)]
    of_a, of_b = np.split(sums, 2, axis=1)
    if (reason := _too_few(len(sums))) is not None:
        return Difference(a.name, a.score, b.score, Interval(None, None, reason), None, a.lower_is_better)
    drawn_a, drawn_b = np.split(_draw(sums), 2, axis=1)
    drawn = b.score_of(drawn_b) - a.score_of(drawn_a)
    difference, half_width = b.score - a.score, _half_width(drawn, len(sums))
    return Difference(
        a.name,
        a.score,
        b.score,
        Interval(difference - half_width, difference + half_width),
        _p_value(a, of_a, of_b),
        a.lower_is_better,
    )


def _too_few(num_videos: int) -> str | None:
    if num_videos >= MIN_VIDEOS:
        return None
    return f"too few videos for an interval: {num_videos}, it takes {MIN_VIDEOS}"


def _draw(sums: np.ndarray) -> np.ndarray:
    """Sums of as many videos as there are, drawn with replacement: [num_videos, n] → [NUM_DRAWS, n]."""
    generator = np.random.default_rng(SEED)
    share = np.full(len(sums), 1 / len(sums))
    return np.concatenate(
        [
            generator.multinomial(len(sums), share, size=DRAWS_AT_ONCE).astype(np.float64) @ sums
            for _ in range(NUM_DRAWS // DRAWS_AT_ONCE)
        ]
    )


def _half_width(drawn: np.ndarray, num_videos: int) -> float:
    from scipy.stats import t

    quantile = t.ppf((1 + CONFIDENCE) / 2, num_videos - 1)
    return float(quantile * np.sqrt(num_videos / (num_videos - 1)) * drawn.std())


def _scale(score: ScoreCounts) -> tuple[Transform, Transform]:
    """To a scale on which the score's draws are about symmetric, and back."""
    smallest = score.resolution
    if not score.is_bounded:
        return (lambda x: x), (lambda y: y)
    if score.lower_is_better:
        return (lambda x: np.log(np.maximum(x, smallest))), np.exp

    def to_log_odds(x: np.ndarray) -> np.ndarray:
        share = np.clip(x, smallest, 100 - smallest) / 100
        return np.log(share / (1 - share))

    return to_log_odds, (lambda y: 100 / (1 + np.exp(-y)))


def _p_value(score: ScoreCounts, of_a: np.ndarray, of_b: np.ndarray) -> float:
    generator = np.random.default_rng(SEED)
    first, second = of_a.sum(axis=0), of_b.sum(axis=0)
    observed = abs(float(score.score_of(second) - score.score_of(first)))
    at_least_as_large = 0
    for _ in range(NUM_PERMUTATIONS // DRAWS_AT_ONCE):
        swapped = generator.integers(0, 2, size=(DRAWS_AT_ONCE, len(of_a))).astype(np.float64)
        exchange = swapped @ (of_b - of_a)  # what A gains and B loses
        differences = score.score_of(second - exchange) - score.score_of(first + exchange)
        # Rounding must not make the observed arrangement itself look smaller.
        at_least_as_large += int((np.abs(differences) >= observed - 1e-9).sum())
    return (at_least_as_large + 1) / (NUM_PERMUTATIONS + 1)
