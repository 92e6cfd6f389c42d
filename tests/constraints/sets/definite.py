"""Matrices with eigenvalues above zero."""

import torch

from paraform.constraints import PositiveDefinite
from tests.constraints.sets.case import Case, Family

C = torch.complex128


FAMILY = Family(
    "definite",
    "Definite sets",
    "Symmetric matrices (Hermitian, if complex) whose eigenvalues have a sign: covariances, metrics, precisions.",
    [
        Case(PositiveDefinite, (2, 4, 4), nearest=False),
        Case(PositiveDefinite, (3, 3), C, nearest=False),
    ],
)
