"""Numbers and loanwords as options of the scoring normalizer: tables of pairs, and the laws that hold."""

import hashlib
import unicodedata
from importlib.resources import files

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vietst.evaluation.metrics import word_error_rate
from vietst.evaluation.number_words import read_number
from vietst.evaluation.scoring_normalizer import ScoringNormalizer, loanwords_id
from vietst.text import normalize_for_scoring

numbers = ScoringNormalizer(numbers=True)
loanwords = ScoringNormalizer(loanwords=True)
both = ScoringNormalizer(numbers=True, loanwords=True)

READ = [
    (0, "không"),
    (4, "bốn"),
    (10, "mười"),
    (11, "mười một"),
    (15, "mười lăm"),
    (21, "hai mươi mốt"),
    (24, "hai mươi bốn"),
    (55, "năm mươi lăm"),
    (100, "một trăm"),
    (105, "một trăm lẻ năm"),
    (111, "một trăm mười một"),
    (1005, "một nghìn không trăm lẻ năm"),
    (2024, "hai nghìn không trăm hai mươi bốn"),
    (10_000, "mười nghìn"),
    (1_000_050, "một triệu không trăm năm mươi"),
    (2_500_000, "hai triệu năm trăm nghìn"),
    (7_000_000_000, "bảy tỷ"),
    (12_000_000_000_001, "mười hai nghìn tỷ không trăm lẻ một"),
]


@pytest.mark.parametrize(("value", "words"), READ)
def test_a_number_is_read(value: int, words: str) -> None:
    assert read_number(value) == words


SAME_NUMBER = [
    ("25", "hai mươi lăm", "hai lăm", "hai mươi nhăm", "hăm lăm"),
    ("31 người", "ba mươi mốt người", "ba mốt người"),
    ("44", "bốn mươi tư", "bốn mươi bốn", "bốn tư"),
    ("70", "bảy mươi", "bẩy mươi", "bảy chục"),
    ("50.000đ", "50000 đ", "50.000 đồng", "năm mươi nghìn đồng", "năm chục ngàn đồng"),
    ("2/9", "2 tháng 9", "mùng hai tháng chín", "mồng 2 tháng 9", "mùng 2/9"),
    ("105", "một trăm lẻ năm", "một trăm linh năm"),
    ("407", "bốn trăm lẻ bảy", "bốn trăm linh bảy", "bốn không bảy"),
    ("220", "hai trăm hai mươi", "hai trăm hai"),
    ("150", "một trăm năm mươi", "một trăm rưỡi"),
    ("1.000", "1,000", "1000", "một nghìn", "một ngàn"),
    ("2.500.000", "2500000", "2,5 triệu", "2.5 triệu", "hai triệu rưỡi", "hai triệu năm trăm ngàn"),
    ("1,2 tỷ", "1.200 triệu", "một tỉ hai", "một tỷ hai trăm triệu"),
    ("3,5", "3.5", "ba phẩy năm", "ba chấm năm", "ba rưỡi"),
    ("3,14", "ba phẩy mười bốn", "ba phẩy một bốn"),
    ("0,05", "không phẩy không năm"),
    ("50%", "50 %", "năm mươi phần trăm", "năm mươi %"),
    ("năm 2024", "năm hai nghìn không trăm hai mươi tư", "năm hai ngàn hai tư", "năm hai không hai bốn"),
    ("1995", "một nghìn chín trăm chín mươi lăm", "một chín chín lăm"),
    ("20/11/2024", "20-11-2024", "2024-11-20", "hai mươi tháng mười một năm hai không hai bốn"),
    ("ngày 1/2", "ngày một tháng hai"),
    ("tháng 4/2025", "04/2025", "tháng tư năm hai nghìn không trăm hai mươi lăm"),
    ("1/2", "một phần hai"),
    ("3/4", "ba phần tư"),
    ("8/100", "tám trên một trăm"),
    ("9/10 điểm", "chín trên mười điểm", "9 trên 10 điểm"),
    ("được 4,5/5 sao", "được bốn phẩy năm trên năm sao", "được bốn rưỡi trên năm sao"),
    ("9/10 điểm danh", "chín tháng mười điểm danh"),
    ("ngày 9/10 sao không đi", "ngày chín tháng mười sao không đi"),
    ("ngày 9/10", "ngày chín tháng mười"),
    ("5km", "5 km", "năm km", "năm ki lô mét", "5 kilomet"),
    ("1.200 kg", "1200kg", "một nghìn hai trăm ki lô gam"),
    ("2,5cm", "2.5 cm", "hai phẩy năm xen ti mét"),
    ("5km/h", "5 km/giờ", "5 KM/H", "năm km/h", "5 km trên giờ", "năm ki lô mét trên giờ"),
    ("mấy km/h", "mấy ki lô mét trên giờ"),
    ("497 dặm/giờ", "bốn trăm chín mươi bảy dặm trên giờ"),
    ("10m/s", "10 m/s", "10 mét/giây", "mười mét trên giây"),
    ("9:30", "9h30", "9 giờ 30 phút", "chín giờ ba mươi", "chín giờ rưỡi", "09:30"),
    ("14h", "mười bốn giờ"),
    ("thứ 4", "thứ tư"),
    ("quý 4", "quý tư"),
    ("-5°C", "âm năm độ C"),
    ("$20", "20$", "hai mươi đô la"),
    ("098 123", "không chín tám một trăm hai mươi ba"),
    ("5 người", "năm người"),
]


