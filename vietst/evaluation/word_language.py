"""The language of each word of Vietnamese–English text, without hand tags.

    >>> tag_words("mình sẽ fix cái bug này trước deadline")   # mình/vi sẽ/vi fix/en cái/vi bug/en …

Five sources, strongest first: a word list of the user's; the form of the word (figures, signs, proper names
by list or capital: `name_rules`); the closed grammar of Vietnamese syllables (`vietnamese_syllables`); how
frequent the word is in either language (`word_evidence`); and its neighbours (`language_context`), which
decide for words that both languages have: an, ban, do, in, me, run, to. Where they do not decide either, the
word is called ambiguous.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from vietst.errors import VietstError
from vietst.evaluation.language_context import Candidate, english_probabilities
from vietst.evaluation.name_rules import Case, WrittenWord, mark_names
from vietst.evaluation.vietnamese_syllables import word_set
from vietst.evaluation.word_evidence import evidence_of
from vietst.text import normalize_for_scoring


class WordTag(StrEnum):
    VIETNAMESE = "vi"
    ENGLISH = "en"
    AMBIGUOUS = "ambiguous"
    """Could be either, and the sentence does not decide."""
    NAME = "name"
    """Part of a proper name, of whatever language."""
    NUMBER = "number"
    """Figures. Number words belong to their language."""
    OTHER = "other"
    """Signs that are read aloud, single letters, identifiers of program code that are no words."""


class TaggedWord(NamedTuple):
    word: str
    tag: WordTag


_DECIDED: Final = 0.8
"""A language is taken from this probability on; between 1 − this and this the word is ambiguous."""

_SURE_LOG10: Final = 4.0
"""From this difference on no neighbour can make an English word of a Vietnamese one."""

_VIETNAMESE_ACRONYMS: Final = word_set(
    "tp tphcm hcm vn ubnd hđnd thpt thcs đh clb hlv vđv csgt bhyt bhxh tnhh cp nxb vtv htv gd gtgt"
)
_NUMBER: Final = re.compile(r"\d[\d.,]*")
_OPENING: Final = frozenset('.?!…:;"“”‘«»([{—–`*')
"""After these, or at the beginning, a capital says nothing."""


def tag_words(text: str, user_tags: Mapping[str, WordTag] | None = None) -> list[TaggedWord]:
    """Tag the words of one text: those of `normalize_for_scoring(text)`, in order.

    Args:
        text: with its case and punctuation where it has them; they help to tell names.
        user_tags: from `read_word_tags`; these words get their tag wherever they stand, and help to decide
            about their neighbours.
    """
    words = _words_of(text)
    case_informs = _case_informs(words)
    tags = _tags_by_form(words, case_informs)
    if user_tags:
        tags = [user_tags.get(word.text, tag) for word, tag in zip(words, tags, strict=True)]
    candidates = _candidates(words, tags, case_informs)
    for start, end in _undecided_runs(candidates):
        probabilities = english_probabilities(tuple(candidates[start:end]))
        for index, probability in zip(range(start, end), probabilities, strict=True):
            tags[index] = tags[index] or _tag_of(probability)
    decided = [tag or WordTag.VIETNAMESE for tag in tags]
    return [
        TaggedWord(word.text, _tag_of_letter(words, decided, index) if tag is WordTag.OTHER else tag)
        for index, (word, tag) in enumerate(zip(words, decided, strict=True))
    ]


def _tag_of(english_probability: float) -> WordTag:
    if english_probability >= _DECIDED:
        return WordTag.ENGLISH
    return WordTag.VIETNAMESE if english_probability <= 1 - _DECIDED else WordTag.AMBIGUOUS


# --- words and how they are written -----------------------------------------------------------------------


def _words_of(text: str) -> list[WrittenWord]:
    words: list[WrittenWord] = []
    opens = True
    for piece in text.split():
        of_piece, closes = _words_of_piece(piece)
        if opens and of_piece:
            of_piece = (dataclasses.replace(of_piece[0], opens=True), *of_piece[1:])
        words.extend(of_piece)
        opens = closes or (opens and not of_piece)
    return words


@lru_cache(maxsize=65536)
def _words_of_piece(piece: str) -> tuple[tuple[WrittenWord, ...], bool]:
    """The words of what stands between two spaces, and whether its end makes the next word open something."""
    written = unicodedata.normalize("NFC", piece)
    lower = written.lower()
    words: list[WrittenWord] = []
    end = 0
    for text in normalize_for_scoring(piece).split():
        start = lower.find(text, end)
        if start < 0:  # normalization moved a tone mark
            start = next(
                (index for index in range(end, len(lower)) if lower[index].isalnum()), len(lower) - 1
            )
        gap = written[end:start]
        end = start + len(text)
        words.append(_word(text, written[start:end], gap, joined=bool(words) and gap == "-"))
    return tuple(words), not _OPENING.isdisjoint(written[end:])


def _word(text: str, written: str, gap: str, *, joined: bool) -> WrittenWord:
    letters = [character for character in written if character.isalpha()]
    capitals = [character.isupper() for character in letters]
    if not any(capitals):
        case = Case.LOWER
    elif all(capitals) and len(letters) > 1:
        case = Case.CAPITALS
    elif capitals[0] and not any(capitals[1:]):
        case = Case.CAPITALIZED
    else:
        case = Case.MIXED
    return WrittenWord(
        text=text,
        case=case,
        opens=not _OPENING.isdisjoint(gap),
        camel=case is Case.MIXED and not capitals[0],
        joined=joined,
    )


def _case_informs(words: Sequence[WrittenWord]) -> bool:
    """Not where most words have capitals: headlines, and texts all in capitals."""
    num_capitalized = sum(word.case is not Case.LOWER for word in words)
    return num_capitalized <= max(1, 0.8 * len(words))


# --- tags ---------------------------------------------------------------------------------------------------


def _tags_by_form(words: Sequence[WrittenWord], case_informs: bool) -> list[WordTag | None]:
    """Tags of what is no word of a language; None for the others."""
    names = mark_names(words, case_informs=case_informs)
    return [
        _tag_by_form(word, case_informs) or (WordTag.NAME if is_name else None)
        for word, is_name in zip(words, names, strict=True)
    ]


def _tag_by_form(word: WrittenWord, case_informs: bool) -> WordTag | None:
    if _NUMBER.fullmatch(word.text):
        return WordTag.NUMBER
    if word.text[-1] in "+#" and word.text[0].isalpha():
        return WordTag.NAME  # c++, c#, google+
    if not word.text.replace("'", "").isalpha() or (case_informs and word.camel):
        return WordTag.OTHER
    is_consonant = len(word.text) == 1 and word.text.isascii() and word.text not in "aeiouy"
    is_label = len(word.text) == 1 and word.case is Case.CAPITALIZED and not word.opens and word.text != "i"
    return WordTag.OTHER if is_consonant or (case_informs and is_label) else None


def _tag_of_letter(words: Sequence[WrittenWord], tags: Sequence[WordTag], index: int) -> WordTag:
    """A letter that is joined to a word is of the language of that word: K-pop, e-mail, x-ray."""
    joins_next = index + 1 < len(words) and words[index + 1].joined
    if len(words[index].text) == 1 and words[index].text.isalpha() and joins_next:
        return tags[index + 1]
    return tags[index]


_SCALE: Final = 9  # from occurrences per billion to chances


def _candidates(
    words: Sequence[WrittenWord], tags: Sequence[WordTag | None], case_informs: bool
) -> list[Candidate]:
    return [
        _candidate(word, tag, _is_acronym(words, index) if case_informs else False)
        for index, (word, tag) in enumerate(zip(words, tags, strict=True))
    ]


def _is_acronym(words: Sequence[WrittenWord], index: int) -> bool:
    """Capitals without Vietnamese letters; not beside Vietnamese words in capitals, which are emphasis."""
    neighbours = words[max(index - 1, 0) : index + 2]
    return words[index].case is Case.CAPITALS and all(
        word.text.isascii() for word in neighbours if word.case is Case.CAPITALS
    )


def _candidate(word: WrittenWord, tag: WordTag | None, is_acronym: bool) -> Candidate:
    if tag is WordTag.VIETNAMESE or (tag is None and word.text in _VIETNAMESE_ACRONYMS):
        return Candidate(word.text, vietnamese=1.0, english=0.0)
    if tag is WordTag.ENGLISH or (tag is None and is_acronym):
        return Candidate(word.text, vietnamese=0.0, english=1.0)
    if tag is not None:
        return Candidate(word.text, vietnamese=1.0, english=1.0)
    evidence = evidence_of(word.text)
    if evidence.vietnamese - evidence.english >= _SURE_LOG10:
        return Candidate(word.text, vietnamese=1.0, english=0.0)
    return Candidate(
        word.text, 10 ** (evidence.vietnamese - _SCALE), english=10 ** (evidence.english - _SCALE)
    )


def _undecided_runs(candidates: Sequence[Candidate]) -> Iterator[tuple[int, int]]:
    """The stretches between words that can only be Vietnamese."""
    start = 0
    for index, candidate in enumerate(candidates):
        if candidate.english == 0:
            if start < index:
                yield start, index
            start = index + 1
    if start < len(candidates):
        yield start, len(candidates)


# --- a user's list ------------------------------------------------------------------------------------------

_USER_TAGS: Final = tuple(tag for tag in WordTag if tag is not WordTag.AMBIGUOUS)


def read_word_tags(path: Path) -> dict[str, WordTag]:
    """Read a word list, UTF-8: on each line a word, a tab and its tag (vi, en, name, number, other).

    Words are compared in the form of `normalize_for_scoring`. Empty lines and lines that begin with # and a
    space are skipped.

    Raises:
        VietstError: no such file, not UTF-8, a line of another form, or a word with two tags.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VietstError(
            where=str(path),
            rule="the word list can be read, and is UTF-8",
            found=str(error),
            do="correct the path, or save the file as UTF-8",
        ) from None
    tags: dict[str, WordTag] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("# "):
            word, tag = _user_tag(f"{path}, line {number}", line)
            if tags.setdefault(word, tag) is not tag:
                raise VietstError(
                    where=f"{path}, line {number}",
                    rule="a word has one tag",
                    found=f"{word} is {tags[word]} further up and {tag} here",
                    do="remove one of the two lines",
                )
    return tags


def _user_tag(where: str, line: str) -> tuple[str, WordTag]:
    word, _, tag = line.partition("\t")
    words = normalize_for_scoring(word).split()
    if len(words) != 1 or tag.strip() not in _USER_TAGS:
        raise VietstError(
            where=where,
            rule=f"one word, a tab, and one of {', '.join(_USER_TAGS)}",
            found=repr(line),
            do="correct or remove the line; a name of several words needs a line for each",
        )
    return words[0], WordTag(tag.strip())
