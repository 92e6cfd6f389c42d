"""The sets: parametrizations that know where their values lie."""

from .base import Constraint, ConstraintError, ProjectionWarning
from .flatten import Flatten
from .masked import Masked
from .numbers import GreaterThan, Interval, LessThan, Positive
from .orthogonal import Orthogonal
from .positive_definite import PositiveDefinite
from .spectral_norm import SpectralNorm
from .symmetric import Skew, Symmetric
from .weight_norm import WeightNorm

__all__ = [
    "Constraint",
    "ConstraintError",
    "Flatten",
    "GreaterThan",
    "Interval",
    "LessThan",
    "Masked",
    "Orthogonal",
    "Positive",
    "PositiveDefinite",
    "ProjectionWarning",
    "Skew",
    "SpectralNorm",
    "Symmetric",
    "WeightNorm",
]
