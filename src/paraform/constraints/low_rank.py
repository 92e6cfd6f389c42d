"""Matrices of a bounded or a given rank."""

from typing import Any

import torch
from torch import Tensor

from .. import maps
from .base import Constraint
from .shapes import batch_size, require_matrix, require_rank, require_sides


class LowRank(Constraint):
    r"""Matrices of rank at most ``rank``, :math:`X = U V`, with as many columns of ``U`` and rows of ``V``.

    Shape: ``(*, m, n)`` to ``(*, m, n)``. Freedom: with ``r = min(rank, m, n)``, ``r (m + n - r)`` a matrix (complex:
    twice that). Two raw tensors: ``original0`` is ``U``, of shape ``(*, m, r)``, and ``original1`` is ``V``, of shape
    ``(*, r, n)``; all of both is read. Nothing else is as large as the value.
    Samples: ``1/sqrt(r)`` times the product of two matrices of independent standard normal entries.

    The factors of a value are balanced, ``U^T U = V V^T``: each has the square root of every singular value. Where one
    is zero, the column of ``U`` is, but the row of ``V`` is not: there the value can grow, also from all zeros.
    Weight decay of the factors is one of the value: ``(|U|^2 + |V|^2) / 2`` is at least the sum of its singular values,
    and equal to it for balanced factors (N. Srebro, J. Rennie and T. Jaakkola, *Maximum-margin matrix factorization*,
    2004, Lemma 1). The set is closed, and values reach all of it.

    The nearest point is the truncated singular value decomposition (C. Eckart and G. Young, *The approximation of one
    matrix by another of lower rank*, 1936).

    Args:
        rank: the largest rank allowed. One of ``min(m, n)`` or more allows all matrices.
        strict: see :class:`Constraint`.

    Raises:
        TypeError: ``rank`` is no int.
        ValueError: ``rank`` is below 1, or the tensor has fewer than two dimensions.
        RuntimeError: it stands behind another parametrization, where there is one tensor only.

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> layer = nn.Linear(1000, 500, bias=False)
    >>> layer = register_parametrization(layer, "weight", LowRank(10))  # the best approximation of that rank
    >>> sum(parameter.numel() for parameter in layer.parameters())  # instead of 500 000
    15000
    """

    decays = True
    stacks = True

    def __init__(self, rank: int, *, strict: bool = False) -> None:
        super().__init__(strict=strict)
        self.rank = require_rank(type(self).__name__, rank)

    def forward(self, left: Tensor, right: Tensor | None = None) -> Tensor:
        return maps.product(left, require_second(self, right))

    def project(self, value: Tensor) -> Tensor:
        """The ``rank`` leading terms of the singular value decomposition."""
        self._check(value.shape, value.dtype)
        return maps.nearest_of_rank(value, self.rank)

    def residual(self, value: Tensor) -> Tensor:
        """The distance to the matrices of that rank or a smaller one."""
        self._check(value.shape, value.dtype)
        return maps.distance_to_rank(value, self.rank)

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        return normal_product(shape, self.rank, **options)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return reals * freedom(shape, self.rank)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_matrix(self, shape)

    def _raw(self, value: Tensor) -> tuple[Tensor, Tensor]:
        return maps.factors(value, self.rank)


class FixedRank(LowRank):
    r"""Matrices of rank ``rank``, neither more nor less: :math:`X = U V` with the singular values kept above zero.

    Shape: ``(*, m, n)`` to ``(*, m, n)``. Freedom: with ``r = rank``, ``r (m + n - r)`` a matrix (complex: twice that).
    Two raw tensors ``U`` and ``V``, weight decay and samples are those of :class:`LowRank`. (On the set as a manifold:
    B. Vandereycken, *Low-rank matrix completion by Riemannian optimization*, 2013, section 2.)

    Each of the ``r`` singular values is that of ``U V``, plus ``4 eps`` of the sum of them, ``eps`` that of float32
    (5e-7 in all) or, for double precision, of float64, and at least the smallest normal number: whatever the raw
    tensors are, zeros too, as long as nothing overflows, the rank is ``r``
    (:func:`paraform.maps.product_of_full_rank`). A read decomposes the factors for that, which costs ``O((m + n) r^2)``
    and on a GPU waits for the result. The rounding of the value's entries, which comes last, is as large as in any
    matrix; in half precision it is more than the floor, and only a singular value above it is safe.

    The set is open. A value that was assigned is in it if singular value number ``r`` is above ``eps`` of the first one
    and the rest is rounding error; if it is below the floor, it is raised to it without a warning. The nearest point is
    that of :class:`LowRank`; a matrix of smaller rank has none, and the singular values that it lacks become twice the
    floor.

    Args:
        rank: the rank.
        strict: see :class:`Constraint`.

    Raises:
        TypeError: ``rank`` is no int.
        ValueError: ``rank`` is below 1, or the matrices have fewer rows or columns.
        RuntimeError: it stands behind another parametrization, where there is one tensor only.

    A code of two numbers, and its decoder: the pseudoinverse is a continuous function of the weight where the rank is
    fixed, and nowhere else. So no step may lose a rank.

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Linear(5, 4, bias=False), "weight", FixedRank(2))
    >>> code = torch.randn(2, 4) @ layer.weight
    >>> torch.allclose(code @ torch.linalg.pinv(layer.weight, rtol=1e-4) @ layer.weight, code, atol=1e-5)
    True
    >>> with torch.no_grad():
    ...     layer.parametrizations.weight.original0[:, 1] = 0  # rank 1, but for the floor
    >>> torch.linalg.matrix_rank(layer.weight, rtol=3e-7)
    tensor(2)
    """

    stacks = True

    def forward(self, left: Tensor, right: Tensor | None = None) -> Tensor:
        return maps.product_of_full_rank(left, require_second(self, right))

    def project(self, value: Tensor) -> Tensor:
        """The ``rank`` leading terms of the singular value decomposition, those too small raised."""
        self._check(value.shape, value.dtype)
        return maps.nearest_of_rank(value, self.rank, True)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        super()._check(shape, dtype)
        require_sides(self, shape, self.rank)

    def _contains(self, value: Tensor) -> Tensor:
        return super()._contains(value) & (maps.has_rank(value, self.rank) > 0)

    def _raw(self, value: Tensor) -> tuple[Tensor, Tensor]:
        return maps.factors(value, self.rank, exact=True)


def require_second(who: Constraint, right: Tensor | None) -> Tensor:
    """``right``, or a RuntimeError that says why there is none."""
    if right is None:
        raise RuntimeError(
            f"{who} expects two raw tensors, the factors, got one: it cannot stand behind another parametrization. "
            f"Register it before the others."
        )
    return right


def normal_product(shape: torch.Size, rank: int, **options: Any) -> Tensor:
    """``1/sqrt(r)`` times the product of an ``m x r`` and an ``r x n`` matrix of standard normal entries."""
    *batch, m, n = shape
    r = min(rank, m, n)
    left, right = (maps.standard_normal((*batch, *size), **options) for size in ((m, r), (r, n)))
    update: Tensor = left @ right / max(r, 1) ** 0.5
    return update


def freedom(shape: torch.Size, rank: int) -> int:
    """The dimension of the ``m x n`` matrices of rank ``r = min(rank, m, n)``, ``r (m + n - r)`` for each matrix."""
    m, n = shape[-2:]
    r = min(rank, m, n)
    return batch_size(shape) * r * (m + n - r)
