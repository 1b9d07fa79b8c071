"""Alignments for people: nothing of either text is lost, and kinds agree with those that are counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vietst.evaluation.alignments import DIFFERENT, EXTRA, AlignedWord, align_transcript, align_translation
from vietst.evaluation.code_switching import KINDS, count_errors
from vietst.text import normalize_for_scoring

words = st.sampled_from(["mình", "minh", "fix", "bug", "bất", "cái", "cai", "đó", "deadline", "hạn", "chót"])
texts = st.lists(words, max_size=9).map(" ".join)


def test_each_word_stands_with_what_was_written_for_it() -> None:
    assert align_transcript("Mình fix cái bug đó", "mình phích cai bug đó ạ") == [
        AlignedWord("mình", "mình", "vi", ""),
        AlignedWord("fix", "phích", "en", "transliterated"),
        AlignedWord("cái", "cai", "vi", "tone"),
        AlignedWord("bug", "bug", "en", ""),
        AlignedWord("đó", "đó", "vi", ""),
        AlignedWord("", "ạ", "vi", EXTRA),
    ]


def test_a_translation_differs_misses_or_adds() -> None:
    assert align_translation("sửa cái lỗi đó rồi", "fix cái đó rồi nhé") == [
        AlignedWord("sửa", "fix", "", DIFFERENT),
        AlignedWord("cái", "cái", "", ""),
        AlignedWord("lỗi", "", "", "missing"),
        AlignedWord("đó", "đó", "", ""),
        AlignedWord("rồi", "rồi", "", ""),
        AlignedWord("", "nhé", "", EXTRA),
    ]


@pytest.mark.parametrize(("reference", "hypothesis"), [("", ""), ("", "gì"), ("gì", ""), ("...", "!")])
def test_empty_texts_can_be_aligned(reference: str, hypothesis: str) -> None:
    (*_,) = align_translation(reference, hypothesis)
    aligned = align_transcript(reference, hypothesis)
    assert [word.reference for word in aligned if word.reference] == normalize_for_scoring(reference).split()


@given(texts, texts, texts)
def test_no_word_is_lost_and_kinds_are_those_that_are_counted(
    reference: str, hypothesis: str, translation: str
) -> None:
    aligned = align_transcript(reference, hypothesis, translation)
    assert [word.reference for word in aligned if word.reference] == reference.split()
    assert [word.written for word in aligned if word.written] == hypothesis.split()
    assert all(bool(word.error) == (word.reference != word.written) for word in aligned)
    counts = count_errors([reference], [hypothesis], [translation])
    by_kind = dict(zip(KINDS, counts.kinds.sum(axis=0).tolist(), strict=True))
    assert {kind: sum(word.error == kind for word in aligned) for kind in KINDS} == by_kind
    assert sum(word.error == EXTRA for word in aligned) == counts.edits[..., 2].sum()
