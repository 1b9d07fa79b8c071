"""How well a translation changes what has to be changed, and nothing else.

Most of a code-switched sentence is Vietnamese already and stays as it is, so copying the transcript scores
high in BLEU and chrF. SARI (Xu et al. 2016) has the same trouble with simplification, and solves it by
comparing three texts: here the transcript, the reference translation and the hypothesis. N-grams of words
(1 to 4) that the reference deletes from the transcript should be deleted, those that it adds added, those
that it keeps kept.

`change` is the mean of the F1 of deletions and additions, each the mean over the four orders. It differs from
SARI in three ways: what is kept is reported beside it, not in it, so that the copy scores 0; deletions count
by F1 as the others do; and counts are summed over the corpus before dividing, as for BLEU.

A text that has nothing to do with the transcript deletes all of it, and so what has to be deleted too: the
deletions of such a system have a high F1, its additions almost none. Where nothing was translated begins is
therefore 0 for a copy, and for other texts what unrelated sentences score (`without_model.baselines`).
"""

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from vietst.evaluation.score_counts import ScoreCounts

CHANGE_ID: Final = "vietst-change-1"
"""Names these rules in every results file; changes whenever one of them changes."""

NUM_ORDERS: Final = 4
OPERATIONS: Final = ("deleted", "added", "kept")
_CHANGES: Final = slice(0, 2)

_RESOLUTION: Final = 0.01


def count_changed_spans(
    transcripts: Sequence[str], references: Sequence[str], hypotheses: Sequence[str]
) -> np.ndarray:
    """What `change_scores` takes: int32 [num_utterances, operations × orders × 3].

    Args:
        transcripts, references, hypotheses: normalized texts, words with single spaces between.
    """
    return np.array(
        [
            _sentence_counts(transcript.split(), reference.split(), hypothesis.split())
            for transcript, reference, hypothesis in zip(transcripts, references, hypotheses, strict=True)
        ],
        dtype=np.int32,
    )


def change_scores(counts: np.ndarray) -> list[ScoreCounts]:
    """`change` and its parts `deleted_f1`, `added_f1` and `kept_f1`, 0–100, higher is better.

    Scores without any n-gram to count are 0: where no reference changes anything, `change` says nothing.

    Args:
        counts: from `count_changed_spans`.
    """
    return [
        ScoreCounts("change", counts, _change, False, _RESOLUTION),
        *(
            ScoreCounts(f"{name}_f1", counts, functools.partial(_operation_f1, index), False, _RESOLUTION)
            for index, name in enumerate(OPERATIONS)
        ),
    ]


def wants_change(change: ScoreCounts) -> bool:
    """Whether any reference changes its transcript; if none does, the score `change` says nothing."""
    by_operation = change.counts.sum(axis=0).reshape(len(OPERATIONS), NUM_ORDERS, 3)
    return bool(by_operation[_CHANGES, :, 2].any())


def _sentence_counts(transcript: list[str], reference: list[str], hypothesis: list[str]) -> list[int]:
    """For each operation and order: n-grams in both, by the hypothesis, by the reference."""
    counts = []
    orders = [
        [_ngrams(words, order) for words in (transcript, reference, hypothesis)]
        for order in range(1, NUM_ORDERS + 1)
    ]
    for operation in OPERATIONS:
        for source, wanted, found in orders:
            by_reference = _operated(operation, source, wanted)
            by_hypothesis = _operated(operation, source, found)
            both = by_reference & by_hypothesis
            counts += [both.total(), by_hypothesis.total(), by_reference.total()]
    return counts


def _ngrams(words: list[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[start:] for start in range(order)), strict=False))


def _operated(
    operation: str, source: Counter[tuple[str, ...]], target: Counter[tuple[str, ...]]
) -> Counter[tuple[str, ...]]:
    if operation == "deleted":
        return source - target
    return target - source if operation == "added" else source & target


def _change(sums: np.ndarray) -> np.ndarray:
    """Mean over deletions and additions, as far as there are any."""
    f1, is_there = _f1(sums)
    return f1[..., _CHANGES].sum(axis=-1) / np.maximum(is_there[..., _CHANGES].sum(axis=-1), 1)


def _operation_f1(operation: int, sums: np.ndarray) -> np.ndarray:
    return _f1(sums)[0][..., operation]


def _f1(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F1 of each operation, 0–100: the mean over the orders that have an n-gram; and whether any has.

    Args:
        sums: [..., operations × orders × 3].

    Returns:
        Twice [..., operations]; F1 is 0 where there is no n-gram.
    """
    by_order = sums.reshape(*sums.shape[:-1], len(OPERATIONS), NUM_ORDERS, 3)
    both, total = by_order[..., 0], by_order[..., 1] + by_order[..., 2]
    f1 = 2 * both / np.maximum(total, 1)
    num_orders = (total > 0).sum(axis=-1)
    return 100 * f1.sum(axis=-1) / np.maximum(num_orders, 1), num_orders > 0
