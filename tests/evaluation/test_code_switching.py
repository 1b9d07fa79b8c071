"""Error rates by language: agreement with jiwer, known values, switches, slices, and what is reported."""

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vietst.evaluation.code_switching import (
    EDITS,
    NO_REFERENCE,
    WORD_CLASSES,
    code_mixing_index,
    code_mixing_indices,
    code_switching_scores,
    count_errors,
    count_errors_of,
    error_rates,
    language_score_counts,
    most_confused,
    switches_of,
)
from vietst.evaluation.metrics import Prediction, score_predictions, word_error_rate
from vietst.evaluation.word_language import WordTag, tag_words
from vietst.text import normalize_for_scoring

VIETNAMESE, ENGLISH = WORD_CLASSES.index(WordTag.VIETNAMESE), WORD_CLASSES.index(WordTag.ENGLISH)

VOCABULARY = "mình họp với Team về cái deadline, Facebook fix to má 3 50% phây búc hạn chót …"
sentences = st.lists(st.sampled_from(VOCABULARY.split()), max_size=12).map(" ".join)
corpora = st.lists(st.tuples(sentences, sentences, sentences), min_size=1, max_size=6)


@given(corpora)
def test_all_classes_together_are_jiwers_counts_to_the_last_digit(
    corpus: list[tuple[str, str, str]],
) -> None:
    references, hypotheses, translations = map(list, zip(*corpus, strict=True))
    counts = count_errors(references, hypotheses, translations)
    normalized = [[normalize_for_scoring(text) for text in texts] for texts in (references, hypotheses)]
    alignment = jiwer.process_words(*normalized)
    assert counts.edits.sum(axis=(0, 1)).tolist() == [
        alignment.substitutions,
        alignment.deletions,
        alignment.insertions,
    ]
    assert counts.words.sum() == alignment.hits + alignment.substitutions + alignment.deletions
    for index, (reference, hypothesis) in enumerate(zip(*normalized, strict=True)):
        one = jiwer.process_words(reference, hypothesis)
        assert counts.edits[index].sum() == one.substitutions + one.deletions + one.insertions
    if counts.words.sum():
        assert error_rates(counts)["mixed_error_rate"] == word_error_rate(*normalized)


@given(corpora)
def test_kinds_add_up_to_substitutions_and_deletions(corpus: list[tuple[str, str, str]]) -> None:
    counts = count_errors(*map(list, zip(*corpus, strict=True)))
    assert (counts.kinds.sum(axis=1) == counts.edits[:, :, :2].sum(axis=(0, 2))).all()
    assert (counts.edits_at_switches <= counts.edits.sum(axis=1)).all()


def test_known_values() -> None:
    counts = count_errors(
        ["mình fix cái bug này", "lên Facebook coi 3 lần"], ["mình phích cái bug", "lên coi 3 lần nha nha"]
    )
    rates = error_rates(counts)
    assert rates["wer_vietnamese"] == 100 * (1 + 2) / 6  # "này" is missing, twice "nha" after "lần"
    assert rates["pier"] == 100 * 1 / 2
    assert rates["wer_names"] == 100
    assert rates["mixed_error_rate"] == 100 * 5 / 10
    assert rates["num_switches"] == 4
    assert rates["num_code_switched_utterances"] == 1
    assert rates["wer_switch_points"] == 100 * 2 / 5
    assert rates["words"]["en"] == {
        "num": 2,
        "share": 20.0,
        "wer": 50.0,
        "substitutions": 1,
        "deletions": 0,
        "insertions": 0,
        "error_kinds": {"transliterated": 1},
    }
    assert rates["words"]["number"]["wer"] == 0
    assert "ambiguous" not in rates["words"]


@pytest.mark.parametrize(
    ("hypothesis", "vietnamese", "english"),
    [
        ("mình nha fix bug này", 0, 1),  # before "fix"
        ("nha mình fix bug này", 1, 0),
        ("mình fix bug nha này", 1, 0),
        ("mình fix bug này okay", 1, 0),  # after the last word, whatever was inserted
    ],
)
def test_an_inserted_word_belongs_to_the_word_it_stands_before(
    hypothesis: str, vietnamese: int, english: int
) -> None:
    insertions = count_errors(["mình fix bug này"], [hypothesis]).edits[0, :, EDITS.index("insertions")]
    assert (insertions[VIETNAMESE], insertions[ENGLISH]) == (vietnamese, english)
    assert insertions.sum() == 1


def test_insertions_into_an_empty_reference_belong_to_no_word() -> None:
    counts = count_errors(["…", "ừ"], ["ừ okay", "ừ"])
    assert counts.edits[0, WORD_CLASSES.index(NO_REFERENCE)].tolist() == [0, 0, 2]
    rates = error_rates(counts)
    assert rates["words"][NO_REFERENCE]["wer"] is None
    assert rates["wer_vietnamese"] == 0
    assert rates["pier"] is rates["wer_switch_points"] is None
    assert rates["mixed_error_rate"] == 200


