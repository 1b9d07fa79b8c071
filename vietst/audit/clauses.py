"""The clauses that a `--drop` expression can be put together from, and what each of them would drop.

A clause has steps, each of which drops all that the next one drops and more. Rows go by once and are counted
by how many steps drop them; what is held does not grow with their number.
"""

import heapq
import random
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vietst.audit.drop_expression import DropExpression
from vietst.audit.signals import Kind
from vietst.audit.threshold_steps import plain_number, threshold_steps

NUM_WORST: Final = 100
"""Rows to listen to, of each clause."""

NUM_NEAR: Final = 20
"""Rows to listen to on either side of a suggested threshold."""

NUM_SAMPLED: Final = 10_000
"""Rows drawn at random, for what several clauses drop together. Of smaller tables all rows are taken."""

NOT_MEASURED: Final = 255
"""In place of a number of steps."""

_SEED: Final = 1
"""Of the random rows: the same table gives the same page."""

_SIGNS: Final[Mapping[str, tuple[str, ...]]] = {
    Kind.HIGH: (">",),
    Kind.LOW: ("<",),
    Kind.BOTH: ("<", ">"),
    Kind.FACT: ("<", ">"),
}
"""On which side of a threshold rows may be dropped."""

_DIRECTION: Final = {">": 1, "<": -1}
_ORDERS: Final = {">": "highest first", "<": "lowest first"}

_THRESHOLD: Final = re.compile(
    r"(?P<signal>\w+) *(?P<sign>[<>]) *(?P<threshold>-?\d+(\.\d+)?)( +and +(?P<condition>[^()]+))?"
)

Row = Mapping[str, str]
"""Of a table: cells by column."""


@dataclass(frozen=True)
class AuditedRow:
    """A line of both tables."""

    row: Row
    """Of `signals.tsv`."""
    texts: Row
    """Of the manifest."""
    number: int
    """Position in either, from 0."""

    @property
    def duration_s(self) -> float:
        """0 where the audio could not be read."""
        return duration_s(self.row)


def duration_s(row: Row) -> float:
    """Of a row of `signals.tsv`; 0 where the audio could not be read."""
    return float(row["duration"] or 0)


class Worst:
    """The worst of the rows that were added; of equal ones the longer, then the earlier come first."""

    def __init__(self, max_rows: int = NUM_WORST) -> None:
        self._max_rows = max_rows
        self._heap: list[tuple[float, float, int, AuditedRow]] = []

    def add(self, badness: float, audited: AuditedRow) -> None:
        rank = (badness, audited.duration_s, -audited.number)
        if len(self._heap) < self._max_rows:
            heapq.heappush(self._heap, (*rank, audited))
        elif rank > self._heap[0][:3]:
            heapq.heapreplace(self._heap, (*rank, audited))

    @property
    def rows(self) -> list[AuditedRow]:
        return [ranked[-1] for ranked in sorted(self._heap, key=lambda ranked: ranked[:3], reverse=True)]


class Clause:
    """`signal > threshold` or `signal < threshold` with a threshold to choose, or an expression as it is.

    Args:
        sign: `>` or `<`; of an expression as it is "".
        steps: thresholds in rising order; of an expression as it is itself.
        suggested: one of `steps`, or none.
        usual: badness of the middle row; what is not worse is none of the worst.
        condition: an expression that must hold besides; "": none.
    """

    def __init__(
        self,
        signal: str,
        sign: str,
        steps: Sequence[str],
        suggested: str | None,
        usual: float = 0.0,
        condition: str = "",
    ) -> None:
        self.signal, self.sign, self.condition = signal, sign, condition
        self.steps = list(reversed(steps)) if sign == "<" else list(steps)
        """The one that drops most comes first."""
        self.suggested = None if suggested is None else self.steps.index(suggested)
        self.num_rows: npt.NDArray[np.int64] = np.zeros(len(steps) + 1, dtype=np.int64)
        """int64 [len(steps) + 1], by how many steps drop the row."""
        self.seconds: npt.NDArray[np.float64] = np.zeros(len(steps) + 1)
        """float64 [len(steps) + 1], likewise."""
        self.num_not_measured = 0
        self.worst = Worst()
        self._just_dropped, self._just_kept = Worst(NUM_NEAR), Worst(NUM_NEAR)
        self._thresholds = list(map(float, steps)) if sign else []
        self._expression = None if sign else DropExpression(steps[0])
        self._condition = DropExpression(condition) if condition else None
        self._usual = usual

    def num_steps(self, row: Row) -> int:
        """How many steps drop a row; `NOT_MEASURED` where its cell is empty."""
        if self._expression is not None:
            return int(self._expression.drops(row))
        cell = row[self.signal]
        if not cell:
            return NOT_MEASURED
        if not self._may_drop(row):
            return 0
        if self.sign == ">":
            return bisect_left(self._thresholds, float(cell))
        return len(self._thresholds) - bisect_right(self._thresholds, float(cell))

    def _may_drop(self, row: Row) -> bool:
        return self._condition is None or self._condition.drops(row)

    @property
    def near(self) -> list[AuditedRow]:
        """At most `NUM_NEAR` rows on either side of the suggested threshold, the worse side first."""
        return [*reversed(self._just_dropped.rows), *self._just_kept.rows]

    @property
    def title(self) -> str:
        """What its list of worst rows is called."""
        if not self.sign:
            return self.steps[0]
        where = f" where {self.condition}" if self.condition else ""
        return f"{self.signal}, {_ORDERS[self.sign]}{where}"

    def expression(self, step: int) -> str:
        if not self.sign:
            return self.steps[0]
        condition = f" and {self.condition}" if self.condition else ""
        return f"{self.signal} {self.sign} {self.steps[step]}{condition}"

    def dropped(self, step: int) -> tuple[int, float]:
        """(rows, seconds) that a step drops."""
        return int(self.num_rows[step + 1 :].sum()), float(self.seconds[step + 1 :].sum())

    def drops_as_suggested(self, num_steps: int) -> bool:
        return self.suggested is not None and num_steps != NOT_MEASURED and num_steps > self.suggested

    def count(self, audited: AuditedRow) -> int:
        """Counts a row, and keeps it if it is one of the worst. Returns `num_steps`."""
        num_steps = self.num_steps(audited.row)
        if num_steps == NOT_MEASURED:
            self.num_not_measured += 1
            return num_steps
        self.num_rows[num_steps] += 1
        self.seconds[num_steps] += audited.duration_s
        if self._may_drop(audited.row):
            self._keep_to_listen(audited, num_steps)
        return num_steps

    def _keep_to_listen(self, audited: AuditedRow, num_steps: int) -> None:
        if (badness := self._badness(audited.row, num_steps)) > self._usual:
            self.worst.add(badness, audited)
        if self.sign and self.suggested is not None:
            is_dropped = num_steps > self.suggested
            threshold = float(self.steps[self.suggested]) * _DIRECTION[self.sign]
            near = self._just_dropped if is_dropped else self._just_kept
            near.add(-abs(badness - threshold), audited)

    def _badness(self, row: Row, num_steps: int) -> float:
        if self._expression is not None:
            return float(num_steps)
        return float(row[self.signal]) * _DIRECTION[self.sign]


