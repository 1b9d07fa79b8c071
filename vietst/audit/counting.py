"""One pass over an audit's rows: what each clause and all suggested ones together drop, by video too."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vietst.audit.clauses import AuditedRow, Clause, Survey, Worst, clauses_of
from vietst.audit.signals import Kind


@dataclass
class Video:
    """Of one video, what there is and what stands out."""

    num_rows: int = 0
    seconds: float = 0.0
    num_outstanding: int = 0
    by_clause: Counter[int] = field(default_factory=Counter)
    """Position of a clause → rows that its suggested step drops."""


@dataclass
class Counts:
    """What is known when all rows have gone by."""

    survey: Survey
    clauses: list[Clause]
    num_rows: int = 0
    seconds: float = 0.0
    num_outstanding: int = 0
    """Rows that some suggested step drops."""
    outstanding_s: float = 0.0
    most_suspicious: Worst = field(default_factory=Worst)
    """By the number of signals whose suggested steps drop the row."""
    videos: dict[str, Video] = field(default_factory=dict)

    def add(self, audited: AuditedRow) -> None:
        """Counts one more row."""
        self.num_rows += 1
        self.seconds += audited.duration_s
        dropping = [
            position
            for position, clause in enumerate(self.clauses)
            if clause.drops_as_suggested(clause.count(audited))
        ]
        if dropping:
            self.num_outstanding += 1
            self.outstanding_s += audited.duration_s
            self.most_suspicious.add(len({self.clauses[position].signal for position in dropping}), audited)
        if name := audited.texts.get("video_id", ""):
            video = self.videos.setdefault(name, Video())
            video.num_rows += 1
            video.seconds += audited.duration_s
            video.num_outstanding += bool(dropping)
            video.by_clause.update(dropping)


def count_rows(all_rows: Callable[[], Iterator[AuditedRow]], signals: Sequence[Mapping[str, Any]]) -> Counts:
    """Looks at all rows twice: first for where values lie, then to count.

    Args:
        all_rows: gives the rows from the first on, each time it is called.
        signals: `signals.Signal` as `audit.json` has them, with what is `suggested`.
    """
    names = [signal["name"] for signal in signals if signal["kind"] != Kind.TEXT]
    numbers = [signal["name"] for signal in signals if signal["kind"] not in (Kind.TEXT, Kind.NAME)]
    survey = Survey.of((audited.row for audited in all_rows()), names, numbers)
    counts = Counts(survey, [clause for signal in signals for clause in clauses_of(signal, survey)])
    for audited in all_rows():
        counts.add(audited)
    return counts
