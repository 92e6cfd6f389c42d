"""A convolution's kernel seen as one matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Constraint
from .shapes import require_matrix


class Flatten(Constraint):
    """A constraint on a convolution's kernel as one matrix, ``out x (in * kh * kw)``: a row for each output channel.

    Shape: ``(m, *)``, at least two dimensions, to the same; ``constraint`` sees ``(m, n)`` with all but the first
    flattened into ``n``. Its product with a patch of the input is the output at one place. (It is not the convolution
    of whole images, whose norm may be larger, for patches overlap.) A transposed convolution has its input channels
    first: there, they are the rows.

    Set, freedom, samples, projection and residual are those of ``constraint``. A raw tensor of the matrix's shape is
    given the kernel's, so that it stays the same ``Parameter``; others are as ``constraint`` has them.

    Args:
        constraint: what the matrix is to satisfy; with ``strict=True`` or not.

    Attributes:
        constraint: the same.

    Raises:
        TypeError: ``constraint`` is no :class:`Constraint`.
        ValueError: the tensor has fewer than two dimensions, or ``constraint`` refuses the matrix.

    >>> from torch import nn
    >>> from paraform.constraints import Orthogonal
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Conv2d(2, 4, 3), "weight", Flatten(Orthogonal()))
    >>> filters = layer.weight.flatten(1)  # four filters of 2 * 3 * 3 entries
    >>> torch.dist(filters @ filters.T, torch.eye(4)) < 1e-5
    tensor(True)
    """

    def __init__(self, constraint: Constraint) -> None:
        if not isinstance(constraint, Constraint):
            raise TypeError(f"Flatten expects a constraint, got {constraint!r}; write Flatten(Orthogonal()), say.")
        super().__init__(strict=constraint.strict)
        self.constraint = constraint

    @property
    def learned(self) -> bool:
        return self.constraint.learned

    def forward(self, *raws: Tensor) -> Tensor:
        # Behind another parametrization there may be no shape yet; the tensor there is a kernel itself.
        kernel = raws[0].shape if self._shape is None else self._shape
        matrices = (raw.flatten(1) if raw.shape == kernel else raw for raw in raws)
        value: Tensor = self.constraint(*matrices)
        return value.reshape(kernel)

    def right_inverse(self, value: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The raw tensor(s) of ``constraint``; see :meth:`Constraint.right_inverse` for what is refused."""
        self._require_first_shape(value.shape)
        self._check(value.shape, value.dtype)
        matrix = value.flatten(1)
        raw = self.constraint.right_inverse(matrix)
        self._shape, self.distance = value.shape, self.constraint.distance
        if isinstance(raw, Tensor):
            return _like(value, matrix, raw)
        return tuple(_like(value, matrix, tensor) for tensor in raw)

    def project(self, value: Tensor) -> Tensor:
        """What ``constraint`` makes of the matrix."""
        require_matrix(self, value.shape)
        return self.constraint.project(value.flatten(1)).reshape(value.shape)

    def residual(self, value: Tensor) -> Tensor:
        """That of the matrix."""
        require_matrix(self, value.shape)
        return self.constraint.residual(value.flatten(1))

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        return self.constraint._draw(_flat(shape), **options).reshape(shape)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return self.constraint._dof(_flat(shape), reals)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_matrix(self, shape)
        self.constraint._check(_flat(shape), dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.constraint!r})"


def _flat(shape: torch.Size) -> torch.Size:
    return torch.Size((shape[0], shape[1:].numel()))


def _like(kernel: Tensor, matrix: Tensor, raw: Tensor) -> Tensor:
    return raw.reshape(kernel.shape) if raw.shape == matrix.shape else raw
