"""Matrices with orthonormal columns or rows, and their kin."""

import torch

from paraform.constraints import AlmostOrthogonal, Grassmann, Orthogonal, Symplectic
from tests.constraints.sets.case import Case, Family

C = torch.complex128


def cayley(**options: bool) -> Orthogonal:
    return Orthogonal("cayley", **options)


def householder(**options: bool) -> Orthogonal:
    return Orthogonal("householder", **options)


def matrix_exp(**options: bool) -> Orthogonal:
    return Orthogonal("matrix_exp", **options)


def polar(**options: bool) -> Orthogonal:
    return Orthogonal("polar", **options)


def special(**options: bool) -> Orthogonal:
    return Orthogonal(special=True, **options)


def special_cayley(**options: bool) -> Orthogonal:
    return Orthogonal("cayley", special=True, **options)


def almost(**options: bool) -> AlmostOrthogonal:
    return AlmostOrthogonal(0.2, **options)


def slices(**options: bool) -> Orthogonal:
    return Orthogonal(slices=True, **options)


FAMILY = Family(
    "orthogonal",
    "Orthogonal sets",
    "Matrices that keep lengths, or another form.",
    [
        *(Case(turn, shape) for turn in (Orthogonal, cayley, householder, polar) for shape in [(4, 4), (5, 3)]),
        *(Case(turn, (2, 3, 4), batch=False) for turn in (matrix_exp, polar)),
        *(Case(turn, (3, 3), C) for turn in (Orthogonal, cayley, polar)),
        *(Case(turn, (2, 4, 2), C, batch=False) for turn in (Orthogonal, matrix_exp, polar)),
        Case(special, (3, 3)),
        Case(special_cayley, (2, 2, 2), batch=False),
        Case(special, (3, 3), C),
        Case(Grassmann, (4, 2)),
        Case(Grassmann, (2, 2, 3), C, batch=False),
        Case(almost, (4, 3)),
        Case(almost, (2, 2, 3), batch=False),
        Case(almost, (3, 3), C),
        Case(Symplectic, (2, 4, 4), nearest=False, edges=((0, 0), (2, 2))),
        Case(Symplectic, (2, 2), C, nearest=False, edges=()),
        Case(slices, (2, 2, 3, 2)),
    ],
)
