"""The sets: parametrizations that know where their values lie."""

from .base import Constraint, ConstraintError, ProjectionWarning
from .flatten import Flatten
from .masked import Masked
from .orthogonal import Orthogonal
from .positive_definite import PositiveDefinite
from .spectral_norm import SpectralNorm
from .symmetric import Skew, Symmetric
from .weight_norm import WeightNorm

__all__ = [
    "Constraint",
    "ConstraintError",
    "Flatten",
    "Masked",
    "Orthogonal",
    "PositiveDefinite",
    "ProjectionWarning",
    "Skew",
    "SpectralNorm",
    "Symmetric",
    "WeightNorm",
]
