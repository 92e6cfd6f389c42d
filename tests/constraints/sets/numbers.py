"""Numbers that keep to one side of a bound, entry by entry."""

import torch

from paraform.constraints import GreaterThan, Interval, LessThan, Positive
from tests.constraints.sets.case import Case, Family


def above(**options: bool) -> GreaterThan:
    return GreaterThan(torch.tensor([0.5, -1.0, 2.0]), **options)


def below(**options: bool) -> LessThan:
    return LessThan(-0.25, **options)


def interval(**options: bool) -> Interval:
    return Interval(-1.0, 0.5, **options)


def rows_of_intervals(**options: bool) -> Interval:
    return Interval(torch.tensor([[-1.0], [0.25]]), torch.tensor([0.5, 1.0, 1.5]), **options)


FAMILY = Family(
    "numbers",
    "Numbers",
    "Every entry keeps to one side of a bound, on its own: rates, temperatures, variances, probabilities. Bounds are "
    "numbers, or tensors with a bound for each entry, row or column. All of these sets are open, and smooth maps reach "
    "every point of them; what rounding does at the edge, and where an entry on or beyond it goes, each class says.",
    [
        Case(Positive, (2, 3)),
        Case(above, (2, 3), edges=(), holds="bounds"),
        Case(below, (3,)),
        Case(interval, (2, 3)),
        Case(rows_of_intervals, (2, 3), edges=(), holds="bounds"),
    ],
)
