"""Repetition loops are counted, and what people do say twice is none."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluation.test_metrics import predictions_of
from tests.evaluation.test_report import PREDICTIONS, write
from vietst.evaluation.metrics import score_predictions
from vietst.evaluation.repetition import count_loops, most_times_in_a_row
from vietst.evaluation.report import format_results_table, read_metrics


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("", 0),
        ("mình", 1),
        ("mình sẽ fix bug", 1),
        ("cái áo xanh xanh", 2),
        ("nam nam nam", 3),
        ("mình fix mình fix mình fix mình", 3),
        ("a b a b a b c c", 3),
        ("a b a c a", 1),
        (" ".join(["một hai ba bốn năm sáu bảy tám"] * 4), 4),
        (" ".join(["một hai ba bốn năm sáu bảy tám chín"] * 4), 1),
        ("cuộc họp " + "dời sang " * 10, 10),
    ],
)
def test_how_often_words_stand_in_a_row(text, times):
    assert most_times_in_a_row(text) == times


@pytest.mark.parametrize(
    ("reference", "hypothesis", "is_loop"),
    [
        ("mình sẽ fix bug", "mình mình mình mình", True),
        ("cái áo xanh", "cái áo xanh xanh", False),
        ("ha ha ha", "ha ha ha", False),
        ("ha ha ha", "ha ha ha ha", True),
        ("không không không", "vâng vâng vâng", False),
        ("", "a a a", True),
        ("mình sẽ fix bug", "", False),
    ],
)
def test_a_loop_repeats_more_often_than_people_and_than_the_reference(reference, hypothesis, is_loop):
    assert count_loops([reference], [hypothesis]) == is_loop


def test_results_count_loops_in_the_scored_pairs_of_each_task(tmp_path: Path):
    """On normalized text: a comma between the repeated words does not hide the loop."""
    fine, looping = predictions_of(("một hai ba", "một hai ba"), ("một hai ba", "Hai, hai, hai, hai"))
    not_scored = replace(looping, id="x", translation="")
    scores = score_predictions([fine, looping, not_scored])
    assert (scores["num_looping_transcripts"], scores["num_looping_translations"]) == (2, 1)
    transcribed = score_predictions([replace(looping, translation_hypothesis=None)])
    assert transcribed["num_looping_transcripts"] == 1
    assert "num_looping_translations" not in transcribed

    with_loop = [replace(PREDICTIONS[0], transcript_hypothesis="họp " * 9), *PREDICTIONS[1:]]
    metrics = read_metrics(write(tmp_path, with_loop)[0])
    assert metrics["num_looping_transcripts"] == 1
    assert "\nRepetition loops: 1 of 3 transcripts.\n" in format_results_table(metrics)
    assert "Repetition" not in format_results_table(read_metrics(write(tmp_path)[0]))
