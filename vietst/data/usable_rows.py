"""Which utterances a model can use: with a text that fits its decoder, and no longer than its window."""

from collections.abc import Callable, Sequence
from typing import Any

from vietst.data.batching import targets_of
from vietst.data.features import InputKind

LabelLengths = Callable[[Any, Sequence[str]], list[int]]
"""Tokenizer, texts → decoder positions that each takes."""


def usable_rows(
    rows: Sequence[dict[str, Any]],
    tasks: tuple[str, ...],
    label_lengths: LabelLengths,
    tokenizer: Any,
    max_label_length: int,
    kind: InputKind,
) -> tuple[list[int], list[dict[str, Any]]]:
    """Which rows the model can learn from, and why not the others. A text is never cut to fit.

    Args:
        rows: with `id`, `transcript`, `translation`, `duration_s`.
        label_lengths: of the model's architecture.
        max_label_length: decoder positions that a target may take.

    Returns:
        Positions of the usable rows, in order; and for each other row `id`, `reason`, `detail`.
    """
    longest = longest_label_lengths(rows, tasks, label_lengths, tokenizer)
    usable: list[int] = []
    rejected: list[dict[str, Any]] = []
    for position, (row, length) in enumerate(zip(rows, longest, strict=True)):
        if length == 0:
            reason, detail = "no_target", f"no text for {' or '.join(tasks)}"
        elif length > max_label_length:
            reason, detail = "label_too_long", f"{length} tokens, the decoder has {max_label_length}"
        elif kind.window_s is not None and row["duration_s"] > kind.window_s:
            reason, detail = (
                "longer_than_window",
                f"{row['duration_s']:.2f} s, the model hears {kind.window_s} s",
            )
        else:
            usable.append(position)
            continue
        rejected.append({"id": row["id"], "reason": reason, "detail": detail})
    return usable, rejected


def longest_label_lengths(
    rows: Sequence[dict[str, Any]], tasks: tuple[str, ...], label_lengths: LabelLengths, tokenizer: Any
) -> list[int]:
    """Decoder positions of each row's longest target; 0 for a row without any."""
    targets = targets_of(rows, tasks)
    lengths = label_lengths(tokenizer, [target.text for target in targets])
    longest = [0] * len(rows)
    for target, length in zip(targets, lengths, strict=True):
        longest[target.utterance_index] = max(longest[target.utterance_index], length)
    return longest
