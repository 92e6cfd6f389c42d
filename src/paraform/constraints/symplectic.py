"""Symplectic matrices."""

from typing import Any

import torch
from torch import Tensor

from .. import maps
from .based import Based
from .shapes import hermitian_dof, require_even, require_square


class Symplectic(Based):
    r"""Symplectic matrices, :math:`M^\top J M = J` with :math:`J = [[0, I], [-I, 0]]`; :math:`M^H J M = J` if complex.

    Shape: ``(*, 2n, 2n)`` to the same. Freedom: ``n (2n + 1)`` a matrix (complex: ``4 n^2``).
    Raw tensor: its Hamiltonian part ``A`` is read (see :class:`Hamiltonian`), all entries for that. The value is
    :attr:`base` times :math:`\exp((A - A^\top) / 2) \exp((A + A^\top) / 2)`, which reaches every symplectic matrix from
    every base, a rotation in phase space first and a squeeze then (the polar decomposition; A. Knapp, *Lie Groups
    Beyond an Introduction*, 2002, Proposition 1.143). Registration and assignment make the given value the base and the
    raw tensor zero, so weight decay draws to the base.
    Samples: the value at the base ``I`` of a raw tensor of standard normal entries. (The group is not compact: there is
    no uniform law.)

    :meth:`project` gives a point near the value, not surely the nearest, for which no closed form is known: from the
    nearer one of the generalized polar factor and of the nearest matrix that is orthogonal (unitary) too, steps descend
    to about a local minimum of the distance (see :func:`paraform.maps.nearer_symplectic`). The set is closed and not
    bounded. What rounding leaves of the equation grows with ``|M|^2``, and a raw tensor with a norm above 80 (float32;
    700 in float64) overflows.

    Args:
        strict: see :class:`Constraint`.

    Attributes:
        base: where the raw tensor is zero; None before registration. A buffer, saved with the state.

    Raises:
        ValueError: the matrices are not square, or have an odd number of rows.

    A linear layer on positions and momenta that keeps the volume in phase space, and the area in each plane:

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Linear(4, 4, bias=False), "weight", Symplectic())
    >>> M, J = layer.weight.detach(), torch.eye(4).roll(2, 1) * torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    >>> torch.dist(M.T @ J @ M, J) < 1e-5, torch.allclose(torch.linalg.det(M), torch.tensor(1.0), atol=1e-5)
    (tensor(True), True)
    """

    fixed_size = True
    stacks = True
    moves = True

    def forward(self, raw: Tensor) -> Tensor:
        return maps.symplectic_at(self._required_base(), raw)

    def project(self, value: Tensor) -> Tensor:
        """A symplectic matrix near ``value``; see the class."""
        self._check(value.shape, value.dtype)
        return maps.nearer_symplectic(value)

    def residual(self, value: Tensor) -> Tensor:
        """``|M^H J M - J| / |M|`` in Frobenius norm, without the division below 1."""
        self._check(value.shape, value.dtype)
        return maps.symplectic_error(value)

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        normal = maps.standard_normal(shape, **options)
        return maps.symplectic_at(torch.eye(shape[-1], dtype=normal.dtype, device=normal.device), normal)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return hermitian_dof(shape, reals)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_square(self, shape)
        require_even(self, shape)
