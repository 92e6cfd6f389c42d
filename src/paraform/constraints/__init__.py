"""The sets: parametrizations that know where their values lie."""

from .almost_orthogonal import AlmostOrthogonal
from .ball import Ball, UnitNorm
from .base import Constraint, ConstraintError, ProjectionWarning
from .block_diagonal import BlockDiagonal
from .blocks import Blocks
from .correlation import Correlation
from .distribution import from_distribution
from .doubly_stochastic import DoublyStochastic
from .flatten import Flatten
from .grassmann import Grassmann
from .hyperboloid import Hyperboloid
from .invertible import Invertible, SpecialLinear
from .low_rank import FixedRank, LowRank
from .low_rank_update import LowRankUpdate
from .masked import Masked
from .numbers import GreaterThan, Interval, LessThan, Positive
from .ordered import Ordered
from .orthogonal import Orthogonal
from .positive_definite import PositiveDefinite
from .positive_semidefinite import PositiveSemidefinite
from .scaled import Scaled
from .simplex import Simplex
from .spectral_norm import SpectralNorm
from .stable import Hurwitz, Schur
from .symmetric import Skew, Symmetric
from .symplectic import Symplectic
from .toeplitz import Circulant, Toeplitz
from .traceless import Hamiltonian, Traceless
from .transposed import Transposed
from .triangular import Banded, Triangular
from .weight_norm import WeightNorm

__all__ = [
    "AlmostOrthogonal",
    "Ball",
    "Banded",
    "BlockDiagonal",
    "Blocks",
    "Circulant",
    "Constraint",
    "ConstraintError",
    "Correlation",
    "DoublyStochastic",
    "FixedRank",
    "Flatten",
    "Grassmann",
    "GreaterThan",
    "Hamiltonian",
    "Hurwitz",
    "Hyperboloid",
    "Interval",
    "Invertible",
    "LessThan",
    "LowRank",
    "LowRankUpdate",
    "Masked",
    "Ordered",
    "Orthogonal",
    "Positive",
    "PositiveDefinite",
    "PositiveSemidefinite",
    "ProjectionWarning",
    "Scaled",
    "Schur",
    "Simplex",
    "Skew",
    "SpecialLinear",
    "SpectralNorm",
    "Symmetric",
    "Symplectic",
    "Toeplitz",
    "Traceless",
    "Transposed",
    "Triangular",
    "UnitNorm",
    "WeightNorm",
    "from_distribution",
]
