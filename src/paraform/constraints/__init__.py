"""The sets: parametrizations that know where their values lie."""

from .base import Constraint, ConstraintError, ProjectionWarning
from .correlation import Correlation
from .flatten import Flatten
from .low_rank import FixedRank, LowRank
from .low_rank_update import LowRankUpdate
from .masked import Masked
from .orthogonal import Orthogonal
from .positive_definite import PositiveDefinite
from .positive_semidefinite import PositiveSemidefinite
from .spectral_norm import SpectralNorm
from .symmetric import Skew, Symmetric
from .weight_norm import WeightNorm

__all__ = [
    "Constraint",
    "ConstraintError",
    "Correlation",
    "FixedRank",
    "Flatten",
    "LowRank",
    "LowRankUpdate",
    "Masked",
    "Orthogonal",
    "PositiveDefinite",
    "PositiveSemidefinite",
    "ProjectionWarning",
    "Skew",
    "SpectralNorm",
    "Symmetric",
    "WeightNorm",
]
