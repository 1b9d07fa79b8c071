"""Scores of transcripts and translations: arrays of texts in, numbers from 0 to 100 out.

Error rates come from jiwer, BLEU and chrF from sacreBLEU, unchanged; this file only decides which texts they
see. WER and CER lead on normalized text (`vietst.text.normalize_for_scoring`: tones kept, case and
punctuation out), BLEU and chrF on raw text; the other variant stands beside each, named `_raw` or
`_normalized`. WER has a third, `wer_numbers_loanwords`, in which numbers and loanwords are equal however they
are written: what it is lower by is convention, not hearing. In Vietnamese a word between spaces is a
syllable, and that is what WER counts.
"""

import dataclasses
import operator
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vietst.evaluation.changed_spans import CHANGE_ID, changed_span_counts
from vietst.evaluation.repetition import LOOP_ID
from vietst.evaluation.score_counts import (
    NUM_CHRF_WORD_ORDERS,
    ScoreCounts,
    bleu_counts,
    character_error_counts,
    chrf_counts,
    ter_counts,
    word_error_counts,
)
from vietst.evaluation.scoring_normalizer import ScoringNormalizer
from vietst.evaluation.significance import confidence_interval
from vietst.text import NORMALIZER_ID, normalize_for_scoring
from vietst.text_style import AS_IS, TextStyle, styled


@dataclass(frozen=True)
class Prediction:
    """One utterance: what was said, and what the model wrote.

    A hypothesis of None means that the task was not run on this utterance; an empty text means that the model
    wrote nothing. An empty `translation` means that the manifest has none. What is known of the recording
    besides (`""` or None: not known) serves slices and audio players.
    """

    id: str
    video_id: str
    duration_s: float
    transcript: str
    translation: str
    transcript_hypothesis: str | None = None
    translation_hypothesis: str | None = None
    speaker_id: str = ""
    data_source: str = ""
    """Of several, see `vietst.data.sources`."""
    audio_path: str = ""
    """Relative to the audio root; of a piece of a recording its locator, see `vietst.data.audio_pieces`."""
    level_dbfs: float | None = None
    """Root mean square of the waveform, full scale 0 dB."""
    text_style: TextStyle = AS_IS
    """How the model was taught to write: references are scored in this style."""
    verified: str = ""
    """`true` or `false`: whether a person has compared the texts with the audio."""


@dataclass(frozen=True)
class Target:
    """What the project's guide asks of a metric."""

    limit: float
    lower_is_better: bool

    def met_by(self, value: float) -> bool:
        return value < self.limit if self.lower_is_better else value > self.limit

    def __str__(self) -> str:
        return f"{'<' if self.lower_is_better else '>'} {self.limit:g}"


GUIDE_TARGETS: Final[Mapping[str, Target]] = {
    "wer": Target(15, lower_is_better=True),
    "cer": Target(10, lower_is_better=True),
    "bleu": Target(25, lower_is_better=False),
    "chrf": Target(50, lower_is_better=False),
}

NUMBERS_AND_LOANWORDS: Final = ScoringNormalizer(numbers=True, loanwords=True)

WER_NORMALIZERS: Final[Mapping[str, str]] = {
    "wer_raw": "none",
    "wer": NORMALIZER_ID,
    "wer_numbers_loanwords": NUMBERS_AND_LOANWORDS.id,
}
"""The word error rates, and which rules make texts equal before each."""


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Edits between all hypotheses and references, in words, per 100 words of the references, as `jiwer.wer`.

    Can exceed 100. An empty reference stays in: whatever was written for it counts as inserted. Where no
    reference holds a word at all there is no rate: 0 then says that nothing was written, 100 that
    something was.

    Raises:
        ValueError: no utterances, or not one hypothesis for each reference.
    """
    _check_pairs(references, hypotheses)
    return word_error_counts(references, hypotheses).score


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """As `word_error_rate`, in characters, spaces between words among them (as `jiwer.cer`)."""
    _check_pairs(references, hypotheses)
    return character_error_counts(references, hypotheses).score


def bleu(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Corpus BLEU, 0–100, sacreBLEU's defaults (13a tokens, exponential smoothing), one reference each.

    Raises:
        ValueError: no utterances, or not one hypothesis for each reference.
    """
    _check_pairs(references, hypotheses)
    return bleu_counts(references, hypotheses).score


