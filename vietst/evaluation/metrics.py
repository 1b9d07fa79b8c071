"""Scores of transcripts and translations: arrays of texts in, numbers from 0 to 100 out.

Error rates come from jiwer, BLEU and chrF from sacreBLEU, unchanged; this file only decides which texts they
see. WER and CER lead on normalized text (`vietst.text.normalize_for_scoring`: tones kept, case and
punctuation out), BLEU and chrF on raw text; the other variant stands beside each, named `_raw` or
`_normalized`. In Vietnamese a word between spaces is a syllable, and that is what WER counts.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vietst.text import NORMALIZER_ID, normalize_for_scoring


@dataclass(frozen=True)
class Prediction:
    """One utterance: what was said, and what the model wrote.

    A hypothesis of None means that the task was not run on this utterance; an empty text means that the model
    wrote nothing. An empty `translation` means that the manifest has none.
    """

    id: str
    video_id: str
    duration_s: float
    transcript: str
    translation: str
    transcript_hypothesis: str | None = None
    translation_hypothesis: str | None = None


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


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Edits between all hypotheses and references, in words, per 100 words of the references (`jiwer.wer`).

    Can exceed 100. An empty reference stays in: whatever was written for it counts as inserted. Where no
    reference holds a word at all there is no rate: 0 then says that nothing was written, 100 that
    something was.

    Raises:
        ValueError: no utterances, or not one hypothesis for each reference.
    """
    import jiwer

    _check_pairs(references, hypotheses)
    if not any(text.strip() for text in references):
        return _rate_without_reference(hypotheses)
    return 100 * float(jiwer.wer(reference=list(references), hypothesis=list(hypotheses)))


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """As `word_error_rate`, in characters, spaces between words among them (`jiwer.cer`)."""
    import jiwer

    _check_pairs(references, hypotheses)
    if not any(text.strip() for text in references):
        return _rate_without_reference(hypotheses)
    return 100 * float(jiwer.cer(reference=list(references), hypothesis=list(hypotheses)))


def _rate_without_reference(hypotheses: Sequence[str]) -> float:
    return 100.0 if any(text.strip() for text in hypotheses) else 0.0


