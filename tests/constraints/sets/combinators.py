"""Constraints made of constraints."""

import torch

from paraform.constraints import Flatten, Orthogonal
from tests.constraints.sets.case import Case, Family

C = torch.complex128


def filters(**options: bool) -> Flatten:
    return Flatten(Orthogonal(**options))


FAMILY = Family(
    "combinators",
    "Combinators",
    "Constraints made of other constraints, which see the tensor in another shape or at another size.",
    [
        Case(filters, (4, 2, 3), batch=False),
        Case(filters, (4, 2, 2, 2), batch=False),
        Case(filters, (3, 2, 1, 2), C, batch=False),
    ],
)
