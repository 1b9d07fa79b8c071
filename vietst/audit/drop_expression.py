"""What `--drop` says: comparisons of signals with numbers, joined by and, or, not.

    wer > 0.7 or silence > 0.8
    duplicate_of or (copy > 0.95 and not untranslated_english < 1)

A signal that was not measured makes no comparison true or false, and what depends on it is unknown, as in
SQL: only rows for which the whole is certainly true are dropped.
"""

import ast
import difflib
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from vietst.audit.signals import SIGNAL_OF, Group, Kind
from vietst.errors import VietstError

_COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_EXAMPLE: Final = "for example --drop 'wer>0.7 or silence>0.8'"

Truth = bool | None
"""None: not known."""


class DropExpression:
    """An expression that was checked; `text` is how the user wrote it.

    Raises:
        VietstError: it is no expression of this kind, or names a signal that does not exist.
    """

    def __init__(self, text: str) -> None:
        self.text = " ".join(text.split())
        try:
            self._tree = ast.parse(self.text, mode="eval").body
            _check_truth(self._tree)
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise _refusal(repr(text), f"write it in that form; {_EXAMPLE}") from error

    @property
    def names(self) -> list[str]:
        """The signals that it speaks of, in the order of their first mention."""
        return _names(self._tree)

    def require_no_model(self) -> None:
        """Raises VietstError: it speaks of a signal that only an audit with a seed model measures.

        Without one no row would be dropped by it, which is easily taken for "no row is so bad".
        """
        of_model = [name for name in self.names if SIGNAL_OF[name].group is Group.MODEL]
        if of_model:
            raise VietstError(
                where="--drop",
                rule="signals that this audit measures",
                found=f"{', '.join(of_model)} without --model",
                do="name the seed model as before, --model DIR (what it measured is kept), or leave them out",
            )

    def drops(self, cells: Mapping[str, str]) -> bool:
        """Whether a row of `signals.tsv` is to be dropped."""
        return _truth(self._tree, cells) is True

    def reasons(self, cells: Mapping[str, str]) -> str:
        """The signals for which a row is dropped, with their values, for people."""
        decisive = [name for part in _decisive(self._tree, cells) for name in _names(part)]
        return ", ".join(f"{name} {cells[name]}" for name in dict.fromkeys(decisive) if cells[name])


def _names(node: ast.expr) -> list[str]:
    names = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
    return list(dict.fromkeys(name.id for name in sorted(names, key=lambda name: name.col_offset)))


def _decisive(node: ast.expr, cells: Mapping[str, str]) -> list[ast.expr]:
    """The parts that make a true expression true: of several joined by or, those that are."""
    if isinstance(node, ast.BoolOp):
        parts = node.values
        if isinstance(node.op, ast.Or):
            parts = [part for part in parts if _truth(part, cells)]
        return [of_part for part in parts for of_part in _decisive(part, cells)]
    return [node]


def _refusal(found: str, do: str) -> VietstError:
    return VietstError(
        where="--drop",
        rule="names of signals, numbers, < <= > >= == !=, and or not, and parentheses",
        found=found,
        do=do,
    )


def _check_truth(node: ast.expr) -> None:
    """Refuses what is not true or false."""
    if isinstance(node, ast.BoolOp):
        for value in node.values:
            _check_truth(value)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _check_truth(node.operand)
    elif isinstance(node, ast.Compare) and all(type(op) in _COMPARISONS for op in node.ops):
        _check_comparison([node.left, *node.comparators])
    elif isinstance(node, ast.Name):
        if _kind(node) is not Kind.NAME:
            raise _refusal(f"{node.id} alone", f"compare it with a number: {node.id} > 0")
    else:
        raise _refusal(repr(ast.unparse(node)), f"leave it out; {_EXAMPLE}")


def _check_comparison(sides: list[ast.expr]) -> None:
    """Numbers with numbers, texts with quoted texts."""
    are_texts = [_is_text(side) for side in sides]
    if any(are_texts) != all(are_texts):
        shown = " and ".join(ast.unparse(side) for side in sides)
        raise _refusal(f"{shown} compared", "compare numbers with numbers, and texts with quoted texts")


def _is_text(side: ast.expr) -> bool:
    if isinstance(side, ast.Name):
        return _kind(side) in (Kind.NAME, Kind.TEXT)
    if isinstance(side, ast.UnaryOp) and isinstance(side.op, ast.USub):
        return _is_text(side.operand)
    if isinstance(side, ast.Constant) and type(side.value) in (int, float, str):
        return isinstance(side.value, str)
    raise _refusal(repr(ast.unparse(side)), f"compare a signal with a number; {_EXAMPLE}")


def _kind(node: ast.Name) -> Kind:
    if node.id in SIGNAL_OF:
        return SIGNAL_OF[node.id].kind
    nearest = difflib.get_close_matches(node.id.lower(), SIGNAL_OF, n=1, cutoff=0.0)[0]
    raise _refusal(
        f"{node.id!r}, which is no signal", f"write {nearest}, or another of: {', '.join(SIGNAL_OF)}"
    )


def _truth(node: ast.expr, cells: Mapping[str, str]) -> Truth:
    if isinstance(node, ast.BoolOp):
        truths = [_truth(value, cells) for value in node.values]
        decisive = isinstance(node.op, ast.Or)
        return decisive if decisive in truths else None if None in truths else not decisive
    if isinstance(node, ast.UnaryOp):
        truth = _truth(node.operand, cells)
        return None if truth is None else not truth
    if isinstance(node, ast.Compare):
        values = [_value(side, cells) for side in (node.left, *node.comparators)]
        if None in values:
            return None
        pairs = zip(node.ops, values, values[1:], strict=False)
        return all(_COMPARISONS[type(op)](left, right) for op, left, right in pairs)
    assert isinstance(node, ast.Name), "checked before"
    return cells[node.id] != ""


def _value(node: ast.expr, cells: Mapping[str, str]) -> float | str | None:
    if isinstance(node, ast.Constant):
        return node.value  # type: ignore[return-value]
    if isinstance(node, ast.UnaryOp):
        return -float(_value(node.operand, cells))  # type: ignore[arg-type]
    assert isinstance(node, ast.Name), "checked before"
    cell = cells[node.id]
    return cell if _kind(node) in (Kind.NAME, Kind.TEXT) else float(cell) if cell else None
