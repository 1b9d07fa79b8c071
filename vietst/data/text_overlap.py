"""Sentences that stand in more than one split, word for word or nearly: they make test scores look too good.

Two texts are near duplicates if their sets of words and of pairs of neighbouring words agree to 70 % or more
(Jaccard); one changed word in ten does that. The search is exact but for the limits named here: a pair that
agrees so far must share one of the rarest elements of both (prefix filtering; Bayardo, Ma and Srikant 2007,
"Scaling up all pairs similarity search"), so that few pairs are compared at all.
"""

import contextlib
import functools
import gc
import itertools
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vietst.constants import SPLITS
from vietst.text import normalize_for_scoring

MIN_SIMILARITY: Final = 0.7
MIN_WORDS: Final = 4
"""Near duplicates of shorter texts say nothing; equal ones are counted at any length."""
_MAX_COMPARISONS: Final = 500
"""Texts that one text is compared with, those with the rarest common element first."""
_MAX_LISTED: Final = 50

_HELD_OUT: Final = {"test": ("train", "dev"), "dev": ("train",)}
"""Which splits a split must not repeat."""


@dataclass(frozen=True)
class SplitText:
    """One text of one utterance."""

    split: str
    utterance_id: str
    text: str


def text_overlap(texts: Iterable[SplitText]) -> dict[str, Any]:
    """Finds equal and nearly equal texts across splits, after `normalize_for_scoring`.

    Returns:
        A report that does not depend on the order of `texts`: how many utterances of each split repeat
        another split's text (the keys read "test in train"), and the most frequent or most similar ones.
    """
    ids_by_text: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    with _garbage_uncollected():
        for text in texts:
            normalized = normalize_for_scoring(text.text)
            if normalized:
                ids_by_text[normalized][text.split].append(text.utterance_id)
        return {"exact": _exact(ids_by_text), "near": _near(ids_by_text)}


@contextlib.contextmanager
def _garbage_uncollected() -> Iterator[None]:
    """Python's collector looks through all containers again and again: a third of the time for 100,000 texts.

    None of those made here are in cycles, which alone it would find.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _exact(ids_by_text: Mapping[str, Mapping[str, list[str]]]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    shared = []
    for text, ids in ids_by_text.items():
        if len(ids) > 1:
            shared.append((text, {split: len(ids[split]) for split in SPLITS if split in ids}))
            for split, others in _HELD_OUT.items():
                for other in others:
                    if split in ids and other in ids:
                        counts[f"{split} in {other}"] += len(ids[split])
    shared.sort(key=lambda entry: (-sum(entry[1].values()), entry[0]))
    return {
        "num_texts": len(shared),
        "num_utterances": _in_order(counts),
        "most_frequent": [{"text": text, "num_utterances": count} for text, count in shared[:_MAX_LISTED]],
    }


def _near(ids_by_text: Mapping[str, Mapping[str, list[str]]]) -> dict[str, Any]:
    texts = sorted(text for text in ids_by_text if text.count(" ") >= MIN_WORDS - 1)
    elements = _ranked_elements(texts)
    counts: Counter[str] = Counter()
    pairs: list[dict[str, Any]] = []
    num_cut_short = 0
    for split, others in _HELD_OUT.items():
        for other in others:
            known = [index for index, text in enumerate(texts) if other in ids_by_text[text]]
            asked = [
                index
                for index, text in enumerate(texts)
                if split in ids_by_text[text] and other not in ids_by_text[text]
            ]
            search = _Search(elements, known)
            for index in asked:
                nearest, similarity = search.most_similar(index)
                if similarity < MIN_SIMILARITY:
                    continue
                ids = ids_by_text[texts[index]][split]
                counts[f"{split} in {other}"] += len(ids)
                pairs.append(
                    {
                        "similarity": round(similarity, 3),
                        split: {"id": min(ids), "text": texts[index]},
                        other: {"id": min(ids_by_text[texts[nearest]][other]), "text": texts[nearest]},
                    }
                )
            num_cut_short += search.num_cut_short
    pairs.sort(key=lambda pair: -pair["similarity"])
    return {
        "min_similarity": MIN_SIMILARITY,
        "min_words": MIN_WORDS,
        "num_utterances": _in_order(counts),
        "num_searches_cut_short": num_cut_short,
        "most_similar": pairs[:_MAX_LISTED],
    }


def _in_order(counts: Mapping[str, int]) -> dict[str, int]:
    keys = [f"{split} in {other}" for split, others in _HELD_OUT.items() for other in others]
    return {key: counts.get(key, 0) for key in keys}


def _ranked_elements(texts: Sequence[str]) -> list["array[int]"]:
    """For each text the numbers of its words and word pairs, rarest first; the rarest of all is number 0."""

    def elements_of(text: str) -> set[str]:
        words = text.split(" ")
        return {*words, *map(" ".join, itertools.pairwise(words))}

    frequency = Counter(element for text in texts for element in elements_of(text))
    by_rarity = sorted(sorted(frequency), key=frequency.__getitem__)  # equally rare ones by the alphabet
    rank = {element: number for number, element in enumerate(by_rarity)}
    return [array("i", sorted(map(rank.__getitem__, elements_of(text)))) for text in texts]


class _Search:
    """Finds the most similar of the texts in `known`, which are given by their numbers in `elements`."""

    def __init__(self, elements: Sequence[Sequence[int]], known: Sequence[int]) -> None:
        self._elements = elements
        self._texts_with: dict[int, array[int]] = defaultdict(functools.partial(array, "i"))
        for index in known:
            for element in _prefix(elements[index]):
                self._texts_with[element].append(index)
        self.num_cut_short = 0

    def most_similar(self, index: int) -> tuple[int, float]:
        """(text, similarity); (-1, 0.0) if there is none that could reach `MIN_SIMILARITY`."""
        own = set(self._elements[index])
        best, best_similarity = -1, 0.0
        for other in self._candidates(self._elements[index]):
            num_common = len(own.intersection(self._elements[other]))
            similarity = num_common / (len(own) + len(self._elements[other]) - num_common)
            if similarity > best_similarity:
                best, best_similarity = other, similarity
        return best, best_similarity

    def _candidates(self, elements: Sequence[int]) -> list[int]:
        min_size, max_size = MIN_SIMILARITY * len(elements), len(elements) / MIN_SIMILARITY
        found: dict[int, None] = {}
        for element in _prefix(elements):
            for other in self._texts_with.get(element, ()):
                if min_size <= len(self._elements[other]) <= max_size:
                    found[other] = None
            if len(found) > _MAX_COMPARISONS:
                self.num_cut_short += 1
                break
        return list(found)[:_MAX_COMPARISONS]


def _prefix(elements: Sequence[int]) -> Sequence[int]:
    """The rarest elements, of which two similar texts have at least one in common."""
    return elements[: len(elements) - math.ceil(MIN_SIMILARITY * len(elements)) + 1]
