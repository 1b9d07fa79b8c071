"""`--drop`: what it understands, what it refuses, and what a missing value does."""

import pytest

from vietst.audit.drop_expression import DropExpression
from vietst.audit.signals import MODEL_SIGNALS, SIGNAL_OF, SUGGESTED, suggested_drop
from vietst.errors import VietstError

CELLS = dict.fromkeys(SIGNAL_OF, "") | {
    "wer": "0.8",
    "silence": "0.1",
    "syllable_rate_z": "-6",
    "duplicate_of": "a-1",
    "wrong_language": "translation",
    "recognized": "vâng",
}


@pytest.mark.parametrize(
    ("text", "is_dropped"),
    [
        ("wer>0.7 or silence>0.8", True),
        ("wer>0.7 and silence>0.8", False),
        ("not wer<=0.7", True),
        ("syllable_rate_z < -5", True),
        ("-5 > syllable_rate_z", True),
        ("0.05 < silence <= 0.1", True),
        ("0.05 < silence < 0.1", False),
        ("wer > silence", True),
        ("duplicate_of", True),
        ("not duplicate_of", False),
        ("audio_error", False),
        ("wrong_language == 'translation'", True),
        ("wrong_language != 'translation'", False),
        ("(wer > 0.9 or silence < 0.5) and duplicate_of", True),
        ("wer > 0.9 or silence < 0.05 or\n wer == 0.8", True),
    ],
)
def test_expressions_mean_what_they_say(text: str, is_dropped: bool) -> None:
    assert DropExpression(text).drops(CELLS) is is_dropped


@pytest.mark.parametrize(
    ("text", "is_dropped"),
    [
        ("music > 0.5", False),
        ("not music > 0.5", False),
        ("music > 0.5 or not music > 0.5", False),
        ("music > 0.5 or wer > 0.5", True),
        ("music > 0.5 and wer > 0.5", False),
        ("not (music > 0.5 and wer > 0.9)", True),
        ("music != 0.5", False),
    ],
)
def test_a_missing_value_never_drops_by_itself(text: str, is_dropped: bool) -> None:
    assert DropExpression(text).drops(CELLS) is is_dropped


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("werr > 0.7", "write wer"),
        ("silense>0.8", "write silence"),
        ("SILENCE>0.8", "write silence"),
        ("wer", "compare it with a number: wer > 0"),
        ("wer > '0.7'", "numbers with numbers"),
        ("wer > duplicate_of", "numbers with numbers"),
        ("wer >", "--drop"),
        ("", "--drop"),
        ("wer = 0.7", "--drop"),
        ("wer + 1 > 2", "wer + 1"),
        ("__import__('os').remove('x') > 0", "__import__"),
        ("wer > 0.7 if silence > 1 else wer", "if"),
        ("wer in (1, 2)", "wer in (1, 2)"),
        ("True", "True"),
        ("wer > True", "True"),
        ("wer > None", "None"),
        ("not " * 5000 + "duplicate_of", "--drop"),
    ],
)
def test_everything_else_is_refused(text: str, told: str) -> None:
    with pytest.raises(VietstError, match=r"and or not") as refusal:
        DropExpression(text)
    assert told in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("wer>0.7 or silence>0.8 or music>0.1 or duplicate_of", "wer 0.8, duplicate_of a-1"),
        ("duplicate_of or wer>0.7", "duplicate_of a-1, wer 0.8"),
        ("silence>0.8 or (wer>0.7 and silence<0.2)", "wer 0.8, silence 0.1"),
        ("not (wer<0.7 or music>0.5) or not wer<0.7", "wer 0.8"),
    ],
)
def test_the_signals_that_decide_are_told_with_their_values(text: str, reasons: str) -> None:
    assert DropExpression(text).drops(CELLS)
    assert DropExpression(text).reasons(CELLS) == reasons


def test_the_signals_it_speaks_of_are_named_in_order() -> None:
    assert DropExpression("wer>0.7 or duplicate_of or -wer > 1 and music<2").names == [
        "wer",
        "duplicate_of",
        "music",
    ]


def test_what_is_suggested_can_be_said_and_is_about_its_signal() -> None:
    for name, term in SUGGESTED.items():
        assert name in DropExpression(term).names


def test_without_a_model_nothing_is_suggested_that_only_one_can_tell() -> None:
    of_model = {signal.name for signal in MODEL_SIGNALS}
    without_model = DropExpression(suggested_drop(with_model=False)).names
    assert "speech" in without_model
    assert not of_model.intersection(without_model)
    assert set(SUGGESTED) <= set(DropExpression(suggested_drop(with_model=True)).names)