def bleu(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Corpus BLEU, 0–100, sacreBLEU's defaults (13a tokens, exponential smoothing), one reference each.

    Raises:
        ValueError: no utterances, or not one hypothesis for each reference.
    """
    return _sacrebleu_score("BLEU", references, hypotheses)


def chrf(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Corpus chrF2, 0–100, sacreBLEU's defaults (6 characters, no words), one reference each.

    Raises:
        ValueError: no utterances, or not one hypothesis for each reference.
    """
    return _sacrebleu_score("CHRF", references, hypotheses)


def _sacrebleu_score(metric_name: str, references: Sequence[str], hypotheses: Sequence[str]) -> float:
    import sacrebleu

    _check_pairs(references, hypotheses)
    # sacreBLEU wants a list of reference *sets*: [[r1, r2, …]], not [[r1], [r2], …] as Hugging Face's
    # `evaluate` does; the latter is accepted too and scores the first hypothesis alone.
    return float(getattr(sacrebleu, metric_name)().corpus_score(list(hypotheses), [list(references)]).score)


def _check_pairs(references: Sequence[str], hypotheses: Sequence[str]) -> None:
    if not references or len(references) != len(hypotheses):
        raise ValueError(
            f"scores need one hypothesis for each reference and at least one pair, "
            f"not {len(references)} references and {len(hypotheses)} hypotheses"
        )


def metric_signatures() -> dict[str, str]:
    """What exactly was computed: library, version and settings of each leading metric."""
    from importlib.metadata import version

    import sacrebleu

    error_rate = f"jiwer:{version('jiwer')}|normalizer:{NORMALIZER_ID}"
    signatures = {"wer": error_rate, "cer": error_rate}
    for name, metric in (("bleu", sacrebleu.BLEU()), ("chrf", sacrebleu.CHRF())):
        metric.corpus_score(["a"], [["a"]])  # the number of references is known only after a score
        signatures[name] = str(metric.get_signature())
    return signatures


def transcript_pairs(predictions: Sequence[Prediction]) -> tuple[list[str], list[str]]:
    """References and hypotheses of the utterances that were transcribed."""
    pairs = [
        (p.transcript, p.transcript_hypothesis) for p in predictions if p.transcript_hypothesis is not None
    ]
    return [reference for reference, _ in pairs], [hypothesis for _, hypothesis in pairs]


def translation_pairs(predictions: Sequence[Prediction]) -> tuple[list[str], list[str]]:
    """References and hypotheses of the utterances that were translated and have a reference translation."""
    pairs = [
        (p.translation, p.translation_hypothesis)
        for p in predictions
        if p.translation_hypothesis is not None and p.translation.strip()
    ]
    return [reference for reference, _ in pairs], [hypothesis for _, hypothesis in pairs]


def transcription_scores(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float]:
    """`wer`, `cer` on normalized text, `wer_raw`, `cer_raw` on the texts as they are."""
    normalized = _normalized(references), _normalized(hypotheses)
    return {
        "wer": word_error_rate(*normalized),
        "cer": character_error_rate(*normalized),
        "wer_raw": word_error_rate(references, hypotheses),
        "cer_raw": character_error_rate(references, hypotheses),
    }


def translation_scores(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float]:
    """`bleu`, `chrf` on the texts as they are, `bleu_normalized`, `chrf_normalized` on normalized text."""
    normalized = _normalized(references), _normalized(hypotheses)
    return {
        "bleu": bleu(references, hypotheses),
        "chrf": chrf(references, hypotheses),
        "bleu_normalized": bleu(*normalized),
        "chrf_normalized": chrf(*normalized),
    }


def _normalized(texts: Sequence[str]) -> list[str]:
    return [normalize_for_scoring(text) for text in texts]


def score_predictions(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """All scores of one test set, and what they were computed on.

    Returns `transcription_scores` where any utterance was transcribed and `translation_scores` where any was
    translated (the keys of a task that was not run are absent), and always:

    * `normalizer`, `metric_signatures`; `num_utterances`, `num_videos`, `audio_s` (seconds);
    * `num_transcribed`, `num_translated`: the scored pairs of each task;
    * `num_empty_references`: transcribed utterances whose reference holds no word after normalization. They
      stay in WER and CER;
    * `num_missing_translations`: translated utterances without a reference. They are left out of
      BLEU and chrF.

    Raises:
        ValueError: no predictions.
    """
    if not predictions:
        raise ValueError("there are no predictions to score")
    transcripts, _ = transcript_pairs(predictions)
    translations, _ = translation_pairs(predictions)
    num_translation_hypotheses = sum(p.translation_hypothesis is not None for p in predictions)
    return {
        **_scores_of_tasks(predictions),
        "normalizer": NORMALIZER_ID,
        "metric_signatures": metric_signatures(),
        "num_utterances": len(predictions),
        "num_videos": len({p.video_id for p in predictions}),
        "audio_s": sum(p.duration_s for p in predictions),
        "num_transcribed": len(transcripts),
        "num_translated": len(translations),
        "num_empty_references": sum(not normalize_for_scoring(reference) for reference in transcripts),
        "num_missing_translations": num_translation_hypotheses - len(translations),
    }


def _scores_of_tasks(predictions: Sequence[Prediction]) -> dict[str, float]:
    scores: dict[str, float] = {}
    references, hypotheses = transcript_pairs(predictions)
    if references:
        scores |= transcription_scores(references, hypotheses)
    references, hypotheses = translation_pairs(predictions)
    if references:
        scores |= translation_scores(references, hypotheses)
    return scores


def utterance_scores(prediction: Prediction) -> dict[str, float]:
    """`wer`, `cer` (normalized) and `chrf` (raw) of one utterance; what was not run is absent."""
    scores: dict[str, float] = {}
    references, hypotheses = transcript_pairs([prediction])
    if references:
        normalized = _normalized(references), _normalized(hypotheses)
        scores |= {"wer": word_error_rate(*normalized), "cer": character_error_rate(*normalized)}
    references, hypotheses = translation_pairs([prediction])
    if references:
        scores["chrf"] = chrf(references, hypotheses)
    return scores


def scores_by_video(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """One row per video, ordered by id: `video_id`, `num_utterances`, `audio_s` and, of the tasks that were
    run, `wer`, `cer`, `bleu`, `chrf`."""
    by_video: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        by_video.setdefault(prediction.video_id, []).append(prediction)
    rows: list[dict[str, Any]] = []
    for video_id, members in sorted(by_video.items()):
        scores = _scores_of_tasks(members)
        facts = {"num_utterances": len(members), "audio_s": sum(p.duration_s for p in members)}
        rows.append(
            {"video_id": video_id, **facts} | {key: scores[key] for key in GUIDE_TARGETS if key in scores}
        )
    return rows


def baselines(
    predictions: Sequence[Prediction],
    training_transcripts: Sequence[str],
    training_translations: Sequence[str],
    seed: int,
) -> dict[str, dict[str, float]]:
    """What needs no model, scored on the same references by the same scorer.

    `copy`: the transcript handed in as the translation (`bleu`, `chrf`). Most of a code-switched sentence is
    already Vietnamese, so this scores high. `random_training_sentence`: for each utterance a text drawn from
    the training split (`wer`, `cer`, `bleu`, `chrf`): what a model gets that learned the sentences and
    does not listen. A baseline is absent where the references or the training texts for it are.
    """
    generator = random.Random(seed)
    translated = [p for p in predictions if p.translation.strip()]
    translations = [p.translation for p in translated]
    transcripts = [p.transcript for p in predictions]
    result: dict[str, dict[str, float]] = {}
    if translated:
        copies = [p.transcript for p in translated]
        result["copy"] = {"bleu": bleu(translations, copies), "chrf": chrf(translations, copies)}
    drawn: dict[str, float] = {}
    if transcripts and (candidates := [text for text in training_transcripts if text.strip()]):
        scores = transcription_scores(transcripts, generator.choices(candidates, k=len(transcripts)))
        drawn |= {"wer": scores["wer"], "cer": scores["cer"]}
    if translated and (candidates := [text for text in training_translations if text.strip()]):
        texts = generator.choices(candidates, k=len(translations))
        drawn |= {"bleu": bleu(translations, texts), "chrf": chrf(translations, texts)}
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
