"""The English that translations leave standing is counted beside that of their references."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluation.test_report import PREDICTIONS, write
from vietst.evaluation.english_left import english_left_counts
from vietst.evaluation.metrics import Prediction
from vietst.evaluation.metrics_file import read_metrics
from vietst.evaluation.results_table import format_results_table
from vietst.evaluation.word_language import WordTag

REFERENCE = "Mình sẽ sửa cái lỗi này qua email"


def translated(hypothesis: str | None, reference: str = REFERENCE) -> Prediction:
    return Prediction("u", "v", 2.0, "mình sẽ fix cái bug này", reference, None, hypothesis)


@pytest.mark.parametrize(
    ("hypothesis", "share"),
    [
        ("mình sẽ fix cái bug này", 100 * 2 / 6),
        ("mình sẽ sửa cái lỗi này", 0),
        ("I will fix this bug", 100),
        ("anh Hùng fix 3 lỗi", 20),  # names and numbers are words, and not English
        ("", 0),
    ],
)
def test_english_words_per_100_words_of_the_translation(hypothesis: str, share: float) -> None:
    counts = english_left_counts([translated(hypothesis)])
    assert counts["english_left"].score == pytest.approx(share)
    assert counts["reference_english_left"].score == pytest.approx(100 / 8)


def test_words_of_all_utterances_are_counted_together_and_rows_keep_their_order() -> None:
    """Not the mean of the utterances' shares; what was not translated or has no reference is left out."""
    left_out = [translated(None), translated("fix bug", reference="")]
    counts = english_left_counts([*left_out, translated("fix"), translated("mình sẽ sửa")])["english_left"]
    assert counts.score == 25
    assert counts.counts.tolist() == [[0, 0], [0, 0], [1, 1], [0, 3]]
    assert english_left_counts(left_out) == {}


def test_a_users_words_decide() -> None:
    counts = english_left_counts([translated("fix bug này nhé")], {"bug": WordTag.NAME})
    assert counts["english_left"].score == 25


def test_results_and_table_tell_it(tmp_path: Path) -> None:
    predictions = [replace(p, translation_hypothesis=p.transcript) for p in PREDICTIONS]
    metrics = read_metrics(write(tmp_path, predictions)[0])
    assert metrics["english_left"] == pytest.approx(100 / 3)  # deadline, fix, bug of 9 words
    assert metrics["intervals"].keys() >= {"english_left", "reference_english_left"}
    assert "left in the translations: 33.3 % (references: 0.0 %)" in format_results_table(metrics)
