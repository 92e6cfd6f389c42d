"""The sets: parametrizations that know where their values lie."""

from .ball import Ball, UnitNorm
from .base import Constraint, ConstraintError, ProjectionWarning
from .doubly_stochastic import DoublyStochastic
from .flatten import Flatten
from .hyperboloid import Hyperboloid
from .masked import Masked
from .numbers import GreaterThan, Interval, LessThan, Positive
from .ordered import Ordered
from .orthogonal import Orthogonal
from .positive_definite import PositiveDefinite
from .simplex import Simplex
from .spectral_norm import SpectralNorm
from .symmetric import Skew, Symmetric
from .weight_norm import WeightNorm

__all__ = [
    "Ball",
    "Constraint",
    "ConstraintError",
    "DoublyStochastic",
    "Flatten",
    "GreaterThan",
    "Hyperboloid",
    "Interval",
    "LessThan",
    "Masked",
    "Ordered",
    "Orthogonal",
    "Positive",
    "PositiveDefinite",
    "ProjectionWarning",
    "Simplex",
    "Skew",
    "SpectralNorm",
    "Symmetric",
    "UnitNorm",
    "WeightNorm",
]
