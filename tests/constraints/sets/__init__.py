"""Every set, family by family: what the laws, the docs and the README's catalogue run over. Nothing is listed twice."""

import pytest

from . import (
    combinators,
    definite,
    distributions,
    invertible,
    linear,
    norms,
    numbers,
    orthogonal,
    rank,
    stable,
    stochastic,
    vectors,
)
from .case import CLOSE, ENGINES, Case, Family, Layer, assert_close, assert_inside, value_of

_SETS = [numbers, vectors, linear, orthogonal, definite, rank, invertible, stable, stochastic, norms]
_MODULES = [*_SETS, distributions, combinators]
FAMILIES = [module.FAMILY for module in _MODULES]
CASES = [case for family in FAMILIES for case in family.cases]

MATRIX_BY_MATRIX = pytest.mark.parametrize("case", [case for case in CASES if case.batch], ids=str)
FOR_ALL = pytest.mark.parametrize("case", CASES, ids=str)

__all__ = [
    "CASES",
    "CLOSE",
    "ENGINES",
    "FAMILIES",
    "FOR_ALL",
    "MATRIX_BY_MATRIX",
    "Case",
    "Family",
    "Layer",
    "assert_close",
    "assert_inside",
    "value_of",
]
