"""The page of an audit, to look and listen through: made from `signals.tsv`, `audit.json` and the manifest.

The page holds counts and the worst rows, never all of them, so that it stays light and memory flat however
many rows there are. It needs no network; its players read the audio by links from the page.
"""

import base64
import functools
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from vietst.audit.audit import RECORD_NAME, SIGNALS_NAME
from vietst.audit.clauses import NUM_WORST, AuditedRow, Clause, Row, duration_s
from vietst.audit.counting import Counts, count_rows
from vietst.audit.listened_rows import Link, partners, shown_row
from vietst.audit.signal_words import phrase
from vietst.audit.signals import Group, Kind
from vietst.data.tables import Table, atomic_writer, open_table
from vietst.errors import ManifestError, VietstError
from vietst.evaluation.report_tables import KIND_LABELS, MAX_ROWS, ReportTable, flat_facts
from vietst.evaluation.shown_utterances import audio_links
from vietst.pages import filled
from vietst.runtime import get_logger

PAGE_NAME: Final = "audit.html"

_logger = get_logger(__name__)

_NOT_FACTS: Final = ("made_by", "settings", "signals", "suggested_drop")
"""Keys of `audit.json` that are told elsewhere, or by others."""

_GROUP_TITLES: Final = {
    Group.AUDIO: "Sound",
    Group.TEXT: "Texts",
    Group.MODEL: "Against what the seed model hears",
}


@dataclass(frozen=True)
class _Tables:
    """Both tables, which have the same rows in the same order."""

    signals: Table
    manifest: Table

    def rows(self) -> Iterator[AuditedRow]:
        """Raises ManifestError where the tables part."""
        both = itertools.zip_longest(self.signals.rows(), self.manifest.rows())
        for number, (of_signals, of_manifest) in enumerate(both):
            if of_signals is None or of_manifest is None:
                raise self._refusal(f"one of them ends after {number:,} rows")
            (line_number, row), (_, texts) = of_signals, of_manifest
            if row["audio_path"] != texts["audio_path"]:
                found = f"line {line_number} is of {row['audio_path']}, not {texts['audio_path']}"
                raise self._refusal(found)
            yield AuditedRow(row, texts, number)

    def _refusal(self, found: str) -> ManifestError:
        return ManifestError(
            where=str(self.signals.path),
            rule=f"it has a row for each of {self.manifest.path}, in the same order",
            found=found,
            do="audit the manifest again, or name the one that was audited",
        )


def write_audit_page(
    folder: Path, manifest: Path, audio_root: Path, decision: Mapping[str, Any] | None = None
) -> Path:
    """Write `audit.html` beside the files of an audit.

    Args:
        folder: holds `signals.tsv` and `audit.json`.
        manifest: what was audited, for texts and videos.
        audio_root: what `audio_path` is relative to.
        decision: from `decision.apply_drop`; None: nothing was dropped.

    Returns:
        The page's path.

    Raises:
        ManifestError: a table that cannot be read, or a manifest with other rows than the audit's.
    """
    record = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
    tables = _Tables(open_table(folder / SIGNALS_NAME), open_table(manifest))
    counts = count_rows(tables.rows, record["signals"])
    script = files("vietst").joinpath("templates", "audit_page.js").read_text(encoding="utf-8")
    data = _data(counts, record["signals"], tables, _links(audio_root, folder))
    page = filled(
        "audit_page.html",
        title=f"Audit of {manifest.name}",
        has_audio=any(row["audio_url"] for row in data["rows"]),
        counts=counts,
        decision=decision,
        kept_name=Path(decision["output"]["path"]).name if decision else "",
        overview=_overview(counts),
        videos=_video_table(counts),
        groups=_groups(counts, record["signals"]),
        not_measured=_not_measured(counts, record["signals"]),
        facts=_fact_table(record, (folder / RECORD_NAME).stat().st_mtime),
        num_worst=NUM_WORST,
        data=_json_in_html(data),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    with atomic_writer(folder / PAGE_NAME) as file:
        file.write(page)
    _logger.info("to look and to listen: %s", folder / PAGE_NAME)
    return folder / PAGE_NAME


def _links(audio_root: Path, folder: Path) -> Link:
    try:
        return audio_links(audio_root, folder)
    except VietstError:
        return lambda audio_path: ("", "the audio lies on another drive than this page")


# --- what stands there without a script -------------------------------------------------------------------


@dataclass(frozen=True)
class OverviewRow:
    """What one suggested step finds."""

    signal: str
    phrase: str
    expression: str
    num_rows: int
    seconds: float


def _overview(counts: Counts) -> list[OverviewRow]:
    """Most rows first."""
    rows = [
        OverviewRow(
            clause.signal,
            _phrase(clause),
            clause.expression(clause.suggested),
            *clause.dropped(clause.suggested),
        )
        for clause in counts.clauses
        if clause.suggested is not None
    ]
    return sorted(rows, key=lambda row: -row.num_rows)


def _phrase(clause: Clause) -> str:
    return phrase(clause.signal, clause.sign)


def _video_table(counts: Counts) -> ReportTable | None:
    """Where the largest share stands out, first; None where nothing does."""
    ranked = sorted(
        ((name, video) for name, video in counts.videos.items() if video.num_outstanding),
        key=lambda item: (-item[1].num_outstanding / item[1].num_rows, -item[1].num_rows, item[0]),
    )
    if not ranked:
        return None
    rows = [
        [
            name,
            f"{video.num_rows:,}",
            f"{video.seconds / 60:,.1f}",
            f"{video.num_outstanding:,}",
            f"{100 * video.num_outstanding / video.num_rows:.0f}",
            _phrase(counts.clauses[video.by_clause.most_common(1)[0][0]]),
        ]
        for name, video in ranked[:MAX_ROWS]
    ]
    notes = [f"The {MAX_ROWS} worst of {len(ranked):,}."] if len(ranked) > MAX_ROWS else []
    return ReportTable(
        "Videos with rows that stand out",
        ["video", "rows", "minutes", "stand out", "of its rows %", "mostly"],
        rows,
        notes,
        is_long=True,
        text_columns={5: "en"},
    )


@dataclass(frozen=True)
class SignalCard:
    """A signal with what can be dropped by it."""

    name: str
    meaning: str
    num_not_measured: int
    clauses: list[tuple[int, Clause, str]]
    """Position, the clause, and what it finds in words."""


def _groups(counts: Counts, signals: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[SignalCard]]]:
    groups: dict[str, list[SignalCard]] = {group: [] for group in _GROUP_TITLES}
    for signal in signals:
        clauses = [
            (position, clause, _phrase(clause))
            for position, clause in enumerate(counts.clauses)
            if clause.signal == signal["name"]
        ]
        if clauses:
            num_not_measured = clauses[0][1].num_not_measured
            card = SignalCard(signal["name"], _meaning(signal), num_not_measured, clauses)
            groups[signal["group"]].append(card)
    return [(_GROUP_TITLES[Group(group)], cards) for group, cards in groups.items() if cards]


