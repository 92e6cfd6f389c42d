"""The mathematics: pure functions from tensors to tensors, differentiable to every order."""

from .bounds import above, above_raw, between, between_raw, pulled_between, raised_above
from .direction import sized, slice_norms
from .norms import frobenius, matrix_dims, norm, size, unit
from .polar import newton_schulz_factor, orthogonality_error, polar
from .positive import (
    cholesky_raw,
    clamp_spectrum,
    has_cholesky,
    indefiniteness,
    inverse_softplus,
    positive_definite,
    softplus,
)
from .precision import has_entries, measured, precise, working_dtype
from .random import contraction, exponential, haar, standard_normal, uniform
from .spectral import clip_singular_values, excess, is_within, scaled_to_bound
from .stiefel import cayley, cayley_at, householder_at, matrix_exp_at
from .triangles import hermitian_part, skew, skew_from_lower, skew_part, symmetric

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
    "excess",
    "exponential",
    "frobenius",
    "haar",
    "has_cholesky",
    "has_entries",
    "hermitian_part",
    "householder_at",
    "indefiniteness",
    "inverse_softplus",
    "is_within",
    "matrix_dims",
    "matrix_exp_at",
    "measured",
    "newton_schulz_factor",
    "norm",
    "orthogonality_error",
    "polar",
    "positive_definite",
    "precise",
    "pulled_between",
    "raised_above",
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
    "uniform",
    "unit",
    "working_dtype",
]
