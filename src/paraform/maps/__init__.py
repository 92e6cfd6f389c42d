"""The mathematics: pure functions from tensors to tensors, differentiable to every order."""

from .correlation import correlation_error, correlation_factor, correlations, nearest_correlation, unit_diagonal
from .direction import sized, slice_norms
from .exponential import matrix_exp
from .norms import frobenius, matrix_dims, norm, size, unit
from .polar import newton_schulz_factor, orthogonality_error, polar
from .positive import (
    cholesky_raw,
    clamp_spectrum,
    exponential,
    has_cholesky,
    indefiniteness,
    inverse_softplus,
    logarithm,
    positive_definite,
    softplus,
)
from .precision import has_entries, measured, precise, working_dtype
from .random import contraction, haar, standard_normal
from .rank import distance_to_rank, factors, has_rank, nearest_of_rank, product, product_of_full_rank, updated
from .semidefinite import distance_to_semidefinite, gram, gram_factor, gram_of_full_rank, nearest_semidefinite
from .spectral import clip_singular_values, excess, is_within, scaled_to_bound
from .stiefel import cayley, cayley_at, householder_at, matrix_exp_at
from .triangles import hermitian_part, skew, skew_from_lower, skew_part, symmetric, symmetric_from_lower

__all__ = [
    "cayley",
    "cayley_at",
    "cholesky_raw",
    "clamp_spectrum",
    "clip_singular_values",
    "contraction",
    "correlation_error",
    "correlation_factor",
    "correlations",
    "distance_to_rank",
    "distance_to_semidefinite",
    "excess",
    "exponential",
    "factors",
    "frobenius",
    "gram",
    "gram_factor",
    "gram_of_full_rank",
    "haar",
    "has_cholesky",
    "has_entries",
    "has_rank",
    "hermitian_part",
    "householder_at",
    "indefiniteness",
    "inverse_softplus",
    "is_within",
    "logarithm",
    "matrix_dims",
    "matrix_exp",
    "matrix_exp_at",
    "measured",
    "nearest_correlation",
    "nearest_of_rank",
    "nearest_semidefinite",
    "newton_schulz_factor",
    "norm",
    "orthogonality_error",
    "polar",
    "positive_definite",
    "precise",
    "product",
    "product_of_full_rank",
    "scaled_to_bound",
    "size",
    "sized",
    "skew",
    "skew_from_lower",
    "skew_part",
    "slice_norms",
    "softplus",
    "standard_normal",
    "symmetric",
    "symmetric_from_lower",
    "unit",
    "unit_diagonal",
    "updated",
    "working_dtype",
]
