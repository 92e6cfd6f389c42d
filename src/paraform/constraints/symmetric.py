"""Symmetric and skew-symmetric matrices."""

import torch
from torch import Tensor

from .. import maps
from .rounding import mirrors
from .shapes import batch_size, hermitian_dof, require_square
from .subspace import Subspace


class Symmetric(Subspace):
    r"""Symmetric matrices, :math:`X^\top = X`; for complex tensors Hermitian ones, :math:`X^H = X`.

    Shape: ``(*, n, n)`` to ``(*, n, n)``. Freedom: ``n (n + 1) / 2`` a matrix (complex: ``n^2``).
    Raw tensor: its upper triangle with the diagonal is read (of a complex diagonal the real part), the rest is ignored.
    Samples: the symmetric part of a standard normal matrix (the Gaussian orthogonal or unitary ensemble).
    The nearest point is the symmetric part (K. Fan and A. Hoffman, *Some metric inequalities in the space of matrices*,
    1955, Theorem 2).

    Args:
        strict: see :class:`Constraint`.

    Raises:
        ValueError: the matrices are not square.

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    >>> torch.equal(layer.weight, layer.weight.T)  # holds now, and after every optimizer step
    True
    >>> layer.parametrizations.weight[0].distance > 0  # how far registration moved the weight
    tensor(True)
    """

    stacks = True

    def forward(self, raw: Tensor) -> Tensor:
        return maps.symmetric(raw)

    def project(self, value: Tensor) -> Tensor:
        require_square(self, value.shape)
        return maps.hermitian_part(value)

    def residual(self, value: Tensor) -> Tensor:
        """The distance to the set, ``|X - X^H| / 2``."""
        require_square(self, value.shape)
        return maps.frobenius(maps.skew_part(value))

    def _contains(self, value: Tensor) -> Tensor:
        return mirrors(value, value.mH)

    def _settled(self, value: Tensor) -> Tensor:
        return self.forward(value)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return hermitian_dof(shape, reals)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_square(self, shape)


class Skew(Subspace):
    r"""Skew-symmetric matrices, :math:`X^\top = -X`; for complex tensors skew-Hermitian ones, :math:`X^H = -X`.

    Shape: ``(*, n, n)`` to ``(*, n, n)``. Freedom: ``n (n - 1) / 2`` a matrix (complex: ``n^2``).
    Raw tensor: its strict upper triangle is read (and the imaginary part of a complex diagonal), the rest is ignored.
    Samples: the skew-symmetric part of a standard normal matrix. The nearest point is the skew-symmetric part.
    (They are the Lie algebra of the orthogonal group; A. Knapp, *Lie Groups Beyond an Introduction*, 2002, section
    I.8.)

    Args:
        strict: see :class:`Constraint`.

    Raises:
        ValueError: the matrices are not square.

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Skew())
    >>> torch.equal(layer.weight, -layer.weight.T)  # holds now, and after every optimizer step
    True
    """

    stacks = True

    def forward(self, raw: Tensor) -> Tensor:
        return maps.skew(raw)

    def project(self, value: Tensor) -> Tensor:
        require_square(self, value.shape)
        return maps.skew_part(value)

    def residual(self, value: Tensor) -> Tensor:
        """The distance to the set, ``|X + X^H| / 2``."""
        require_square(self, value.shape)
        return maps.frobenius(maps.hermitian_part(value))

    def _contains(self, value: Tensor) -> Tensor:
        return mirrors(value, -value.mH)

    def _settled(self, value: Tensor) -> Tensor:
        return self.forward(value)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        n = shape[-1]
        return batch_size(shape) * ((reals - 1) * n + reals * n * (n - 1) // 2)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_square(self, shape)
