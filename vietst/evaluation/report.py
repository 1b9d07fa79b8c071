"""Results of one evaluation as files, and as the table that a person sees.

`<run>_metrics.json` holds the scores (0–100) and all that is needed to judge and trace them,
`<run>_predictions.csv` every reference and hypothesis. Both can be read back here, without a model.
"""

import csv
import json
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast, get_args

import numpy as np

from vietst.data.records import format_record
from vietst.data.sources import SOURCE_COLUMN
from vietst.data.tables import atomic_writer
from vietst.data.verified import VERIFIED_COLUMN, format_verified
from vietst.errors import VietstError
from vietst.evaluation.alarms import alarm_lines, alarms_record, raise_alarms
from vietst.evaluation.code_switching import code_switching_scores, count_errors_of
from vietst.evaluation.english_left import english_left_counts
from vietst.evaluation.metrics import (
    Prediction,
    bleu_above_copy,
    check_targets,
    count_scores,
    score_intervals,
    score_predictions,
    scores_by_video,
    utterance_scores,
)
from vietst.evaluation.score_counts import ScoreCounts
from vietst.evaluation.slices import scores_by_slice
from vietst.evaluation.word_language import WordTag
from vietst.text_style import AS_IS, TextStyle

METRICS_SUFFIX: Final = "_metrics.json"
PREDICTIONS_SUFFIX: Final = "_predictions.csv"

_REQUIRED_COLUMNS: Final = ("id", "video_id", "duration_s", "transcript", "translation")
_HYPOTHESIS_COLUMNS: Final = ("transcript_hypothesis", "translation_hypothesis")
_KNOWN_COLUMNS: Final = (
    "speaker_id", "audio_path", "level_dbfs", VERIFIED_COLUMN, SOURCE_COLUMN, "text_style",
)  # fmt: skip
"""Absent where nothing is known of any utterance, or the style is that of the references."""
_SCORE_COLUMNS: Final = ("wer", "cer", "chrf", "comet")


@dataclass(frozen=True)
class Timing:
    """How long decoding took, on the wall clock, reading of audio and features left out.

    Attributes:
        latencies_s: for each utterance, the seconds from handing its batch to the model until its texts.
        compute_s: seconds of the whole, each batch counted once.
    """

    latencies_s: Sequence[float]
    compute_s: float


def write_results(
    output_dir: Path,
    run_name: str,
    predictions: Sequence[Prediction],
    timing: Timing | None,
    facts: Mapping[str, Any],
    baseline_scores: Mapping[str, Mapping[str, Any]] | None = None,
    user_tags: Mapping[str, WordTag] | None = None,
    *,
    with_ter: bool = False,
    more_scores: Mapping[str, ScoreCounts] = types.MappingProxyType({}),
    more_signatures: Mapping[str, str] = types.MappingProxyType({}),
    why_no_translation: str | None = None,
) -> tuple[Path, Path]:
    """Score predictions; write `<run_name>_metrics.json` and `<run_name>_predictions.csv`, each atomically.

    What `metrics.score_predictions` returns becomes the top level of the JSON file.

    Args:
        timing: None where nothing was decoded (scores of someone else's predictions).
        facts: what the caller knows about model, data and run; plain JSON data (NaN becomes null).
        baseline_scores: from `metrics.baselines`, and of other runs: scores by name, and perhaps a `note`.
        user_tags: from `word_language.read_word_tags`, for all that is told by language.
        with_ter: score TER, too, which takes longer than all the rest together.
        more_scores, more_signatures: what was computed elsewhere, by name.
        why_no_translation: a sentence for the notes below the table.

    Returns:
        the two paths.

    Raises:
        ValueError: no predictions, or `run_name` cannot be part of a file name.
    """
    if not run_name or Path(run_name).name != run_name:
        raise ValueError(f"a run's name becomes a file name, so it cannot be {run_name!r}")
    predictions_csv = output_dir / f"{run_name}{PREDICTIONS_SUFFIX}"
    metrics_json = output_dir / f"{run_name}{METRICS_SUFFIX}"
    counts = count_scores(predictions, with_ter=with_ter) | english_left_counts(predictions, user_tags)
    counts |= more_scores
    errors = count_errors_of(predictions, user_tags)
    scores = score_predictions(predictions, counts)
    _write_predictions(predictions_csv, predictions, utterance_scores(predictions, counts))
    scores["metric_signatures"] |= more_signatures
    record = {
        "run_name": run_name,
        **scores,
        "why_no_translation": why_no_translation,
        **(_timing_record(timing, predictions) if timing else {}),
        "targets": check_targets(scores),
        "baselines": baseline_scores or {},
        "bleu_above_copy": bleu_above_copy(scores, baseline_scores or {}),
        "intervals": score_intervals(predictions, counts),
        "code_switching": code_switching_scores(predictions, errors),
        "slices": scores_by_slice(predictions, counts, errors, user_tags),
        "by_video": scores_by_video(predictions, counts),
        "alarms": alarms_record(raise_alarms(predictions)),
        "facts": _without_nan(facts),
        "predictions_csv": predictions_csv.name,
    }
    text = json.dumps(record, ensure_ascii=False, indent=2, allow_nan=False)
    with atomic_writer(metrics_json) as file:
        file.write(text + "\n")
    return metrics_json, predictions_csv


