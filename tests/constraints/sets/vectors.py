"""Vectors along one dimension."""

import torch

from paraform.constraints import Ball, Hyperboloid, Ordered, Simplex, UnitNorm
from tests.constraints.sets.case import Case, Family

C = torch.complex128
SOME_ENTRIES = ((0, 1), (1, 1))


def columns(**options: bool) -> UnitNorm:
    return UnitNorm(0, **options)


def distributions_down(**options: bool) -> Simplex:
    return Simplex(-2, **options)


def ordered_columns(**options: bool) -> Ordered:
    return Ordered(0, **options)


def small_ball(**options: bool) -> Ball:
    return Ball(0.75, **options)


FAMILY = Family(
    "vectors",
    "Vectors",
    "Every vector along one dimension, ``dim=-1`` unless another is named, is a point of the set on its own: the rows "
    "of a matrix, the entries of an embedding. All other dimensions are a batch.",
    [
        Case(UnitNorm, (2, 3), edges=SOME_ENTRIES),
        Case(columns, (3, 2), C, batch=False, edges=((1, 0), (1, 1))),
        Case(Simplex, (2, 4), edges=SOME_ENTRIES),
        Case(distributions_down, (3, 2), edges=((1, 0), (1, 1))),
        Case(Ordered, (2, 4)),
        Case(ordered_columns, (3, 2), batch=False),
        Case(Ball, (2, 3)),
        Case(small_ball, (3,), C),
        Case(Hyperboloid, (2, 3), edges=SOME_ENTRIES),
    ],
)
