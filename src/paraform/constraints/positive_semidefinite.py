"""Symmetric positive semidefinite matrices of any, a bounded or a given rank."""

from typing import Any

import torch
from torch import Tensor

from .. import maps
from .base import Constraint
from .rounding import mirrors
from .shapes import batch_size, require_rank, require_sides, require_square


class PositiveSemidefinite(Constraint):
    r"""Positive semidefinite matrices, :math:`X = L L^\top`, of any, a bounded or a given rank; Hermitian if complex.

    Shape: ``(*, n, n)`` to ``(*, n, n)``. Freedom: with the rank ``r`` (``n`` for None), ``n r - r (r - 1) / 2`` a
    matrix (complex: ``2 n r - r^2``). Raw tensor: ``L``, of shape ``(*, n, r)``, all of it is read; weight decay of it
    is one of the value. Samples: Wishart matrices of mean ``I`` with ``r`` degrees of freedom.

    Where the rank is bounded the set is closed: values reach every one of its points, 0 too. There, and wherever the
    rank is below ``r``, no differentiable map onto the set has a gradient in the directions that are missing, since
    the set has only one side there. So that a weight of zeros, or of a smaller rank, can grow, an eigenvalue that is
    assigned below ``eps`` of the largest one becomes that (``eps`` that of the working precision), and zeros become
    a matrix of entries below ``r eps``.

    With ``exact=True`` the set is open: the ``r`` largest eigenvalues are at least ``4 eps`` of the trace, and at least
    the smallest normal number, whatever the raw tensor is. A value that was assigned is in the set if the smallest of
    them is above ``eps`` of the largest; if it is below that floor, it is raised to it without a warning. Rounding to
    half precision, which comes last, may take it away.

    The nearest point drops the skew part, the negative eigenvalues and all but the ``r`` largest (N. Higham, *Computing
    a nearest symmetric positive semidefinite matrix*, 1988, Theorem 2.1; A. Dax, *Low-rank positive approximants of
    symmetric matrices*, 2014). With ``exact=True`` a matrix that has less than ``r`` positive ones has no nearest
    point: those that it lacks become twice the floor.

    Args:
        rank: the largest rank allowed, or None for any. One of ``n`` or more allows any.
        exact: no smaller rank either.
        strict: see :class:`Constraint`.

    Raises:
        TypeError: ``rank`` is neither an int nor None.
        ValueError: ``rank`` is below 1, or ``exact=True`` without a rank; or the matrices are not square, or have less
            than ``rank`` rows with ``exact=True``.

    A metric for nearest neighbours, learned (Mahalanobis): of the four coordinates the first tells the classes apart.

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> metric = nn.Bilinear(4, 4, 1, bias=False)  # d(x, y) = (x - y)^T M (x - y)
    >>> metric = register_parametrization(metric, "weight", PositiveSemidefinite(rank=1))
    >>> optimizer = torch.optim.Adam(metric.parameters(), lr=0.1)
    >>> x, y = torch.randn(64, 4), torch.randn(64, 4)
    >>> target = (x - y)[:, :1].square()
    >>> for _ in range(200):
    ...     optimizer.zero_grad()
    ...     (metric(x - y, x - y) - target).square().mean().backward()
    ...     optimizer.step()
    >>> metric.weight[0].detach().round(decimals=1).abs()  # no distance is negative, and four numbers are trained
    tensor([[1., 0., 0., 0.],
            [0., 0., 0., 0.],
            [0., 0., 0., 0.],
            [0., 0., 0., 0.]])
    """

    decays = True
    stacks = True

    def __init__(self, rank: int | None = None, exact: bool = False, *, strict: bool = False) -> None:
        if exact and rank is None:
            raise ValueError(
                "PositiveSemidefinite(exact=True) expects a rank, got None; give the rank, or use PositiveDefinite() "
                "for the full one."
            )
        super().__init__(strict=strict)
        self.rank = None if rank is None else require_rank("PositiveSemidefinite", rank)
        self.exact = exact

    def _columns(self, shape: torch.Size) -> int:
        return shape[-1] if self.rank is None else min(self.rank, shape[-1])

    def forward(self, raw: Tensor) -> Tensor:
        return maps.gram_of_full_rank(raw) if self.exact else maps.gram(raw)

    def project(self, value: Tensor) -> Tensor:
        """The symmetric part without its negative eigenvalues, and without all but the ``rank`` largest."""
        self._check(value.shape, value.dtype)
        return maps.nearest_semidefinite(value, self._columns(value.shape), self.exact)

    def residual(self, value: Tensor) -> Tensor:
        """The distance to the semidefinite matrices of that rank or a smaller one."""
        self._check(value.shape, value.dtype)
        return maps.distance_to_semidefinite(value, self._columns(value.shape))

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        rank = self._columns(shape)
        normal = maps.standard_normal((*shape[:-1], rank), **options)
        return maps.hermitian_part(normal @ normal.mH / max(rank, 1))

    def _dof(self, shape: torch.Size, reals: int) -> int:
        n, r = shape[-1], self._columns(shape)
        turns = (reals - 1) * r + reals * r * (r - 1) // 2  # L Q has the same value for every unitary Q
        return batch_size(shape) * (reals * n * r - turns)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_square(self, shape)
        if self.exact:
            require_sides(self, shape, self.rank or 0)

    def _contains(self, value: Tensor) -> Tensor:
        inside = mirrors(value, value.mH) & super()._contains(value)
        return inside & (maps.has_rank(value, self._columns(value.shape)) > 0) if self.exact else inside

    def _settled(self, value: Tensor) -> Tensor:
        return maps.hermitian_part(value)

    def _raw(self, value: Tensor) -> Tensor:
        return maps.gram_factor(value, self._columns(value.shape), self.exact)