def _without_nan(value: Any) -> Any:
    """NaN and infinity, which Python writes and no other program reads, as None."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _timing_record(timing: Timing, predictions: Sequence[Prediction]) -> dict[str, Any]:
    audio_s = sum(p.duration_s for p in predictions)
    p50, p95 = np.percentile(timing.latencies_s, (50, 95))
    return {
        "latency_s": {"mean": float(np.mean(timing.latencies_s)), "p50": float(p50), "p95": float(p95)},
        "real_time_factor": timing.compute_s / audio_s if audio_s > 0 else None,
        "compute_s": timing.compute_s,
    }


# --- predictions ------------------------------------------------------------------------------------------


def _write_predictions(
    path: Path, predictions: Sequence[Prediction], scores: Sequence[Mapping[str, float]]
) -> None:
    """Texts stand in the file as they are. Hypothesis columns of a task that was not run are absent."""
    was_run = [name for name in _HYPOTHESIS_COLUMNS if any(getattr(p, name) is not None for p in predictions)]
    _check_nothing_gets_lost(predictions, was_run)
    says_nothing = ("", None, AS_IS)
    known = [
        name for name in _KNOWN_COLUMNS if any(getattr(p, name) not in says_nothing for p in predictions)
    ]
    scored = [name for name in _SCORE_COLUMNS if name != "comet" or any(name in of_it for of_it in scores)]
    columns = [*_REQUIRED_COLUMNS, *was_run, *scored, *known]
    with atomic_writer(path) as file:
        file.write("\ufeff")  # without this mark Excel takes UTF-8 for the local 8-bit encoding
        file.write(format_record(columns, ","))
        for prediction, of_it in zip(predictions, scores, strict=True):
            shown = {name: f"{score:.2f}" for name, score in of_it.items()}
            if prediction.level_dbfs is not None:
                shown["level_dbfs"] = repr(float(prediction.level_dbfs))
            values = vars(prediction) | {"duration_s": repr(float(prediction.duration_s))} | shown
            file.write(format_record([_as_cell(values.get(name)) for name in columns], ","))


def _check_nothing_gets_lost(predictions: Sequence[Prediction], was_run: Sequence[str]) -> None:
    """A cell cannot tell "not run" from "nothing written", except where there is no reference either."""
    for name in was_run:
        reference = name.removesuffix("_hypothesis")
        lost = [p.id for p in predictions if getattr(p, name) is None and getattr(p, reference)]
        if lost:
            raise ValueError(
                f"{name} is missing for {len(lost)} utterances and there for others, e.g. {lost[0]}"
            )


def _as_cell(value: str | None) -> str:
    # An untrained byte-level model can write NUL, which ends the text in many programs.
    return "" if value is None else value.replace("\0", "\ufffd")


def predictions_path(run: str, results_dir: Path) -> Path:
    """The predictions file that is meant by a run's name in `results_dir`, or by a path."""
    of_run = results_dir / f"{run}{PREDICTIONS_SUFFIX}"
    return of_run if Path(run).name == run and of_run.is_file() else Path(run)


