"""English words are found in the text as it is written, with its case and punctuation."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vietst.demo.marked_text import stretches
from vietst.evaluation.word_language import tag_words


def marked(text: str) -> str:
    """English stretches in brackets."""
    return "".join(
        f"[{stretch.text}]" if stretch.is_english else stretch.text
        for stretch in stretches(text, tag_words(text))
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mình sẽ fix cái bug này", "mình sẽ [fix] cái [bug] này"),
        ("deadline của project", "[deadline] của [project]"),
        ("team leader, deadline!", "[team leader, deadline]!"),
        ("cái “bug” này (rất lạ)", "cái “[bug]” này (rất lạ)"),
        ("không có gì", "không có gì"),
        ("gửi  e-mail\ncho sếp", "gửi [e-mail] cho sếp"),
        ("", ""),
        ("…", "…"),
    ],
)
def test_words_are_marked_without_the_punctuation_around_them(text: str, expected: str) -> None:
    assert marked(text) == expected


@settings(max_examples=100)
@given(
    st.lists(
        st.one_of(st.sampled_from(["fix", "bug,", "(ok)", "này", "–", "3.5", "“code"]), st.text()), max_size=9
    )
)
def test_nothing_of_the_text_is_lost(words: list[str]) -> None:
    text = " ".join(words)
    assert "".join(stretch.text for stretch in stretches(text, tag_words(text))) == " ".join(text.split())