@pytest.mark.parametrize("spellings", SAME_NUMBER, ids=lambda spellings: spellings[0])
def test_a_number_in_figures_and_in_words_scores_no_error(spellings: tuple[str, ...]) -> None:
    first, *others = (numbers(f"có {text} đó") for text in spellings)
    assert others == [first] * len(others)
    plain = [normalize_for_scoring(text) for text in spellings]
    assert word_error_rate(plain[:1], plain[-1:]) > 0, "the option was not needed"


def test_a_slash_is_read_by_what_stands_around_it() -> None:
    """Of 1,000 news sentences (NTREX-128) two have a date, two a fraction, one each 24/7, a speed, and 19/29;
    six say ngày/tuần. Of 1,900 sentences of technical documentation none has a slash beside a number."""
    assert numbers("1/2, 2/3") == "một phần hai hai phần ba"
    assert numbers("30/09/1882") == numbers("ngày 30 tháng 9 năm 1882").removeprefix("ngày ")
    assert numbers("12/5") == "mười hai tháng năm"
    assert numbers("24/7") == "hai mươi bốn bảy"
    assert numbers("497 dặm/giờ").endswith("bảy dặm trên giờ")
    # Said with "một" or "mỗi" as often: no reading stands for all.
    assert numbers("3 lần/ngày, 5 ngày/tuần") == "ba lần ngày năm ngày tuần"
    assert numbers("5 km một giờ") == "năm ki lô mét một giờ"
    assert numbers("và/hoặc M/S http/s") == "và hoặc m s http s"


