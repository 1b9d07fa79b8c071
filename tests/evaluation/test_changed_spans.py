"""The score of what a translation changes: 0 for the copy, 100 for the reference, lower for every fault."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vietst.evaluation.changed_spans import change_scores, count_changed_spans

TRANSCRIPT = "mình sẽ fix cái bug này trước deadline nhé"
REFERENCE = "mình sẽ sửa cái lỗi này trước hạn chót nhé"

WORDS = ("mình", "sẽ", "fix", "sửa", "cái", "bug", "lỗi", "này")
words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)


def scores(*triples: tuple[str, str, str]) -> dict[str, float]:
    counts = count_changed_spans(*map(list, zip(*triples, strict=True)))
    return {score.name: score.score for score in change_scores(counts)}


def test_the_copy_scores_0_however_much_of_it_is_right() -> None:
    copied = scores((TRANSCRIPT, REFERENCE, TRANSCRIPT))
    assert (copied["change"], copied["deleted_f1"], copied["added_f1"]) == (0, 0, 0)
    assert scores(("a b c d e f", "a b c d e x", "a b c d e f"))["kept_f1"] > 70


def test_the_reference_scores_100() -> None:
    assert scores((TRANSCRIPT, REFERENCE, REFERENCE)) == dict.fromkeys(
        ("change", "deleted_f1", "added_f1", "kept_f1"), 100
    )


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ("mình sẽ fix cái lỗi này trước hạn chót nhé", REFERENCE),  # one word not translated
        ("mình sẽ fix cái lỗi này trước deadline nhé", "mình sẽ fix cái lỗi này trước hạn chót nhé"),
        ("mình sẽ chữa cái lỗi này trước hạn chót nhé", REFERENCE),  # another translation of a word
        ("mình sẽ cái này trước nhé", "mình sẽ sửa cái lỗi này trước hạn chót nhé"),  # deleted, not replaced
        ("sửa sẽ mình cái lỗi này trước hạn chót nhé", REFERENCE),  # other order
        ("họ đã sửa một lỗi kia sau hạn chót", REFERENCE),  # changed what was to be kept
        ("", REFERENCE),
    ],
)
def test_every_fault_costs(worse: str, better: str) -> None:
    of_worse, of_better = (scores((TRANSCRIPT, REFERENCE, text))["change"] for text in (worse, better))
    assert of_worse < of_better


def test_counts_of_a_hand_made_case() -> None:
    """One order matters where texts have one word: "fix" → "sửa", written "chữa"."""
    found = scores(("fix", "sửa", "chữa"))
    assert found == {"change": 50, "deleted_f1": 100, "added_f1": 0, "kept_f1": 0}


def test_nothing_to_change_and_nothing_changed_adds_nothing() -> None:
    with_it = scores((TRANSCRIPT, REFERENCE, "mình sẽ sửa cái bug này"), ("xong rồi", "xong rồi", "xong rồi"))
    without = scores((TRANSCRIPT, REFERENCE, "mình sẽ sửa cái bug này"))
    assert with_it["change"] == without["change"]


@given(st.lists(st.tuples(words, words, words), min_size=1, max_size=5))
def test_scores_lie_between_0_and_100(triples: list[tuple[str, str, str]]) -> None:
    assert all(0 <= score <= 100 for score in scores(*triples).values())


@given(st.lists(st.tuples(words, words), min_size=1, max_size=5))
def test_copies_score_0_and_references_100_unless_there_is_nothing_to_change(
    pairs: list[tuple[str, str]],
) -> None:
    copied = scores(*((transcript, reference, transcript) for transcript, reference in pairs))
    exact = scores(*((transcript, reference, reference) for transcript, reference in pairs))
    is_anything_changed = any(transcript != reference for transcript, reference in pairs)
    assert copied["change"] == 0
    assert exact["change"] == pytest.approx(100 if is_anything_changed else 0)
