"""Scores: agreement with jiwer and sacreBLEU to the last digit, the edge cases and targets."""

import unicodedata
from dataclasses import replace

import jiwer
import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from vietst.evaluation.metrics import (
    GUIDE_TARGETS,
    Prediction,
    bleu,
    character_error_rate,
    check_targets,
    chrf,
    count_scores,
    metric_signatures,
    score_predictions,
    scores_by_video,
    utterance_scores,
    word_error_rate,
)
from vietst.text import NORMALIZER_ID, normalize_for_scoring

SCORES = (word_error_rate, character_error_rate, bleu, chrf)

SENTENCE = "mình họp với team về cái deadline hoà Hoà hòa thứ Sáu, nhé! don't 3.5 c++"

words = st.sampled_from(SENTENCE.split())
sentences = st.lists(words, max_size=12).map(" ".join)
spoken_sentences = st.lists(words, min_size=1, max_size=12).map(" ".join)
corpora = st.lists(st.tuples(spoken_sentences, sentences), min_size=1, max_size=8)


def predictions_of(*pairs: tuple[str, str], video_id: str = "v") -> list[Prediction]:
    """Utterances of 2 s that were transcribed and translated from the same texts."""
    return [
        Prediction(f"{video_id}-{number}", video_id, 2.0, reference, reference, hypothesis, hypothesis)
        for number, (reference, hypothesis) in enumerate(pairs)
    ]


@given(corpora)
def test_scores_equal_direct_calls_to_the_last_digit(corpus: list[tuple[str, str]]) -> None:
    references, hypotheses = [r for r, _ in corpus], [h for _, h in corpus]
    assert word_error_rate(references, hypotheses) == 100 * jiwer.wer(references, hypotheses)
    assert character_error_rate(references, hypotheses) == 100 * jiwer.cer(references, hypotheses)
    assert bleu(references, hypotheses) == sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert chrf(references, hypotheses) == sacrebleu.corpus_chrf(hypotheses, [references]).score


@given(corpora)
def test_score_predictions_leads_with_normalized_error_rates_and_raw_bleu(
    corpus: list[tuple[str, str]],
) -> None:
    scores = score_predictions(predictions_of(*corpus))
    raw = [r for r, _ in corpus], [h for _, h in corpus]
    normalized = [[normalize_for_scoring(text) for text in texts] for texts in raw]
    assert (scores["wer"], scores["wer_raw"]) == (word_error_rate(*normalized), word_error_rate(*raw))
    assert (scores["cer"], scores["cer_raw"]) == (
        character_error_rate(*normalized),
        character_error_rate(*raw),
    )
    assert (scores["bleu"], scores["bleu_normalized"]) == (bleu(*raw), bleu(*normalized))
    assert (scores["chrf"], scores["chrf_normalized"]) == (chrf(*raw), chrf(*normalized))


@given(st.lists(spoken_sentences, min_size=1, max_size=5))
def test_a_perfect_hypothesis_has_no_errors(texts: list[str]) -> None:
    assert word_error_rate(texts, texts) == character_error_rate(texts, texts) == 0
    assert chrf(texts, texts) == pytest.approx(100)


def test_bleu_sees_every_utterance() -> None:
    # [[r], [r]] handed to sacreBLEU scores the first hypothesis alone: a perfect first one would give 100
    references = ["mình họp với cả team nhé", "cái deadline là thứ sáu tuần này"]
    hypotheses = ["mình họp với cả team nhé", "cái hạn là thứ hai tuần sau"]
    assert sacrebleu.corpus_bleu(hypotheses, [[r] for r in references]).score == pytest.approx(100)
    assert bleu(references, hypotheses) < 70


def test_composition_case_and_tone_placement_are_no_errors_but_tones_are() -> None:
    reference = "Hoà khoẻ, tiếng Việt!"
    same = unicodedata.normalize("NFD", "hòa khỏe tiếng việt")
    scores = score_predictions(predictions_of((reference, same)))
    assert scores["wer"] == scores["cer"] == 0
    assert scores["wer_raw"] == 100
    assert score_predictions(predictions_of(("hòa má", "hòa mà")))["wer"] == 50


