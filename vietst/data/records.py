"""The rows of TSV and CSV text: lines cut into fields the way people mean them, and fields made a line again.

The csv module is not used: in a tab-separated transcript a quotation mark is mostly just that, and the module
lets one that is never closed swallow all lines to the end of the file.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_MAX_JOINED_LINES: Final = 100
"""How many lines one quoted field may span. A mark that is not closed by then is taken as a mere mark."""


@dataclass(frozen=True)
class _Fields:
    """One line, or several joined ones, cut into fields."""

    values: list[str]
    is_open: bool
    """A field begins with a quotation mark that the lines so far do not close."""
    has_bare_line_end: bool
    """A line end stands outside of quoted fields: these lines do not belong together."""
    all_quoted: bool


def split_records(
    lines: Iterable[str], delimiter: str, num_fields: int | None
) -> Iterator[tuple[int, list[str]]]:
    """Yields (number of the row's first line, fields) for every row; blank lines are none.

    A field is quoted if its quotation marks enclose it wholly and marks inside are doubled; it may then hold
    delimiters and line ends. All other marks are part of the text. `num_fields` is how many fields a row that
    spans lines must have; None: no row spans lines.
    """
    source, ahead, line_number = iter(lines), deque[str](), 0
    while (line := ahead.popleft() if ahead else next(source, None)) is not None:
        line_number += 1
        text = _without_line_end(line)
        if text == "":
            continue
        if '"' not in text:
            yield line_number, text.split(delimiter)
            continue
        fields = _split_fields(text, delimiter)
        joined = None
        if fields.is_open and num_fields is not None:
            joined = _join_lines(line, ahead, source, delimiter, num_fields)
        if joined is None:
            yield line_number, fields.values
        else:
            values, num_joined = joined
            yield line_number, values
            line_number += num_joined
            for _ in range(num_joined):
                ahead.popleft()


def _join_lines(
    line: str, ahead: deque[str], source: Iterator[str], delimiter: str, num_fields: int
) -> tuple[list[str], int] | None:
    """(fields, number of further lines) if the quoted field that `line` leaves open is closed later on.

    Reads from `source` into `ahead`. None if the mark closes nowhere near, or not as a closing mark does, or
    if every line makes a row of its own: then a speaker's quotation runs over several utterances.
    """
    text = line
    for num_joined in range(1, _MAX_JOINED_LINES + 1):
        if num_joined > len(ahead):
            following = next(source, None)
            if following is None:
                return None
            ahead.append(following)
        text += ahead[num_joined - 1]
        if '"' not in ahead[num_joined - 1]:
            continue
        fields = _split_fields(_without_line_end(text), delimiter)
        if fields.has_bare_line_end:
            return None
        if not fields.is_open:
            break
    else:
        return None
    if len(fields.values) != num_fields:
        return None
    if delimiter == "\t" and not fields.all_quoted:
        alone = [line, *(ahead[index] for index in range(num_joined))]
        if all(len(_split_fields(_without_line_end(one), delimiter).values) == num_fields for one in alone):
            return None
    return fields.values, num_joined


def _split_fields(text: str, delimiter: str) -> _Fields:
    whole_field = _QUOTED_FIELD[delimiter]
    values: list[str] = []
    is_open, has_bare_line_end, all_quoted = False, False, True
    position = 0
    while True:
        quoted = whole_field.match(text, position)
        if quoted:
            values.append(quoted[1].replace('""', '"'))
            position = quoted.end()
        else:
            is_open = is_open or _OPEN_FIELD.match(text, position) is not None
            end = text.find(delimiter, position)
            end = len(text) if end < 0 else end
            values.append(text[position:end])
            # What follows the mark of an open field is not cut into fields yet: line ends there mean nothing.
            has_bare_line_end = has_bare_line_end or (not is_open and "\n" in values[-1])
            all_quoted = False
            position = end
        if position >= len(text):
            break
        position += 1
    return _Fields(values, is_open, has_bare_line_end, all_quoted)


_QUOTED_FIELD: Final = {
    delimiter: re.compile(rf'"([^"]*(?:""[^"]*)*)"(?={delimiter}|\Z)') for delimiter in ("\t", ",")
}
_OPEN_FIELD: Final = re.compile(r'"[^"]*(?:""[^"]*)*\Z')


def _without_line_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def format_record(values: Sequence[str], delimiter: str) -> str:
    """One row as text with its line end; `Table.records` gives the same values back."""
    # A row that spans lines is quoted throughout, so that it cannot be taken for several rows.
    spans_lines = any("\n" in value or "\r" in value for value in values)
    text = delimiter.join(
        _quote(value) if spans_lines or _needs_quotes(value, delimiter) else value for value in values
    )
    return f"{text}\n" if text else '""\n'


def _needs_quotes(value: str, delimiter: str) -> bool:
    # In a TSV only a mark at the start can be mistaken; other programs read our CSV files by RFC 4180.
    return delimiter in value or (value.startswith('"') if delimiter == "\t" else '"' in value)


def _quote(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'
