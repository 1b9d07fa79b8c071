"""How much English a translation into Vietnamese leaves standing, beside how much its reference leaves."""

from collections.abc import Mapping, Sequence

import numpy as np

from vietst.evaluation.metrics import Prediction, is_translated
from vietst.evaluation.score_counts import ScoreCounts, error_rate
from vietst.evaluation.word_language import WordTag, tag_words


def english_left_counts(
    predictions: Sequence[Prediction], user_tags: Mapping[str, WordTag] | None = None
) -> dict[str, ScoreCounts]:
    """`english_left` and `reference_english_left`: English words per 100 words of the translations and of
    their references.

    Names, numbers and ambiguous words are words, but not English ones (`word_language`). References keep what
    Vietnamese says in English, too ("email"), so a good translation comes near their share, not near 0. Empty
    where nothing was translated; rows stand in the order of the predictions.

    Args:
        user_tags: from `word_language.read_word_tags`.
    """
    translated = [index for index, p in enumerate(predictions) if is_translated(p)]
    texts = {
        "english_left": [str(predictions[index].translation_hypothesis) for index in translated],
        "reference_english_left": [predictions[index].translation for index in translated],
    }
    if not translated:
        return {}
    return {
        name: _share_of_english(name, of_name, user_tags).spread(translated, len(predictions))
        for name, of_name in texts.items()
    }


def _share_of_english(
    name: str, texts: Sequence[str], user_tags: Mapping[str, WordTag] | None
) -> ScoreCounts:
    counts = [_count_english(text, user_tags) for text in texts]
    return error_rate(name, np.array(counts, dtype=np.int32))


def _count_english(text: str, user_tags: Mapping[str, WordTag] | None) -> tuple[int, int]:
    """English words, and words."""
    tags = [tag for _, tag in tag_words(text, user_tags)]
    return tags.count(WordTag.ENGLISH), len(tags)