def test_only_convention_goes_where_numbers_and_loanwords_are_equal() -> None:
    references = ["Tăng 25% trên Facebook", "họp lúc chín giờ rưỡi"]
    same = ["tăng hai mươi lăm phần trăm trên phây búc", "họp lúc 9:30"]
    scores = score_predictions(predictions_of(*zip(references, same, strict=True)))
    assert scores["wer_raw"] > 60
    assert scores["wer"] > 60
    assert scores["wer_numbers_loanwords"] == 0
    wrong = score_predictions(predictions_of((references[0], "tăng hai mươi sáu phần trăm trên phây búc")))
    assert wrong["wer_numbers_loanwords"] == pytest.approx(100 / 8), "one digit, one of eight words"
    assert scores["wer_normalizers"]["wer_numbers_loanwords"] == "vietst-1+numbers-4+loanwords-1"
    assert scores["metric_signatures"]["wer_raw"].endswith("|normalizer:none")


def test_references_are_scored_in_the_style_that_the_model_was_taught() -> None:
    pair = ("Tăng 50%, nhé Nam!", "tăng 50% nhé nam")
    as_is = [
        replace(p, translation="Tăng, Nam!", translation_hypothesis="tăng nam") for p in predictions_of(pair)
    ]
    plain = [replace(p, text_style="lower_nopunct") for p in as_is]
    before, after = score_predictions(as_is), score_predictions(plain)
    assert (before["wer_raw"], after["wer_raw"]) == (75, 0)
    assert after["cer_raw"] == 0
    assert before["chrf"] < after["chrf"] == pytest.approx(100)
    assert before["wer"] == after["wer"] == 0, "the normalizer takes away more than the style does"
    cased = [replace(p, transcript_hypothesis=pair[0]) for p in plain]
    assert score_predictions(cased)["wer_raw"] == 75, "it was taught otherwise"


def test_a_reference_of_which_the_style_leaves_nothing_is_none() -> None:
    (plain,) = (replace(p, text_style="lower_nopunct") for p in predictions_of(("…", "nói gì đó")))
    counts = count_scores([plain])
    scores = score_predictions([plain], counts)
    assert (scores["num_translated"], scores["num_missing_translations"]) == (0, 1)
    assert "bleu" not in scores
    assert "bleu" not in scores_by_video([plain], counts)[0]


def test_known_values() -> None:
    assert word_error_rate(["a b c d"], ["a x c"]) == 50
    assert word_error_rate(["a b"], ["a b c d e f"]) == 200
    assert character_error_rate(["abcd"], ["abxd"]) == 25
    assert word_error_rate(["a", "b c d"], ["x", "b c d"]) == 25  # of the corpus, not the mean of utterances


@pytest.mark.parametrize("score", SCORES)
def test_unpaired_or_no_texts_are_refused(score) -> None:
    with pytest.raises(ValueError, match="2 references and 1 hypotheses"):
        score(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="at least one"):
        score([], [])


def test_empty_references_count_as_insertions_and_are_reported() -> None:
    scores = score_predictions(predictions_of(("một hai ba bốn", "một hai ba bốn"), ("?!", "ừ"), ("…", "")))
    assert scores["wer"] == 25
    assert scores["num_empty_references"] == 2


def test_without_any_reference_word_the_rate_is_0_or_100() -> None:
    assert word_error_rate(["", " "], ["", ""]) == character_error_rate([""], [""]) == 0
    assert word_error_rate(["", ""], ["a b c", ""]) == character_error_rate([""], ["a b c"]) == 100
    assert score_predictions(predictions_of(("…", "a b")))["wer"] == 100


def test_an_empty_hypothesis_is_all_deletions_and_scores_no_bleu() -> None:
    scores = score_predictions(predictions_of(("một hai ba", "")))
    assert scores["wer"] == scores["cer"] == 100
    assert scores["bleu"] == scores["chrf"] == 0


def test_keys_of_a_task_that_was_not_run_are_absent() -> None:
    both = predictions_of(("một hai", "một hai"))[0]
    transcribed = score_predictions([replace(both, translation_hypothesis=None)])
    translated = score_predictions([replace(both, transcript_hypothesis=None)])
    assert {"wer", "cer", "wer_raw", "cer_raw"} <= transcribed.keys()
    assert not transcribed.keys() & {"bleu", "chrf", "bleu_normalized", "chrf_normalized"}
    assert not translated.keys() & {"wer", "cer", "wer_raw", "cer_raw"}
    assert (transcribed["num_transcribed"], transcribed["num_translated"]) == (1, 0)
    of_each = utterance_scores(
        mixed := [replace(both, translation_hypothesis=None), both], count_scores(mixed)
    )
    assert of_each.keys() == {"wer", "cer", "chrf"}
    assert {
        name: np.isnan(scores).tolist() for name, scores in of_each.items() if np.isnan(scores).any()
    } == {"chrf": [True, False]}


