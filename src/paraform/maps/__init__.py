"""The mathematics: pure functions from tensors to tensors, differentiable to every order."""

from .ball import into_ball, into_ball_raw, length_beyond, on_sphere, pulled_into_ball
from .bounds import above, above_raw, between, between_raw, pulled_between, raised_above
from .correlation import correlation_error, correlation_factor, correlations, nearest_correlation, unit_diagonal
from .direction import sized, slice_norms
from .doubly_stochastic import doubly_stochastic, project_doubly_stochastic, stochastic_error
from .exponential import matrix_exp
from .hyperboloid import height_error, hyperboloid, project_hyperboloid
from .norms import frobenius, matrix_dims, norm, size, unit
from .ordered import decrease, isotonic, ordered, ordered_raw, untied
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
from .random import contraction, haar, standard_exponential, standard_normal, uniform
from .rank import distance_to_rank, factors, has_rank, nearest_of_rank, product, product_of_full_rank, updated
from .semidefinite import distance_to_semidefinite, gram, gram_factor, gram_of_full_rank, nearest_semidefinite
from .simplex import log_ratios, off_the_faces, project_simplex, simplex, simplex_threshold
from .spectral import clip_singular_values, excess, is_within, scaled_to_bound
from .stiefel import cayley, cayley_at, householder_at, matrix_exp_at
from .triangles import hermitian_part, skew, skew_from_lower, skew_part, symmetric, symmetric_from_lower

__all__ = [
    "above",
    "above_raw",
    "between",
    "between_raw",
    "cayley",
    "cayley_at",
    "cholesky_raw",
    "clamp_spectrum",
    "clip_singular_values",
    "contraction",
    "correlation_error",
    "correlation_factor",
    "correlations",
    "decrease",
    "distance_to_rank",
    "distance_to_semidefinite",
    "doubly_stochastic",
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
    "height_error",
    "hermitian_part",
    "householder_at",
    "hyperboloid",
    "indefiniteness",
    "into_ball",
    "into_ball_raw",
    "inverse_softplus",
    "is_within",
    "isotonic",
    "length_beyond",
    "log_ratios",
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
    "off_the_faces",
    "on_sphere",
    "ordered",
    "ordered_raw",
    "orthogonality_error",
    "polar",
    "positive_definite",
    "precise",
    "product",
    "product_of_full_rank",
    "project_doubly_stochastic",
    "project_hyperboloid",
    "project_simplex",
    "pulled_between",
    "pulled_into_ball",
    "raised_above",
    "scaled_to_bound",
    "simplex",
    "simplex_threshold",
    "size",
    "sized",
    "skew",
    "skew_from_lower",
    "skew_part",
    "slice_norms",
    "softplus",
    "standard_exponential",
    "standard_normal",
    "stochastic_error",
    "symmetric",
    "symmetric_from_lower",
    "uniform",
    "unit",
    "unit_diagonal",
    "untied",
    "updated",
    "working_dtype",
]
