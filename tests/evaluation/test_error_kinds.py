"""Kinds of errors: tables of a reference, a hypothesis, and what the reader of the hypothesis would say."""

import pytest

from vietst.evaluation.code_switching import KINDS, WORD_CLASSES, count_errors
from vietst.evaluation.error_kinds import ErrorKind, plain_letters, spelling_error_kind


@pytest.mark.parametrize(
    ("reference", "written", "kind"),
    [
        ("má", "mà", ErrorKind.TONE),
        ("mà", "ma", ErrorKind.TONE),
        ("đường", "đương", ErrorKind.TONE),
        ("tiếng", "tiệng", ErrorKind.TONE),
        ("cơm", "côm", ErrorKind.LETTER),
        ("được", "dược", ErrorKind.LETTER),
        ("đi", "di", ErrorKind.LETTER),
        ("ăn", "an", ErrorKind.LETTER),
        ("tần", "tằn", ErrorKind.LETTER),
        ("được", "duoc", ErrorKind.TONE_AND_LETTER),
        ("tấn", "tằn", ErrorKind.TONE_AND_LETTER),
        ("sao", "xao", None),  # another consonant is another letter
        ("anh", "em", None),
        ("không", "hông", None),
    ],
)
def test_tones_and_letters(reference: str, written: str, kind: ErrorKind | None) -> None:
    assert spelling_error_kind(reference, written) is kind
    assert spelling_error_kind(written, reference) is kind


def test_plain_letters() -> None:
    assert plain_letters("đường") == "duong"
    assert plain_letters("code") == "code"


def kinds_of(reference: str, hypothesis: str, translation: str = "") -> dict[str, int]:
    """class/kind → count, of one utterance."""
    counts = count_errors([reference], [hypothesis], [translation]).kinds
    return {
        f"{word_class}/{kind}": int(counts[row, column])
        for row, word_class in enumerate(WORD_CLASSES)
        for column, kind in enumerate(KINDS)
        if counts[row, column]
    }


@pytest.mark.parametrize(
    ("reference", "hypothesis", "translation", "kinds"),
    [
        ("má đi chợ", "mà đi chợ", "", {"vi/tone": 1}),
        ("ăn cơm chưa", "ăn côm chừa", "", {"vi/letter": 1, "vi/tone": 1}),
        ("anh đi chợ", "em đi chợ", "", {"vi/vietnamese_word": 1}),
        ("anh đi chợ", "anh shopping chợ", "", {"vi/english_word": 1}),
        ("anh đi chợ", "anh 3 chợ", "", {"vi/other_word": 1}),
        ("anh đi chợ", "anh chợ", "", {"vi/missing": 1}),
        # one English word, several syllables
        ("có meeting lúc chín giờ", "có mít tinh lúc chín giờ", "", {"en/transliterated": 1}),
        ("cái computer này", "cái com pu tơ này", "", {"en/transliterated": 1}),
        ("cái deadline này", "cái đét lai này", "", {"en/transliterated": 1}),
        ("lên facebook chơi", "lên phây búc chơi", "", {"name/transliterated": 1}),
        ("cái app bị crash rồi", "cái ép bị cờ rát rồi", "", {"en/transliterated": 2}),
        # a Vietnamese name is spelt as any Vietnamese word
        ("chị Hương đi", "chị Hường đi", "", {"name/tone": 1}),
        ("gặp bạn Lan nha", "gặp bạn Lam nha", "", {"name/other_word": 1}),
        # of two English words one is spelt by its sound, and the other is gone
        ("team meeting nha", "mít tinh nha", "", {"en/transliterated": 1, "en/vietnamese_word": 1}),
        # the reference translation knows the Vietnamese words
        ("cái deadline là mai", "cái hạn chót là mai", "cái hạn chót là mai", {"en/translated": 1}),
        ("cái deadline là mai", "cái hạn chót là mai", "", {"en/vietnamese_word": 1}),
        ("cái deadline là mai", "cái của tôi là mai", "cái hạn chót là mai", {"en/vietnamese_word": 1}),
        ("mình fix bug này", "mình fix lỗi này", "mình sửa lỗi này", {"en/translated": 1}),
        # a word of the transcript is no translation
        ("gửi cái file của mình", "gửi cái của của mình", "gửi tập tin của mình", {"en/vietnamese_word": 1}),
        ("mình fix bug này", "mình fix book này", "", {"en/english_word": 1}),
        ("mình fix bug này", "mình fix này", "", {"en/missing": 1}),
        # a Vietnamese word is neither translated nor spelt by its sound
        ("mình mệt", "mình mít", "mít", {"vi/vietnamese_word": 1}),
    ],
)
def test_kinds_in_sentences(reference: str, hypothesis: str, translation: str, kinds: dict[str, int]) -> None:
    assert kinds_of(reference, hypothesis, translation) == kinds


def test_words_far_away_or_beyond_a_correct_word_are_not_looked_at() -> None:
    assert kinds_of("meeting xong rồi thì về", "xong rồi thì về mít tinh") == {"en/missing": 1}
