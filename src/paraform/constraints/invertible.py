"""Matrices of positive determinant, and of determinant 1."""

from typing import Any

import torch
from torch import Tensor

from .. import maps
from .based import Based
from .shapes import batch_size, require_square


class Invertible(Based):
    r"""Invertible matrices of positive determinant, :math:`\det X > 0`; for complex tensors all invertible ones.

    Shape: ``(*, n, n)`` to the same. Freedom: all entries.
    Raw tensor: all entries are read. The value is :attr:`base` times :math:`\exp((R - R^\top) / 2) \exp((R + R^\top) /
    2)`, a rotation and a stretch, which reaches every matrix of the set from every base (the polar decomposition:
    :func:`paraform.maps.group_at`). Registration and assignment make the given value the base and the raw tensor zero,
    so weight decay draws to the base. The logarithm of the determinant is that of the base plus the trace of ``R``.
    Samples: standard normal entries, given that the determinant is positive.

    The set is open, and no step leaves it; rounding can where the condition number passes ``1 / eps``, and a raw tensor
    with a norm above 80 (float32; 700 in float64) overflows. A matrix of negative determinant has no nearest point, but
    one of determinant 0 at the distance of its smallest singular value: it moves by that, and singular values below
    ``sqrt(eps)`` of the largest (3e-4 in float32, 1e-8 in float64) are raised to that. A value is taken as it is up to
    a condition number of ``1 / (n eps)``.

    Args:
        strict: see :class:`Constraint`.

    Attributes:
        base: where the raw tensor is zero; None before registration. A buffer, saved with the state.

    Raises:
        ValueError: the matrices are not square.

    The 1 x 1 convolution of a flow, whose determinant never vanishes (D. Kingma and P. Dhariwal, *Glow*, 2018):

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> mix = register_parametrization(nn.Linear(3, 3, bias=False), "weight", Invertible())
    >>> x = torch.randn(5, 3)
    >>> log_det = torch.linalg.slogdet(mix.weight).logabsdet  # what the change of variables adds to the log-density
    >>> torch.allclose(torch.linalg.solve(mix.weight, mix(x).T).T, x, atol=1e-2)
    True
    """

    stacks = True
    moves = True

    def forward(self, raw: Tensor) -> Tensor:
        return maps.group_at(self._required_base(), raw)

    def project(self, value: Tensor) -> Tensor:
        """The matrix with its last singular vector turned round if the determinant is negative; see the class."""
        require_square(self, value.shape)
        return maps.project_invertible(value)

    def residual(self, value: Tensor) -> Tensor:
        """The distance to the matrices of determinant at least 0; of complex ones, 0."""
        require_square(self, value.shape)
        return maps.distance_to_invertible(value)

    def _contains(self, value: Tensor) -> Tensor:
        regular = maps.reciprocal_condition(value) > _least(value)
        return regular if value.is_complex() else regular & (maps.distance_to_invertible(value) == 0)

    def _strays(self, base: Tensor) -> Tensor:
        return torch.isfinite(base).flatten(-2).all(-1) & ~self._contains(base)

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        normal = maps.standard_normal(shape, **options)
        if normal.is_complex() or shape[-1] == 0:
            return normal
        first = torch.arange(shape[-1], device=normal.device).unsqueeze(-1) == 0
        negative = torch.linalg.slogdet(normal).sign < 0
        return torch.where(first & negative[..., None, None], -normal, normal)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return reals * shape.numel()

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_square(self, shape)


class SpecialLinear(Based):
    r"""Matrices of determinant one, :math:`\det X = 1`: maps that keep volume and orientation.

    Shape: ``(*, n, n)`` to the same. Freedom: ``n^2 - 1`` a matrix (complex: twice that).
    Raw tensor: ``R`` less its trace is read, ``A``, all entries for that. The value is :attr:`base` times
    :math:`\exp((A - A^\top) / 2) \exp((A + A^\top) / 2)`, which reaches every matrix of the set from every base (see
    :class:`Invertible`; A. Knapp, *Lie Groups Beyond an Introduction*, 2002, Proposition 1.143). Weight decay draws to
    the base.
    Samples: the value at the base ``I`` of a raw tensor of standard normal entries. (There is no uniform law.)

    The nearest point changes the singular values, so that the distance is stationary and their product is 1
    (:func:`paraform.maps.project_special_linear`); of a complex matrix the last singular vector takes the phase of the
    determinant, which is near but not nearest. Where the result would have a condition number above ``1 / sqrt(eps)``
    it is the nearest rotation. The set is closed and not bounded; what rounding leaves of the equation grows with the
    condition number, and a raw tensor with a norm above 80 (float32; 700 in float64) overflows.

    Args:
        strict: see :class:`Constraint`.

    Attributes:
        base: where the raw tensor is zero; None before registration. A buffer, saved with the state.

    Raises:
        ValueError: the matrices are not square, or have no rows.

    A linear flow that needs no correction of the density:

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> flow = register_parametrization(nn.Linear(3, 3), "weight", SpecialLinear())
    >>> torch.allclose(torch.linalg.det(flow.weight), torch.tensor(1.0), atol=1e-4)
    True
    """

    fixed_size = True
    stacks = True
    moves = True

    def forward(self, raw: Tensor) -> Tensor:
        return maps.group_at(self._required_base(), maps.traceless(raw))

    def project(self, value: Tensor) -> Tensor:
        """The matrix with its singular values moved to a product of 1; see the class."""
        self._check(value.shape, value.dtype)
        return maps.project_special_linear(value)

    def residual(self, value: Tensor) -> Tensor:
        """``|det X - 1|`` by the size of the derivative of the determinant: near to the set, the distance to it."""
        self._check(value.shape, value.dtype)
        return maps.distance_to_det_one(value)

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        normal = maps.standard_normal(shape, **options)
        identity = torch.eye(shape[-1], dtype=normal.dtype, device=normal.device)
        return maps.group_at(identity, maps.traceless(normal))

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return batch_size(shape) * reals * (shape[-1] ** 2 - 1)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_square(self, shape)
        if shape[-1] == 0:
            raise ValueError(f"{self} expects matrices with rows, got shape {tuple(shape)}; pick another tensor.")


def _least(value: Tensor) -> float:
    """The reciprocal condition number from which on rounding cannot make a matrix singular."""
    return value.shape[-1] * torch.finfo(maps.working_dtype(value.dtype)).eps
