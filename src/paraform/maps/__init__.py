"""The mathematics: pure functions from tensors to tensors, differentiable to every order."""

from .ball import into_ball, into_ball_raw, length_beyond, on_sphere, pulled_into_ball
from .bounds import above, above_raw, between, between_raw, pulled_between, raised_above, with_positive_diagonal
from .direction import sized, slice_norms
from .doubly_stochastic import doubly_stochastic, project_doubly_stochastic, stochastic_error
from .hyperboloid import height_error, hyperboloid, project_hyperboloid
from .norms import frobenius, matrix_dims, norm, size, unit
from .ordered import decrease, isotonic, ordered, ordered_raw, untied
from .patterns import (
    band,
    block_mask,
    circulant,
    circulant_means,
    diagonal_means,
    hamiltonian,
    times_J,
    toeplitz,
    traceless,
)
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
from .simplex import log_ratios, off_the_faces, project_simplex, simplex, simplex_threshold
from .spectral import clip_singular_values, excess, is_within, scaled_to_bound
from .stiefel import cayley, cayley_at, householder_at, matrix_exp_at
from .triangles import diagonal_mask, hermitian_part, skew, skew_from_lower, skew_part, symmetric

__all__ = [
    "above",
    "above_raw",
    "band",
    "between",
    "between_raw",
    "block_mask",
    "cayley",
    "cayley_at",
    "cholesky_raw",
    "circulant",
    "circulant_means",
    "clamp_spectrum",
    "clip_singular_values",
    "contraction",
    "decrease",
    "diagonal_mask",
    "diagonal_means",
    "doubly_stochastic",
    "excess",
    "exponential",
    "frobenius",
    "haar",
    "hamiltonian",
    "has_cholesky",
    "has_entries",
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
    "matrix_dims",
    "matrix_exp_at",
    "measured",
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
    "standard_normal",
    "stochastic_error",
    "symmetric",
    "times_J",
    "toeplitz",
    "traceless",
    "uniform",
    "unit",
    "untied",
    "with_positive_diagonal",
    "working_dtype",
]
