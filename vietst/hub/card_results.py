"""The tables of a model card about scores: from recorded results, with no video or speaker in them."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from vietst.evaluation.history import History
from vietst.evaluation.report_tables import (
    ReportTable,
    baseline_table,
    dev_score_table,
    error_kind_table,
    slice_tables,
    word_class_table,
)
from vietst.evaluation.results_table import SCORE_LABELS, score_rows, untranslated_notes
from vietst.hub.card_records import RunRecords
from vietst.hub.card_tables import NOT_RECORDED, Rows, shown
from vietst.hub.private_text import is_plain

_ABOUT_PERSONS: Final = ("video_id", "speaker_id")
"""Slices that name the corpus's videos and speakers."""


def result_tables(results: Mapping[str, Any]) -> list[ReportTable]:
    """Scores with intervals and baselines, by language and by slice; videos and speakers are not named."""
    _, *scores = score_rows(results)
    beside = baseline_table(results)
    tables = [
        ReportTable("Test scores", ["score", "this model", "95 % interval"], [row[:3] for row in scores]),
        dataclasses.replace(beside, rows=[["this model", *beside.rows[0][1:]], *beside.rows[1:]]),
    ]
    if by_language := results.get("code_switching"):
        tables += [word_class_table(by_language), error_kind_table(by_language)]
    slices = {name: rows for name, rows in results.get("slices", {}).items() if name not in _ABOUT_PERSONS}
    return [
        dataclasses.replace(table, rows=[[shown(cell) for cell in row] for row in table.rows])
        for table in tables + slice_tables(slices)
    ]


def dev_table(records: RunRecords) -> ReportTable | None:
    """Scores of these weights on dev, from the training's own log; None: none was logged."""
    step = records.step
    entries = [entry for entry in records.trainer_state.get("log_history", ()) if entry.get("step") == step]
    if not any("eval_loss" in entry for entry in entries):
        return None
    table = dev_score_table(History("", entries))
    return ReportTable("Dev scores of these weights", table.header, table.rows)


def alarm_lines(results: Mapping[str, Any]) -> list[str]:
    """How often each alarm was raised, without the texts that raised it."""
    raised: list[str] = []
    silent: list[str] = []
    for alarm, by_texts in results["alarms"].items():
        name = shown(alarm.replace("_", " "))
        counts = [
            f"{found['num']:,} of {found['num_checked']:,} {shown(texts)}"
            for texts, found in by_texts.items()
            if found["num"]
        ]
        (raised if counts else silent).append(f"{name}: {', '.join(counts)}" if counts else name)
    return [*raised, *([f"none of these: {', '.join(silent)}"] if silent else [])]


def decoding_rows(results: Mapping[str, Any]) -> Rows:
    """How the scores were made."""
    facts = results["facts"]
    decoding = facts.get("decoding") or {}
    latency = results.get("latency_s") or {}
    num_beams = decoding.get("num_beams")
    hours = f"{results['audio_s'] / 3600:.2f} hours"
    return [
        (
            "test set",
            f"{results['num_utterances']:,} utterances of {results['num_videos']:,} videos, {hours}",
        ),
        ("its file", shown(facts.get("test_csv_digest"), "`{}`")),
        ("decoding", "greedy" if num_beams == 1 else shown(num_beams, "{} beams")),
        *([("windows", _windows_of(decoding))] if facts.get("model_type") == "whisper" else []),
        ("device", f"{shown(facts.get('device'))}, {shown(facts.get('dtype'))}"),
        (
            "latency",
            shown(latency.get("mean"), "{:.3f} s for an utterance, in batches of ")
            + shown(decoding.get("batch_size")),
        ),
        ("real-time factor", shown(results.get("real_time_factor"), "{:.4f}")),
        ("normalizer of WER and CER", shown(results["normalizer"], "`{}`")),
    ]


def _windows_of(decoding: Mapping[str, Any]) -> str:
    if "context" not in decoding:
        return NOT_RECORDED
    return "the whole one" if decoding["context"] is None else "the shortest that a clip fits"


def signature_lines(results: Mapping[str, Any]) -> list[str]:
    """What makes a score comparable. Not in a table, where `|` would have to be escaped."""
    return [
        f"{SCORE_LABELS[name].replace(' %', '')}: {shown(signature, '`{}`')}"
        for name, signature in results["metric_signatures"].items()
        if name in results and name in SCORE_LABELS
    ]


def result_notes(results: Mapping[str, Any]) -> list[str]:
    """What has to be said below the scores."""
    reasons = {
        str(interval["why_none"]) for interval in results["intervals"].values() if "why_none" in interval
    }
    notes = [f"No 95 % intervals: {reason}." for reason in sorted(reasons) if is_plain(reason)]
    if not notes:
        notes.append("The 95 % intervals are bootstrap intervals that draw whole videos.")
    return notes + untranslated_notes(results)
