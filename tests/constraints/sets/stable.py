"""Matrices whose powers or exponentials stay bounded."""

import torch

from paraform.constraints import Hurwitz, Schur
from tests.constraints.sets.case import Case, Family

C = torch.complex128


def decaying(**options: bool) -> Hurwitz:
    return Hurwitz(0.5, **options)


def contracting(**options: bool) -> Schur:
    return Schur(0.9, **options)


FAMILY = Family(
    "stable",
    "Stable sets",
    "State matrices of linear systems that cannot explode: continuous in time, or step by step.",
    [
        Case(Hurwitz, (2, 3, 3), nearest=False, magnifies=100),
        Case(decaying, (2, 2), C, nearest=False, magnifies=100),
        Case(Schur, (2, 3, 3), nearest=False, magnifies=100),
        Case(contracting, (2, 2), C, nearest=False, magnifies=100),
    ],
)
