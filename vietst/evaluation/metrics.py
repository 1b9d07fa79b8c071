"""Scores of transcripts and translations: arrays of texts in, numbers from 0 to 100 out.

Error rates come from jiwer, BLEU and chrF from sacreBLEU, unchanged; this file only decides which texts they
see. WER and CER lead on normalized text (`vietst.text.normalize_for_scoring`: tones kept, case and
punctuation out), BLEU and chrF on raw text; the other variant stands beside each, named `_raw` or
`_normalized`. WER has a third, `wer_numbers_loanwords`, in which numbers and loanwords are equal however they
are written: what it is lower by is convention, not hearing. In Vietnamese a word between spaces is a
syllable, and that is what WER counts.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from vietst.evaluation.blocks import blocks
from vietst.evaluation.changed_spans import CHANGE_ID, change_scores, count_changed_spans
from vietst.evaluation.repetition import LOOP_ID
from vietst.evaluation.score_counts import (
    NUM_CHRF_WORD_ORDERS,
    ScoreCounts,
    bleu_counts,
    bleu_score,
    character_error_counts,
    chrf_counts,
    chrf_plus_plus_score,
    chrf_score,
    count_bleu,
    count_character_errors,
    count_chrf,
    count_translation_edits,
    count_word_errors,
    error_rate,
    word_error_counts,
)
from vietst.evaluation.scoring_normalizer import ScoringNormalizer
from vietst.evaluation.significance import confidence_interval, numbered
from vietst.text import NORMALIZER_ID, normalize_for_scoring
from vietst.text_style import AS_IS, TextStyle, styled


@dataclass(frozen=True, slots=True)
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
    changed, `change` with its parts (`change_scores`) normalized. What was run on no utterance is
    absent. Rows stand in the order of the predictions. References are scored in the style of their
    predictions.
    """
    of_translations = functools.partial(_translation_counts, with_ter=with_ter)
    counts: dict[str, np.ndarray] = {}
    for was_run, count in ((is_transcribed, _transcript_counts), (is_translated, of_translations)):
        scored = [index for index, p in enumerate(predictions) if was_run(p)]
        for block in blocks(scored):
            for name, of_block in count([in_own_style(predictions[index]) for index in block]).items():
                if name not in counts:
                    counts[name] = np.zeros((len(predictions), of_block.shape[1]), of_block.dtype)
                counts[name][block] = of_block
    scores = (score for name, of_name in counts.items() for score in _scores_of_counts(name, of_name))
    return {score.name: score for score in scores}


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
    """Translated, with a reference to score it by: in a style without punctuation "…" is none."""
    if prediction.translation_hypothesis is None:
        return False
    return bool(styled(prediction.translation, prediction.text_style).strip())


def _transcript_counts(predictions: Sequence[Prediction]) -> dict[str, np.ndarray]:
    references = [p.transcript for p in predictions]
    hypotheses = [str(p.transcript_hypothesis) for p in predictions]
    normalized = _normalized(references), _normalized(hypotheses)
    return {
        "wer": count_word_errors(*normalized),
        "cer": count_character_errors(*normalized),
        "wer_raw": count_word_errors(references, hypotheses),
        "cer_raw": count_character_errors(references, hypotheses),
        "wer_numbers_loanwords": count_word_errors(
            [NUMBERS_AND_LOANWORDS(text) for text in references],
            [NUMBERS_AND_LOANWORDS(text) for text in hypotheses],
        ),
    }


def _translation_counts(predictions: Sequence[Prediction], *, with_ter: bool) -> dict[str, np.ndarray]:
    references = [p.translation for p in predictions]
    hypotheses = [str(p.translation_hypothesis) for p in predictions]
    normalized = _normalized(references), _normalized(hypotheses)
    counts = {
        "bleu": count_bleu(references, hypotheses),
        "chrf++": count_chrf(references, hypotheses),
        "bleu_normalized": count_bleu(*normalized),
        "chrf_normalized": count_chrf(*normalized),
        "change": count_changed_spans(_normalized([p.transcript for p in predictions]), *normalized),
    }
    return counts | ({"ter": count_translation_edits(references, hypotheses)} if with_ter else {})


def _scores_of_counts(name: str, counts: np.ndarray) -> list[ScoreCounts]:
    """All scores that can be told from what was counted under a name."""
    if name == "change":
        return change_scores(counts)
    if name == "chrf++":
        return [chrf_score("chrf", counts), chrf_plus_plus_score("chrf++", counts)]
    of_name = {"bleu": bleu_score, "bleu_normalized": bleu_score, "chrf_normalized": chrf_score}
    return [of_name.get(name, error_rate)(name, counts)]


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
    num_copies, num_equal_references = 0, 0
    for prediction in translated:
        transcript = normalize_for_scoring(prediction.transcript)
        num_copies += transcript == normalize_for_scoring(str(prediction.translation_hypothesis))
        num_equal_references += transcript == normalize_for_scoring(prediction.translation)
    return {
        "copy_rate": 100 * num_copies / len(translated),
        "reference_copy_rate": 100 * num_equal_references / len(translated),
    }


def utterance_scores(
    predictions: Sequence[Prediction], counts: Mapping[str, ScoreCounts]
) -> dict[str, np.ndarray]:
    """`wer`, `cer` (normalized), `chrf` (raw) and `comet`, as far as they were computed: float64
    [num_utterances], NaN for utterances that have no part in the score."""
    of_task = {
        is_transcribed: np.array(list(map(is_transcribed, predictions))),
        is_translated: np.array(list(map(is_translated, predictions))),
    }
    names = {"wer": is_transcribed, "cer": is_transcribed, "chrf": is_translated, "comet": is_translated}
    return {
        name: np.where(of_task[was_run], counts[name].score_of(counts[name].counts), np.nan)
        for name, was_run in names.items()
        if name in counts
    }


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
    videos = numbered([p.video_id for p in predictions])
    return {name: confidence_interval(score, videos).as_record() for name, score in counts.items()}


def check_targets(scores: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each of the guide's metrics in `scores`: `target` ("< 15"), `value` and whether it is `met`."""
    return {
        name: {"target": str(target), "value": scores[name], "met": target.met_by(scores[name])}
        for name, target in GUIDE_TARGETS.items()
        if name in scores
    }
