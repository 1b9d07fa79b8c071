"""What an evaluation says of a run, as the table that a person sees: scores, intervals, targets, notes.

Made from the content of a `<run>_metrics.json` file alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vietst.evaluation.alarms import alarm_lines
from vietst.text_style import AS_IS

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
"""The baselines of `without_model`, and what people are shown; others go by the names of their runs."""


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


def common_style_note(style: str) -> str:
    """Of a comparison of two runs, of which one was taught to write in a plainer style."""
    return (
        f"Both are compared in text style {style}, which one of them was taught to write: scores of the "
        "other differ from those of its own results."
    )


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
    notes += untranslated_notes(metrics)
    if len(by_video := [row for row in metrics["by_video"] if "wer" in row]) > 1:
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
    if (style := metrics.get("text_style", AS_IS)) != AS_IS:
        notes.append(f"Scored against references in text style {style}, which the model was taught to write.")
    notes.append(
        f"BLEU: {metrics['metric_signatures']['bleu']}. chrF: {metrics['metric_signatures']['chrf']}."
    )
    if "ter" in metrics:
        notes.append(f"TER: {metrics['metric_signatures']['ter']}.")
    if "comet" in metrics:
        notes.append(f"COMET: {metrics['metric_signatures']['comet']}.")
    return notes


def untranslated_notes(metrics: Mapping[str, Any]) -> list[str]:
    """What of the translations stayed as it was spoken: whole texts, English words."""
    notes = []
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
    return notes