def test_missing_translations_are_left_out_of_bleu_and_counted() -> None:
    complete, without = predictions_of(("một hai ba bốn", "một hai ba bốn"), ("năm", "năm"))
    without = replace(without, translation="", translation_hypothesis="thừa")
    scores = score_predictions([complete, without])
    assert scores["bleu"] == pytest.approx(100)
    assert (scores["num_translated"], scores["num_missing_translations"]) == (1, 1)
    assert scores["num_transcribed"] == 2


def test_copies_are_counted_in_hypotheses_and_references() -> None:
    scores = score_predictions(
        [
            Prediction("1", "v", 1, "Fix bug nhé.", "Sửa lỗi nhé.", None, "fix bug nhé"),
            Prediction("2", "v", 1, "xong rồi", "xong rồi", None, "rồi xong"),
            Prediction("3", "v", 1, "deadline", "hạn chót", None, "hạn chót"),
            Prediction("4", "v", 1, "deadline", "", None, "deadline"),
        ]
    )
    assert scores["copy_rate"] == pytest.approx(100 / 3), "of those that have a reference"
    assert scores["reference_copy_rate"] == pytest.approx(100 / 3)


def test_facts_stand_beside_the_scores() -> None:
    scores = score_predictions(
        predictions_of(("a", "a"), ("b", "b")) + predictions_of(("c", "d"), video_id="w")
    )
    assert (scores["num_utterances"], scores["num_videos"], scores["audio_s"]) == (3, 2, 6.0)
    assert scores["normalizer"] == NORMALIZER_ID
    assert scores["metric_signatures"] == metric_signatures()
    assert NORMALIZER_ID in scores["metric_signatures"]["wer"]
    assert scores["metric_signatures"]["bleu"].startswith(
        "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:"
    )
    assert scores["metric_signatures"]["chrf"].startswith(
        "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:"
    )


def test_no_predictions_are_refused() -> None:
    with pytest.raises(ValueError, match="no predictions"):
        score_predictions([])


def test_utterance_scores_are_those_of_a_corpus_of_one() -> None:
    reference, hypothesis = "Mình họp với team.", "mình họp với tim"
    predictions = predictions_of(("khác", "hẳn"), (reference, hypothesis))
    of_each = utterance_scores(predictions, count_scores(predictions))
    assert {name: scores[1] for name, scores in of_each.items()} == {
        "wer": 25,
        "cer": pytest.approx(100 * 2 / 17),
        "chrf": sacrebleu.sentence_chrf(hypothesis, [reference]).score,
    }


def test_scores_by_video_split_the_set() -> None:
    first = predictions_of(("một hai", "một ba"), video_id="b")
    second = predictions_of(("một hai ba bốn năm", "một hai ba bốn năm"), ("sáu", "sáu"), video_id="a")
    rows = scores_by_video(first + second, count_scores(first + second))
    assert [(row["video_id"], row["num_utterances"], row["audio_s"]) for row in rows] == [
        ("a", 2, 4),
        ("b", 1, 2),
    ]
    assert [row["wer"] for row in rows] == [0, 50]
    assert rows[0]["bleu"] == pytest.approx(100)


def test_targets_are_those_of_the_guide_and_strict() -> None:
    assert {name: str(target) for name, target in GUIDE_TARGETS.items()} == {
        "wer": "< 15",
        "cer": "< 10",
        "bleu": "> 25",
        "chrf": "> 50",
    }
    checked = check_targets({"wer": 14.99, "cer": 10.0, "bleu": 25.0, "chrf": 50.01, "other": 1})
    assert {name: row["met"] for name, row in checked.items()} == {
        "wer": True,
        "cer": False,
        "bleu": False,
        "chrf": True,
    }
    assert checked["wer"] == {"target": "< 15", "value": 14.99, "met": True}
    assert check_targets({"bleu": 30.0}).keys() == {"bleu"}
