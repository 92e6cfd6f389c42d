"""Every set, family by family: what the laws, the docs and the README's catalogue run over. Nothing is listed twice."""

import pytest

from . import combinators, definite, linear, norms, orthogonal, rank
from .case import CLOSE, ENGINES, Case, Family, Layer, assert_close, assert_inside, value_of

FAMILIES = [module.FAMILY for module in (linear, orthogonal, definite, rank, norms, combinators)]
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
