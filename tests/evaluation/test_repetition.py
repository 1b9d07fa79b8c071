"""Repetition loops are counted, and what people do say twice is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vietst.evaluation.repetition import is_loop, most_times_in_a_row


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
    ("reference", "hypothesis", "loops"),
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
def test_a_loop_repeats_more_often_than_people_and_than_the_reference(reference, hypothesis, loops):
    assert is_loop(reference, hypothesis) == loops


@given(st.lists(st.sampled_from("ab"), max_size=12).map(" ".join))
def test_the_quick_look_misses_no_loop(text):
    assert is_loop("", text) == (most_times_in_a_row(text) >= 3)