def chrf(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Corpus chrF2, 0–100, sacreBLEU's defaults (6 characters, no words), one reference each.

    Raises:
        ValueError: no utterances, or not one hypothesis for each reference.
    """
    _check_pairs(references, hypotheses)
    return chrf_counts(references, hypotheses)[0].score


def _check_pairs(references: Sequence[str], hypotheses: Sequence[str]) -> None:
    if not references or len(references) != len(hypotheses):
        raise ValueError(
            f"scores need one hypothesis for each reference and at least one pair, "
            f"not {len(references)} references and {len(hypotheses)} hypotheses"
        )


def metric_signatures(*, with_ter: bool = False) -> dict[str, str]:
    """What exactly was computed: library, version and settings of each leading metric."""
    from importlib.metadata import version

    import sacrebleu

    jiwer = f"jiwer:{version('jiwer')}"
    signatures = {name: f"{jiwer}|normalizer:{rules}" for name, rules in WER_NORMALIZERS.items()}
    signatures["cer"] = signatures["wer"]
    with_words = sacrebleu.CHRF(word_order=NUM_CHRF_WORD_ORDERS)
    metrics = {"bleu": sacrebleu.BLEU(), "chrf": sacrebleu.CHRF(), "chrf++": with_words}
    for name, metric in (metrics | ({"ter": sacrebleu.TER()} if with_ter else {})).items():
        metric.corpus_score(["a"], [["a"]])  # the number of references is known only after a score
        signatures[name] = str(metric.get_signature())
    signatures["change"] = f"{CHANGE_ID}|normalizer:{NORMALIZER_ID}"
    signatures["loops"] = f"{LOOP_ID}|normalizer:{NORMALIZER_ID}"
    return signatures


# --- all scores of a test set from one pass over its texts ------------------------------------------------


def count_scores(predictions: Sequence[Prediction], *, with_ter: bool = False) -> dict[str, ScoreCounts]:
    """What every score of a test set is computed from, by the score's name.

    Of the transcripts `wer`, `cer` on normalized text, `wer_raw`, `cer_raw` on the texts as they are,
    `wer_numbers_loanwords` with numbers and loanwords normalized too; of the translations `bleu`, `chrf`,
    `chrf++` and, if asked for, `ter` as they are, `bleu_normalized`, `chrf_normalized` and, of what was to be
    changed, `change` with its parts (`changed_span_counts`) normalized. What was run on no utterance is
    absent. Rows stand in the order of the predictions. References are scored in the style of their
    predictions.
    """
    predictions = list(map(in_own_style, predictions))
    counts: dict[str, ScoreCounts] = {}
    if transcribed := [index for index, p in enumerate(predictions) if is_transcribed(p)]:
        references = [predictions[index].transcript for index in transcribed]
        hypotheses = [str(predictions[index].transcript_hypothesis) for index in transcribed]
        for score in _transcript_counts(references, hypotheses):
            counts[score.name] = score.spread(transcribed, len(predictions))
    if translated := [index for index, p in enumerate(predictions) if is_translated(p)]:
        references = [predictions[index].translation for index in translated]
        hypotheses = [str(predictions[index].translation_hypothesis) for index in translated]
        transcripts = [predictions[index].transcript for index in translated]
        for score in _translation_counts(transcripts, references, hypotheses):
            counts[score.name] = score.spread(translated, len(predictions))
        if with_ter:
            counts["ter"] = ter_counts(references, hypotheses).spread(translated, len(predictions))
    return counts


def in_own_style(prediction: Prediction) -> Prediction:
    """With references in the style that the model was taught to write."""
    return _styled(prediction, prediction.text_style, "transcript", "translation")


def written_in(prediction: Prediction, style: TextStyle) -> Prediction:
    """As if the model had been taught a style: for a comparison with one that was."""
    written = _styled(prediction, style, "transcript_hypothesis", "translation_hypothesis")
    return dataclasses.replace(written, text_style=style)


def _styled(prediction: Prediction, style: TextStyle, *names: str) -> Prediction:
    if style == AS_IS:
        return prediction
    texts = {name: getattr(prediction, name) for name in names}
    changed: Any = {name: styled(text, style) for name, text in texts.items() if text is not None}
    return dataclasses.replace(prediction, **changed)


def is_transcribed(prediction: Prediction) -> bool:
    """Whether the task was run; an empty reference is scored, too."""
    return prediction.transcript_hypothesis is not None


def is_translated(prediction: Prediction) -> bool:
    """Translated, with a reference to score it by."""
    return prediction.translation_hypothesis is not None and bool(prediction.translation.strip())


def _transcript_counts(references: Sequence[str], hypotheses: Sequence[str]) -> list[ScoreCounts]:
    normalized = _normalized(references), _normalized(hypotheses)
    return [
        word_error_counts(*normalized),
        character_error_counts(*normalized),
        word_error_counts(references, hypotheses).renamed("wer_raw"),
        character_error_counts(references, hypotheses).renamed("cer_raw"),
        word_error_counts(
            [NUMBERS_AND_LOANWORDS(text) for text in references],
            [NUMBERS_AND_LOANWORDS(text) for text in hypotheses],
        ).renamed("wer_numbers_loanwords"),
    ]


def _translation_counts(
    transcripts: Sequence[str], references: Sequence[str], hypotheses: Sequence[str]
) -> list[ScoreCounts]:
    normalized = _normalized(references), _normalized(hypotheses)
    return [
        bleu_counts(references, hypotheses),
        *chrf_counts(references, hypotheses),
        bleu_counts(*normalized).renamed("bleu_normalized"),
        chrf_counts(*normalized)[0].renamed("chrf_normalized"),
        *changed_span_counts(_normalized(transcripts), *normalized),
    ]


def _normalized(texts: Sequence[str]) -> list[str]:
    return [normalize_for_scoring(text) for text in texts]


def score_predictions(
    predictions: Sequence[Prediction], counts: Mapping[str, ScoreCounts] | None = None
) -> dict[str, Any]:
    """All scores of one test set, and what they were computed on.

    Args:
        counts: from `count_scores`, where the caller has them already, perhaps with others.

    Returns the scores of `counts` (those of a task that was not run are absent), and always:

    * `normalizer`, `wer_normalizers` (of each word error rate), `metric_signatures`;
    * `num_utterances`, `num_videos`, `audio_s` (seconds);
    * `num_transcribed`, `num_translated`: the scored pairs of each task;
    * `num_empty_references`: transcribed utterances whose reference holds no word after normalization. They
      stay in WER and CER;
    * `num_missing_translations`: translated utterances without a reference. They are left out of
      BLEU and chrF;
    * `copy_rate`: hypotheses of translations that equal the transcript after normalization, per 100, and
      `reference_copy_rate`, the same of the references (nothing was to be translated there).

    Raises:
        ValueError: no predictions.
    """
    if not predictions:
        raise ValueError("there are no predictions to score")
    counts = count_scores(predictions) if counts is None else counts
    transcribed = [p for p in predictions if is_transcribed(p)]
    num_translated = sum(map(is_translated, predictions))
    num_translation_hypotheses = sum(p.translation_hypothesis is not None for p in predictions)
    return {
        **{name: score.score for name, score in counts.items()},
        "normalizer": NORMALIZER_ID,
        "wer_normalizers": dict(WER_NORMALIZERS),
        "metric_signatures": metric_signatures(with_ter="ter" in counts),
        "num_utterances": len(predictions),
        "num_videos": len({p.video_id for p in predictions}),
        "audio_s": sum(p.duration_s for p in predictions),
        "num_transcribed": len(transcribed),
        "num_translated": num_translated,
        "num_empty_references": sum(not normalize_for_scoring(p.transcript) for p in transcribed),
        "num_missing_translations": num_translation_hypotheses - num_translated,
        **_copy_rates(list(filter(is_translated, predictions))),
    }


def _copy_rates(translated: Sequence[Prediction]) -> dict[str, float]:
    if not translated:
        return {}
    transcripts = _normalized([p.transcript for p in translated])
    hypotheses = _normalized([str(p.translation_hypothesis) for p in translated])
    references = _normalized([p.translation for p in translated])
    return {
        name: 100 * sum(map(operator.eq, transcripts, texts)) / len(translated)
        for name, texts in (("copy_rate", hypotheses), ("reference_copy_rate", references))
    }


def utterance_scores(
    predictions: Sequence[Prediction], counts: Mapping[str, ScoreCounts]
) -> list[dict[str, float]]:
    """`wer`, `cer` (normalized), `chrf` (raw) and `comet` of each utterance, where they were computed."""
    names = ("wer", "cer", "chrf", "comet")
    of_each = {name: counts[name].score_of(counts[name].counts) for name in names if name in counts}
    rows = []
    for index, prediction in enumerate(predictions):
        was_scored = {name: is_transcribed(prediction) for name in ("wer", "cer")}
        was_scored |= {name: is_translated(prediction) for name in ("chrf", "comet")}
        rows.append({name: float(scores[index]) for name, scores in of_each.items() if was_scored[name]})
    return rows


def scores_by_video(
    predictions: Sequence[Prediction], counts: Mapping[str, ScoreCounts]
) -> list[dict[str, Any]]:
    """One row per video, ordered by id: `video_id`, `num_utterances`, `audio_s` and, of the tasks that were
    run on it, `wer`, `cer`, `bleu`, `chrf`."""
    by_video: dict[str, list[int]] = {}
    for index, prediction in enumerate(predictions):
        by_video.setdefault(prediction.video_id, []).append(index)
    rows: list[dict[str, Any]] = []
    for video_id, members in sorted(by_video.items()):
        of_video = [predictions[index] for index in members]
        was_scored = {name: any(map(is_transcribed, of_video)) for name in ("wer", "cer")}
        was_scored |= {name: any(map(is_translated, of_video)) for name in ("bleu", "chrf")}
        rows.append(
            {
                "video_id": video_id,
                "num_utterances": len(members),
                "audio_s": sum(p.duration_s for p in of_video),
                **{name: counts[name].select(members).score for name in GUIDE_TARGETS if was_scored[name]},
            }
        )
    return rows


def score_intervals(
    predictions: Sequence[Prediction], counts: Mapping[str, ScoreCounts]
) -> dict[str, dict[str, float | str]]:
    """The 95 % confidence interval of each score, by its name: `low` and `high` in points, or `why_none`."""
    video_ids = [p.video_id for p in predictions]
    return {name: confidence_interval(score, video_ids).as_record() for name, score in counts.items()}


def baselines(
    predictions: Sequence[Prediction],
    training_transcripts: Sequence[str],
    training_translations: Sequence[str],
    seed: int,
) -> dict[str, dict[str, float]]:
    """What needs no model, scored on the same references by the same scorer.

    `copy`: the transcript handed in as the translation (`bleu`, `chrf`, `chrf++`, `change`). Most of a
    code-switched sentence is already Vietnamese, so this scores high, but for `change`.
    `random_training_sentence`: for each utterance a text drawn from
    the training split (`wer`, `cer`, `bleu`, `chrf`, `change`): what a model gets that learned the sentences
    and does not listen. In `change` that is far from 0: whoever writes something else deletes all that
    has to be deleted. A baseline is absent where the references or the training texts for it are.
    """
    generator = random.Random(seed)
    predictions = list(map(in_own_style, predictions))
    translated = [p for p in predictions if p.translation.strip()]
    translations = [p.translation for p in translated]
    transcripts = [p.transcript for p in predictions]
    result: dict[str, dict[str, float]] = {}
    if translated:
        copies = [p.transcript for p in translated]
        normalized_copies = _normalized(copies)
        change, *_ = changed_span_counts(normalized_copies, _normalized(translations), normalized_copies)
        of_copies = (bleu_counts(translations, copies), *chrf_counts(translations, copies), change)
        result["copy"] = {score.name: score.score for score in of_copies}
    drawn: dict[str, float] = {}
    if transcripts and (candidates := [text for text in training_transcripts if text.strip()]):
        texts = _normalized(generator.choices(candidates, k=len(transcripts)))
        normalized = _normalized(transcripts)
        drawn |= {
            "wer": word_error_rate(normalized, texts),
            "cer": character_error_rate(normalized, texts),
        }
    if translated and (candidates := [text for text in training_translations if text.strip()]):
        style = translated[0].text_style
        texts = [styled(text, style) for text in generator.choices(candidates, k=len(translations))]
        sources = _normalized([p.transcript for p in translated])
        change, *_ = changed_span_counts(sources, _normalized(translations), _normalized(texts))
        of_texts = (bleu_counts(translations, texts), chrf_counts(translations, texts)[0], change)
        drawn |= {score.name: score.score for score in of_texts}
    if drawn:
        result["random_training_sentence"] = drawn
    return result


def check_targets(scores: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each of the guide's metrics in `scores`: `target` ("< 15"), `value` and whether it is `met`."""
    return {
        name: {"target": str(target), "value": scores[name], "met": target.met_by(scores[name])}
        for name, target in GUIDE_TARGETS.items()
        if name in scores
    }


def bleu_above_copy(scores: Mapping[str, Any], baseline_scores: Mapping[str, Any]) -> float | None:
    """BLEU points above the copy baseline; None where either is missing. Near 0, nothing was translated."""
    if "bleu" not in scores or "copy" not in baseline_scores:
        return None
    return float(scores["bleu"] - baseline_scores["copy"]["bleu"])
