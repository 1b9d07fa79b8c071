"""Numbers written in figures, dates and times, as they are read out in Vietnamese.

`write_out_signs` looks at the text as it is written, where the slash of a date and the colon of a time still
stand; `write_out_figures` at the words of `vietst.text.normalize_for_scoring`. What can be read in several
ways gets the reading that is usual in Vietnamese texts: 20/11 is a day of a month, 1/2 a half, 1.500 fifteen
hundred, 1,5 one and a half. English readings ("iPhone fifteen") are not looked for.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from vietst.evaluation.number_words import MAX_DIGITS, read_decimal, read_digits, read_number

# --- signs between figures ----------------------------------------------------------------------------------

_ALONE: Final = r"(?<![\w/.,:-])"
_ENDS: Final = r"(?![\w/]|[.,:-]\d)"
_ISO_DATE: Final = re.compile(rf"{_ALONE}([12]\d{{3}})-(\d\d)-(\d\d){_ENDS}")
_DATE: Final = re.compile(rf"{_ALONE}(\d\d?)([/.-])(\d\d?)\2([12]\d{{3}}){_ENDS}")
_MONTH: Final = re.compile(rf"(?P<named>\btháng\s+)?{_ALONE}(\d\d?)/([12]\d{{3}}){_ENDS}", re.IGNORECASE)
_SLASH: Final = re.compile(
    rf"(?P<day>\b(?:ngày|mùng|mồng|hôm)\s+)?{_ALONE}(\d{{1,15}})/(\d{{1,15}}){_ENDS}", re.IGNORECASE
)
# 9:30, 9h30, 9h, 9g30; but 5G is no time.
_TIME: Final = re.compile(rf"{_ALONE}([01]?\d|2[0-4])(?:[hH]|[:hHgG]([0-5]\d))(?:[pP]h?)?{_ENDS}")
_DEGREES: Final = re.compile(r"(?<=\d)\s*°\s*")
_DONG: Final = re.compile(r"(?<=000)\s?[đĐ]\b")  # 9đ may be marks
_MINUS: Final = re.compile(r"(?<!\S)[-−](?=\d)")

_MARK: Final = re.compile(
    rf"(?<!ngày )(?<!mùng )(?<!mồng )(?<!hôm ){_ALONE}(\d{{1,2}}(?:[.,]\d{{1,2}})?)/(5|10|20|100)"
    r"(?=\s+(?:điểm(?!\s+(?:danh|thi))|sao)\b)",
    re.IGNORECASE,
)
"""9/10 điểm, 4,5/5 sao: out of so many; but ngày 9/10 sao … (why, on that day), and 9/10 điểm danh (a roll
call), are days."""
_UNIT: Final = re.compile(rf"{_ALONE}(\d+(?:[.,]\d+)*)(km|kg|cm|mm)\b", re.IGNORECASE)
# Wherever it stands; but m/s only behind a figure. Other rates (3 lần/ngày) have more than one reading.
_SPEED: Final = re.compile(
    r"(?:(?<![^\W\d])(km|cm|mm|kilomet|kilômét|mét|dặm)|(?<=\d)\s?(m))/(h|giờ|phút|s|giây)(?![\w/])",
    re.IGNORECASE,
)
_HOUR_AND_SECOND: Final = {"h": "giờ", "s": "giây"}

_FRACTIONS: Final = frozenset({(1, 2), (1, 3), (2, 3), (1, 4), (3, 4)})
_ALWAYS: Final = (24, 7)
"""Around the clock: read as two numbers."""


def write_out_signs(text: str) -> str:
    """Dates, times, fractions, speeds, degrees, the đ of amounts and the minus sign in words.

    Figures stay figures.

    20/11/2024 → 20 tháng 11 năm 2024; 9:30, 9h30 → 9 giờ 30; 3/4 → 3 phần 4; 8/100 → 8 trên 100;
    9/10 điểm → 9 trên 10 điểm; 50.000đ → 50.000 đồng; 5km → 5 km; 5km/h → 5 km trên giờ.
    """
    text = _ISO_DATE.sub(lambda date: _date(date[3], date[2], date[1]) or date[0], text)
    text = _DATE.sub(lambda date: _date(date[1], date[3], date[4]) or date[0], text)
    text = _MONTH.sub(_month, text)
    text = _MARK.sub(r"\1 trên \2", text)
    text = _SLASH.sub(_slashed, text)
    text = _SPEED.sub(_speed, text)
    text = _TIME.sub(_time, text)
    text = _DEGREES.sub(" độ ", text)
    text = _DONG.sub(" đồng", text)
    text = _UNIT.sub(r"\1 \2", text)
    return _MINUS.sub("âm ", text)


def _is_day(day: str, month: str) -> bool:
    return 1 <= int(day) <= 31 and 1 <= int(month) <= 12


def _date(day: str, month: str, year: str) -> str | None:
    return f"{int(day)} tháng {int(month)} năm {year}" if _is_day(day, month) else None


def _month(written: re.Match[str]) -> str:
    if not 1 <= int(written[2]) <= 12:
        return written[0]
    return f"{written['named'] or 'tháng '}{int(written[2])} năm {written[3]}"


def _slashed(written: re.Match[str]) -> str:
    day, first, second = written["day"] or "", written[2], written[3]
    values = int(first), int(second)
    if values == _ALWAYS:
        return written[0]
    if values in _FRACTIONS and not day:
        return f"{first} phần {second}"
    if _is_day(first, second):
        return f"{day}{values[0]} tháng {values[1]}"
    return f"{day}{first} trên {second}"


def _speed(written: re.Match[str]) -> str:
    per = written[3].lower()
    return f" {written[1] or 'mét'} trên {_HOUR_AND_SECOND.get(per, per)}"


def _time(written: re.Match[str]) -> str:
    hour, minute = written[1], written[2]
    return f"{int(hour)} giờ {int(minute)}" if minute and int(minute) else f"{int(hour)} giờ"


# --- figures to words ---------------------------------------------------------------------------------------

_THOUSANDS: Final = re.compile(r"(\d{1,3})((?:\.\d{3})+)(?:,(\d+))?|(\d{1,3})((?:,\d{3})+)(?:\.(\d+))?")
_DECIMAL: Final = re.compile(r"(\d+)[.,](\d+)")
_CURRENCIES: Final = {"$": "đô la", "€": "ơ rô", "₫": "đồng", "£": "bảng", "¥": "yên"}
_PERCENT: Final = "phần trăm"


def write_out_figures(words: Sequence[str]) -> list[str]:
    """Figures, the percent sign and currency signs as words: `5 %` → năm phần trăm; `$ 5` → năm đô la.

    Figures with letters (4k, covid19) and version numbers (1.2.3) stay.
    """
    return " ".join(_written_out(_signs_behind(words))).split()


def _signs_behind(words: Sequence[str]) -> list[str]:
    """Currency signs after the amount, where they are read."""
    result = list(words)
    for position in range(len(result) - 1):
        if result[position] in _CURRENCIES and result[position + 1][0].isdecimal():
            result[position : position + 2] = result[position + 1], result[position]
    return result


def _written_out(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word[0].isdecimal():
            yield _reading(word)
        else:
            yield _PERCENT if word == "%" else _CURRENCIES.get(word, word)


def _reading(word: str) -> str:
    if word.isdecimal():
        return _read_whole(word)
    if thousands := _THOUSANDS.fullmatch(word):
        point_first, groups, decimals = thousands.group(1, 2, 3) if thousands[1] else thousands.group(4, 5, 6)
        if _groups_digits(word):
            whole = point_first + re.sub(r"\D", "", groups)
            return _read(whole, decimals)
    decimal = _DECIMAL.fullmatch(word)
    return _read(decimal[1], decimal[2]) if decimal else word


def _groups_digits(word: str) -> bool:
    """Whether a sign before three digits groups them: 1.500 and 1,000, but not 0.125 or 3,142.

    A decimal does not end in a zero; one comma is otherwise a decimal's, as Vietnamese writes it.
    """
    if word.startswith("0"):
        return False
    return "." in word or word.count(",") > 1 or word.endswith("0")


def _read(whole: str, decimals: str | None) -> str:
    if len(whole) > MAX_DIGITS:
        return read_digits(whole + (decimals or ""))
    return read_decimal(int(whole), decimals) if decimals else _read_whole(whole)


def _read_whole(figures: str) -> str:
    """By its value; with a zero in front, or too long for that, digit by digit."""
    if len(figures) > MAX_DIGITS or (figures.startswith("0") and len(figures) > 1):
        return read_digits(figures)
    return read_number(int(figures))
