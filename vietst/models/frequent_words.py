"""Everyday words of Vietnamese and English: what a trimmed vocabulary keeps besides its corpus."""

from typing import Final

LANGUAGES: Final = ("vi", "en")


def frequent_words() -> list[str]:
    """Words that occur at least once in a million, of both languages, the most frequent first.

    They come from the small lists of `wordfreq` (Speer 2022), some 10,700 Vietnamese and 28,900 English ones.
    Each is followed by itself with a capital, as sentences begin. Numbers and emoji are left out.
    """
    from wordfreq import get_frequency_dict

    frequencies: dict[str, float] = {}
    for language in LANGUAGES:
        for word, frequency in get_frequency_dict(language, "small").items():
            if any(map(str.isalpha, word)):
                frequencies[word] = max(frequency, frequencies.get(word, 0.0))
    ordered = sorted(frequencies, key=lambda word: (-frequencies[word], word))
    return [form for word in ordered for form in (word, word.capitalize())]
