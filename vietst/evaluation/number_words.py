"""Numbers in Vietnamese words: the one reading that stands for all, and the number behind any reading.

25 is read "hai mươi lăm", "hai lăm" or "hăm lăm", 105 "một trăm lẻ năm" or "một trăm linh năm", 2,500,000
"hai triệu rưỡi" or "hai triệu năm trăm nghìn". From words to the number is the direction that has one answer,
and the number back to words has one too, once the reading is chosen. So both sides of a comparison take both
steps. What comes out are words again: a wrong digit stays one wrong word of several, and a text without
numbers stays as it is.

Words are lower case and NFC, as `vietst.text.normalize_for_scoring` gives them.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from vietst.evaluation.vietnamese_syllables import word_set

DIGITS: Final = ("không", "một", "hai", "ba", "bốn", "năm", "sáu", "bảy", "tám", "chín")
POINT: Final = "phẩy"
MAX_DIGITS: Final = 15
"""Longer numbers have no reading in words here; they are read digit by digit."""

_VALUE_OF_DIGIT: Final = {word: value for value, word in enumerate(DIGITS)} | {"bẩy": 7}
_ONLY_AFTER_TENS: Final = {"mốt": 1, "tư": 4, "lăm": 5, "nhăm": 5}
"""Digits that say by their form that a ten went before."""
_BEGUN_BY_TU: Final = word_set(
    "bản cách chất duy hữu liệu lệnh lợi nhân pháp sản thất thế thục tình tưởng vấn"
)
"""Second syllables of words like tư vấn: ba tư vấn viên are three consultants, not 34."""

# "năm" is also the year, "một" also "a": "hai mươi năm" is twenty years, "hai triệu một tháng" two million
# a month. They are no units where another form (lăm, mốt) or a fuller reading is usual.
_AFTER_MUOI: Final = {word: value for word, value in _VALUE_OF_DIGIT.items() if value not in (0, 5)}
_SHORTENED: Final = {
    word: value for word, value in (_AFTER_MUOI | _ONLY_AFTER_TENS | {"rưỡi": 5}).items() if value != 1
}
"""What may stand for a digit with its scale left out: hai trăm hai (220), hai triệu ba (2,300,000)."""

_SCALES: Final = {"nghìn": 10**3, "ngàn": 10**3, "triệu": 10**6, "tỷ": 10**9, "tỉ": 10**9}
_SCALE_WORDS: Final = ((10**9, "tỷ"), (10**6, "triệu"), (10**3, "nghìn"))
_ZERO_TENS: Final = ("lẻ", "linh")
_POINTS: Final = (POINT, "chấm")
_HALF: Final = "rưỡi"
_TENS: Final = ("mươi", "chục")
_GOES_ON: Final = frozenset({*_TENS, "trăm"})


# --- a number to words ------------------------------------------------------------------------------------


def read_number(value: int) -> str:
    """The reading that stands for all: 2024 → hai nghìn không trăm hai mươi bốn.

    Args:
        value: not negative, at most `MAX_DIGITS` digits.
    """
    return " ".join(_words_of(value, inner=False))


def read_decimal(whole: int, decimals: str) -> str:
    """3 and "14" → ba phẩy một bốn: what follows the point is read digit by digit."""
    return f"{read_number(whole)} {POINT} {read_digits(decimals)}"


def read_digits(figures: str) -> str:
    """One after the other, as telephone numbers are: 098 → không chín tám."""
    return " ".join(DIGITS[int(figure)] for figure in figures)


def _words_of(value: int, *, inner: bool) -> list[str]:
    """With `inner` after a larger scale, where missing hundreds are read."""
    for scale, name in _SCALE_WORDS:
        if value >= scale:
            head, rest = divmod(value, scale)
            words = [*_words_of(head, inner=inner and head < 1000), name]
            return [*words, *_words_of(rest, inner=True)] if rest else words
    return _below_thousand(value, inner=inner)


def _below_thousand(value: int, *, inner: bool) -> list[str]:
    hundreds, rest = divmod(value, 100)
    words = [DIGITS[hundreds], "trăm"] if hundreds or inner else []
    tens, unit = divmod(rest, 10)
    if tens == 0:
        zero = [_ZERO_TENS[0]] if words and unit else []
        return [*words, *zero, *([DIGITS[unit]] if unit or not words else [])]
    words += ["mười"] if tens == 1 else [DIGITS[tens], "mươi"]
    if unit == 5:
        return [*words, "lăm"]
    if unit == 1 and tens > 1:
        return [*words, "mốt"]
    return [*words, DIGITS[unit]] if unit else words


# --- words to a number ------------------------------------------------------------------------------------


class _Parsed(NamedTuple):
    """A number and the position after its last word."""

    value: int
    end: int


def read_out_alike(words: Sequence[str]) -> list[str]:
    """Words with every number in them as `read_number` and `read_decimal` read it.

    Single digits stay the words they are, and so do digits in a row that may be a telephone number or
    counting; only those that are read so as years and rooms are become numbers (hai không hai tư: 2024;
    bốn không bảy: 407).
    """
    result: list[str] = []
    position = 0
    while position < len(words):
        reading, end = _reading_at(words, position)
        result += reading
        position = end
    return result


def spoken_numbers(words: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """Of each number that stands there in words: its first word, the position after its last, its value."""
    position = 0
    while position < len(words):
        parsed = _digits_in_a_row(words, position) or _whole_number(words, position)
        if parsed is not None:
            yield position, parsed.end, parsed.value
        position = position + 1 if parsed is None else parsed.end


def _reading_at(words: Sequence[str], start: int) -> tuple[list[str], int]:
    parsed = _digits_in_a_row(words, start) or _whole_number(words, start)
    if parsed is None:
        return _single_word(words, start), start + 1
    decimals, end = _decimals(words, parsed.end)
    if decimals:
        return _scaled_decimal(words, parsed.value, decimals, end)
    if parsed.end < len(words) and words[parsed.end] == _HALF and words[parsed.end - 1] not in _SCALES:
        return read_decimal(parsed.value, "5").split(), parsed.end + 1
    if parsed.value == 0:
        return [words[start]], start + 1
    return read_number(parsed.value).split(), parsed.end


_DIGIT_AFTER: Final = {
    ("thứ", "nhất"): "một",
    ("thứ", "nhì"): "hai",
    ("thứ", "tư"): "bốn",
    ("tháng", "giêng"): "một",
    ("tháng", "tư"): "bốn",
    ("quý", "tư"): "bốn",
    ("phần", "tư"): "bốn",
}
"""Other words for digits, by what they follow: elsewhere they are not numbers."""
_HALF_HOUR: Final = ("giờ", _HALF)


def _single_word(words: Sequence[str], position: int) -> list[str]:
    word = words[position]
    pair = (words[position - 1] if position else "", word)
    return read_number(30).split() if pair == _HALF_HOUR else [_DIGIT_AFTER.get(pair, word)]


def _digits_in_a_row(words: Sequence[str], start: int) -> _Parsed | None:
    """Three or four digits that are read one by one: with a zero inside, or a year of 1900 and later."""
    if start and words[start - 1] in _VALUE_OF_DIGIT and words[start - 1] != "năm":
        return None  # the end of a longer row
    digits: list[int] = []
    for word in words[start:]:
        value = _VALUE_OF_DIGIT.get(word, _ONLY_AFTER_TENS.get(word) if digits else None)
        if value is None:
            break
        digits.append(value)
    if len(digits) == 5 and words[start] == "năm":
        return None  # "năm hai không hai bốn": the year 2024, which begins with the next word
    is_year = len(digits) == 4 and digits[:2] == [1, 9]
    has_zero_inside = len(digits) in (3, 4) and 0 in digits[1:-1]
    if not digits or digits[0] == 0 or not (is_year or has_zero_inside):
        return None
    return _Parsed(int("".join(map(str, digits))), start + len(digits))


def _whole_number(words: Sequence[str], start: int) -> _Parsed | None:
    """Hundreds, each with its scale, the scales falling: hai triệu ba trăm nghìn."""
    value, end, last_scale = 0, start, 0
    while group := _hundreds(words, end, inner=last_scale > 0):
        scale, after = _scale_at(words, group.end)
        if last_scale == 1000 and scale > 1000 and value < 10**6:  # một nghìn hai trăm triệu
            value, end, last_scale = (value + group.value) * scale, after, scale
            continue
        if last_scale and scale >= last_scale:
            break
        if last_scale and scale == 1 and group.end == end + 1 and group.value < 10:
            # Fuller would be "không trăm lẻ": a digit alone is the next digit, or no part of the number.
            short = _SHORTENED.get(words[end])
            return (
                _Parsed(value, end) if short is None else _Parsed(value + short * last_scale // 10, group.end)
            )
        value, end, last_scale = value + group.value * scale, after, scale
        if scale == 1:
            break
    if last_scale > 1 and _word(words, end) == _HALF:
        return _Parsed(value + last_scale // 2, end + 1)
    if end == start:
        return _Parsed(0, start + 1) if words[start] == DIGITS[0] else None
    return _Parsed(value, end)


def _scale_at(words: Sequence[str], position: int) -> tuple[int, int]:
    """The scale that stands there, perhaps as "nghìn tỷ", and the position after it."""
    names: list[str] = []
    scale = 1
    while (name := _word(words, position)) in _SCALES and (not names or names[-1] in ("nghìn", "ngàn")):
        if names and _SCALES[name] != 10**9:
            break
        names.append(name)
        scale *= _SCALES[name]
        position += 1
    return scale, position


def _hundreds(words: Sequence[str], start: int, *, inner: bool) -> _Parsed | None:
    """A number below a thousand; with `inner` one that follows a larger scale: không trăm hai, lẻ năm."""
    if inner and _word(words, start) in _ZERO_TENS:
        return _tens(words, start + 1, after_zero=True)
    hundreds = _VALUE_OF_DIGIT.get(_word(words, start))
    if hundreds is None or _word(words, start + 1) != "trăm" or not (hundreds or inner):
        return _tens(words, start, inner=inner)
    value, end = 100 * hundreds, start + 2
    if _word(words, end) in _ZERO_TENS and (rest := _tens(words, end + 1, after_zero=True)):
        return _Parsed(value + rest.value, rest.end)
    if (rest := _tens(words, end)) and rest.value >= 10:
        return _Parsed(value + rest.value, rest.end)
    short = _SHORTENED.get(_word(words, end))
    is_word = _word(words, end) == "tư" and not _after_tens(words, end)
    if short is not None and hundreds and not is_word and _word(words, end + 1) not in _GOES_ON:
        return _Parsed(value + 10 * short, end + 1)
    return _Parsed(value, end)


def _tens(
    words: Sequence[str], start: int, *, inner: bool = False, after_zero: bool = False
) -> _Parsed | None:
    """A number below a hundred, but not zero.

    Args:
        inner: after a larger scale, where a lone "lăm" is a shortened five.
        after_zero: after "lẻ", where "tư" is a four.
    """
    first, second = _word(words, start), _word(words, start + 1)
    if first in ("mười", "hăm"):
        tens = 10 if first == "mười" else 20
        unit = _unit(words, start + 1)
        return _Parsed(tens + unit, start + 2) if unit else (_Parsed(tens, start + 1) if tens == 10 else None)
    digit = _VALUE_OF_DIGIT.get(first)
    if digit is None or digit == 0:
        lone = _after_tens(words, start) if inner or after_zero else 0
        return _Parsed(lone, start + 1) if lone else None
    if digit > 1 and second in _TENS:
        unit = _unit(words, start + 2) if second == "mươi" else 0
        return _Parsed(10 * digit + unit, start + 2 + bool(unit))
    if digit > 1 and (unit := _after_tens(words, start + 1)):
        return _Parsed(10 * digit + unit, start + 2)
    return _Parsed(digit, start + 1)


def _after_tens(words: Sequence[str], position: int) -> int:
    """A digit in a form that it has only after a ten; 0 where there is none."""
    word = _word(words, position)
    if word == "tư" and _word(words, position + 1) in _BEGUN_BY_TU:
        return 0
    return _ONLY_AFTER_TENS.get(word, 0)


def _unit(words: Sequence[str], position: int) -> int:
    """The digit after a ten; 0 where the next number begins: hai mươi | ba mươi."""
    word = _word(words, position)
    if word in _ONLY_AFTER_TENS:
        return _after_tens(words, position)
    begins_another = _word(words, position + 1) in _GOES_ON or _after_tens(words, position + 1)
    return 0 if begins_another else _AFTER_MUOI.get(word, 0)


def _decimals(words: Sequence[str], point: int) -> tuple[str, int]:
    """The digits after a point at this position, and where they end; none without point or digits."""
    if _word(words, point) not in _POINTS:
        return "", point
    number = _hundreds(words, point + 1, inner=False)
    if number and number.value >= 10:
        return str(number.value), number.end
    end, digits = point + 1, ""
    while (value := _VALUE_OF_DIGIT.get(_word(words, end))) is not None:
        digits += str(value)
        end += 1
    return digits, end


def _scaled_decimal(words: Sequence[str], whole: int, decimals: str, end: int) -> tuple[list[str], int]:
    """hai phẩy năm triệu → 2,500,000; where that is no whole number, the decimal and its scale."""
    scale, after = _scale_at(words, end)
    value = Decimal(f"{whole}.{decimals}") * scale
    if scale > 1 and value == value.to_integral_value():
        return read_number(int(value)).split(), after
    return read_decimal(whole, decimals).split(), end


def _word(words: Sequence[str], position: int) -> str:
    return words[position] if position < len(words) else ""
