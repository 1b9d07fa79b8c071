"""Alarms: hypotheses that are broken in a way which one look at the text shows, counted with examples.

A few of them hardly move a score and still tell that something is wrong with a model, its prompt or its
decoding. Texts are compared as `normalize_for_scoring` gives them. Each alarm has a false-alarm guard: what
stands in the reference too is never held against a hypothesis.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from vietst.evaluation.metrics import Prediction, is_transcribed, is_translated
from vietst.evaluation.repetition import is_loop
from vietst.evaluation.word_language import WordTag, tag_words
from vietst.text import normalize_for_scoring


class Alarm(StrEnum):
    """What is wrong with a hypothesis; the values name the alarms in results files and logs."""

    REPETITION_LOOPS = "repetition_loops"
    """Words are repeated again and again (`vietst.evaluation.repetition`)."""
    EMPTY_OUTPUTS = "empty_outputs"
    """No word, where the reference has words."""
    LENGTH_RATIO = "length_ratio"
    """Less than `MIN_LENGTH_RATIO` or more than `MAX_LENGTH_RATIO` words for each of the reference, and at
    least `MIN_LENGTH_DIFFERENCE` fewer or more. Empty outputs are not counted again."""
    WRONG_LANGUAGE = "wrong_language"
    """A letter that is not Latin, or English throughout where the reference is mostly Vietnamese."""
    SIGN_OFFS = "sign_offs"
    """A phrase of `SIGN_OFFS`, with which videos end, and models that were trained on their subtitles."""
    SAME_FOR_BOTH_TASKS = "same_for_both_tasks"
    """Transcript and translation are the same text where their references differ; not for empty texts."""


MIN_LENGTH_RATIO: Final = 0.5
MAX_LENGTH_RATIO: Final = 2.0
MIN_LENGTH_DIFFERENCE: Final = 5
"""In words; one or two words more or less than in "ok luôn" say nothing."""

MIN_ENGLISH_WORDS: Final = 3
"""Fewer can be what was heard of a code-switched sentence."""

SIGN_OFFS: Final = (
    *("hãy subscribe cho kênh", "ghiền mì gõ", "la la school", "đăng ký kênh", "đăng kí kênh"),
    *("cảm ơn các bạn đã theo dõi", "cảm ơn các bạn đã xem", "cảm ơn các bạn đã lắng nghe"),
    *("hẹn gặp lại các bạn trong", "không bỏ lỡ những video", "phụ đề được thực hiện bởi"),
    *("thanks for watching", "thank you for watching", "please subscribe", "like and subscribe"),
    *("subscribe to my channel", "see you in the next video", "subtitles by", "amara org"),
)
"""Normalized. What Whisper models are known to write over silence and music in Vietnamese and in English."""

MAX_EXAMPLES: Final = 5

WARNING_SHARE: Final = 5.0
"""In percent of the hypotheses; from more than this on an evaluation during training warns."""


@dataclass(frozen=True)
class AlarmCount:
    """How often one alarm was raised over one kind of texts."""

    alarm: Alarm
    texts: str
    """`transcripts`, `translations`, or `utterances` for what concerns both."""
    num_checked: int
    raised: tuple[Prediction, ...]

    @property
    def share(self) -> float:
        """In percent of what was checked."""
        return 100 * len(self.raised) / self.num_checked

    def text_of(self, prediction: Prediction) -> str:
        """The hypothesis that raised the alarm."""
        is_translation = self.texts == "translations"
        return str(prediction.translation_hypothesis if is_translation else prediction.transcript_hypothesis)


def raise_alarms(predictions: Sequence[Prediction]) -> list[AlarmCount]:
    """Every alarm over the transcripts and over the translations that have a reference, as far as they were
    run, those that nothing raised among them."""
    transcribed = list(filter(is_transcribed, predictions))
    translated = list(filter(is_translated, predictions))
    both = list(filter(is_transcribed, translated))
    counts: list[AlarmCount] = []
    if transcribed:
        pairs = (_pair(p.transcript, str(p.transcript_hypothesis), p) for p in transcribed)
        counts += _counts_of_texts("transcripts", pairs, len(transcribed))
    if translated:
        pairs = (_pair(p.translation, str(p.translation_hypothesis), p) for p in translated)
        counts += _counts_of_texts("translations", pairs, len(translated))
    if both:
        raised = tuple(filter(_is_same_for_both_tasks, both))
        counts.append(AlarmCount(Alarm.SAME_FOR_BOTH_TASKS, "utterances", len(both), raised))
    return counts


@dataclass(frozen=True)
class _Pair:
    """Texts as they are and normalized, and the utterance that they belong to."""

    raw_reference: str
    raw_hypothesis: str
    reference: str
    hypothesis: str
    utterance: Prediction


def _pair(reference: str, hypothesis: str, utterance: Prediction) -> _Pair:
    normalized = normalize_for_scoring(reference), normalize_for_scoring(hypothesis)
    return _Pair(reference, hypothesis, *normalized, utterance)


def _counts_of_texts(texts: str, pairs: Iterable[_Pair], num_pairs: int) -> list[AlarmCount]:
    raised: dict[Alarm, list[Prediction]] = {alarm: [] for alarm in _OF_TEXTS}
    for pair in pairs:
        for alarm, is_raised in _OF_TEXTS.items():
            if is_raised(pair):
                raised[alarm].append(pair.utterance)
    return [AlarmCount(alarm, texts, num_pairs, tuple(of_alarm)) for alarm, of_alarm in raised.items()]


# --- the single alarms --------------------------------------------------------------------------------------


def _is_empty(pair: _Pair) -> bool:
    return bool(pair.reference) and not pair.hypothesis


def _has_odd_length(pair: _Pair) -> bool:
    num_words, num_expected = len(pair.hypothesis.split()), len(pair.reference.split())
    is_far_off = not MIN_LENGTH_RATIO * num_expected <= num_words <= MAX_LENGTH_RATIO * num_expected
    return is_far_off and num_words > 0 and abs(num_words - num_expected) >= MIN_LENGTH_DIFFERENCE


# Latin blocks with letters: Basic, Latin-1, Extended-A to IPA, modifiers, combining marks, Additional,
# ligatures and full-width forms. The micro sign stands in units.
NOT_LATIN: Final = re.compile(
    r"(?![A-Za-z\u00aa\u00b5\u00ba\u00c0-\u036f\u1e00-\u1eff\ufb00-\ufb06\uff21-\uff5a])[^\W\d_]"
)
"""A letter of another script."""


def _is_in_wrong_language(pair: _Pair) -> bool:
    foreign = set(NOT_LATIN.findall(pair.raw_hypothesis))
    if foreign and not foreign <= set(pair.raw_reference):
        return True
    return _is_english_throughout(pair) and _is_mostly_vietnamese(pair.raw_reference)


def _is_english_throughout(pair: _Pair) -> bool:
    # Tagging is slow, and nearly every Vietnamese sentence has letters that English lacks.
    if not pair.hypothesis.isascii():
        return False
    tags = [tag for _, tag in tag_words(pair.raw_hypothesis)]
    return tags.count(WordTag.ENGLISH) >= MIN_ENGLISH_WORDS and WordTag.VIETNAMESE not in tags


def _is_mostly_vietnamese(text: str) -> bool:
    tags = [tag for _, tag in tag_words(text)]
    return tags.count(WordTag.VIETNAMESE) > tags.count(WordTag.ENGLISH)


_SIGN_OFF: Final = re.compile(rf"(?<!\S)(?:{'|'.join(map(re.escape, SIGN_OFFS))})(?!\S)")


def _signs_off(pair: _Pair) -> bool:
    if not _SIGN_OFF.search(pair.hypothesis):
        return False
    said = (pair.utterance.transcript, pair.utterance.translation)
    return not any(_SIGN_OFF.search(normalize_for_scoring(text)) for text in said)


def _repeats(pair: _Pair) -> bool:
    return is_loop(pair.reference, pair.hypothesis)


_OF_TEXTS: Final[Mapping[Alarm, Callable[[_Pair], bool]]] = {
    Alarm.REPETITION_LOOPS: _repeats,
    Alarm.EMPTY_OUTPUTS: _is_empty,
    Alarm.LENGTH_RATIO: _has_odd_length,
    Alarm.WRONG_LANGUAGE: _is_in_wrong_language,
    Alarm.SIGN_OFFS: _signs_off,
}


def _is_same_for_both_tasks(prediction: Prediction) -> bool:
    hypothesis = normalize_for_scoring(str(prediction.transcript_hypothesis))
    if not hypothesis or hypothesis != normalize_for_scoring(str(prediction.translation_hypothesis)):
        return False
    return normalize_for_scoring(prediction.transcript) != normalize_for_scoring(prediction.translation)


# --- what is told about them --------------------------------------------------------------------------------


def alarms_record(counts: Sequence[AlarmCount]) -> dict[str, dict[str, Any]]:
    """Plain JSON data: by alarm, by kind of texts `num`, `num_checked`, `share` (percent), `examples` (the
    first `MAX_EXAMPLES`: `id`, `text`)."""
    record: dict[str, dict[str, Any]] = {}
    for count in counts:
        record.setdefault(count.alarm.value, {})[count.texts] = {
            "num": len(count.raised),
            "num_checked": count.num_checked,
            "share": count.share,
            "examples": [{"id": p.id, "text": count.text_of(p)} for p in count.raised[:MAX_EXAMPLES]],
        }
    return record


ALARM_LABELS: Final[Mapping[str, str]] = {
    Alarm.REPETITION_LOOPS: "Repetition loops",
    Alarm.EMPTY_OUTPUTS: "Empty outputs",
    Alarm.LENGTH_RATIO: "Much too short or too long",
    Alarm.WRONG_LANGUAGE: "Wrong language or script",
    Alarm.SIGN_OFFS: "Sign-off phrases nobody said",
    Alarm.SAME_FOR_BOTH_TASKS: "Translation equal to the transcript though it should differ",
}

_MAX_SHOWN_CHARACTERS: Final = 60


def alarm_lines(record: Mapping[str, Mapping[str, Any]], min_share: float = 0.0) -> list[str]:
    """A line for people for every alarm of an `alarms_record` that was raised, with an example.

    Args:
        min_share: percent; only alarms over a larger share of some kind of texts.
    """
    lines = []
    for alarm, by_texts in record.items():
        raised = {texts: found for texts, found in by_texts.items() if found["share"] > min_share}
        if raised:
            counts = (
                f"{found['num']:,} of {found['num_checked']:,} {name}" for name, found in raised.items()
            )
            example = next(iter(raised.values()))["examples"][0]
            lines.append(f"{ALARM_LABELS[alarm]}: {' and '.join(counts)}, e.g. {_shown(example)}.")
    return lines


def _shown(example: Mapping[str, str]) -> str:
    text = " ".join(example["text"].split())
    shown = f"{text[:_MAX_SHOWN_CHARACTERS]} …" if len(text) > _MAX_SHOWN_CHARACTERS else text
    return f"{example['id']} “{shown}”"
