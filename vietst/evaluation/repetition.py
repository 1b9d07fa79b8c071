"""Repetition loops: hypotheses in which a decoder says the same words again and again.

A decoder that has lost the audio often falls into one. A few of them move WER a lot, since each adds words up
to the cap on new tokens, so they are counted apart.
"""

from typing import Final

MAX_REPEATED_WORDS: Final = 8
"""Longest sequence of words that is looked for."""

MIN_TIMES: Final = 3
"""Vietnamese says a word twice for emphasis or softening ("xanh xanh"), which is no loop."""

LOOP_ID: Final = f"loops:{MIN_TIMES}+times|words:1-{MAX_REPEATED_WORDS}|over:reference"


def most_times_in_a_row(text: str) -> int:
    """How often a sequence of 1 to 8 words stands in the text with nothing between; 0 without words.

    Of all such sequences the one that is repeated most: 3 for "a b a b a b c c".
    """
    words = text.split()
    most = min(len(words), 1)
    for length in range(1, MAX_REPEATED_WORDS + 1):
        num_equal = 0  # words so far that equal the one `length` before them
        for earlier, later in zip(words, words[length:], strict=False):
            num_equal = num_equal + 1 if earlier == later else 0
            most = max(most, num_equal // length + 1)
    return most


def is_loop(reference: str, hypothesis: str) -> bool:
    """Whether a hypothesis repeats words at least 3 times in a row, and more often than the reference any.

    Args:
        reference, hypothesis: normalized.
    """
    words = hypothesis.split()
    if len(set(words)) > len(words) - (MIN_TIMES - 1):  # no word is there so often, as in most texts
        return False
    times = most_times_in_a_row(hypothesis)
    return times >= MIN_TIMES and times > most_times_in_a_row(reference)
