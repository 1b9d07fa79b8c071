"""What needs no model, scored as a model is: where nothing was translated, or nobody listened."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vietst.evaluation.changed_spans import change_scores, count_changed_spans
from vietst.evaluation.metrics import Prediction, in_own_style
from vietst.evaluation.score_counts import (
    ScoreCounts,
    bleu_counts,
    chrf_counts,
    count_character_errors,
    count_word_errors,
    counted,
    error_rate,
)
from vietst.text import normalize_for_scoring
from vietst.text_style import styled


def baselines(
    predictions: Sequence[Prediction],
    training_transcripts: Sequence[str],
    training_translations: Sequence[str],
    seed: int,
) -> dict[str, dict[str, float]]:
    """The baselines on the same references, by the same scorer.

    `copy`: the transcript handed in as the translation (`bleu`, `chrf`, `chrf++`, `change`). Most of a
    code-switched sentence is already Vietnamese, so this scores high, but for `change`.
    `random_training_sentence`: for each utterance a text drawn from the training split (`wer`, `cer`, `bleu`,
    `chrf`, `change`): what a model gets that learned the sentences and does not listen. In `change` that is
    far from 0: whoever writes something else deletes all that has to be deleted. A baseline is absent where
    the references or the training texts for it are.
    """
    generator = random.Random(seed)
    transcripts = [in_own_style(p).transcript for p in predictions]
    translated = [p for p in map(in_own_style, predictions) if p.translation.strip()]
    translations = [p.translation for p in translated]
    heard = [p.transcript for p in translated]
    result: dict[str, dict[str, float]] = {}
    if translated:
        of_copies = (bleu_counts(translations, heard), *chrf_counts(translations, heard))
        change = _change(heard, translations, heard)
        result["copy"] = {score.name: score.score for score in (*of_copies, change)}
    drawn: dict[str, float] = {}
    if transcripts and (candidates := [text for text in training_transcripts if text.strip()]):
        texts = generator.choices(candidates, k=len(transcripts))
        for name, count in (("wer", count_word_errors), ("cer", count_character_errors)):
            drawn[name] = error_rate(name, counted(_of_normalized(count), transcripts, texts)).score
    if translated and (candidates := [text for text in training_translations if text.strip()]):
        style = translated[0].text_style
        texts = [styled(text, style) for text in generator.choices(candidates, k=len(translations))]
        of_texts = (bleu_counts(translations, texts), chrf_counts(translations, texts)[0])
        change = _change(heard, translations, texts)
        drawn |= {score.name: score.score for score in (*of_texts, change)}
    if drawn:
        result["random_training_sentence"] = drawn
    return result


def _change(transcripts: Sequence[str], references: Sequence[str], hypotheses: Sequence[str]) -> ScoreCounts:
    """`change` of texts that are not normalized."""
    counts = counted(_of_normalized(count_changed_spans), transcripts, references, hypotheses)
    return change_scores(counts)[0]


def _of_normalized(count: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """The same counts, of texts that are normalized first."""
    return lambda *texts: count(*([normalize_for_scoring(text) for text in of_side] for of_side in texts))


def bleu_above_copy(scores: Mapping[str, Any], baseline_scores: Mapping[str, Any]) -> float | None:
    """BLEU points above the copy baseline; None where either is missing. Near 0, nothing was translated."""
    if "bleu" not in scores or "copy" not in baseline_scores:
        return None
    return float(scores["bleu"] - baseline_scores["copy"]["bleu"])
