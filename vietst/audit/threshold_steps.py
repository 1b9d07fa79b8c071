"""The thresholds of a signal that the audit's page offers: evenly apart, and where they matter."""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import numpy as np
import numpy.typing as npt

MAX_STEPS: Final = 160
"""Of one signal: on a telephone's screen they are two pixels apart. One byte holds their number."""

_TAIL: Final = 0.001
"""Share of the rows on either side that may lie beyond the last threshold, if they lie far off."""


def threshold_steps(
    sampled: npt.NDArray[np.float64], lowest: float, highest: float, suggested: Sequence[str] = ()
) -> list[str]:
    """Thresholds in rising order, as the texts that stand in an expression.

    They lie 1, 2 or 5 times a power of ten apart, whole numbers where all values are whole, and hold the
    suggested ones. They span all values, except where single ones lie far off: then they end twice as far
    from the median as all but `_TAIL` of the rows and the suggested thresholds do.

    Args:
        sampled: float64 [num_sampled], measured values of rows drawn at random; at least one.
        lowest, highest: of all rows.
    """
    middle = float(np.median(sampled))
    marks = [*map(float, np.quantile(sampled, [_TAIL, 1 - _TAIL])), *map(float, suggested)]
    low = max(min(lowest, *marks), middle - 2 * (middle - min(marks)))
    high = min(max(highest, *marks), middle + 2 * (max(marks) - middle))
    whole = bool(np.all(sampled == np.round(sampled)))
    step = _round_step((high - low) / (MAX_STEPS - 2), whole)
    # Thresholds that are no multiple of the step shift all of them.
    anchor = Decimal(suggested[0]) if suggested else Decimal(0)
    first = math.floor((Decimal(low) - anchor) / step)
    last = max(math.ceil((Decimal(high) - anchor) / step), first + 1)
    steps = {anchor + step * number for number in range(first, last + 1)} | set(map(Decimal, suggested))
    return [plain_number(value) for value in sorted(steps)]


def _round_step(at_least: float, whole: bool) -> Decimal:
    """The next of 1, 2, 5, 10, 20, …, 0.5, 0.2, …"""
    if whole:
        at_least = max(at_least, 1.0)
    elif at_least <= 0:
        at_least = 0.01  # all values are equal
    power = Decimal(10) ** math.floor(math.log10(at_least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= Decimal(at_least))


def plain_number(value: Decimal) -> str:
    """Without an exponent and without zeros at the end."""
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text
