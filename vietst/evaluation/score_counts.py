"""Scores as functions of counts that add up over utterances.

Every score here is computed from sums: word errors and words, matching and all n-grams. Counted once for
each utterance, the sums over all of them give the corpus's score to the last digit as jiwer and sacreBLEU
compute it, the sums over a video that video's, and the sums over a resampled set of videos one draw of a
bootstrap (`vietst.evaluation.significance`), without looking at a text again.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from vietst.evaluation.blocks import blocks

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
    """int32 [num_utterances, num_counts], of `mean` float64; a row of zeros where the utterance has no part
    in the score."""

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
        counts = np.zeros((num_utterances, self.counts.shape[1]), self.counts.dtype)
        counts[utterances] = self.counts
        return replace(self, counts=counts)


def counted(count: Callable[..., np.ndarray], *texts: Iterable[str]) -> np.ndarray:
    """The counts of many texts, whatever is counted: [num_utterances, num_counts].

    Args:
        count: takes as many sequences of texts as there are `texts`, a block of utterances at a time.
    """
    return np.concatenate([count(*zip(*block, strict=True)) for block in blocks(zip(*texts, strict=True))])


# --- error rates ------------------------------------------------------------------------------------------


def rate(name: str, errors: np.ndarray, units: np.ndarray) -> ScoreCounts:
    """`error_rate` of counts that stand apart, [num_utterances] each."""
    return error_rate(name, np.stack([errors, units], axis=1).astype(np.int32))


def error_rate(name: str, counts: np.ndarray) -> ScoreCounts:
    """An error rate: 100 × errors / units.

    Without any unit there is no rate: 0 then says that nothing was written, 100 that something was.

    Args:
        counts: int32 [num_utterances, 2]: edits between hypothesis and reference, and words or characters of
            the reference.
    """
    return ScoreCounts(name, counts, rate_of, True, 50 / max(float(counts[:, 1].sum()), 1.0))


def rate_of(sums: np.ndarray) -> np.ndarray:
    """(errors, units) [..., 2] → 100 × errors / units, as `error_rate` says."""
    errors, units = sums[..., 0], sums[..., 1]
    without_unit = np.where(errors > 0, 100.0, 0.0)
    return np.where(units > 0, 100 * (errors / np.maximum(units, 1)), without_unit)


def word_error_counts(references: Sequence[str], hypotheses: Sequence[str]) -> ScoreCounts:
    """`wer` of texts as they are given, in words, from jiwer's alignment."""
    return error_rate("wer", counted(count_word_errors, references, hypotheses))


def character_error_counts(references: Sequence[str], hypotheses: Sequence[str]) -> ScoreCounts:
    """`cer`, in characters, spaces between words among them."""
    return error_rate("cer", counted(count_character_errors, references, hypotheses))


def count_word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """What `error_rate` takes, of `wer`."""
    import jiwer

    return _count_edits(jiwer.process_words, references, hypotheses)


def count_character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """What `error_rate` takes, of `cer`."""
    import jiwer

    return _count_edits(jiwer.process_characters, references, hypotheses)


def _count_edits(
    process: Callable[..., Any], references: Sequence[str], hypotheses: Sequence[str]
) -> np.ndarray:
    output = process(reference=list(references), hypothesis=list(hypotheses))
    return np.array(
        [
            (_num_edits(alignment), len(reference))
            for alignment, reference in zip(output.alignments, output.references, strict=True)
        ],
        dtype=np.int32,
    )


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
    return bleu_score("bleu", counted(count_bleu, references, hypotheses))


def count_bleu(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """What `bleu_score` takes: int32 [num_utterances, 10]."""
    return _sentence_counts(_bleu(), references, hypotheses)


def bleu_score(name: str, counts: np.ndarray) -> ScoreCounts:
    """BLEU of what `count_bleu` counted."""
    return _sacrebleu_counts(name, _bleu(), counts)


def _bleu() -> Any:
    import sacrebleu

    # `force` only silences the advice to detokenize, which normalized text would set off.
    return sacrebleu.BLEU(force=True)


def chrf_counts(references: Sequence[str], hypotheses: Sequence[str]) -> tuple[ScoreCounts, ScoreCounts]:
    """`chrf` and `chrf++` (with words: Popović 2017), sacreBLEU's, from one pass over the texts."""
    counts = counted(count_chrf, references, hypotheses)
    return chrf_score("chrf", counts), chrf_plus_plus_score("chrf++", counts)


def count_chrf(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """What `chrf_score` and `chrf_plus_plus_score` take: int32 [num_utterances, 24], for each order three
    counts, the characters' orders first."""
    return _sentence_counts(_chrf(NUM_CHRF_WORD_ORDERS), references, hypotheses)


def chrf_score(name: str, counts: np.ndarray) -> ScoreCounts:
    """chrF of what `count_chrf` counted, words left out."""
    return _sacrebleu_counts(name, _chrf(0), counts[:, : 3 * NUM_CHRF_CHARACTER_ORDERS])


def chrf_plus_plus_score(name: str, counts: np.ndarray) -> ScoreCounts:
    """chrF++ of what `count_chrf` counted."""
    return _sacrebleu_counts(name, _chrf(NUM_CHRF_WORD_ORDERS), counts)


def _chrf(num_word_orders: int) -> Any:
    import sacrebleu

    return sacrebleu.CHRF(word_order=num_word_orders)


def count_translation_edits(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """What `error_rate` takes, of `ter`, the translation edit rate with sacreBLEU's defaults (Snover et al.
    2006): edits, shifts of words among them, and words of the reference. Slow."""
    import sacrebleu

    return _sentence_counts(sacrebleu.TER(), references, hypotheses)


def _sentence_counts(metric: Any, references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """What sacreBLEU itself keeps of every sentence for its own significance tests: [num_utterances, n]."""
    counts = metric._extract_corpus_statistics(list(hypotheses), [list(references)])
    _forget_texts()
    return np.array(counts, dtype=np.int32)


def _forget_texts() -> None:
    """sacreBLEU's tokenizers keep 65,536 texts each, 40 MB, though hardly any text comes twice."""
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp
    from sacrebleu.tokenizers.tokenizer_ter import TercomTokenizer

    for tokenizer in (Tokenizer13a, TokenizerRegexp, TercomTokenizer):
        tokenizer.__call__.cache_clear()


def _sacrebleu_counts(name: str, metric: Any, counts: np.ndarray) -> ScoreCounts:
    def score_of(sums: np.ndarray) -> np.ndarray:
        flat = sums.reshape(-1, sums.shape[-1]).astype(np.int64)
        scores = (metric._compute_score_from_stats(row.tolist()).score for row in flat)
        return np.fromiter(scores, np.float64, len(flat)).reshape(sums.shape[:-1])

    return ScoreCounts(name, counts, score_of, False, _SMALLEST_SHOWN_SCORE)
