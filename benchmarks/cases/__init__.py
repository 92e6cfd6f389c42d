"""The table of cases: what is timed, against whom, and what was promised."""

from . import orthogonal
from .case import Case, Limit

CASES: list[Case] = [*orthogonal.CASES]
LIMITS: list[Limit] = [*orthogonal.LIMITS]

__all__ = ["CASES", "LIMITS", "Case", "Limit"]
