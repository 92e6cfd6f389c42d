"""Matrices with a determinant that is not zero."""

import torch

from paraform.constraints import Invertible, SpecialLinear
from tests.constraints.sets.case import Case, Family

C = torch.complex128

FAMILY = Family(
    "invertible",
    "Invertible sets",
    "Matrices that can be undone: for flows, changes of coordinates, and mixing of channels.",
    [
        Case(Invertible, (3, 3), nearest=False, outside=False),
        Case(Invertible, (2, 2, 2), C, nearest=False, outside=False),
        Case(SpecialLinear, (2, 3, 3), edges=((1, 1),)),
        Case(SpecialLinear, (2, 2), C, nearest=False, edges=((1, 1),)),
    ],
)
