"""How a text is written, where Vietnamese and code-switched texts have more than one convention.

`occurrences` finds, in one text, what decides between the ways of writing the same thing; `CONVENTIONS` says
what is told apart, and what settles it. A text says something about a convention only where it had a choice.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from vietst.evaluation.number_words import spoken_numbers
from vietst.evaluation.scoring_normalizer import NUMBERS_ID, listed_loanwords, loanwords_id, loanwords_in
from vietst.evaluation.vietnamese_syllables import word_set
from vietst.text import NORMALIZER_ID, normalize_for_scoring

_STYLE_AND_SCORING: Final = f"text.style, {NORMALIZER_ID}"
_NOTHING: Final = "nothing"


@dataclass(frozen=True)
class Convention:
    """One thing that can be written in several ways."""

    name: str
    label: str
    ways: Mapping[str, str]
    """Name of each way → what it looks like."""

    settled_by: str
    """What makes the ways equal: the configuration's `text.style` in training, the rules with these ids in
    scores."""


CONVENTIONS: Final = (
    Convention(
        "casing",
        "casing of a text",
        {
            "lower": "no capital",
            "sentence": "Begins with a capital",
            "inside": "capitals, but not at the start: mình ở Huế",
            "title": "Most Words With Capitals",
            "upper": "CAPITALS ALONE",
        },
        _STYLE_AND_SCORING,
    ),
    Convention(
        "punctuation",
        "punctuation of a text",
        {
            "none": "none",
            "end": "at the end alone.",
            "inside": "inside, alone",
            "both": "inside, and at the end.",
        },
        _STYLE_AND_SCORING,
    ),
    Convention(
        "numbers",
        "numbers from 10 up",
        {"figures": "25", "words": "hai mươi lăm"},
        NUMBERS_ID,
    ),
    Convention(
        "thousands",
        "figures above 999",
        {"point": "1.000", "comma": "1,000", "space": "1 000", "none": "1000"},
        NUMBERS_ID,
    ),
    Convention("decimals", "decimals", {"comma": "3,5", "point": "3.5", "words": "ba phẩy năm"}, NUMBERS_ID),
    Convention(
        "percent",
        "percent",
        {"sign": "50%", "spaced_sign": "50 %", "vietnamese": "50 phần trăm", "english": "50 percent"},
        NUMBERS_ID,
    ),
    Convention(
        "dates",
        "days and months",
        {
            "slash": "20/11",
            "dash": "20-11-2024, 20.11.2024",
            "iso": "2024-11-20",
            "figures": "20 tháng 11",
            "words": "hai mươi tháng mười một",
        },
        NUMBERS_ID,
    ),
    Convention(
        "times",
        "times of day",
        {"colon": "9:30", "h": "9h30", "figures": "9 giờ 30", "words": "chín giờ"},
        NUMBERS_ID,
    ),
    Convention(
        "acronyms",
        "acronyms",
        {"capitals": "KPI", "points": "K.P.I.", "letters": "K P I"},
        f"{NORMALIZER_ID}, but for points and spaces",
    ),
    Convention(
        "fillers",
        "hesitation, of each text",
        {"none": "none written", "vietnamese": "ờ, ừm, ơ", "english": "uh, um, hmm"},
        _NOTHING,
    ),
    Convention("i_or_y", "i or y", {"y": "kỹ, lý, mỹ", "i": "kĩ, lí, mĩ"}, _NOTHING),
    Convention(
        "tone_placement",
        "place of the tone mark",
        {"first_vowel": "hòa, khỏe, thúy", "second_vowel": "hoà, khoẻ, thuý"},
        NORMALIZER_ID,
    ),
    Convention(
        "english_words",
        "listed English words",
        {"english": "facebook", "hyphens": "phây-búc", "spaces": "phây búc"},
        loanwords_id(),
    ),
    Convention(
        "emoji",
        "emoji and emoticons, of each text",
        {"none": "none", "emoji": "👍", "emoticon": ":)"},
        _STYLE_AND_SCORING,
    ),
)

Occurrence = tuple[str, str, str]
"""Convention, way, and the piece of text that shows it."""


def occurrences(text: str) -> Iterator[Occurrence]:
    """What a transcript or translation says about each convention; nothing of an empty text."""
    text = unicodedata.normalize("NFC", text).strip()
    if not text:
        return
    words = normalize_for_scoring(text).split()
    yield from _casing(text)
    yield from _punctuation(text)
    yield from _figures(text)
    yield from _number_words(words)
    yield from _acronyms(text)
    yield from _fillers(words)
    yield from _spellings(text)
    yield from _english_words(text)
    yield from _emoji(text)


# --- case and punctuation -----------------------------------------------------------------------------------

_LETTER: Final = r"[^\W\d_]"
_WORD: Final = re.compile(rf"{_LETTER}+")
_MANY_CAPITALS: Final = 0.6
_FEW_WORDS: Final = 3
"""Shorter texts are no title."""
_ENDS: Final = re.compile(r"[.?!…][\"'”’)\]]*$")
_INSIDE: Final = re.compile(r"(?<!\d)[,;:](?=\s)|(?<=\d)[,;:](?=\s)|[.?!…]+(?=\s)|\s[–—-]\s|[()“”\"]")


def _casing(text: str) -> Iterator[Occurrence]:
    words = _WORD.findall(text)
    if not words:
        return
    capitals = [word for word in words if word[0].isupper()]
    if all(word.isupper() for word in words) and any(len(word) > 1 for word in words):
        way = "upper"
    elif not capitals:
        way = "lower"
    elif len(words) >= _FEW_WORDS and len(capitals) >= _MANY_CAPITALS * len(words):
        way = "title"
    else:
        way = "sentence" if words[0][0].isupper() else "inside"
    yield "casing", way, text


def _punctuation(text: str) -> Iterator[Occurrence]:
    plain = _EMOTICON.sub("", text).rstrip()
    ends, inside = bool(_ENDS.search(plain)), bool(_INSIDE.search(_ENDS.sub("", plain)))
    yield "punctuation", ("both" if ends else "inside") if inside else "end" if ends else "none", text


# --- numbers ------------------------------------------------------------------------------------------------

_ALONE: Final = r"(?<![\w.,/:-])"
_DONE: Final = r"(?=[đĐ]\b|(?![\w/]|[.,:-]\d))"
_NO_DATE: Final = rf"(?!(?:24/7|1/[234]|2/3|3/4){_DONE})"
"""Around the clock and fractions, as `figures.write_out_signs` reads them."""
_PATTERNS: Final = tuple(
    (convention, way, re.compile(pattern, re.IGNORECASE))
    for convention, way, pattern in (
        ("dates", "iso", rf"{_ALONE}[12]\d{{3}}-\d\d-\d\d{_DONE}"),
        ("dates", "dash", rf"{_ALONE}\d\d?([.-])\d\d?\1[12]\d{{3}}{_DONE}"),
        ("dates", "slash", rf"{_ALONE}{_NO_DATE}(?:[12]?\d|3[01])/(?:0?\d|1[0-2])(?:/[12]\d{{3}})?{_DONE}"),
        ("dates", "figures", r"\b\d\d? tháng \d\d?\b"),
        ("times", "colon", rf"{_ALONE}(?:[01]?\d|2[0-4]):[0-5]\d{_DONE}"),
        ("times", "h", rf"{_ALONE}(?:[01]?\d|2[0-4])[hg](?:[0-5]\dp?)?{_DONE}"),
        ("times", "figures", rf"{_ALONE}\d\d? giờ\b"),
        ("thousands", "point", rf"{_ALONE}[1-9]\d{{0,2}}(?:\.\d{{3}})+{_DONE}"),
        ("thousands", "comma", rf"{_ALONE}[1-9]\d{{0,2}}(?:,\d{{3}})*,\d\d0{_DONE}"),
        ("thousands", "space", rf"{_ALONE}[1-9]\d{{0,2}}(?: \d{{3}})+{_DONE}"),
        ("thousands", "none", rf"{_ALONE}(?!(?:19|20)\d\d\b)[1-9]\d{{3,}}{_DONE}"),
        ("decimals", "comma", rf"{_ALONE}(?:0,\d+|\d+,(?!\d\d0\b)\d+){_DONE}"),
        ("decimals", "point", rf"{_ALONE}(?:0\.\d+|\d+\.(?!\d{{3}}\b)\d+){_DONE}"),
        ("percent", "sign", r"(?<=\d)%"),
        ("percent", "spaced_sign", r"(?<=\d) +%"),
        ("percent", "vietnamese", r"\bphần trăm\b"),
        ("percent", "english", r"\bper ?cent\b"),
        ("numbers", "figures", rf"{_ALONE}(?:[1-9]\d*(?:\.\d{{3}})+|[1-9]\d+(?:[.,]\d+)*){_DONE}"),
    )
)


def _figures(text: str) -> Iterator[Occurrence]:
    for convention, way, pattern in _PATTERNS:
        for found in pattern.finditer(text):
            yield convention, way, found[0]


_DIGIT: Final = "một|hai|ba|bốn|tư|năm|sáu|bảy|tám|chín"
_MONTHS: Final = re.compile(
    rf"\b(?:(?:(?:hai|ba) mươi|mười)(?: (?:mốt|lăm|{_DIGIT}))?|{_DIGIT}) tháng "
    rf"(?:mười(?: (?:một|hai))?|giêng|chạp|{_DIGIT})\b"
)
_HOURS: Final = re.compile(r"\b(?:một|hai|ba|bốn|năm|sáu|bảy|tám|chín|mười) giờ\b")
_DECIMAL_WORDS: Final = re.compile(r"\b(?:không|một|hai|ba|bốn|năm|sáu|bảy|tám|chín|mười) phẩy \w+")


def _number_words(words: list[str]) -> Iterator[Occurrence]:
    text = " ".join(words)
    for convention, pattern in (("dates", _MONTHS), ("times", _HOURS), ("decimals", _DECIMAL_WORDS)):
        for found in pattern.finditer(text):
            yield convention, "words", found[0]
    for start, end, value in spoken_numbers(words):
        if value >= 10:
            yield "numbers", "words", " ".join(words[start:end])


# --- words --------------------------------------------------------------------------------------------------

_ACRONYMS: Final = (
    ("points", re.compile(r"(?<![\w.])(?:[A-Z]\.){2,}[A-Z]?(?!\w)")),
    ("letters", re.compile(r"(?<![\w.])[A-Z](?: [A-Z]){1,5}(?![\w.'’])")),
    ("capitals", re.compile(r"(?<![\w.])[A-Z][A-Z&]{1,5}(?![\w.]\w)(?!\w)")),
)


def _acronyms(text: str) -> Iterator[Occurrence]:
    if text.isupper():
        return  # every word looks like one
    for way, pattern in _ACRONYMS:
        for found in pattern.finditer(text):
            yield "acronyms", way, found[0]


_FILLERS: Final = {
    **dict.fromkeys(("ờ", "ờm", "ừm", "ưm", "ơ", "hừm"), "vietnamese"),
    **dict.fromkeys(("uh", "uhm", "um", "umm", "hmm", "hm", "erm"), "english"),
}


def _fillers(words: list[str]) -> Iterator[Occurrence]:
    filler = next((word for word in words if word in _FILLERS), "")
    yield "fillers", _FILLERS.get(filler, "none"), filler


# Syllables that are written with either letter for the same word; not "mì" (noodles) or "tí" (a bit).
_WITH_Y: Final = word_set("kỹ ký kỳ kỷ kỵ lý lỵ mỹ sỹ tỷ tỵ hy quý quỳ quỷ quỹ quỵ")
_WITH_I: Final = word_set("kĩ kí kì kỉ kị lí lị mĩ sĩ tỉ tị hi quí quì quỉ quĩ quị")
_ONSET: Final = r"(?:b|ch?|d|đ|gh?|kh?|l|m|ngh?|nh?|ph?|r|s|th?|tr|v|x|h)?"
_TONE_PLACES: Final = (
    ("first_vowel", re.compile(rf"{_ONSET}(?:[òóỏõọ][ae]|[ùúủũụ]y)")),
    ("second_vowel", re.compile(rf"{_ONSET}(?:o[àáảãạèéẻẽẹ]|u[ỳýỷỹỵ])")),
)


@lru_cache(maxsize=65536)
def _spelling(word: str) -> tuple[tuple[str, str], ...]:
    found = [("i_or_y", way) for way, words in (("y", _WITH_Y), ("i", _WITH_I)) if word in words]
    found += [("tone_placement", way) for way, pattern in _TONE_PLACES if pattern.fullmatch(word)]
    return tuple(found)


def _spellings(text: str) -> Iterator[Occurrence]:
    for word in _WORD.findall(text.lower()):
        for convention, way in _spelling(word):
            yield convention, way, word


_HYPHENATED: Final = re.compile(rf"{_LETTER}+(?:-{_LETTER}+)+")


def _english_words(text: str) -> Iterator[Occurrence]:
    hyphenated = [found for found in _HYPHENATED.findall(text.lower()) if any(loanwords_in(found.split("-")))]
    for found in hyphenated:
        yield "english_words", "hyphens", found
    others = normalize_for_scoring(_HYPHENATED.sub(" ", text)).split()
    for start, end, _ in loanwords_in(others):
        yield "english_words", "spaces", " ".join(others[start:end])
    for word in others:
        if word in listed_loanwords():
            yield "english_words", "english", word


# --- pictures -----------------------------------------------------------------------------------------------

_EMOJI: Final = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf\u2b50\u2b55]")
_EMOTICON: Final = re.compile(r"(?<!\S)(?:[:;=]['-]?[)(DPp3/|]+|<3|\^\^|:v)(?!\w)")


def _emoji(text: str) -> Iterator[Occurrence]:
    for way, pattern in (("emoji", _EMOJI), ("emoticon", _EMOTICON)):
        if found := pattern.search(text):
            yield "emoji", way, found[0]
            return
    yield "emoji", "none", ""