# --- which clauses ----------------------------------------------------------------------------------------


@dataclass
class Survey:
    """A first look at all rows: where their values lie, and some of them drawn at random."""

    names: Sequence[str]
    """Of the columns that expressions may compare with numbers or ask for."""
    numbers: Sequence[str]
    """Of these the ones that are numbers."""
    num_rows: int = 0
    lowest: dict[str, float] = field(default_factory=dict)
    highest: dict[str, float] = field(default_factory=dict)
    sampled: list[Row] = field(default_factory=list)
    """At most `NUM_SAMPLED`; all rows have the same chance to be there (Vitter's algorithm R)."""

    @classmethod
    def of(cls, rows: Iterable[Row], names: Sequence[str], numbers: Sequence[str]) -> "Survey":
        survey, dice = cls(names, numbers), random.Random(_SEED)
        for row in rows:
            survey.num_rows += 1
            for name in numbers:
                if row[name]:
                    value = float(row[name])
                    survey.lowest[name] = min(value, survey.lowest.get(name, value))
                    survey.highest[name] = max(value, survey.highest.get(name, value))
            if len(survey.sampled) < NUM_SAMPLED:
                survey.sampled.append({name: row[name] for name in names})
            elif (place := dice.randrange(survey.num_rows)) < NUM_SAMPLED:
                survey.sampled[place] = {name: row[name] for name in names}
        return survey

    def values(self, name: str) -> npt.NDArray[np.float64]:
        """Measured values of the rows drawn, or where none of these was measured the ends of all values:
        float64 [at most NUM_SAMPLED], empty where nothing was measured."""
        drawn = [float(row[name]) for row in self.sampled if row[name]]
        return np.array(drawn or [ends[name] for ends in (self.lowest, self.highest) if name in ends])


def clauses_of(signal: Mapping[str, Any], survey: Survey) -> list[Clause]:
    """All that can be dropped by a signal: of a name that it is there, of a number what lies beyond it, and
    what is suggested.

    Args:
        signal: `signals.Signal` as `audit.json` has it.
    """
    name, text = signal["name"], signal["suggested"]
    if signal["kind"] == Kind.NAME:
        return [Clause(name, "", [name], name if text == name else None)]
    values = survey.values(name) if name in survey.numbers else np.empty(0)
    if not len(values):
        return []
    plain, conditional = _suggested_thresholds(name, text)
    suggested = [*plain.values(), *(threshold for _, threshold, _ in conditional)]
    steps = threshold_steps(values, survey.lowest[name], survey.highest[name], suggested)
    middle = float(np.median(values))
    clauses = [
        Clause(name, sign, steps, threshold, middle * _DIRECTION[sign], condition)
        for sign, threshold, condition in conditional
    ]
    if text and not suggested:
        clauses.append(Clause(name, "", [text], text))
    for sign in dict.fromkeys((*_SIGNS[signal["kind"]], *plain)):
        clauses.append(Clause(name, sign, steps, plain.get(sign), middle * _DIRECTION[sign]))
    return clauses


def _suggested_thresholds(
    name: str, expression: str | None
) -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """What an expression has of `signal > threshold` joined by `or`, some with `and` and a condition.

    Returns:
        Sign → threshold without a condition, and (sign, threshold, condition); neither if the expression has
        another form.
    """
    plain: dict[str, str] = {}
    conditional: list[tuple[str, str, str]] = []
    for part in re.split(r"\bor\b", expression or ""):
        match = _THRESHOLD.fullmatch(part.strip())
        if match is None or match["signal"] != name or match["sign"] in plain:
            return {}, []
        threshold = plain_number(Decimal(match["threshold"]))
        if condition := match["condition"]:
            conditional.append((match["sign"], threshold, condition))
        else:
            plain[match["sign"]] = threshold
    return plain, conditional
