"""Matrices with orthonormal columns or rows, and their kin."""

import torch

from paraform.constraints import Orthogonal
from tests.constraints.sets.case import Case, Family

C = torch.complex128


def cayley(**options: bool) -> Orthogonal:
    return Orthogonal("cayley", **options)


def householder(**options: bool) -> Orthogonal:
    return Orthogonal("householder", **options)


def slices(**options: bool) -> Orthogonal:
    return Orthogonal(slices=True, **options)


FAMILY = Family(
    "orthogonal",
    "Orthogonal sets",
    "Matrices that keep lengths, or another form.",
    [
        *(Case(turn, shape) for turn in (Orthogonal, cayley, householder) for shape in [(4, 4), (5, 3)]),
        *(Case(turn, (2, 3, 4), batch=False) for turn in (Orthogonal, cayley, householder)),
        *(Case(turn, shape, C) for turn in (Orthogonal, cayley) for shape in [(3, 3), (2, 3)]),
        *(Case(turn, (2, 4, 2), C, batch=False) for turn in (Orthogonal, cayley)),
        Case(slices, (2, 2, 3, 2)),
    ],
)