@pytest.mark.parametrize(
    ("text", "num_switches", "beside_them"),
    [
        ("mình họp", 0, ""),
        ("mình fix bug này", 2, "mình fix bug này"),
        ("fix bug", 0, ""),
        ("mình fix Facebook này", 2, "mình fix này"),  # a name stands between, and is of no language
        ("mình họp ở Facebook với team", 1, "với team"),
        ("bug này 3 lần", 1, "bug này"),
        ("", 0, ""),
    ],
)
def test_switches(text: str, num_switches: int, beside_them: str) -> None:
    words = tag_words(text)
    number, positions = switches_of(words)
    assert number == num_switches
    assert [words[index].word for index in sorted(positions)] == beside_them.split()


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("mình họp", 0),
        ("fix bug", 0),
        ("mình fix bug này", 50),
        ("mình fix cái này", 25),
        ("mình fix cái này trên Facebook 3 lần", 100 / 6),
        ("Facebook", 0),
        ("", 0),
    ],
)
def test_code_mixing_index(text: str, index: float) -> None:
    assert code_mixing_index(tag_words(text)) == pytest.approx(index)


def test_counts_of_a_choice_of_utterances_are_those_of_scoring_it_alone() -> None:
    references = ["mình fix bug", "má đi chợ", "họp team nha"]
    hypotheses = ["mình phích bấc", "mà đi", "họp tim nha nha"]
    counts = count_errors(references, hypotheses)
    chosen = [2, 0, 2]
    alone = count_errors([references[i] for i in chosen], [hypotheses[i] for i in chosen])
    of_chosen = {name: score.select(chosen).score for name, score in language_score_counts(counts).items()}
    assert of_chosen == {name: error_rates(alone)[name] for name in of_chosen}


def test_counts_for_intervals_give_the_same_rates() -> None:
    counts = count_errors(
        ["mình fix bug", "má lên Facebook đi", "họp team nha"], ["mình phích bug", "mà lên đi", "họp nha"]
    )
    rates = error_rates(counts)
    of_scores = {name: score_counts.score for name, score_counts in language_score_counts(counts).items()}
    assert of_scores == {name: rates[name] for name in of_scores}
    assert of_scores.keys() == {"wer_vietnamese", "pier", "wer_names", "wer_switch_points"}
    without_english = count_errors(["má đi chợ"], ["mà đi"])
    assert language_score_counts(without_english).keys() == {"wer_vietnamese"}


def test_a_users_words_count_as_what_the_user_says() -> None:
    tags = {"ban": WordTag.ENGLISH}
    counts = count_errors(["nick bị ban rồi"], ["nick bị bàn rồi"], user_tags=tags)
    assert counts.words[0, ENGLISH] == 2
    assert error_rates(counts)["pier"] == 50


def test_unpaired_or_no_texts_are_refused() -> None:
    for arguments in (([], []), (["a"], ["a", "b"]), (["a"], ["a"], ["a", "b"])):
        with pytest.raises(ValueError, match="one hypothesis and one translation"):
            count_errors(*arguments)


def test_scores_of_predictions_are_of_what_was_transcribed() -> None:
    transcribed = Prediction("1", "v", 2.0, "cái deadline đó", "cái hạn chót đó", "cái hạn chót đó", None)
    translated = Prediction("2", "v", 2.0, "fix bug", "sửa lỗi", None, "sửa lỗi")
    predictions = [translated, transcribed]
    scores = code_switching_scores(predictions, count_errors_of(predictions))
    assert scores is not None
    assert scores["intervals"].keys() == {"wer_vietnamese", "pier", "wer_switch_points"}
    assert scores["words"]["en"]["error_kinds"] == {"translated": 1}
    assert scores["mixed_error_rate"] == score_predictions(predictions)["wer"]
    assert code_switching_scores([translated], count_errors_of([translated])) is None


def test_the_most_frequent_confusions_are_counted_for_each_language() -> None:
    counts = count_errors(
        ["fix cái bug này", "fix cái bug này", "fix cái bug đó"],
        ["phích cái bất này", "phích cái bug này", "fix cái bất đo"],
    )
    assert most_confused(counts, WordTag.ENGLISH, 9) == [
        {"reference": "bug", "written": "bất", "num": 2},
        {"reference": "fix", "written": "phích", "num": 2},
    ]
    assert most_confused(counts, WordTag.VIETNAMESE, 9) == [{"reference": "đó", "written": "đo", "num": 1}]
    assert most_confused(counts, WordTag.ENGLISH, 1) == [{"reference": "bug", "written": "bất", "num": 2}]


def test_code_mixing_from_counts_is_that_of_the_words() -> None:
    texts = ["mình fix cái bug này", "được rồi nhé", "", "the meeting is over"]
    expected = [code_mixing_index(tag_words(text)) for text in texts]
    assert code_mixing_indices(count_errors(texts, texts)).tolist() == pytest.approx(expected)
