"""Matrices with eigenvalues above zero."""

import torch

from paraform.constraints import Correlation, PositiveDefinite, PositiveSemidefinite
from tests.constraints.sets.case import Case, Family

C = torch.complex128


def exponential(**options: bool) -> PositiveDefinite:
    return PositiveDefinite("matrix_exp", **options)


def of_rank_two_at_most(**options: bool) -> PositiveSemidefinite:
    return PositiveSemidefinite(2, **options)


def of_rank_two(**options: bool) -> PositiveSemidefinite:
    return PositiveSemidefinite(2, exact=True, **options)


FAMILY = Family(
    "definite",
    "Definite sets",
    "Symmetric matrices (Hermitian, if complex) whose eigenvalues have a sign: covariances, metrics, precisions.",
    [
        Case(PositiveDefinite, (2, 4, 4), nearest=False),
        Case(PositiveDefinite, (3, 3), C, nearest=False),
        Case(exponential, (2, 3, 3), nearest=False),
        Case(exponential, (3, 3), C, nearest=False),
        Case(PositiveSemidefinite, (3, 3)),
        Case(of_rank_two_at_most, (2, 4, 4), C),
        Case(of_rank_two, (2, 4, 4), edges=((2, 2),)),
        Case(Correlation, (2, 4, 4)),
        Case(Correlation, (3, 3), C),
    ],
)
