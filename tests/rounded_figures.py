"""Figures that a stage of the benchmark tells rounded: on a few clips the last digit is not much less."""

import math


def is_ratio_of(told: float, numerator: float, denominator: float, *, digits: int) -> bool:
    """Whether `told`, of 2 decimal places, can be the ratio of what was rounded to `digits` places."""
    half = 0.5 * 10**-digits
    smallest = (numerator - half) / (denominator + half)
    largest = (numerator + half) / (denominator - half) if denominator > half else math.inf
    return smallest - 0.006 <= told <= largest + 0.006
