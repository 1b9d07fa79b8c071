"""Error rates by language inside code-switched sentences: texts in, counts and rates out.

All come from one alignment, that of `jiwer.process_words` on the words of `normalize_for_scoring`, so that
the counts over all classes of words add up to those of the plain WER. The class of a reference word is its
`word_language.WordTag`. Substitutions and deletions belong to the class of the reference word. An inserted
word belongs to the class of the reference word that it stands before, at the end to that of the last word, as
in the program of the authors of PIER (Ugan et al., "PIER: A Novel Metric for Evaluating What Matters in
Code-Switching", ICASSP 2025, arXiv 2501.09512). What was inserted into an empty reference belongs to no word
and stands in a class of its own.
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vietst.evaluation.blocks import blocks
from vietst.evaluation.error_kinds import ErrorKind, Hypothesis, error_kind
from vietst.evaluation.metrics import Prediction, score_intervals
from vietst.evaluation.score_counts import ScoreCounts, rate
from vietst.evaluation.word_language import TaggedWord, WordTag, tag_words
from vietst.text import normalize_for_scoring

NO_REFERENCE: Final = "no_reference"
WORD_CLASSES: Final = (*WordTag, NO_REFERENCE)
"""The order of classes in `ErrorCounts`."""

EDITS: Final = ("substitutions", "deletions", "insertions")
KINDS: Final = tuple(ErrorKind)

_CLASS_INDEX: Final = {name: index for index, name in enumerate(WORD_CLASSES)}
_KIND_INDEX: Final = {kind: index for index, kind in enumerate(KINDS)}
_SUBSTITUTION, _DELETION, _INSERTION = range(3)
_NUM_CONFUSIONS: Final = 20
_LANGUAGES: Final = (WordTag.VIETNAMESE, WordTag.ENGLISH)


@dataclass(frozen=True)
class ErrorCounts:
    """Counts of each utterance as far as slices and a bootstrap need them, of all together otherwise.

    Attributes:
        words: int32 [num_utterances, len(WORD_CLASSES)], reference words.
        edits: int32 [num_utterances, len(WORD_CLASSES), len(EDITS)].
        words_at_switches: int32 [num_utterances]: reference words on either side of a switch. There is a
            switch between a Vietnamese and an English word with no word of either language between them
            (names, numbers, signs and ambiguous words do not count as language).
        edits_at_switches: int32 [num_utterances, len(EDITS)], on those words.
        switches: int32 [num_utterances].
        kinds: int64 [len(WORD_CLASSES), len(KINDS)], of all utterances; over kinds they add up to
            substitutions and deletions.
        substitutions: of all utterances, how often a word was written for a reference word.
    """

    words: npt.NDArray[np.int32]
    edits: npt.NDArray[np.int32]
    words_at_switches: npt.NDArray[np.int32]
    edits_at_switches: npt.NDArray[np.int32]
    switches: npt.NDArray[np.int32]
    kinds: npt.NDArray[np.int64]
    substitutions: Counter[tuple[TaggedWord, str]]


def count_errors(
    references: Sequence[str],
    hypotheses: Sequence[str],
    translations: Sequence[str] | None = None,
    user_tags: Mapping[str, WordTag] | None = None,
) -> ErrorCounts:
    """Align transcripts and count errors by class of word, kind of error, and at switches.

    Args:
        references: transcripts with their case and punctuation, which help to tell names.
        hypotheses: one for each reference.
        translations: Vietnamese reference translations, "" where there is none; without them no error is
            `ErrorKind.TRANSLATED`.
        user_tags: from `word_language.read_word_tags`.

    Raises:
        ValueError: no utterances, or not one hypothesis (and translation) for each reference.
    """
    translations = [""] * len(references) if translations is None else translations
    if not references or not len(references) == len(hypotheses) == len(translations):
        raise ValueError(
            f"error counts need one hypothesis and one translation for each reference and at least one of "
            f"each, not {len(references)}, {len(hypotheses)} and {len(translations)}"
        )
    counts = _empty_counts(len(references))
    for block in blocks(range(len(references))):
        _count_block(
            counts,
            block,
            [references[index] for index in block],
            [hypotheses[index] for index in block],
            [translations[index] for index in block],
            user_tags,
        )
    return counts


def _empty_counts(num_utterances: int) -> ErrorCounts:
    def zeros(*shape: int) -> npt.NDArray[np.int32]:
        return np.zeros((num_utterances, *shape), dtype=np.int32)

    return ErrorCounts(
        words=zeros(len(WORD_CLASSES)),
        edits=zeros(len(WORD_CLASSES), len(EDITS)),
        words_at_switches=zeros(),
        edits_at_switches=zeros(len(EDITS)),
        switches=zeros(),
        kinds=np.zeros((len(WORD_CLASSES), len(KINDS)), dtype=np.int64),
        substitutions=Counter(),
    )


def _count_block(
    counts: ErrorCounts,
    utterances: Sequence[int],
    references: Sequence[str],
    hypotheses: Sequence[str],
    translations: Sequence[str],
    user_tags: Mapping[str, WordTag] | None,
) -> None:
    """Count the errors of some utterances, whose positions among all `utterances` are."""
    import jiwer

    tagged = [tag_words(text, user_tags) for text in references]
    written = [tag_words(text, user_tags) for text in hypotheses]
    alignments = jiwer.process_words(_joined(tagged), _joined(written)).alignments
    for index, words, hypothesis_words, translation, alignment in zip(
        utterances, tagged, written, translations, alignments, strict=True
    ):
        _count_words(counts, index, words)
        if words != hypothesis_words:
            translated = frozenset(normalize_for_scoring(translation).split()) - {word for word, _ in words}
            _count_edits(counts, index, words, Hypothesis(hypothesis_words, translated), alignment)


def _joined(texts: Sequence[Sequence[TaggedWord]]) -> list[str]:
    return [" ".join(word for word, _ in words) for words in texts]


def _count_words(counts: ErrorCounts, utterance: int, words: Sequence[TaggedWord]) -> None:
    for _, tag in words:
        counts.words[utterance, _CLASS_INDEX[tag]] += 1
    counts.switches[utterance], at_switches = switches_of(words)
    counts.words_at_switches[utterance] = len(at_switches)


def switches_of(words: Sequence[TaggedWord]) -> tuple[int, frozenset[int]]:
    """The number of switches in a text, and the positions of the words on either side of them."""
    spoken = [index for index, (_, tag) in enumerate(words) if tag in _LANGUAGES]
    pairs = [pair for pair in pairwise(spoken) if words[pair[0]].tag != words[pair[1]].tag]
    return len(pairs), frozenset(index for pair in pairs for index in pair)


def _count_edits(
    counts: ErrorCounts,
    utterance: int,
    words: Sequence[TaggedWord],
    hypothesis: Hypothesis,
    alignment: Sequence[Any],
) -> None:
    _, at_switches = switches_of(words)
    for edit, reference_position, position, block in edits_of(alignment):
        charged = min(reference_position, len(words) - 1)
        word_class = _CLASS_INDEX[words[charged].tag if words else NO_REFERENCE]
        counts.edits[utterance, word_class, edit] += 1
        if charged in at_switches:
            counts.edits_at_switches[utterance, edit] += 1
        if edit != _INSERTION:
            kind = error_kind(words[charged], hypothesis, position, block, is_missing=edit == _DELETION)
            counts.kinds[word_class, _KIND_INDEX[kind]] += 1
        if edit == _SUBSTITUTION:
            counts.substitutions[words[charged], hypothesis.words[position].word] += 1


def edits_of(alignment: Sequence[Any]) -> Iterator[tuple[int, int, int, range]]:
    """(edit, reference position, hypothesis position, block of `error_kind`) for each edit of jiwer's chunks.

    The position of what is missing on one side is that of the word which follows there.
    """
    for is_correct, chunks in groupby(alignment, key=lambda chunk: chunk.type == "equal"):
        if is_correct:
            continue
        group = list(chunks)
        block = range(group[0].hyp_start_idx, group[-1].hyp_end_idx)
        for chunk in group:
            reference_positions = range(chunk.ref_start_idx, chunk.ref_end_idx)
            positions = range(chunk.hyp_start_idx, chunk.hyp_end_idx)
            if chunk.type == "substitute":
                for reference_position, position in zip(reference_positions, positions, strict=True):
                    yield _SUBSTITUTION, reference_position, position, block
            for reference_position in reference_positions if chunk.type == "delete" else ():
                yield _DELETION, reference_position, chunk.hyp_start_idx, block
            for position in positions if chunk.type == "insert" else ():
                yield _INSERTION, chunk.ref_start_idx, position, block


# --- rates ------------------------------------------------------------------------------------------------


_TAG_OF_RATE: Final = {
    "wer_vietnamese": WordTag.VIETNAMESE,
    "pier": WordTag.ENGLISH,
    "wer_names": WordTag.NAME,
}


def error_rates(counts: ErrorCounts) -> dict[str, Any]:
    """Rates of all utterances together, in percent of the words they are about; None where there are none.

    Returns:
        * `wer_vietnamese`: errors on Vietnamese words;
        * `pier`: errors on English words, the points of interest of PIER. All English words count, those of
          utterances in one language among them;
        * `wer_names`, `wer_switch_points`: on names, and on the words on either side of a switch;
        * `mixed_error_rate`: errors on all words, English in words and Vietnamese in syllables, as papers on
          Mandarin and English count words and characters. Vietnamese is written in syllables, so this is the
          WER; it is not `jiwer.mer`, the match error rate, which divides by matches and errors;
        * `num_switches`, `num_code_switched_utterances`: the latter have a switch;
        * `words`: for each class the number of reference words `num`, their `share` of all words in percent,
          `wer`, the `substitutions`, `deletions` and `insertions` and, by kind, `error_kinds`.
    """
    words, edits, kinds = counts.words.sum(axis=0), counts.edits.sum(axis=0), counts.kinds
    errors = edits.sum(axis=1)
    by_class = {
        name: {
            "num": int(words[index]),
            "share": _percent(words[index], words.sum()),
            "wer": _percent(errors[index], words[index]),
            **{edit: int(num) for edit, num in zip(EDITS, edits[index], strict=True)},
            "error_kinds": {
                kind.value: int(num) for kind, num in zip(KINDS, kinds[index], strict=True) if num
            },
        }
        for index, name in enumerate(WORD_CLASSES)
        if words[index] or errors[index]
    }
    return {
        **{
            name: _percent(errors[_CLASS_INDEX[tag]], words[_CLASS_INDEX[tag]])
            for name, tag in _TAG_OF_RATE.items()
        },
        "wer_switch_points": _percent(counts.edits_at_switches.sum(), counts.words_at_switches.sum()),
        "mixed_error_rate": _percent(errors.sum(), words.sum()),
        "num_switches": int(counts.switches.sum()),
        "num_code_switched_utterances": int(np.count_nonzero(counts.switches)),
        "words": by_class,
    }


def most_confused(counts: ErrorCounts, language: WordTag, num: int) -> list[dict[str, str | int]]:
    """The most frequent substitutions of words of one language: `reference`, `written`, how often (`num`).

    Equally frequent pairs stand in alphabetical order.
    """
    pairs = (
        (-times, reference.word, written)
        for (reference, written), times in counts.substitutions.items()
        if reference.tag is language
    )
    return [
        {"reference": reference, "written": written, "num": -negative}
        for negative, reference, written in heapq.nsmallest(num, pairs)
    ]


def _percent(part: int | np.integer[Any], whole: int | np.integer[Any]) -> float | None:
    return 100 * (int(part) / int(whole)) if whole else None


def language_score_counts(counts: ErrorCounts) -> dict[str, ScoreCounts]:
    """The counts of every utterance behind the first four of `error_rates`, by name, for intervals and tests.

    Rates of classes that no reference word belongs to are absent.
    """
    errors = counts.edits.sum(axis=2)
    of_classes = {
        name: (errors[:, _CLASS_INDEX[tag]], counts.words[:, _CLASS_INDEX[tag]])
        for name, tag in _TAG_OF_RATE.items()
    }
    at_switches = counts.edits_at_switches.sum(axis=1), counts.words_at_switches
    return {
        name: rate(name, of_errors, of_words)
        for name, (of_errors, of_words) in (of_classes | {"wer_switch_points": at_switches}).items()
        if of_words.any()
    }


def count_errors_of(
    predictions: Sequence[Prediction], user_tags: Mapping[str, WordTag] | None = None
) -> ErrorCounts:
    """`count_errors` of predictions, in their order; all zero where an utterance was not transcribed."""
    counts = _empty_counts(len(predictions))
    for block in blocks(index for index, p in enumerate(predictions) if p.transcript_hypothesis is not None):
        of_block = [predictions[index] for index in block]
        _count_block(
            counts,
            block,
            [p.transcript for p in of_block],
            [str(p.transcript_hypothesis) for p in of_block],
            [p.translation for p in of_block],
            user_tags,
        )
    return counts


def code_switching_scores(predictions: Sequence[Prediction], counts: ErrorCounts) -> dict[str, Any] | None:
    """`error_rates`, their `intervals` by name, and by language the `confusions` (`most_confused`).

    None where no utterance was transcribed.

    Args:
        counts: from `count_errors_of`.
    """
    if all(p.transcript_hypothesis is None for p in predictions):
        return None
    return error_rates(counts) | {
        "intervals": score_intervals(predictions, language_score_counts(counts)),
        "confusions": {
            language.value: most_confused(counts, language, _NUM_CONFUSIONS) for language in _LANGUAGES
        },
    }


def code_mixing_index(words: Sequence[TaggedWord]) -> float:
    """How mixed one utterance is: 0 in one language, 50 half and half.

    CMI = 100 · (1 − max(Vietnamese, English) / (Vietnamese + English)), counting words; those without
    language (names, numbers, signs, ambiguous ones) stay out. 0 where there is no word of either. After
    Gambäck and Das, "Comparing the Level of Code-Switching in Corpora", LREC 2016 (their equation 1).
    """
    by_language = [sum(tag is language for _, tag in words) for language in _LANGUAGES]
    return 100 * (1 - max(by_language) / sum(by_language)) if any(by_language) else 0.0


def code_mixing_indices(counts: ErrorCounts) -> npt.NDArray[np.float64]:
    """`code_mixing_index` of each utterance: [num_utterances]."""
    words = counts.words[:, [_CLASS_INDEX[language] for language in _LANGUAGES]]
    return 100 * (1 - words.max(axis=1) / np.maximum(words.sum(axis=1), 1)) * words.any(axis=1)
