"""Equal and nearly equal sentences across splits are found, all of them, in any order."""

import itertools
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vietst.data import text_overlap as module
from vietst.data.text_overlap import MIN_SIMILARITY, MIN_WORDS, SplitText, text_overlap


def texts(**by_split: Iterable[str]) -> list[SplitText]:
    return [
        SplitText(split, f"{split}{number}", text)
        for split, lines in by_split.items()
        for number, text in enumerate(lines)
    ]


def test_equal_texts_are_counted_after_normalization() -> None:
    report = text_overlap(
        texts(
            train=["Hòa đang họp.", "một", "một"],
            dev=["hoà đang họp!", "hai", "…"],
            test=["HÒA ĐANG HỌP", "Một", "…"],
        )
    )["exact"]
    assert report["num_texts"] == 2
    assert report["num_utterances"] == {"test in train": 2, "test in dev": 1, "dev in train": 1}
    assert report["most_frequent"] == [
        {"text": "hòa đang họp", "num_utterances": {"train": 1, "dev": 1, "test": 1}},
        {"text": "một", "num_utterances": {"train": 2, "test": 1}},
    ]


@pytest.mark.parametrize(
    ("text", "is_near"),
    [
        ("chúng ta sẽ có một cái meeting lúc ba giờ chiều mai", True),  # one word in twelve
        ("chúng ta sẽ có một cái meeting lúc ba giờ chiều nay nhé", True),  # one word more
        ("chúng ta không có một buổi meeting lúc năm giờ chiều nay", False),
        ("chiều nay giờ ba lúc meeting cái một có sẽ ta chúng", False),  # the same words, turned round
    ],
)
def test_a_changed_word_in_ten_is_near(text: str, is_near: bool) -> None:
    report = text_overlap(texts(train=["chúng ta sẽ có một cái meeting lúc ba giờ chiều nay"], test=[text]))
    assert report["exact"]["num_texts"] == 0
    assert report["near"]["num_utterances"]["test in train"] == is_near
    if is_near:
        (pair,) = report["near"]["most_similar"]
        assert pair["test"] == {"id": "test0", "text": text}
        assert MIN_SIMILARITY <= pair["similarity"] < 1


def test_a_text_is_found_inside_a_longer_one() -> None:
    """The hardest case for the search: all of the longer text's rarest elements are its own."""
    shorter = "a b c d e f g h i j k"
    for by_split in ({"train": [f"{shorter} w x y z"], "test": [shorter]},
                     {"train": [shorter], "test": [f"{shorter} w x y z"]}):  # fmt: skip
        report = text_overlap(texts(**by_split))
        assert report["near"]["num_utterances"]["test in train"] == 1
        assert report["near"]["most_similar"][0]["similarity"] == round(21 / 29, 3)


def test_short_texts_are_not_compared() -> None:
    report = text_overlap(texts(train=["vâng đúng rồi"], dev=["vâng đúng thế"]))
    assert report["near"]["num_utterances"]["dev in train"] == 0


def test_each_utterance_with_a_near_text_counts() -> None:
    report = text_overlap(texts(train=["a b c d e f g h i j"], test=["a b c d e f g h i k"] * 3))
    assert report["near"]["num_utterances"]["test in train"] == 3
    assert len(report["near"]["most_similar"]) == 1


def brute_force(lines: list[SplitText]) -> dict[str, int]:
    def elements(text: str) -> set[str]:
        words = text.split()
        return {*words, *(" ".join(pair) for pair in itertools.pairwise(words))}

    counts = {"test in train": 0, "test in dev": 0, "dev in train": 0}
    for key in counts:
        split, other = key.split(" in ")
        others = {line.text for line in lines if line.split == other and len(line.text.split()) >= MIN_WORDS}
        for line in lines:
            if line.split == split and len(line.text.split()) >= MIN_WORDS and line.text not in others:
                own = elements(line.text)
                counts[key] += any(
                    len(own & elements(text)) / len(own | elements(text)) >= MIN_SIMILARITY for text in others
                )
    return counts


@given(
    lines=st.lists(
        st.tuples(
            st.sampled_from(["train", "dev", "test"]),
            st.lists(st.sampled_from("abcdef"), min_size=3, max_size=9),
        ),
        max_size=40,
    )
)
def test_the_search_finds_what_comparing_all_pairs_finds(lines: list[tuple[str, list[str]]]) -> None:
    split_texts = [
        SplitText(split, str(index), " ".join(words)) for index, (split, words) in enumerate(lines)
    ]
    assert text_overlap(split_texts)["near"]["num_utterances"] == brute_force(split_texts)


def test_order_plays_no_part_and_a_search_that_is_cut_short_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = random.Random(3)
    lines = [
        SplitText(
            generator.choice(["train", "dev", "test"]),
            str(index),
            " ".join(generator.choices("abcdefgh", k=8)),
        )
        for index in range(400)
    ]
    full = text_overlap(lines)
    assert full["near"]["num_searches_cut_short"] == 0
    generator.shuffle(lines)
    assert text_overlap(lines) == full
    monkeypatch.setattr(module, "_MAX_COMPARISONS", 2)
    assert text_overlap(lines)["near"]["num_searches_cut_short"] > 0
