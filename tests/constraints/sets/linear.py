"""Linear subspaces: matrices whose entries obey linear equations."""

import torch

from paraform.constraints import Masked, Skew, Symmetric
from tests.constraints.sets.case import Case, Family

C = torch.complex128


def masked(**options: bool) -> Masked:
    return Masked(torch.tensor([[1, 0, 1], [0, 1, 1]]), **options)


FAMILY = Family(
    "linear",
    "Linear sets",
    "Matrices whose entries obey linear equations. Sums and multiples of values are values, and weight decay of the "
    "raw tensor is weight decay of the value.",
    [
        Case(Symmetric, (4, 4)),
        Case(Symmetric, (2, 3, 3), C),
        Case(Skew, (2, 4, 4)),
        Case(Skew, (3, 3), C),
        Case(masked, (2, 2, 3), edges=(), holds="mask"),
        Case(masked, (2, 3), C, edges=(), holds="mask"),
    ],
)