def read_predictions(path: Path) -> list[Prediction]:
    """Read a predictions file, ours or anyone's with at least the columns id, video_id, duration_s,
    transcript, translation and one of transcript_hypothesis, translation_hypothesis.

    A task without a hypothesis column was not run. A hypothesis that is empty where the reference is empty
    too counts as not run.

    Raises:
        VietstError: no such file, not UTF-8, a column missing, or a row that cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(path, reader.fieldnames or [])
            return [_as_prediction(f"{path}, line {reader.line_num}", row) for row in reader]
    except OSError as error:
        raise _unreadable(str(path), "the file can be read", error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise _unreadable(str(path), "the text is UTF-8", error.reason) from None
    except csv.Error as error:
        raise _unreadable(str(path), "fields are separated and quoted as in RFC 4180", str(error)) from None


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    missing = [name for name in _REQUIRED_COLUMNS if name not in columns]
    if not any(name in columns for name in _HYPOTHESIS_COLUMNS):
        missing.append(" or ".join(_HYPOTHESIS_COLUMNS))
    if missing:
        rule = f"a predictions file has the columns {', '.join(_REQUIRED_COLUMNS)} and a hypothesis"
        raise _unreadable(str(path), rule, f"no {', no '.join(missing)}; there are: {', '.join(columns)}")


def _as_prediction(where: str, row: Mapping[str, str | None]) -> Prediction:
    if None in row or None in row.values():
        raise _unreadable(where, "every row has as many fields as the header", "more or fewer")
    cells = {name: value or "" for name, value in row.items()}
    duration_s = _number(where, "duration_s", "a number of seconds", cells)
    level_dbfs = (
        _number(where, "level_dbfs", "a number of decibels", cells) if cells.get("level_dbfs") else None
    )
    hypotheses = {name: cells.get(name) for name in _HYPOTHESIS_COLUMNS}
    for name, hypothesis in hypotheses.items():
        if not hypothesis and not cells[name.removesuffix("_hypothesis")]:
            hypotheses[name] = None
    return Prediction(
        id=cells["id"],
        video_id=cells["video_id"],
        duration_s=duration_s,
        transcript=cells["transcript"],
        translation=cells["translation"],
        **hypotheses,
        speaker_id=cells.get("speaker_id", ""),
        data_source=cells.get(SOURCE_COLUMN, ""),
        audio_path=cells.get("audio_path", ""),
        level_dbfs=level_dbfs,
        verified=format_verified(cells.get(VERIFIED_COLUMN, "")),
        text_style=_text_style(where, cells.get("text_style") or AS_IS),
    )


def _text_style(where: str, cell: str) -> TextStyle:
    for style in get_args(TextStyle):
        if cell == style:
            return cast(TextStyle, style)
    raise _unreadable(where, f"text_style is one of {', '.join(get_args(TextStyle))}", repr(cell))


def _number(where: str, column: str, rule: str, cells: Mapping[str, str]) -> float:
    try:
        return float(cells[column])
    except ValueError:
        raise _unreadable(where, f"{column} is {rule}", repr(cells[column])) from None


def _unreadable(where: str, rule: str, found: str) -> VietstError:
    return VietstError(where=where, rule=rule, found=found, do="remove the file, or make it again")


def read_utterance_scores(path: Path) -> dict[str, dict[str, float]]:
    """`wer`, `cer`, `chrf` and `comet` of each utterance by its id, from a file that `write_results` wrote.

    Those that a row does not have are absent.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        return {
            row["id"]: {name: float(row[name]) for name in _SCORE_COLUMNS if row.get(name)}
            for row in csv.DictReader(file, strict=True)
        }


