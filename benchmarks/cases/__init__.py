"""The table of cases: what is timed, against whom, and what was promised."""

from . import models, orthogonal, sets
from .case import Case, Limit

CASES: list[Case] = [*orthogonal.CASES, *models.CASES, *sets.CASES]
LIMITS: list[Limit] = [*orthogonal.LIMITS, *models.LIMITS]

__all__ = ["CASES", "LIMITS", "Case", "Limit"]
