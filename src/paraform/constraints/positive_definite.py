"""Symmetric positive definite matrices."""

from typing import Any

import torch
from torch import Tensor

from .. import maps
from .base import Constraint
from .rounding import mirrors
from .shapes import hermitian_dof, require_square

# Each with its inverse.
_MAPS = {
    "cholesky": (maps.positive_definite, maps.cholesky_raw),
    "matrix_exp": (maps.exponential, maps.logarithm),
}


class PositiveDefinite(Constraint):
    r"""Symmetric positive definite matrices, :math:`P = L L^\top` with positive eigenvalues; Hermitian if complex.

    Shape: ``(*, n, n)`` to ``(*, n, n)``. Freedom: ``n (n + 1) / 2`` a matrix (complex: ``n^2``).
    Raw tensor: its lower triangle is read, the rest is ignored. With ``map="cholesky"`` it is ``L``, with a softplus of
    its diagonal. With ``map="matrix_exp"`` it is a symmetric ``S`` of which the value is the exponential,
    ``P = exp(S)``; weight decay draws the value to the identity then.
    Samples: Wishart matrices of mean ``I`` with ``2 n`` degrees of freedom, few of them badly conditioned.

    The smallest eigenvalue is at least ``4 eps`` of the trace, ``eps`` that of float32 (5e-7) or, for double precision,
    of float64: the value is ``L L^T`` (or ``exp(S)``) plus that much of the identity, so that its Cholesky
    factorization succeeds whatever the raw tensor is, as long as nothing under- or overflows. ``exp(S)`` overflows, to
    inf or nan, where an eigenvalue of ``S`` is above 88 (float32) or 709 (float64), and all of it underflows where
    all are below -87 (or -708); eigenvalues further than 14.6 (or 34.7) below the largest are raised to the floor.
    A half-precision value has been rounded once more, which can take up to ``eps / 2`` of its own dtype times its
    Frobenius norm from the smallest eigenvalue.

    A value whose Cholesky factorization succeeds in working precision (half-precision ones up to that rounding) is in
    the set; where its smallest eigenvalue is below the floor, it is raised to it without a warning. There is
    no nearest point to other values, because the set is open: :meth:`project` gives one near the nearest positive
    semidefinite matrix, with eigenvalues of twice the floor at least.

    Args:
        map: ``"cholesky"``, one matrix product; or ``"matrix_exp"``, one to one and smooth, but for the floor, from all
            symmetric to all positive definite matrices: the straight line from 0 to ``S`` is the geodesic from ``I`` to
            ``P`` of the affine-invariant metric (R. Bhatia, *Positive Definite Matrices*, 2007, section 6.1).
        strict: see :class:`Constraint`.

    Raises:
        ValueError: ``map`` is none of the two, or the matrices are not square.

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", PositiveDefinite())
    >>> layer.weight = torch.eye(3)
    >>> layer.weight.round(decimals=5)
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]], grad_fn=...)
    """

    stacks = True

    def __init__(self, map: str = "cholesky", *, strict: bool = False) -> None:
        if map not in _MAPS:
            raise ValueError(f"PositiveDefinite expects a map out of {', '.join(_MAPS)}, got {map!r}; name one.")
        super().__init__(strict=strict)
        self.map = map

    def forward(self, raw: Tensor) -> Tensor:
        return _MAPS[self.map][0](raw)

    def project(self, value: Tensor) -> Tensor:
        """The symmetric part with its eigenvalues raised to twice what the set and the rounding of the entries ask."""
        require_square(self, value.shape)
        return maps.clamp_spectrum(value, _narrowing(value))

    def residual(self, value: Tensor) -> Tensor:
        """The distance to the positive semidefinite matrices, which but for rounding is that to the set."""
        require_square(self, value.shape)
        return maps.indefiniteness(value)

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        *batch, n, _ = shape
        normal = maps.standard_normal((*batch, n, 2 * n), **options)
        return maps.hermitian_part(normal @ normal.mH / (2 * n))

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return hermitian_dof(shape, reals)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_square(self, shape)

    def _contains(self, value: Tensor) -> Tensor:
        # A singular matrix is at distance 0 and not in the set: what counts is the factor that the raw tensor needs.
        return mirrors(value, value.mH) & maps.has_cholesky(value, _narrowing(value))

    def _settled(self, value: Tensor) -> Tensor:
        return maps.symmetric(value.mH)  # the lower triangle is what a Cholesky factorization reads

    def _raw(self, value: Tensor) -> Tensor:
        return _MAPS[self.map][1](value)


def _narrowing(value: Tensor) -> float:
    """What storing a matrix in less than the working precision does to its entries, relative to their size.

    A perturbation of the entries changes each eigenvalue by at most its own Frobenius norm (Weyl's inequality).
    """
    storage, working = (torch.finfo(dtype).eps for dtype in (value.dtype, maps.working_dtype(value.dtype)))
    return (storage - working) / 2
