"""Scores of parts of a test set: by degree of code-mixing, duration, signal level, video, speaker, and apart
for utterances whose texts a person has verified and others.

All come from the counts of single utterances that the scores of the whole come from, without looking at a
text again, so the parts add up to the whole.
"""

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np

from vietst.data.verified import read_verified
from vietst.evaluation.changed_spans import wants_change
from vietst.evaluation.code_switching import (
    ErrorCounts,
    code_mixing_index,
    code_mixing_indices,
    language_score_counts,
)
from vietst.evaluation.metrics import Prediction
from vietst.evaluation.score_counts import ScoreCounts
from vietst.evaluation.significance import confidence_interval, numbered
from vietst.evaluation.word_language import WordTag, tag_words

SLICE_SCORES: Final = ("wer", "wer_vietnamese", "pier", "bleu", "change")

CODE_MIXING_BINS: Final = (0.0, 15.0, 30.0)
"""Upper ends, included, of the code-mixing index, 0–50. The first bin holds utterances in one language."""

DURATION_BINS_S: Final = (2.0, 5.0, 10.0, 20.0)
"""Upper ends, included, in seconds."""

LEVEL_BINS_DBFS: Final = (-40.0, -30.0, -20.0)
"""Upper ends, included, of the root mean square in dBFS (full scale is 0). Broadcast speech lies near -23."""


def scores_by_slice(
    predictions: Sequence[Prediction],
    counts: Mapping[str, ScoreCounts],
    errors: ErrorCounts,
    user_tags: Mapping[str, WordTag] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Rows of scores under `code_mixing_index`, `duration_s`, `level_dbfs`, `verified`, `data_source`,
    `video_id` and `speaker_id`.

    Each row holds its `slice` (a bin such as "0 to 15", or an id), `num_utterances`, `num_videos`, `audio_s`
    (seconds), those of `SLICE_SCORES` that have something to count there, and `intervals` of the scores that
    have one. Levels, sources and speakers are absent where the predictions do not say them, bins without
    utterances everywhere. Bins are in rising order, ids in alphabetical order. Where some are known to be
    `verified` or not, those that say nothing count as not.

    Args:
        counts: from `metrics.count_scores`.
        errors: from `code_switching.count_errors_of`.
        user_tags: those that `errors` were counted with.
    """
    every_score = {**counts, **language_score_counts(errors)}
    scores: dict[str, ScoreCounts] = {name: every_score[name] for name in SLICE_SCORES if name in every_score}
    dimensions: dict[str, tuple[Iterable[Any], Callable[[Any], Binned]]] = {
        "code_mixing_index": (_mixing(predictions, errors, user_tags), _bin_of(CODE_MIXING_BINS)),
        "duration_s": ((p.duration_s for p in predictions), _bin_of(DURATION_BINS_S)),
        "level_dbfs": ((p.level_dbfs for p in predictions), _bin_of(LEVEL_BINS_DBFS)),
        "verified": (_verified(predictions), _verified_or_not),
        "data_source": ((p.data_source or None for p in predictions), _same),
        "video_id": ((p.video_id for p in predictions), _same),
        "speaker_id": ((p.speaker_id or None for p in predictions), _same),
    }
    videos = numbered([p.video_id for p in predictions])
    rows = {
        dimension: [_row(label, members, predictions, videos, scores) for label, members in _members(*values)]
        for dimension, values in dimensions.items()
    }
    return {dimension: of_dimension for dimension, of_dimension in rows.items() if of_dimension}


def _mixing(
    predictions: Sequence[Prediction], errors: ErrorCounts, user_tags: Mapping[str, WordTag] | None
) -> Iterator[float]:
    """From the counts where there are any: utterances that were only translated are tagged here."""
    for prediction, index in zip(predictions, code_mixing_indices(errors), strict=True):
        if prediction.transcript_hypothesis is not None:
            yield float(index)
        else:
            yield code_mixing_index(tag_words(prediction.transcript, user_tags))


def _verified(predictions: Sequence[Prediction]) -> list[bool | None]:
    is_known = any(p.verified for p in predictions)
    return [read_verified(p.verified) is True if is_known else None for p in predictions]


Binned = tuple[int, str]
"""Where a slice stands among the others, and what it is called."""


def _members(values: Iterable[Any], slice_of: Callable[[Any], Binned]) -> list[tuple[str, list[int]]]:
    """Slices in order, each with the positions of its utterances; those of value None belong to none."""
    members: dict[Binned, list[int]] = {}
    for index, value in enumerate(values):
        if value is not None:
            members.setdefault(slice_of(value), []).append(index)
    return [(label, indices) for (_, label), indices in sorted(members.items())]


def _bin_of(upper_ends: Sequence[float]) -> Callable[[float], Binned]:
    first = "0" if upper_ends[0] == 0 else f"≤ {_signed(upper_ends[0])}"
    spans = [f"{_signed(low)} to {_signed(high)}" for low, high in pairwise(upper_ends)]
    labels = [first, *spans, f"> {_signed(upper_ends[-1])}"]

    def bin_of(value: float) -> Binned:
        position = bisect.bisect_left(upper_ends, value)
        return position, labels[position]

    return bin_of


def _signed(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _verified_or_not(is_verified: bool) -> Binned:
    return (0, "verified") if is_verified else (1, "not verified")


def _same(identity: str) -> Binned:
    return 0, identity


def _row(
    label: str,
    members: list[int],
    predictions: Sequence[Prediction],
    videos: np.ndarray,
    scores: Mapping[str, ScoreCounts],
) -> dict[str, Any]:
    of_slice = videos[members]
    selected = {name: score.select(members) for name, score in scores.items()}
    counted = {name: score for name, score in selected.items() if _says_something(score)}
    intervals = {name: confidence_interval(score, of_slice).as_record() for name, score in counted.items()}
    return {
        "slice": label,
        "num_utterances": len(members),
        "num_videos": len(np.unique(of_slice)),
        "audio_s": sum(predictions[index].duration_s for index in members),
        **{name: score.score for name, score in counted.items()},
        "intervals": {name: interval for name, interval in intervals.items() if "low" in interval},
    }


def _says_something(score: ScoreCounts) -> bool:
    return wants_change(score) if score.name == "change" else bool(np.any(score.counts))