DIFFERENT = [
    ("25", "hai mươi năm"),  # twenty years
    ("20 năm", "25"),
    ("15", "mười năm"),
    ("25", "52"),
    ("105", "150"),
    ("1.500", "1,5"),
    ("50%", "50"),
    ("hai triệu một tháng", "2.000.001 tháng"),
    ("hai chục năm", "25"),
    ("ba mươi, hai chục", "32"),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_numbers_stay_different(one: str, other: str) -> None:
    assert numbers(one) != numbers(other)


@pytest.mark.parametrize(
    "text",
    [
        "năm nay không ai biết",
        "mười năm rồi có không",
        "một hai ba dô",  # counting
        "hai ba người",  # two or three
        "đầu tư và tư vấn",
        "ba tư vấn viên hai mươi tư tưởng hai trăm tư liệu hai triệu tư nhân",
        "trăm nghìn lý do",
        "gọi số không chín tám một hai ba bốn",
        "iphone 4k 5g covid19 1.2.3",
        "lẻ loi linh tinh rưỡi",
        "một chục trứng mùng hai tết được 9đ",
        "km cuối tuần và kg gạo",
    ],
)
def test_text_that_is_no_other_reading_of_a_number_stays(text: str) -> None:
    assert numbers(text) == text


def test_a_number_that_a_model_repeats_without_end_is_read_by_its_digits() -> None:
    assert numbers("1" * 5000 + "/2") == "một " * 5000 + "hai"


SAME_WORD = [
    ("phây-búc", "Facebook"),
    ("Lên phây búc đi", "lên facebook đi"),
    ("i-meo, e-mail", "email email"),
    ("mác-két-tinh ôn lai", "marketing online"),
    ("đi ve lốp pơ", "developer"),
    ("công-ten-nơ con ten nơ", "container container"),  # not "content nơ"
]


@pytest.mark.parametrize(("spelt", "word"), SAME_WORD)
def test_a_listed_spelling_by_sound_is_the_english_word(spelt: str, word: str) -> None:
    assert loanwords(spelt) == normalize_for_scoring(word)
    assert normalize_for_scoring(spelt) != normalize_for_scoring(word)


def test_words_that_vietnamese_has_made_its_own_and_ordinary_words_stay() -> None:
    text = "uống cà phê rồi đi sai đường lai nhau chát lắm"
    assert loanwords(text) == text


def test_the_list_says_each_spelling_once_in_its_normalized_form() -> None:
    text = files("vietst.evaluation").joinpath("loanwords.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    entries = [
        (line.split(": ")[0], spelling) for line in lines for spelling in line.split(": ")[1].split(", ")
    ]
    spellings = [spelling for _, spelling in entries]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    assert (loanwords_id(), digest) == ("loanwords-1", "91202173f3d829e7"), "another list is another version"
    assert len(set(spellings)) == len(spellings)
    for word, spelling in entries:
        assert (normalize_for_scoring(word), normalize_for_scoring(spelling)) == (word, spelling)
        assert loanwords(word) == word, "no word is itself spelt in another way"


def test_the_id_names_every_option() -> None:
    assert ScoringNormalizer().id == "vietst-1"
    assert both.id == "vietst-1+numbers-4+loanwords-1"
    assert (numbers.id, loanwords.id) == ("vietst-1+numbers-4", "vietst-1+loanwords-1")


# --- laws -------------------------------------------------------------------------------------------------

FIGURES = (
    "0 1 2 5 9 10 15 5km 5km/h 9/10 20 24 105 1.000 2,5 3,14 9:30 9h 20/11 1/2 % $ "
    "-5 007 2024 1995 4k , . / : -"
)
WORDS = (
    "không một hai ba bốn năm sáu bảy tám chín mười mươi mốt tư lăm nhăm hăm rưỡi trăm nghìn ngàn "
    "triệu tỷ tỉ lẻ linh phẩy chấm phần giờ phút ngày tháng thứ nhất điểm sao km người "
    "phây búc ô kê la con ten nơ bye"
)
PIECES = [*FIGURES.split(), *WORDS.split()]
texts = st.one_of(
    st.text(max_size=30),
    st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join),
    st.lists(st.sampled_from(PIECES), max_size=5).map("".join),
)


@given(texts)
@example("một hai tư mươi 5 trăm rưỡi")
def test_every_option_is_idempotent(text: str) -> None:
    for normalizer in (numbers, loanwords, both):
        once = normalizer(text)
        assert normalizer(once) == once
        assert once == " ".join(once.split())
        assert unicodedata.is_normalized("NFC", once)


@given(texts)
@example("Tháng 11/2024, ngày 1/2: phây-búc")
def test_composed_and_decomposed_text_give_the_same(text: str) -> None:
    for normalizer in (numbers, loanwords, both):
        assert normalizer(unicodedata.normalize("NFD", text)) == normalizer(
            unicodedata.normalize("NFC", text)
        )


@given(texts)
def test_without_options_it_is_the_scoring_normalizer(text: str) -> None:
    assert ScoringNormalizer()(text) == normalize_for_scoring(text)


@given(st.integers(0, 10**15 - 1))
@example(1_000_000_000_000)
def test_any_number_in_figures_equals_its_reading(value: int) -> None:
    grouped = f"{value:,}".replace(",", ".")
    variants = {
        "lẻ": "linh",
        "nghìn": "ngàn",
        "tỷ": "tỉ",
        "bảy": "bẩy",
        "mươi lăm": "mươi nhăm",
        "mươi bốn": "mươi tư",
    }
    spoken = read_number(value)
    for usual, other in variants.items():
        spoken = spoken.replace(usual, other)
    of_figures = numbers(f"có {value} cái")
    assert of_figures == numbers(f"có {grouped} cái") == numbers(f"có {spoken} cái")
    assert of_figures == f"có {read_number(value)} cái"


@given(st.integers(0, 999), st.integers(0, 999))
def test_two_numbers_have_one_reading_only_if_they_are_one(one: int, other: int) -> None:
    assert (numbers(str(one)) == numbers(str(other))) == (one == other)
