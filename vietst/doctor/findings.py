"""What a check found; checks that do not end each other; the table."""

import dataclasses
import enum
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping

from vietst.errors import VietstError


class Status(enum.StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"  # all works, but not everything, or not as well as it could
    MEND = "to mend"  # something will fail


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the table."""

    status: Status
    subject: str
    found: str
    do: str = ""
    """What to do about it; empty where there is nothing to do."""


Check = Callable[[], Iterable[Finding]]


def run_checks(checks: Mapping[str, Check]) -> Iterator[Finding]:
    """The findings of all checks in turn. A check that fails is a finding, and the others go on.

    Args:
        checks: subject → check.
    """
    for subject, check in checks.items():
        try:
            yield from check()
        except VietstError as error:
            yield Finding(Status.MEND, subject, f"{error.where}: {error.found}", error.do)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other checks go on
            yield Finding(
                Status.MEND,
                subject,
                f"this check itself failed: {type(error).__name__}: {error}",
                "mend what the message names; where it names nothing, report it as a fault of vietst",
            )


_SUBJECT_WIDTH = 26
_LINE_WIDTH = 110


def format_finding(finding: Finding) -> str:
    """One row of the table, with what to do below it."""
    start = f"{finding.status:<8} {finding.subject:<{_SUBJECT_WIDTH}} "
    lines = [start + (finding.found or "")]
    lines += [f"do: {finding.do}"] if finding.do else []
    return "\n".join(
        textwrap.fill(
            line,
            _LINE_WIDTH,
            initial_indent="" if line.startswith(start) else " " * len(start),
            subsequent_indent=" " * len(start),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in lines
    )


def print_findings(findings: Iterable[Finding]) -> bool:
    """Print the findings as they come, and how many there are of each kind.

    Returns:
        Whether nothing has to be mended.
    """
    counts = dict.fromkeys(Status, 0)
    for finding in findings:
        counts[finding.status] += 1
        print(format_finding(finding), flush=True)
    print(f"\n{counts[Status.OK]} ok, {counts[Status.WARNING]} warnings, {counts[Status.MEND]} to mend")
    return counts[Status.MEND] == 0
