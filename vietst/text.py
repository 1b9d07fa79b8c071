"""Text rules: what is cleaned out of a transcript, and what is set equal before error rates are counted.

`clean_text` prepares manifest texts for training: it removes mark-up and invisible characters and leaves
every word, its case and its punctuation alone. `lower_without_punctuation` is a plainer way of writing that a
model can be taught (`vietst.text_style`). `normalize_for_scoring` is for comparison only: it also drops
spelling variants that no listener can hear. All are idempotent, and give the same result for composed (NFC)
and decomposed (NFD) input.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Final

NORMALIZER_ID: Final = "vietst-1"
"""Names the rules of `normalize_for_scoring` in every results file; changes whenever a rule changes."""


class _CharacterTable(dict[int, "str | None"]):
    """A table for `str.translate` that asks `rule` once per distinct character and remembers the answer."""

    def __init__(self, rule: Callable[[str], str | None]) -> None:
        super().__init__()
        self._rule = rule

    def __missing__(self, code_point: int) -> str | None:
        self[code_point] = self._rule(chr(code_point))
        return self[code_point]


def _visible(character: str) -> str | None:
    """None for what has no width or meaning: zero-width and direction marks, controls, lone surrogates."""
    category = unicodedata.category(character)
    is_control = category == "Cc" and not character.isspace()
    is_variation_selector = "\ufe00" <= character <= "\ufe0f"
    return None if category in ("Cf", "Cs") or is_control or is_variation_selector else character


_VISIBLE: Final = _CharacterTable(_visible)


def _compose(text: str) -> str:
    # Invisible characters go first: one between a letter and its tone mark would keep the two apart.
    return unicodedata.normalize("NFC", text.translate(_VISIBLE))


# --- cleaning ---------------------------------------------------------------------------------------------

_TAGS: Final = re.compile(r"(?:\s*\[[^\[\]]*\])+(?P<before_punctuation>\s*(?=[,.;:!?…]))?")
# Emphasis opens after a space or opening punctuation and closes before a space or closing punctuation; inside
# words and between figures the same characters mean something else (snake_case, 2*3*4, f**k, URLs).
_OPENS: Final = r"(?<![^\s(\[{<\"'“‘«,;:!?…–—-])"
_CLOSES: Final = r"(?![^\s)\]}>\"'”’».,;:!?…–—-])"
_STARS: Final = re.compile(rf"{_OPENS}(\*{{1,3}})(?=[^\s*])([^*]+)(?<=[^\s*])\1{_CLOSES}")
# `__init__` is a word of Python, not a bold "init".
_UNDERSCORES: Final = re.compile(
    rf"{_OPENS}(?!__[a-z0-9]+__(?!_))(_{{1,3}})(?=[^\s_])([^_]+)(?<=[^\s_])\1{_CLOSES}"
)
_WHITESPACE: Final = re.compile(r"\s+")


def clean_text(text: str) -> str:
    """Remove what was never said from a transcript or translation.

    Removed are non-speech tags in square brackets, whatever they hold (`[laughter]`, `[music]`, `[cười]`),
    the marks of Markdown emphasis (`**bold**`, `*italics*`, `__bold__`, `_italics_`, not the words inside),
    zero-width and control characters, and surplus white space (no-break and all other Unicode
    spaces count as spaces). The result is NFC. Round brackets, case, punctuation, `C++`, `C#`, `5*3`,
    `snake_case`, e-mail addresses and URLs stay as they are.
    """
    text = _compose(text)
    # Marks and tags may be nested, `**_x_**` or `[a [b]]`: repeat until nothing changes.
    previous = None
    while text != previous:
        previous = text
        text = _WHITESPACE.sub(" ", text).strip()
        text = _TAGS.sub(lambda tags: "" if tags["before_punctuation"] is not None else " ", text)
        text = _STARS.sub(r"\2", text)
        text = _UNDERSCORES.sub(r"\2", text)
    return text


# --- normalization for scoring ----------------------------------------------------------------------------

_READ_ALOUD: Final = frozenset("%&@=")
"""Signs that are spoken, so that leaving one out is an error; so are currency signs and the plus."""

_APOSTROPHES: Final = frozenset("'’‘ʼ＇`´′")
_LETTER: Final = r"[^\W\d_]"


def _scored(character: str) -> str:
    """What a lower-case character becomes; `' . , + #` are decided afterwards, by their neighbours."""
    if character in _APOSTROPHES:
        return "'"
    if character in ".,+#":
        return character
    category = unicodedata.category(character)
    if character in _READ_ALOUD or category == "Sc":
        return f" {character} "
    return " " if category[0] in "PSZ" else character


_SCORED: Final = _CharacterTable(_scored)
_SILENT: Final = re.compile(
    rf"(?<!{_LETTER})'|'(?!{_LETTER})"  # kept in don't, o'clock
    r"|(?<!\d)[.,]|[.,](?!\d)"  # kept in 3.5, 3,5, 1.000
    rf"|(?<!\b{_LETTER})#"  # kept in c#, f#; not in bug#12
)
_PLUS_OF_A_NAME: Final = re.compile(rf"(?P<of_name>(?<={_LETTER})(?:\+\+|\+(?![\w+])))|\++")  # c++, google+

_LOOK_ALIKES: Final = str.maketrans({"Ð": "Đ", "Ɖ": "Đ"})
"""Icelandic Eth and African D are often typed for the Vietnamese letter, whose capital looks the same."""

_PLACEMENTS: Final = {
    "oà": "òa", "oá": "óa", "oả": "ỏa", "oã": "õa", "oạ": "ọa",
    "oè": "òe", "oé": "óe", "oẻ": "ỏe", "oẽ": "õe", "oẹ": "ọe",
    "uỳ": "ùy", "uý": "úy", "uỷ": "ủy", "uỹ": "ũy", "uỵ": "ụy",
}  # fmt: skip
"""Rhymes that are written in two ways; hoà and hòa are the same word. The older way stands for both."""

_SYLLABLE_ENDS: Final = (
    r"(?![\w\u0300-\u036f])"  # a second accent on the vowel makes it no Vietnamese syllable
)
_TONE_ON_SECOND_VOWEL: Final = re.compile(
    r"(?<!\w)((?:b|ch?|d|đ|gh?|kh?|l|m|ngh?|nh?|ph?|r|s|th?|tr|v|x|h)?)"
    rf"({'|'.join(_PLACEMENTS)}){_SYLLABLE_ENDS}"
)
# After q the u belongs to the consonant: quý is right, and qúy, which is common, is the same word.
_TONE_ON_U_OF_QU: Final = re.compile(r"(?<!\w)q([ùúủũụ])([ay])" + _SYLLABLE_ENDS)
_TONE_MARK_OF: Final = dict(zip("ùúủũụ", "\u0300\u0301\u0309\u0303\u0323", strict=True))


def _without_leading_marks(word: str) -> str:
    """Drop combining marks that lost the sign they stood on."""
    start = 0
    while start < len(word) and unicodedata.category(word[start])[0] == "M":
        start += 1
    return word[start:]


def _unify_tone_placement(text: str) -> str:
    text = _TONE_ON_SECOND_VOWEL.sub(lambda syllable: syllable[1] + _PLACEMENTS[syllable[2]], text)
    return _TONE_ON_U_OF_QU.sub(
        lambda syllable: unicodedata.normalize("NFC", f"qu{syllable[2]}{_TONE_MARK_OF[syllable[1]]}"), text
    )


def normalize_for_scoring(text: str) -> str:
    """Bring reference and hypothesis to one form, words with single spaces between, for error rates.

    * NFC, lower case; Vietnamese tones and all other accents are kept, and so is the difference of i and y.
    * Where Vietnamese spelling allows two tone placements, both become the older one: hoà → hòa, khoẻ → khỏe,
      thuý → thúy (open syllables in oa, oe, uy; quý and giá stay as they are).
    * Punctuation and symbols become spaces, `e-mail` and `node.js` thus two words each. Kept are apostrophes
      between letters (don't, in any of their shapes, as '), points and commas between digits (3.5; 1.000 and
      1,000 stay different), and the signs of c++, c#, google+.
    * Signs that are read aloud (% & @ + = and currency) are words of their own: `50%` equals `50 %` and
      differs from `50`.
    * Figures are not written out, and `24/7` becomes `24 7`.
    """
    text = _compose(text).translate(_LOOK_ALIKES).lower()
    text = unicodedata.normalize("NFC", text).translate(_SCORED)  # lower-casing may decompose (İ)
    text = _SILENT.sub(" ", text).replace("#", "# ")
    text = _PLUS_OF_A_NAME.sub(lambda plus: f"{plus[0]} " if plus["of_name"] else f" {plus[0]} ", text)
    words = (_without_leading_marks(word) for word in text.split())
    return _unify_tone_placement(" ".join(word for word in words if word))


# --- writing without case and punctuation -----------------------------------------------------------------

_POINT_IN_A_WORD: Final = re.compile(rf"(?<={_LETTER})\.(?={_LETTER})")
_KEPT_IN_A_WORD: Final = re.compile(
    rf"{_POINT_IN_A_WORD.pattern}"  # node.js
    r"|(?<=[^\W_])[-‐‑–](?=[^\W_])"  # e-mail, 20–30
    r"|(?<=\d)[:/](?=\d)"  # 9:30, 20/11
    r"|(?<!\S)[-−](?=\d)|(?:(?<=\d)|(?<=\d\s))°"  # -5°C
)
# While the other signs go, these stand as controls, which no text has that `_compose` has seen.
_PLACEHOLDERS: Final = str.maketrans(
    {".": "\x01", ":": "\x02", "/": "\x03", "°": "\x05"} | dict.fromkeys("-‐‑–−", "\x04")
)
_SIGNS_AGAIN: Final = str.maketrans("\x01\x02\x03\x04\x05", ".:/-°")


def _ends_a_sentence(point: re.Match[str]) -> bool:
    return point.string[point.start() - 1].islower() and point.string[point.end()].isupper()


def _styled(character: str) -> str:
    is_kept = character in ".,+#" or character in _READ_ALOUD or unicodedata.category(character) == "Sc"
    return character if is_kept else _scored(character)


_STYLED: Final = _CharacterTable(_styled)


def lower_without_punctuation(text: str) -> str:
    """A text in lower case, without punctuation and emoji, words with single spaces between; NFC.

    Tones and all other accents stay, and so do

    * apostrophes between letters, as ' (don't), and hyphens inside words and figures (e-mail, covid-19);
    * what makes a figure, a time, a date (3,5; 1.000; 9:30; 20/11), and points inside names (node.js, but not
      between "xong.Rồi", where a sentence ends);
    * signs that are read aloud, where they stand: 50%, -5°, R&D, an@b.vn, 2+2=4, currencies; c++ and c#.

    `normalize_for_scoring` gives the same before and after.
    """
    text = _compose(text).translate(_LOOK_ALIKES)
    text = _POINT_IN_A_WORD.sub(lambda point: " " if _ends_a_sentence(point) else ".", text)
    text = unicodedata.normalize("NFC", text.lower())
    text = _KEPT_IN_A_WORD.sub(lambda sign: sign[0].translate(_PLACEHOLDERS), text)
    text = _SILENT.sub(" ", text.translate(_STYLED))
    words = (_without_leading_marks(word) for word in text.split())
    return " ".join(word for word in words if word).translate(_SIGNS_AGAIN)
