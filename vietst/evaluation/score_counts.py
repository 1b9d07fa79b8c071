"""Scores as functions of counts that add up over utterances.

Every score here is computed from sums: word errors and words, matching and all n-grams. Counted once for
each utterance, the sums over all of them give the corpus's score to the last digit as jiwer and sacreBLEU
compute it, the sums over a video that video's, and the sums over a resampled set of videos one draw of a
bootstrap (`vietst.evaluation.significance`), without looking at a text again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

NUM_CHRF_CHARACTER_ORDERS: Final = 6
NUM_CHRF_WORD_ORDERS: Final = 2
"""chrF++ counts words and pairs of words besides chrF's characters (Popović 2017)."""

_SMALLEST_SHOWN_SCORE: Final = 0.01
"""On the scale of 0 to 100; nobody reports BLEU and chrF more finely."""


@dataclass(frozen=True)
class ScoreCounts:
    """One score, as counts of every utterance and the function of their sums."""

    name: str

    counts: np.ndarray
    """float64 [num_utterances, num_counts]; a row of zeros where the utterance has no part in the score."""

    score_of: Callable[[np.ndarray], np.ndarray]
    """Sums of counts [..., num_counts] → scores [...], 0–100 (error rates may exceed 100)."""

    lower_is_better: bool

    resolution: float
    """The smallest difference that means something, in points: half an error, for an error rate."""

    is_bounded: bool = True
    """Whether an error rate or a score from 0 to 100; False: a mean of any numbers."""

    @property
    def score(self) -> float:
        """Of the whole corpus."""
        return float(self.score_of(self.counts.sum(axis=0)))

    def select(self, utterances: Sequence[int] | np.ndarray) -> "ScoreCounts":
        """The same score of some of the utterances, by their positions."""
        return replace(self, counts=self.counts[utterances])

    def spread(self, utterances: Sequence[int], num_utterances: int) -> "ScoreCounts":
        """The same score as a part of more utterances: its rows stand at these positions, zeros elsewhere."""
        counts = np.zeros((num_utterances, self.counts.shape[1]))
        counts[utterances] = self.counts
        return replace(self, counts=counts)

    def renamed(self, name: str) -> "ScoreCounts":
        """The same under another name."""
        return replace(self, name=name)


# --- error rates ------------------------------------------------------------------------------------------


def rate(name: str, errors: np.ndarray, units: np.ndarray) -> ScoreCounts:
    """An error rate: 100 × errors / units.

    Without any unit there is no rate: 0 then says that nothing was written, 100 that something was.

    Args:
        errors: [num_utterances], edits between hypothesis and reference.
        units: [num_utterances], words or characters of the reference.
    """
    counts = np.stack([errors, units], axis=1).astype(np.float64)
    return ScoreCounts(name, counts, rate_of, True, 50 / max(float(counts[:, 1].sum()), 1.0))


def rate_of(sums: np.ndarray) -> np.ndarray:
    """(errors, units) [..., 2] → 100 × errors / units, as `rate` says."""
    errors, units = sums[..., 0], sums[..., 1]
    without_unit = np.where(errors > 0, 100.0, 0.0)
    return np.where(units > 0, 100 * (errors / np.maximum(units, 1)), without_unit)


def word_error_counts(references: Sequence[str], hypotheses: Sequence[str]) -> ScoreCounts:
    """`wer` of texts as they are given, in words, from jiwer's alignment."""
    import jiwer

    return _error_counts("wer", jiwer.process_words, references, hypotheses)


def character_error_counts(references: Sequence[str], hypotheses: Sequence[str]) -> ScoreCounts:
    """`cer`, in characters, spaces between words among them."""
    import jiwer

    return _error_counts("cer", jiwer.process_characters, references, hypotheses)


def _error_counts(
    name: str, process: Callable[..., Any], references: Sequence[str], hypotheses: Sequence[str]
) -> ScoreCounts:
    output = process(reference=list(references), hypothesis=list(hypotheses))
    errors = np.array([_num_edits(alignment) for alignment in output.alignments])
    return rate(name, errors, np.array([len(reference) for reference in output.references]))


def _num_edits(alignment: Sequence[Any]) -> int:
    return sum(
        max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        for chunk in alignment
        if chunk.type != "equal"
    )


def mean(name: str, values: Sequence[float], resolution: float) -> ScoreCounts:
    """The mean of one number for every utterance, the higher the better; 0 without any utterance."""
    counts = np.stack([np.asarray(values, dtype=np.float64), np.ones(len(values))], axis=1)
    return ScoreCounts(name, counts, _mean_of, False, resolution, is_bounded=False)


def _mean_of(sums: np.ndarray) -> np.ndarray:
    return np.asarray(sums[..., 0] / np.maximum(sums[..., 1], 1))


# --- n-gram scores ----------------------------------------------------------------------------------------


def bleu_counts(references: Sequence[str], hypotheses: Sequence[str]) -> ScoreCounts:
    """`bleu` with sacreBLEU's defaults, one reference each: lengths, and matching and all n-grams."""
    import sacrebleu

    # `force` only silences the advice to detokenize, which normalized text would set off.
    metric = sacrebleu.BLEU(force=True)
    return _sacrebleu_counts("bleu", metric, _sentence_counts(metric, references, hypotheses))


def chrf_counts(references: Sequence[str], hypotheses: Sequence[str]) -> tuple[ScoreCounts, ScoreCounts]:
    """`chrf` and `chrf++` (with words: Popović 2017), sacreBLEU's, from one pass over the texts."""
    import sacrebleu

    with_words = sacrebleu.CHRF(word_order=NUM_CHRF_WORD_ORDERS)
    counts = _sentence_counts(with_words, references, hypotheses)
    # For each order three counts, the characters' orders first.
    of_characters = counts[:, : 3 * NUM_CHRF_CHARACTER_ORDERS]
    return (
        _sacrebleu_counts("chrf", sacrebleu.CHRF(), of_characters),
        _sacrebleu_counts("chrf++", with_words, counts),
    )


def ter_counts(references: Sequence[str], hypotheses: Sequence[str]) -> ScoreCounts:
    """`ter`, the translation edit rate with sacreBLEU's defaults: edits, shifts of words among them, per 100
    words of the reference (Snover et al. 2006). Slow."""
    import sacrebleu

    counts = _sentence_counts(sacrebleu.TER(), references, hypotheses)
    return rate("ter", counts[:, 0], counts[:, 1])


def _sentence_counts(metric: Any, references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """What sacreBLEU itself keeps of every sentence for its own significance tests: [num_utterances, n]."""
    counts = metric._extract_corpus_statistics(list(hypotheses), [list(references)])
    return np.array(counts, dtype=np.float64)


def _sacrebleu_counts(name: str, metric: Any, counts: np.ndarray) -> ScoreCounts:
    def score_of(sums: np.ndarray) -> np.ndarray:
        flat = sums.reshape(-1, sums.shape[-1])
        scores = [metric._compute_score_from_stats(row).score for row in flat.astype(np.int64).tolist()]
        return np.array(scores).reshape(sums.shape[:-1])

    return ScoreCounts(name, counts, score_of, False, _SMALLEST_SHOWN_SCORE)
