"""The tables of a report as cells of text: what they say, without how it looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Final

from vietst.evaluation.alarms import ALARM_LABELS
from vietst.evaluation.code_switching import NO_REFERENCE
from vietst.evaluation.error_kinds import ErrorKind
from vietst.evaluation.history import History, extra_set_names, wer_key
from vietst.evaluation.results_table import (
    SCORE_LABELS,
    baseline_rows,
    common_style_note,
    normalizers_note,
    score_rows,
)
from vietst.evaluation.slices import SLICE_SCORES
from vietst.evaluation.word_language import WordTag

MAX_ROWS: Final = 50
"""Of tables with a row for each video or speaker."""


@dataclass(frozen=True)
class ReportTable:
    """A header, rows whose first cell names them, and a caption that says what they are."""

    caption: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    is_long: bool = False
    """Folded until a reader opens it."""
    text_columns: Mapping[int, str] = field(default_factory=dict)
    """Columns of words instead of figures: position and language."""


CLASS_LABELS: Final[Mapping[str, str]] = {
    WordTag.VIETNAMESE: "Vietnamese",
    WordTag.ENGLISH: "English",
    WordTag.AMBIGUOUS: "ambiguous: could be either",
    WordTag.NAME: "names",
    WordTag.NUMBER: "numbers",
    WordTag.OTHER: "signs and letters",
    NO_REFERENCE: "written into silence",
}

KIND_LABELS: Final[Mapping[str, tuple[str, str]]] = {
    ErrorKind.TONE: ("tone", "right letters, another tone: má, mà"),
    ErrorKind.LETTER: ("letter", "right tone, other marks on the letters: cơm, côm"),
    ErrorKind.TONE_AND_LETTER: ("tone + letter", "only the plain letters are right: được, duoc"),
    ErrorKind.TRANSLITERATED: ("spelt by sound", "meeting, mít tinh"),
    ErrorKind.TRANSLATED: ("translated", "deadline, hạn chót"),
    ErrorKind.VIETNAMESE_WORD: ("Vietnamese word", "another Vietnamese word, and none of the above"),
    ErrorKind.ENGLISH_WORD: ("English word", "another English word"),
    ErrorKind.OTHER_WORD: ("other word", "a name, a number, a sign, an ambiguous word"),
    ErrorKind.MISSING: ("missing", "nothing stands for it"),
    "extra": ("extra", "a word that the reference does not have"),
    "different": ("different", "in translations: another word"),
}
"""Every error of an alignment: its short name and what it means."""

_SLICE_LABELS: Final = {
    "code_mixing_index": ("By degree of code-mixing", "index"),
    "duration_s": ("By duration", "seconds"),
    "level_dbfs": ("By signal level", "dBFS"),
    "verified": ("Texts that a person has checked, and others", "texts"),
    "data_source": ("By source", "source"),
    "video_id": ("By video", "video"),
    "speaker_id": ("By speaker", "speaker"),
}
_OF_PERSONS_AND_VIDEOS: Final = ("video_id", "speaker_id")


def headline_table(metrics: Mapping[str, Any]) -> ReportTable:
    """Scores with intervals and the guide's targets."""
    header, *rows = score_rows(metrics)
    return ReportTable("Scores of the whole test set", ["score", *header[1:4], "target met"], rows)


def baseline_table(metrics: Mapping[str, Any]) -> ReportTable:
    """The run beside its baselines."""
    header, *rows = baseline_rows(metrics, SCORE_LABELS)
    return ReportTable("Beside baselines, on the same utterances", ["run", *header[1:]], rows)


def word_class_table(code_switching: Mapping[str, Any]) -> ReportTable:
    """Errors by class of reference word."""
    rows = [
        [
            CLASS_LABELS[name],
            f"{row['num']:,}",
            _percentage(row["share"]),
            _percentage(row["wer"]),
            *(f"{row[edit]:,}" for edit in ("substitutions", "deletions", "insertions")),
        ]
        for name, row in code_switching["words"].items()
    ]
    header = ["class", "words", "share %", "WER %", "substituted", "deleted", "inserted"]
    return ReportTable("Errors by class of word", header, rows)


def error_kind_table(code_switching: Mapping[str, Any]) -> ReportTable:
    """Substituted and deleted words by kind, for each class that has words."""
    classes = {name: row for name, row in code_switching["words"].items() if row["error_kinds"]}
    rows = []
    for kind in ErrorKind:
        numbers = [row["error_kinds"].get(kind.value, 0) for row in classes.values()]
        if any(numbers):
            name, meaning = KIND_LABELS[kind]
            rows.append([name, *(f"{number:,}" for number in numbers), f"{sum(numbers):,}", meaning])
    header = ["kind", *(CLASS_LABELS[name].partition(":")[0] for name in classes), "all", "meaning"]
    caption = "Substituted and deleted words by kind of error"
    return ReportTable(caption, header, rows, text_columns={len(header) - 1: "en"})


