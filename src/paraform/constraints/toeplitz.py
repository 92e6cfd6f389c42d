"""Matrices with constant diagonals."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from .. import maps
from .shapes import batch_size, require_matrix, require_square
from .subspace import Subspace


class _ConstantDiagonals(Subspace):
    """Matrices whose raw tensor is a vector: one number for each diagonal."""

    def forward(self, raw: Tensor) -> Tensor:
        if self._shape is None:
            raise RuntimeError(
                f"{self} does not know its shape yet: it takes that from the tensor that it is registered on. Register "
                f"it first of all parametrizations, or call right_inverse with a value first."
            )
        return self._spread(raw, self._shape)

    def _settled(self, value: Tensor) -> Tensor:
        return self._spread(self._raw(value), value.shape)  # what is read: the distance to it is told

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        return self._spread(maps.standard_normal((*shape[:-2], self._count(shape)), **options), shape)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return batch_size(shape) * reals * self._count(shape)

    @abstractmethod
    def _spread(self, raw: Tensor, shape: torch.Size) -> Tensor:
        """The matrices of this shape."""

    @abstractmethod
    def _raw(self, value: Tensor) -> Tensor:
        """The numbers as they stand in the matrix, to the bit."""

    @abstractmethod
    def _count(self, shape: torch.Size) -> int:
        """How many numbers there are a matrix."""


class Circulant(_ConstantDiagonals):
    r"""Circulant matrices, :math:`X_{ij} = c_{(i - j) \bmod n}`: the product with one is a cyclic convolution with c.

    Shape: ``(*, n, n)`` to the same. Freedom: ``n`` a matrix (complex: ``2 n``). Raw tensor: ``c``, the first column,
    of shape ``(*, n)``. Samples: ``c`` has independent standard normal entries.
    The nearest point has the mean of each cyclic diagonal (T. Chan, *An optimal circulant preconditioner for Toeplitz
    systems*, 1988, equation 2.1 for Toeplitz matrices).

    Args:
        strict: see :class:`Constraint`.

    Raises:
        ValueError: the matrices are not square.

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Linear(8, 8, bias=False), "weight", Circulant())
    >>> x, c = torch.randn(8), layer.parametrizations.weight.original
    >>> by_fourier = torch.fft.ifft(torch.fft.fft(c) * torch.fft.fft(x)).real
    >>> torch.allclose(layer(x), by_fourier, atol=1e-5)
    True
    >>> torch.allclose(layer(x.roll(3)), layer(x).roll(3), atol=1e-5)  # what is turned, comes out turned
    True
    """

    def project(self, value: Tensor) -> Tensor:
        """The mean of each cyclic diagonal, in its place."""
        require_square(self, value.shape)
        return maps.circulant(maps.circulant_means(value))

    def _spread(self, raw: Tensor, shape: torch.Size) -> Tensor:
        return maps.circulant(raw)

    def _raw(self, value: Tensor) -> Tensor:
        return value[..., :1].flatten(-2)

    def _count(self, shape: torch.Size) -> int:
        return shape[-1]

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_square(self, shape)


class Toeplitz(_ConstantDiagonals):
    r"""Toeplitz matrices, :math:`X_{ij} = t_{i - j}`, with constant diagonals: the product with one is a convolution.

    Shape: ``(*, m, n)`` to the same. Freedom: ``m + n - 1`` a matrix (complex: twice that). Raw tensor: the diagonals
    from the upper right to the lower left, of shape ``(*, m + n - 1)``. Samples: diagonals of independent standard
    normal numbers. The nearest point has the mean of each diagonal (the layout of ``scipy.linalg.toeplitz``).

    Args:
        strict: see :class:`Constraint`.

    Raises:
        ValueError: the tensor has fewer than two dimensions.

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Linear(8, 6, bias=False), "weight", Toeplitz())
    >>> layer.weight = torch.ones(6, 8).triu().tril(2)  # a moving sum
    >>> layer(torch.arange(8.0))
    tensor([ 3.,  6.,  9., 12., 15., 18.], grad_fn=...)
    >>> layer.parametrizations.weight.original
    Parameter containing:
    tensor([0., 0., 0., 0., 0., 1., 1., 1., 0., 0., 0., 0., 0.], requires_grad=True)
    """

    def project(self, value: Tensor) -> Tensor:
        """The mean of each diagonal, in its place."""
        require_matrix(self, value.shape)
        return maps.toeplitz(maps.diagonal_means(value), *value.shape[-2:])

    def _spread(self, raw: Tensor, shape: torch.Size) -> Tensor:
        return maps.toeplitz(raw, *shape[-2:])

    def _raw(self, value: Tensor) -> Tensor:
        return maps.diagonals(value)

    def _count(self, shape: torch.Size) -> int:
        m, n = shape[-2:]
        return m + n - 1 if m and n else 0

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_matrix(self, shape)