def _meaning(signal: Mapping[str, Any]) -> str:
    """Unit and description as one phrase: `share of the clip …`, `length of the decoded audio (s)`."""
    unit, description = signal["unit"], signal["description"]
    if description.startswith("of "):
        return f"{unit} {description}"
    return f"{description} ({unit})" if unit and unit not in description.split() else description


def _not_measured(counts: Counts, signals: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the signals that no row has."""
    measured = {clause.signal for clause in counts.clauses}
    return [s["name"] for s in signals if s["name"] not in measured and s["kind"] != Kind.TEXT]


def _fact_table(record: Mapping[str, Any], time_s: float) -> ReportTable:
    """What `audit.json` says of all rows, and its time in seconds since 1970."""
    audited = datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    facts = {"audited": audited} | {
        name: [value] if name == "packages" else value  # all in one line
        for name, value in record.items()
        if name not in _NOT_FACTS
    }
    return ReportTable(
        "What this page was made from", ["fact", "value"], flat_facts(facts), text_columns={1: "en"}
    )


# --- what the script reads --------------------------------------------------------------------------------


def _data(
    counts: Counts, signals: Sequence[Mapping[str, Any]], tables: _Tables, link: Link
) -> dict[str, Any]:
    lists = [counts.most_suspicious.rows]
    lists += [rows for clause in counts.clauses for rows in (clause.worst.rows, clause.near)]
    listened = {audited.number: audited for rows in lists for audited in rows}
    position_of = {number: position for position, number in enumerate(sorted(listened))}
    others = partners(list(listened.values()), tables.rows())
    names = [s["name"] for s in signals if s["kind"] != Kind.TEXT and s["name"] != "duration"]
    sampled = counts.survey.sampled
    return {
        "num_rows": counts.num_rows,
        "seconds": round(counts.seconds, 3),
        "outstanding": {"rows": counts.num_outstanding, "seconds": round(counts.outstanding_s, 3)},
        "sampled_seconds": [round(duration_s(row), 3) for row in sampled],
        "signals": names,
        "clauses": [_clause_data(clause, sampled, position_of) for clause in counts.clauses],
        "most_suspicious": [position_of[audited.number] for audited in counts.most_suspicious.rows],
        "rows": [
            _row_data(listened[number], others.get(number), counts.clauses, names, link)
            for number in position_of
        ],
        "kinds": {kind: label for kind, (label, _) in KIND_LABELS.items()},
    }


def _clause_data(clause: Clause, sampled: Sequence[Row], position_of: Mapping[int, int]) -> dict[str, Any]:
    return {
        "signal": clause.signal,
        "sign": clause.sign,
        "condition": clause.condition,
        "phrase": _phrase(clause),
        "steps": clause.steps,
        "suggested": clause.suggested,
        "num_rows": clause.num_rows.tolist(),
        "seconds": [round(seconds, 3) for seconds in clause.seconds.tolist()],
        "num_not_measured": clause.num_not_measured,
        "sampled": base64.b64encode(bytes(map(clause.num_steps, sampled))).decode(),
        "worst": [position_of[audited.number] for audited in clause.worst.rows],
        "near": [position_of[audited.number] for audited in clause.near],
    }


def _row_data(
    audited: AuditedRow,
    other: tuple[str, AuditedRow] | None,
    clauses: Sequence[Clause],
    names: Sequence[str],
    link: Link,
) -> dict[str, Any]:
    shown = shown_row(audited, names, link)
    shown["levels"] = base64.b64encode(bytes(clause.num_steps(audited.row) for clause in clauses)).decode()
    if other is not None:
        shown["other"] = {"because": other[0], **shown_row(other[1], names, link)}
    return shown


def _json_in_html(data: Mapping[str, Any]) -> Markup:
    """JSON whose texts cannot end the element that it stands in."""
    dumps = functools.partial(json.dumps, ensure_ascii=False, separators=(",", ":"))
    return htmlsafe_json_dumps(data, dumps=dumps)
