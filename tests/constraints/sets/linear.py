"""Linear subspaces: matrices whose entries obey linear equations."""

import torch

from paraform.constraints import (
    Banded,
    BlockDiagonal,
    Circulant,
    Hamiltonian,
    Masked,
    Skew,
    Symmetric,
    Toeplitz,
    Traceless,
    Triangular,
)
from tests.constraints.sets.case import Case, Family

C = torch.complex128


def masked(**options: bool) -> Masked:
    return Masked(torch.tensor([[1, 0, 1], [0, 1, 1]]), **options)


def upper(**options: bool) -> Triangular:
    return Triangular(lower=False, **options)


def unit(**options: bool) -> Triangular:
    return Triangular(diagonal="unit", **options)


def positive(**options: bool) -> Triangular:
    return Triangular(lower=False, diagonal="positive", **options)


def band(**options: bool) -> Banded:
    return Banded(1, 0, **options)


def halves(**options: bool) -> BlockDiagonal:
    return BlockDiagonal(2, **options)


def unequal(**options: bool) -> BlockDiagonal:
    return BlockDiagonal([1, (1, 2)], **options)


FAMILY = Family(
    "linear",
    "Linear sets",
    "Matrices whose entries obey linear equations. Sums and multiples of values are values (real ones, of Hermitian "
    "and the like), and weight decay of the raw tensor is weight decay of the value; but for triangular matrices "
    "whose diagonal is 1 or positive.",
    [
        Case(Symmetric, (4, 4)),
        Case(Symmetric, (2, 3, 3), C),
        Case(Skew, (2, 4, 4)),
        Case(Skew, (3, 3), C),
        Case(upper, (2, 3, 4), C),
        Case(unit, (4, 3)),
        Case(positive, (2, 3, 3)),
        Case(positive, (2, 3), C),
        Case(band, (2, 3, 4)),
        Case(Traceless, (2, 3, 3), edges=((0, 0), (1, 1), (2, 2))),
        Case(Traceless, (2, 2), C),
        Case(Circulant, (2, 3, 3)),
        Case(Circulant, (3, 3), C),
        Case(Toeplitz, (2, 3, 4), edges=((0, 0), (0, 3), (3, 0), (1, 1))),
        Case(Hamiltonian, (2, 4, 4), edges=((0, 0), (2, 2))),
        Case(Hamiltonian, (2, 2), C, edges=((0, 0),)),
        Case(halves, (2, 4, 2), edges=((0, 0), (2, 2))),
        Case(unequal, (2, 3), C, edges=()),
        Case(masked, (2, 2, 3), edges=(), holds="mask"),
        Case(masked, (2, 3), C, edges=(), holds="mask"),
    ],
)
