"""Matrices of trace zero, and those of Hamiltonian systems."""

import torch
from torch import Tensor

from .. import maps
from .rounding import mirrors
from .shapes import batch_size, hermitian_dof, require_even, require_square
from .subspace import Subspace


class Traceless(Subspace):
    r"""Matrices of trace zero, :math:`\operatorname{tr} X = 0`.

    Shape: ``(*, n, n)`` to the same. Freedom: ``n^2 - 1`` a matrix (complex: twice that). Raw tensor: all entries are
    read; the value is :math:`R - \operatorname{tr}(R) / n \, I`, its nearest point. (They are the Lie algebra of
    :class:`SpecialLinear`; A. Knapp, *Lie Groups Beyond an Introduction*, 2002, section I.8.)
    Samples: the projection of a standard normal matrix.

    Args:
        strict: see :class:`Constraint`.

    Raises:
        ValueError: the matrices are not square.

    A flow that keeps volume, for the determinant of the exponential is that of the trace:

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Traceless())
    >>> torch.allclose(torch.linalg.det(torch.matrix_exp(layer.weight)), torch.tensor(1.0))
    True
    """

    stacks = True

    def project(self, value: Tensor) -> Tensor:
        """``X - tr(X) / n I``."""
        require_square(self, value.shape)
        return maps.traceless(value)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return batch_size(shape) * reals * max(shape[-1] ** 2 - 1, 0)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_square(self, shape)


class Hamiltonian(Subspace):
    r"""Hamiltonian matrices, :math:`(J X)^\top = J X` with :math:`J = [[0, I], [-I, 0]]`; :math:`(J X)^H` if complex.

    Shape: ``(*, 2n, 2n)`` to the same. Freedom: ``n (2n + 1)`` a matrix (complex: ``4 n^2``). Raw tensor: all entries
    are read; the value is its nearest point, for which the symmetric (Hermitian) part is taken of :math:`J R`.
    Samples: the projection of a standard normal matrix.

    Their exponentials are symplectic. The complex form is the one of Riccati equations, with the conjugate (C. Paige
    and C. Van Loan, *A Schur decomposition for Hamiltonian matrices*, 1981, section 1).

    Args:
        strict: see :class:`Constraint`.

    Raises:
        ValueError: the matrices are not square, or have an odd number of rows.

    A linear system :math:`x' = A x` that keeps the energy :math:`x^\top J A x / 2`, a quadratic form in positions and
    momenta:

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Linear(4, 4, bias=False), "weight", Hamiltonian())
    >>> A, start = layer.weight.detach(), torch.randn(4)
    >>> later = torch.matrix_exp(0.5 * A) @ start
    >>> JA = torch.cat([A[2:], -A[:2]])
    >>> torch.allclose(later @ JA @ later, start @ JA @ start, atol=1e-4)
    True
    """

    stacks = True

    def project(self, value: Tensor) -> Tensor:
        """``-J`` times the Hermitian part of ``J X``."""
        self._check(value.shape, value.dtype)
        return maps.hamiltonian(value)

    def _contains(self, value: Tensor) -> Tensor:
        JX = maps.times_J(value)
        return mirrors(JX, JX.mH)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return hermitian_dof(shape, reals)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_square(self, shape)
        require_even(self, shape)
