"""How many hours would be kept at which threshold of a signal."""

from typing import Any, Final

import numpy as np

from vietst.audit.signals import Kind

_NUM_POINTS: Final = 101


def kept_curves(values: np.ndarray, durations_s: np.ndarray, kind: Kind) -> list[dict[str, Any]]:
    """Curves of one signal, one for each side on which its faults lie.

    Args:
        values: float [num_rows], NaN where not measured; such rows are kept at every threshold.
        durations_s: float [num_rows], seconds of audio.

    Returns:
        For each side `drops` ("above" or "below" the threshold), and lists of equal length: `thresholds`
        in rising order, `hours_kept` and `rows_kept`.
    """
    is_measured = np.isfinite(values)
    if kind in (Kind.FACT, Kind.NAME, Kind.TEXT) or not is_measured.any():
        return []
    order = np.argsort(values[is_measured], kind="stable")
    ordered, hours = values[is_measured][order], durations_s[is_measured][order] / 3600
    thresholds = np.unique(np.quantile(ordered, np.linspace(0, 1, _NUM_POINTS), method="nearest"))
    hours_before = np.concatenate([[0.0], np.cumsum(hours)])
    num_others, other_hours = int((~is_measured).sum()), float(durations_s[~is_measured].sum() / 3600)
    num_up_to = np.searchsorted(ordered, thresholds, side="right")
    num_from = len(ordered) - np.searchsorted(ordered, thresholds, side="left")
    sides = {
        "above": (num_up_to, hours_before[num_up_to]),
        "below": (num_from, hours_before[-1] - hours_before[len(ordered) - num_from]),
    }
    wanted = {Kind.HIGH: ("above",), Kind.LOW: ("below",)}.get(kind, ("below", "above"))
    return [
        {
            "drops": side,
            "thresholds": [round(float(value), 6) for value in thresholds],
            "hours_kept": [round(float(value) + other_hours, 6) for value in sides[side][1]],
            "rows_kept": [int(value) + num_others for value in sides[side][0]],
        }
        for side in wanted
    ]
