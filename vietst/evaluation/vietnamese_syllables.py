"""The closed grammar of Vietnamese syllables: which spellings are possible, and what each is made of.

A Vietnamese syllable is an initial consonant (or none), a rhyme and one of six tones. The sets are small and
closed, so that a word's spelling alone often tells that it is not Vietnamese. Inventory of initials, rhymes
and tones after Đoàn Thiện Thuật, *Ngữ âm tiếng Việt* (1977), and Thompson, *A Vietnamese Reference Grammar*
(1987). The tables hold what dictionaries hold, rhymes of a few loans among them (xoong, tuýp).
"""

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

TONE_MARKS: Final = {
    "\u0300": "huyền",
    "\u0301": "sắc",
    "\u0303": "ngã",
    "\u0309": "hỏi",
    "\u0323": "nặng",
}
"""Combining mark → name of its tone; the sixth tone, ngang, has no mark."""

LEVEL_TONE: Final = "ngang"


def word_set(text: str) -> frozenset[str]:
    """The words of a table that is written as text."""
    return frozenset(text.split())


_STOPPED_TONES: Final = frozenset({"sắc", "nặng"})
"""Syllables that end in p, t, c or ch have no other tone: "hót" and "họt" are possible, "hot" is not."""

_ONSETS: Final = sorted(
    word_set("b c ch d đ g gh gi h k kh l m n ng ngh nh p ph qu r s t th tr v x"), key=len, reverse=True
)

_PLAIN_RHYMES: Final = word_set("""
    a ac ach ai am an ang anh ao ap at au ay ăc ăm ăn ăng ăp ăt âc âm ân âng âp ât âu ây
    e ec em en eng eo ep et ê êch êm ên ênh êp êt êu
    i ia ich iêc iêm iên iêng iêp iêt iêu im in inh ip it iu
    o oc oi om on ong ooc oong op ot ô ôc ôi ôm ôn ông ôp ôt ơ ơi ơm ơn ơp ơt
    u ua uc ui um un ung uôc uôi uôm uôn uông uôt up ut
    ư ưa ưc ưi ưm ưng ươc ươi ươm ươn ương ươp ươt ươu ưt ưu
    """)
_ROUNDED_RHYMES: Final = word_set("""
    oa oac oach oai oam oan oang oanh oao oap oat oay oăc oăm oăn oăng oăt oe oen oeo oet
    uân uâng uât uây uê uêch uên uênh uêt uơ uy uya uych uyên uyêt uyn uynh uyp uyt uyu
    """)
_Y_RHYMES: Final = frozenset({"y", "yêm", "yên", "yêng", "yêt", "yêu"})
"""Written with y and no initial; of these only y itself follows one, and few at that (kỹ, lý, mỹ, tỷ)."""

_BEFORE_Y: Final = word_set("h k l m s t th v qu")

_AFTER_QU: Final = word_set("""
    a ac ach ai an ang anh ao ap at au ay ăc ăm ăn ăng ăp ăt ân âng ât âu ây
    e en eng eo et ê êch ên ênh êt êu i ich in inh it iu ô ôc ơ ơn y yêt yên ych ynh yt yu
    """)
"""The rounded rhymes as they are written after q, whose u is their first sound: hoan, but quan."""

_FRONT_VOWELS: Final = ("e", "ê", "i", "y")
_ONSETS_BEFORE_FRONT_VOWELS: Final = frozenset({"gh", "k", "ngh"})
_ONSETS_BEFORE_OTHER_VOWELS: Final = frozenset({"c", "g", "ng"})


@dataclass(frozen=True)
class Syllable:
    """A spelling taken apart: `onset` + `rhyme` carry the letters, `tone` is the name of the tone.

    After "gi" the rhyme is what is left of it in writing ("giêng" is gi + êng, "gì" is gi + nothing).
    """

    onset: str
    rhyme: str
    tone: str


def split_tone(word: str) -> tuple[str, str] | None:
    """A word without its tone mark (NFC), and the tone's name; None where there is more than one mark.

    The marks of vowel quality stay: "tiếng" is ("tiêng", "sắc").
    """
    decomposed = unicodedata.normalize("NFD", word)
    marks = [character for character in decomposed if character in TONE_MARKS]
    if len(marks) > 1:
        return None
    if not marks:
        return word, LEVEL_TONE
    return unicodedata.normalize("NFC", decomposed.replace(marks[0], "")), TONE_MARKS[marks[0]]


@lru_cache(maxsize=65536)
def parse_syllable(word: str) -> Syllable | None:
    """Take a lower-case NFC word apart, or None where no Vietnamese syllable is spelt so.

    The tone mark may stand on any letter of the rhyme. Being possible is not being a word: "bưu" and "pen"
    both pass.
    """
    toned = split_tone(word)
    if toned is None:
        return None
    letters, tone = toned
    syllable = parse_toneless(letters)
    if syllable is None or (_is_stopped(syllable.rhyme) and tone not in _STOPPED_TONES):
        return None
    return Syllable(syllable.onset, syllable.rhyme, tone)


def parse_toneless(letters: str) -> Syllable | None:
    """As `parse_syllable`, for letters whose tone was left out: "khong" has no tone to go with "ong", and
    "kich" would need one, yet both have the letters of a syllable."""
    onset = next((onset for onset in _ONSETS if letters.startswith(onset)), "")
    rhyme = letters[len(onset) :]
    return Syllable(onset, rhyme, LEVEL_TONE) if _combine(onset, rhyme) else None


def _is_stopped(rhyme: str) -> bool:
    return rhyme.endswith(("p", "t", "c", "ch"))


def _combine(onset: str, rhyme: str) -> bool:
    if onset == "qu":
        return rhyme in _AFTER_QU
    if onset == "gi":
        # The i of gi is at once that of the rhyme in gì, gìn and giếng.
        return (
            rhyme == "" or "i" + rhyme in _PLAIN_RHYMES or (rhyme in _PLAIN_RHYMES and rhyme[0] not in "iy")
        )
    if rhyme in _Y_RHYMES:
        return onset == "" or (rhyme == "y" and onset in _BEFORE_Y)
    if rhyme not in _PLAIN_RHYMES and rhyme not in _ROUNDED_RHYMES:
        return False
    if onset in _ONSETS_BEFORE_FRONT_VOWELS:
        return rhyme.startswith(_FRONT_VOWELS)
    if onset in _ONSETS_BEFORE_OTHER_VOWELS:
        return not rhyme.startswith(_FRONT_VOWELS)
    return True
