"""Matrices of low rank, and updates of low rank."""

import torch

from paraform.constraints import FixedRank, LowRank, LowRankUpdate
from tests.constraints.sets.case import Case, Family

C = torch.complex128


def low(**options: bool) -> LowRank:
    return LowRank(2, **options)


def fixed(**options: bool) -> FixedRank:
    return FixedRank(2, **options)


def update(**options: bool) -> LowRankUpdate:
    return LowRankUpdate(1, 0.5, **options)


FAMILY = Family(
    "rank",
    "Low rank",
    "Matrices that are products of a tall and a wide one, and so have fewer numbers to store, to multiply by and to "
    "train.",
    [
        Case(low, (2, 4, 3)),
        Case(low, (3, 4), C),
        Case(fixed, (2, 3, 4), edges=((2, 2),)),
        Case(fixed, (4, 3), C, edges=((2, 2),)),
        Case(update, (2, 4, 3)),
        Case(update, (3, 3), C),
    ],
)