def _percentage(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def confusion_table(pairs: Sequence[Mapping[str, Any]], language: str) -> ReportTable:
    """The most frequent substitutions of one language's words."""
    name = CLASS_LABELS[WordTag(language)]
    rows = [[str(pair["reference"]), str(pair["written"]), f"{pair['num']:,}"] for pair in pairs]
    return ReportTable(
        f"{name} words: most frequent substitutions",
        ["reference", "written", "times"],
        rows,
        text_columns={0: language, 1: "vi"},
    )


def slice_tables(slices: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[ReportTable]:
    """One table for each dimension; videos and speakers with the highest error rate first."""
    return [_slice_table(dimension, slices[dimension]) for dimension in _SLICE_LABELS if dimension in slices]


def _slice_table(dimension: str, rows: Sequence[Mapping[str, Any]]) -> ReportTable:
    caption, name = _SLICE_LABELS[dimension]
    scores = [score for score in SLICE_SCORES if any(score in row for row in rows)]
    notes = []
    if dimension in _OF_PERSONS_AND_VIDEOS and scores:
        sign = -1 if scores[0] == "wer" else 1
        rows = sorted(rows, key=lambda row: sign * row.get(scores[0], 0.0))
        notes.append("Worst first.")
        if len(rows) > MAX_ROWS:
            notes.append(f"{MAX_ROWS} of {len(rows):,}; all stand in the JSON file.")
    cells = [
        [
            str(row["slice"]),
            f"{row['num_utterances']:,}",
            *([] if dimension == "video_id" else [f"{row['num_videos']:,}"]),
            f"{row['audio_s'] / 3600:.2f}",
            *(_score_cell(row, score) for score in scores),
        ]
        for row in rows[:MAX_ROWS]
    ]
    sizes = ["utterances", "hours"] if dimension == "video_id" else ["utterances", "videos", "hours"]
    header = [name, *sizes, *(SCORE_LABELS[score] for score in scores)]
    return ReportTable(caption, header, cells, notes, is_long=len(cells) > 12)


def _score_cell(row: Mapping[str, Any], score: str) -> str:
    if score not in row:
        return "–"
    interval = row["intervals"].get(score)
    shown = f"{row[score]:.2f}"
    return f"{shown} ({interval['low']:.2f} – {interval['high']:.2f})" if interval else shown


_DEV_SCORES: Final = {
    "eval_loss": "dev loss",
    "eval_wer": "WER %",
    "eval_cer": "CER %",
    "eval_bleu": "BLEU",
    "eval_chrf": "chrF",
}


def dev_score_table(history: History) -> ReportTable:
    """What the learning curve shows, in figures."""
    extra = {wer_key(name): f"{name} WER %" for name in extra_set_names(history.entries)}
    labels = {**_DEV_SCORES, **extra}
    names = [name for name in labels if history.has(name)]
    of_each = {name: dict(zip(*history.series(name), strict=True)) for name in names}
    steps = sorted({step for values in of_each.values() for step in values})
    rows = [
        [f"{step:,}", *(f"{of_each[name][step]:.2f}" if step in of_each[name] else "–" for name in names)]
        for step in steps
    ]
    header = ["optimizer step", *(labels[name] for name in names)]
    return ReportTable("Dev scores during training", header, rows, is_long=True)


def difference_table(comparison: Mapping[str, Any]) -> ReportTable:
    """Scores of two runs, what lies between them, and whether it may be chance."""
    rows, notes = [], set()
    for name, score in comparison["scores"].items():
        interval = score["interval"]
        no_interval = interval.get("why_none")
        if no_interval:
            notes.add(f"{no_interval}; nothing can be said about chance.")
        rows.append(
            [
                SCORE_LABELS[name],
                f"{score['a']:.2f}",
                f"{score['b']:.2f}",
                _signed(score["difference"]),
                "–" if no_interval else f"{_signed(interval['low'])} … {_signed(interval['high'])}",
                "–" if score["p_value"] is None else f"{score['p_value']:.4f}",
                "–" if score["p_value"] is None else score["verdict"],
            ]
        )
    if normalizers := comparison.get("wer_normalizers"):  # comparisons of earlier versions have none
        notes.add(normalizers_note(normalizers))
    if style := comparison.get("common_style"):
        notes.add(common_style_note(style))
    header = ["score", "A", "B", "B − A", "95 % interval", "p", "verdict"]
    return ReportTable(
        "Scores of both runs on the same utterances", header, rows, sorted(notes), text_columns={6: "en"}
    )


def alarm_table(alarms: Mapping[str, Mapping[str, Any]]) -> ReportTable:
    """How often either of two runs raised each alarm, on the same utterances; what neither did is absent.

    Args:
        alarms: `alarms.alarms_record` of the runs `a` and `b`.
    """
    rows = []
    for alarm, label in ALARM_LABELS.items():
        of_a, of_b = (alarms[run].get(alarm, {}) for run in ("a", "b"))
        for texts in sorted(of_a.keys() | of_b.keys()):
            found = [of_run.get(texts) for of_run in (of_a, of_b)]
            if any(count and count["num"] for count in found):
                rows.append([label, texts, *map(_alarm_cell, found)])
    return ReportTable("Alarms", ["alarm", "texts", "A", "B"], rows, text_columns={0: "en", 1: "en"})


def _alarm_cell(count: Mapping[str, Any] | None) -> str:
    return "–" if count is None else f"{count['num']:,} of {count['num_checked']:,}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def fact_table(metrics: Mapping[str, Any]) -> ReportTable:
    """Model, data, decoding and versions, one line each."""
    facts = {**metrics["facts"], "signature": metrics["metric_signatures"]}
    return ReportTable(
        "What these numbers were made from", ["fact", "value"], flat_facts(facts), text_columns={1: "en"}
    )


def flat_facts(facts: Mapping[str, Any]) -> list[list[str]]:
    """Names and values of nested facts, a row each; what is empty is left out.

    Of absolute paths only the last part is shown: reports are passed on.
    """
    return [
        [name.replace("_", " "), _fact_cell(value)]
        for name, value in _flat(facts)
        if value not in (None, [], "")
    ]


def _flat(value: Any, name: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(name, value)]
    return [item for key, inner in value.items() for item in _flat(inner, f"{name}, {key}" if name else key)]


def _fact_cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_fact_cell, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_fact_cell(inner)}" for key, inner in value.items())
    text = str(value)
    for kind in (PurePosixPath, PureWindowsPath):
        if kind(text).is_absolute():
            return kind(text).name
    return text
