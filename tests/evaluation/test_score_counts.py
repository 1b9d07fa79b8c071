"""Counts that add up: their sums give what jiwer and sacreBLEU give for the texts, to the last digit."""

import jiwer
import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from vietst.evaluation.score_counts import (
    ScoreCounts,
    bleu_counts,
    character_error_counts,
    chrf_counts,
    count_translation_edits,
    error_rate,
    rate,
    word_error_counts,
)

WORDS = ["mình", "họp", "với", "team", "về", "cái", "deadline", "nhé!", "don't", "3.5", "c++", "ok", ".", "ạ"]
sentences = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
spoken = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)
corpora = st.lists(st.tuples(spoken, sentences), min_size=1, max_size=8)


def all_counts(references: list[str], hypotheses: list[str]) -> list[ScoreCounts]:
    return [
        word_error_counts(references, hypotheses),
        character_error_counts(references, hypotheses),
        bleu_counts(references, hypotheses),
        *chrf_counts(references, hypotheses),
        error_rate("ter", count_translation_edits(references, hypotheses)),
    ]


def library_scores(references: list[str], hypotheses: list[str]) -> dict[str, float]:
    return {
        "wer": 100 * jiwer.wer(references, hypotheses),
        "cer": 100 * jiwer.cer(references, hypotheses),
        "bleu": sacrebleu.corpus_bleu(hypotheses, [references]).score,
        "chrf": sacrebleu.corpus_chrf(hypotheses, [references]).score,
        "chrf++": sacrebleu.corpus_chrf(hypotheses, [references], word_order=2).score,
        "ter": sacrebleu.corpus_ter(hypotheses, [references]).score,
    }


@given(corpora)
def test_scores_of_sums_equal_the_libraries_to_the_last_digit(corpus: list[tuple[str, str]]) -> None:
    references, hypotheses = map(list, zip(*corpus, strict=True))
    scores = {counts.name: counts.score for counts in all_counts(references, hypotheses)}
    assert scores == library_scores(references, hypotheses)


@given(corpora, st.data())
def test_scores_of_some_utterances_equal_the_libraries_on_those(
    corpus: list[tuple[str, str]], data: st.DataObject
) -> None:
    chosen = data.draw(
        st.lists(st.integers(0, len(corpus) - 1), min_size=1, max_size=8), label="positions, some twice"
    )
    references, hypotheses = map(list, zip(*corpus, strict=True))
    scores = {counts.name: counts.select(chosen).score for counts in all_counts(references, hypotheses)}
    expected = library_scores([references[i] for i in chosen], [hypotheses[i] for i in chosen])
    assert scores == expected


@pytest.mark.parametrize(("errors", "units", "expected"), [(0, 0, 0.0), (3, 0, 100.0), (3, 2, 150.0)])
def test_a_rate_without_units_says_whether_something_was_written(
    errors: int, units: int, expected: float
) -> None:
    assert rate("wer", np.array([errors]), np.array([units])).score == expected


def test_scores_of_many_sums_at_once_equal_one_by_one() -> None:
    references, hypotheses = ["a b c d e", "x y z w"], ["a b c d", "x y w z w"]
    for counts in all_counts(references, hypotheses):
        together = counts.score_of(counts.counts)
        assert together.tolist() == [counts.select([index]).score for index in range(2)]
