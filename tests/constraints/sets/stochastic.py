"""Matrices of probabilities."""

from paraform.constraints import DoublyStochastic
from tests.constraints.sets.case import Case, Family

FAMILY = Family(
    "stochastic",
    "Stochastic matrices",
    "Matrices of probabilities. Rows that sum to one, each on its own, are ``Simplex()``, and columns ``Simplex(-2)``; "
    "here are matrices whose rows and columns do.",
    [
        Case(DoublyStochastic, (4, 4)),
        Case(DoublyStochastic, (2, 3, 3)),
    ],
)
