"""Axes of figures: where a number lies between the ends, and which numbers are labelled."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

MARGIN = 0.06  # of the axis, left free at both ends
MOST_TICKS = 5
DECADES = 10.0  # of a logarithmic axis at most: what is smaller than its top by more is drawn at its lower end
SMALLEST, LARGEST = 1e-300, 1e300  # of what is drawn, so that no arithmetic with it overflows
STRAIGHT = 30.0  # the ratio of the largest to the smallest number from which on an axis is logarithmic


@dataclass(frozen=True)
class Axis:
    """An interval of numbers, drawn linearly or by their logarithms.

    >>> axis = Axis(0.0, 10.0)
    >>> axis.place(2.5), axis.ticks()
    (0.25, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0])
    >>> Axis(0.01, 1.0, is_logarithmic=True).ticks()
    [0.01, 0.1, 1.0]
    """

    low: float
    high: float
    is_logarithmic: bool = False

    def place(self, number: float) -> float:
        """Where the number is, from 0 (``low``) to 1 (``high``); what lies beyond an end is put there."""
        if self.is_logarithmic:
            low, high = math.log10(self.low), math.log10(self.high)
            at = (math.log10(max(number, self.low)) - low) / (high - low)
        else:
            at = (number - self.low) / (self.high - self.low)
        return min(max(at, 0.0), 1.0)

    def ticks(self) -> list[float]:
        """Round numbers within the interval, at most some six of them."""
        if self.is_logarithmic:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            every = max(1, math.ceil((last - first) / MOST_TICKS))
            return [10.0**exponent for exponent in range(first, last + 1, every)]
        step = _round_step((self.high - self.low) / MOST_TICKS)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


def linear_axis(numbers: Iterable[float], *, holds: Iterable[float] = ()) -> Axis:
    """A linear axis for these finite numbers, with a margin, that also has the numbers of ``holds`` in it."""
    shown = [min(max(number, -LARGEST), LARGEST) for number in (*numbers, *holds)]
    low, high = (min(shown), max(shown)) if shown else (0.0, 1.0)
    size = max(abs(low), abs(high))
    # Numbers that differ by rounding only are drawn as one line, not as noise over the whole height.
    room = max((high - low) * MARGIN, size * 1e-3) if size > SMALLEST else 1.0
    return Axis(low - room, high + room)


def size_axis(numbers: Iterable[float]) -> Axis:
    """An axis for finite numbers that are not negative: from 0, or logarithmic where they differ by much."""
    shown = [min(number, LARGEST) for number in numbers]
    positive = [number for number in shown if number > SMALLEST]
    if not positive:
        return Axis(0.0, 1.0)
    low, high = max(min(positive), max(positive) * 10**-DECADES), max(positive)
    if high / low < STRAIGHT and len(positive) == len(shown):
        return Axis(0.0, high * (1 + MARGIN))
    # Whole decades, so that at least two are labelled, and one more where there are zeros, which are drawn at its end.
    bottom = math.floor(math.log10(low) - 1e-9) - (len(positive) < len(shown))
    top = math.ceil(math.log10(high) + 1e-9)
    return Axis(10.0**bottom, 10.0**top, is_logarithmic=True)


def _round_step(about: float) -> float:
    """1, 2, 5 or 10 times a power of ten, no less than ``about``."""
    power: float = 10.0 ** math.floor(math.log10(about))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= about * (1 - 1e-9))
