"""The baselines that need no model: what they are scored on, and what they say."""

from dataclasses import replace

import pytest

from tests.evaluation.test_metrics import predictions_of
from vietst.evaluation.changed_spans import change_scores, count_changed_spans
from vietst.evaluation.metrics import Prediction, bleu, chrf
from vietst.evaluation.without_model import baselines, bleu_above_copy


def test_copy_baseline_is_the_transcript_scored_as_translation() -> None:
    predictions = [
        Prediction("1", "v", 1, "cái deadline là thứ sáu", "cái hạn chót là thứ sáu"),
        Prediction("2", "v", 1, "mình fix bug rồi nhé", "mình sửa lỗi rồi nhé"),
        Prediction("3", "v", 1, "không có bản dịch", ""),
    ]
    result = baselines(predictions, [], [], seed=0)
    references = [p.translation for p in predictions[:2]]
    copies = [p.transcript for p in predictions[:2]]
    assert result["copy"]["bleu"] == bleu(references, copies)
    assert result["copy"]["chrf"] == chrf(references, copies)
    assert result["copy"]["change"] == 0


def test_random_sentence_baseline_is_seeded_and_leads_with_normalized_error_rates() -> None:
    predictions = predictions_of(*[(f"Câu số {number}!", "") for number in range(30)])
    training = [f"Câu khác {number}" for number in range(50)]
    one, same, other = (baselines(predictions, training, training, seed=s) for s in (1, 1, 2))
    assert one == same != other
    assert one["random_training_sentence"].keys() == {"wer", "cer", "bleu", "chrf", "change"}
    assert (
        33 < one["random_training_sentence"]["wer"] < 67
    )  # "câu" always fits, "số" never, the number rarely


def test_the_score_of_changes_says_what_unrelated_sentences_get() -> None:
    transcripts = ["mình fix cái bug này nhé", "team họp lúc ba giờ"]
    references = ["mình sửa cái lỗi này nhé", "nhóm họp lúc ba giờ"]
    predictions = [
        Prediction(transcript, "v", 1, transcript, reference)
        for transcript, reference in zip(transcripts, references, strict=True)
    ]
    drawn = baselines(predictions, [], ["trời mưa to quá"], seed=0)["random_training_sentence"]
    counts = count_changed_spans(transcripts, references, ["trời mưa to quá"] * 2)
    change, deleted, added, _ = change_scores(counts)
    assert added.score == 0
    assert drawn["change"] == change.score == deleted.score / 2 > 20


def test_random_sentence_baseline_never_draws_an_empty_text() -> None:
    predictions = predictions_of(*[("một hai", "")] * 20)
    drawn = baselines(predictions, ["một hai", ""], ["một hai", " "], seed=0)["random_training_sentence"]
    assert drawn["wer"] == 0


def test_training_sentences_are_written_in_the_style_that_the_model_was_taught() -> None:
    plain = [replace(p, text_style="lower_nopunct") for p in predictions_of(("Tăng, Nam!", ""))]
    drawn = baselines(plain, [], ["Tăng, Nam!"], seed=0)["random_training_sentence"]
    assert drawn["chrf"] == pytest.approx(100)


def test_bleu_above_copy() -> None:
    assert bleu_above_copy({"bleu": 80.0}, {"copy": {"bleu": 28.5}}) == 51.5
    assert bleu_above_copy({"wer": 3.0}, {"copy": {"bleu": 28.5}}) is None
    assert bleu_above_copy({"bleu": 80.0}, {}) is None