def read_metrics(path: Path) -> dict[str, Any]:
    """Read a `_metrics.json` file: of results, or of a run's history.

    Raises:
        VietstError: no such file, or not a JSON object.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise _unreadable(str(path), "the file can be read", error.strerror or str(error)) from None
    except ValueError as error:  # not UTF-8, or not JSON
        raise _unreadable(str(path), "the file is JSON", str(error)) from None
    if not isinstance(record, dict):
        raise _unreadable(str(path), "the file holds a JSON object", type(record).__name__)
    return record


def load_results(results_dir: Path) -> list[dict[str, Any]]:
    """The metrics of all evaluations, `<results_dir>/<run>_metrics.json`, ordered by name.

    Raises:
        VietstError: a file that is no JSON object.
    """
    return [
        {"run_name": path.name.removesuffix(METRICS_SUFFIX)} | read_metrics(path)
        for path in sorted(results_dir.glob(f"*{METRICS_SUFFIX}"))
    ]


# --- the table --------------------------------------------------------------------------------------------

SCORE_LABELS: Final = {
    "wer": "WER %",
    "wer_raw": "WER %, as written",
    "wer_numbers_loanwords": "WER %, numbers and loanwords equal",
    "cer": "CER %",
    "bleu": "BLEU",
    "chrf": "chrF",
    "chrf++": "chrF++",
    "ter": "TER %",
    "comet": "COMET",
    "change": "changed spans",
    "wer_vietnamese": "Vietnamese WER %",
    "pier": "English WER % (PIER)",
    "wer_names": "names WER %",
    "wer_switch_points": "switch points WER %",
}
"""The scores that people are shown, in this order."""


SHORT_LABELS: Final = SCORE_LABELS | {
    "wer_raw": "as written %",
    "wer_numbers_loanwords": "num., loan. %",
    "change": "changed",
    "wer_vietnamese": "Vietn. WER %",
    "pier": "PIER %",
    "wer_names": "names %",
    "wer_switch_points": "switches %",
}
"""The same where they stand beside each other."""

WITHOUT_MODEL: Final = {"copy": "copy", "random_training_sentence": "random sentence"}
"""The baselines of `metrics.baselines`, and what people are shown; others go by the names of their runs."""


def format_results_table(metrics: Mapping[str, Any], files: Sequence[Path] = ()) -> str:
    """What an evaluation prints: scores against the guide's targets and the baselines, set, speed, files.

    Args:
        metrics: the content of a `<run>_metrics.json` file (`read_metrics`).
        files: paths to name below the table.
    """
    counts = f"{metrics['num_utterances']:,} utterances, {metrics['num_videos']:,} videos"
    lines = [f"{metrics['run_name']}: {counts}, {metrics['audio_s'] / 3600:.2f} h of audio", ""]
    lines += aligned(score_rows(metrics))
    if len(beside := baseline_rows(metrics, SHORT_LABELS)) > 2:
        lines += ["", *aligned(beside)]
    lines += ["", *score_notes(metrics)]
    if files:
        lines += ["", "Written:", *(f"  {path}" for path in files)]
    return "\n".join(lines)


def score_rows(metrics: Mapping[str, Any]) -> list[list[str]]:
    """The run's scores as cells, a header first: against intervals and the guide's targets."""
    rows = [["", "this run", "95 % interval", "target", ""]]
    scores, intervals = _scores_and_intervals(metrics)
    for name, label in SCORE_LABELS.items():
        if scores.get(name) is None:
            continue
        target = metrics["targets"].get(name)
        rows.append(
            [
                label,
                f"{scores[name]:.2f}",
                _shown_interval(intervals[name]),
                target["target"] if target else "",
                ("met" if target["met"] else "MISSED") if target else "",
            ]
        )
    return rows


def _scores_and_intervals(metrics: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    by_language = metrics.get("code_switching") or {"intervals": {}}
    return {**by_language, **metrics}, {**by_language["intervals"], **metrics["intervals"]}


def baseline_rows(metrics: Mapping[str, Any], labels: Mapping[str, str]) -> list[list[str]]:
    """The run and its baselines below each other as cells, a header first: all scores that a model has.

    Args:
        labels: of the scores, as `SCORE_LABELS`.
    """
    of_models = {"this run": _scores_and_intervals(metrics)[0]}
    of_models |= {name: row for name, row in metrics["baselines"].items() if name not in WITHOUT_MODEL}
    of_others = {
        label: metrics["baselines"][name]
        for name, label in WITHOUT_MODEL.items()
        if name in metrics["baselines"]
    }
    shown = [name for name in labels if any(scores.get(name) is not None for scores in of_models.values())]
    rows = [
        [name, *("–" if scores.get(score) is None else f"{scores[score]:.2f}" for score in shown)]
        for name, scores in (of_models | of_others).items()
        if name in of_models or scores.keys() & set(shown)
    ]
    return [["", *(labels[name] for name in shown)], *rows]


def _shown_interval(interval: Mapping[str, Any]) -> str:
    return "–" if "why_none" in interval else f"{interval['low']:.2f} – {interval['high']:.2f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of cells as lines of text."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def normalizers_note(normalizers: Mapping[str, str]) -> str:
    """Which rules make texts equal before each word error rate, from `wer_normalizers` of a result."""
    of_each = (f"{SCORE_LABELS[name].replace(' %', '')}: {rules}" for name, rules in normalizers.items())
    return f"Normalizers: {'; '.join(of_each)}."


def score_notes(metrics: Mapping[str, Any]) -> list[str]:
    """Sentences below the table of scores."""
    reasons = [metrics["intervals"][name].get("why_none") for name in metrics["targets"]]
    notes = [f"95 % interval: {reason}." for reason in sorted({reason for reason in reasons if reason})]
    notes += filter(None, [metrics.get("why_no_translation")])
    notes += [baseline["note"] for baseline in metrics["baselines"].values() if "note" in baseline]
    if (difference := metrics["bleu_above_copy"]) is not None:
        side = "above" if difference >= 0 else "below"
        notes.append(
            f"BLEU is {abs(difference):.1f} points {side} the copy baseline "
            "(the transcript handed in as the translation)."
        )
    if (copy_rate := metrics.get("copy_rate")) is not None:
        notes.append(
            f"Translations equal to the transcript: {copy_rate:.1f} % (references: "
            f"{metrics['reference_copy_rate']:.1f} %)."
        )
    if (english_left := metrics.get("english_left")) is not None:
        notes.append(
            f"English words left in the translations: {english_left:.1f} % (references: "
            f"{metrics['reference_english_left']:.1f} %)."
        )
    if by_video := [row for row in metrics["by_video"] if "wer" in row]:
        best, worst = (choose(by_video, key=lambda row: row["wer"]) for choose in (min, max))
        extremes = (f"{row['wer']:.1f} ({row['video_id']})" for row in (best, worst))
        notes.append(f"WER by video: from {' to '.join(extremes)}.")
    notes += alarm_lines(metrics["alarms"])
    if metrics["num_empty_references"]:
        notes.append(
            f"References without a word: {metrics['num_empty_references']} (what was written there counts)."
        )
    if metrics["num_missing_translations"]:
        notes.append(
            f"Left out of BLEU and chrF for want of a reference: {metrics['num_missing_translations']}."
        )
    if latency := metrics.get("latency_s"):
        notes.append(
            f"Latency {latency['mean']:.3f} s an utterance (half within {latency['p50']:.3f}, "
            f"95 % within {latency['p95']:.3f})."
        )
    if (factor := metrics.get("real_time_factor")) is not None:
        notes.append(f"Real-time factor {factor:.3f} (seconds of computing per second of audio).")
    notes.append(f"WER, CER: {metrics['metric_signatures']['wer']}.")
    if normalizers := metrics.get("wer_normalizers"):
        notes.append(normalizers_note(normalizers))
    notes.append(
        f"BLEU: {metrics['metric_signatures']['bleu']}. chrF: {metrics['metric_signatures']['chrf']}."
    )
    if "ter" in metrics:
        notes.append(f"TER: {metrics['metric_signatures']['ter']}.")
    if "comet" in metrics:
        notes.append(f"COMET: {metrics['metric_signatures']['comet']}.")
    return notes
