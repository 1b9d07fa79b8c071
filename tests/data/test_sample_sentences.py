"""The texts of the sample corpus: closed vocabulary, natural spelling, nothing said twice."""

import unicodedata
from collections import Counter
from itertools import islice

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from vietst.data.sample_sentences import (
    SLOTS,
    TEMPLATES,
    Sentence,
    distinct_sentences,
    has_repetition,
    repeats_english,
)


@pytest.fixture(scope="module")
def every_sentence() -> list[Sentence]:
    return list(distinct_sentences(1))


@pytest.fixture(scope="module")
def default_corpus() -> list[Sentence]:
    return list(islice(distinct_sentences(1), 4000))


def word_counts(texts: list[str]) -> Counter[str]:
    return Counter(word for text in texts for word in text.lower().split())


def english_text(sentence: Sentence) -> str:
    return " ".join(text for language, text in sentence.segments if language == "en")


def test_a_marked_sentence_reads_as_transcript_and_as_pieces_of_one_language() -> None:
    sentence = Sentence("mình sẽ [fix] cái [data pipeline] này", "mình sẽ sửa đường ống dữ liệu này")
    assert sentence.transcript == "mình sẽ fix cái data pipeline này"
    assert sentence.segments == [
        ("vi", "mình sẽ"),
        ("en", "fix"),
        ("vi", "cái"),
        ("en", "data pipeline"),
        ("vi", "này"),
    ]


def test_vocabulary_is_large_enough_to_be_a_task_and_small_enough_to_be_learned(
    default_corpus: list[Sentence],
) -> None:
    assert len(TEMPLATES) >= 20
    assert 170 <= len(word_counts([sentence.transcript for sentence in default_corpus])) <= 200
    assert 60 <= len(word_counts([english_text(sentence) for sentence in default_corpus])) <= 70


def test_every_word_is_heard_often_enough_to_be_learned(default_corpus: list[Sentence]) -> None:
    counts = word_counts([sentence.transcript for sentence in default_corpus])
    assert min(counts.values()) >= 10, counts.most_common()[-5:]


def test_no_text_repeats_a_word_at_once(every_sentence: list[Sentence]) -> None:
    for sentence in every_sentence:
        assert not has_repetition(sentence.transcript), sentence
        assert not has_repetition(sentence.translation), sentence
        assert not repeats_english(sentence), sentence


@pytest.mark.parametrize(
    ("text", "repeats"),
    [("update update", True), ("Update update app", True), ("update app update", False), ("", False)],
)
def test_repetition_is_recognized(text: str, repeats: bool) -> None:
    assert has_repetition(text) is repeats


def test_all_transcripts_and_all_translations_are_distinct(every_sentence: list[Sentence]) -> None:
    assert len({sentence.transcript.lower() for sentence in every_sentence}) == len(every_sentence)
    assert len({sentence.translation.lower() for sentence in every_sentence}) == len(every_sentence)


def test_every_sentence_holds_english_and_no_translation_does(every_sentence: list[Sentence]) -> None:
    english_words = set(word_counts([english_text(sentence) for sentence in every_sentence]))
    for sentence in every_sentence:
        assert english_text(sentence), sentence
        assert not english_words & set(sentence.translation.lower().split()), sentence


def test_texts_are_composed_unicode_without_markup(default_corpus: list[Sentence]) -> None:
    for sentence in default_corpus:
        for text in (sentence.transcript, sentence.translation):
            assert text == unicodedata.normalize("NFC", text)
            assert text == " ".join(text.split())
            assert not set(text) & set("[]{}_")


def test_both_sides_of_a_template_have_the_same_slots() -> None:
    for said, meant in TEMPLATES:
        slots = [slot for slot in SLOTS if f"{{{slot}}}" in said]
        assert slots
        assert slots == [slot for slot in SLOTS if f"{{{slot}}}" in meant]


def test_a_third_of_the_templates_change_the_order(every_sentence: list[Sentence]) -> None:
    def frame(pattern: str) -> list[str]:
        return [part.split("}")[0] for part in pattern.split("{")[1:]]

    num_reordered = sum(frame(said) != frame(meant) for said, meant in TEMPLATES)
    assert num_reordered >= len(TEMPLATES) / 3


def test_copying_the_transcript_is_a_poor_translation(default_corpus: list[Sentence]) -> None:
    copies = [sentence.transcript for sentence in default_corpus]
    references = [sentence.translation for sentence in default_corpus]
    assert 10 < sacrebleu.corpus_bleu(copies, [references]).score < 45


@settings(max_examples=10)
@given(seed=st.integers(), length=st.sampled_from(["short", "medium", "long"]))
def test_a_seed_fixes_the_sentences(seed: int, length: str) -> None:
    first, second = (list(islice(distinct_sentences(seed, length), 60)) for _ in range(2))
    assert first == second
    assert first != list(islice(distinct_sentences(seed + 1, length), 60))


def test_longer_sentences_join_clauses_that_are_never_used_twice() -> None:
    clauses = {sentence.transcript for sentence in islice(distinct_sentences(1), 400)}
    used = Counter(
        clause
        for sentence in islice(distinct_sentences(1, "long"), 90)
        for clause in clauses
        if clause in sentence.transcript
    )
    assert len(used) >= 300
    # a clause can also stand within another ("… review plan" in "… review plan thứ hai")
    assert sum(count > 1 for count in used.values()) < 20
