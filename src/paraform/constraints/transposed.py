"""Matrices whose transpose is in a set."""

import torch
from torch import Tensor

from .view import View


class Transposed(View):
    r"""Matrices whose transpose is in the set of another constraint: :math:`X^\top \in S`.

    Shape: ``(*, m, n)`` to the same; ``constraint`` sees ``(*, n, m)``. Complex entries are not conjugated.
    For constraints that treat rows and columns differently: a triangle, sums of columns, vectors in columns.

    Freedom: that of ``constraint``, and so are samples, projection and residual. Raw tensor: one of the transpose's
    shape is kept transposed, so that it stays the same ``Parameter``; others are as ``constraint`` has them.

    Args:
        constraint: what the transpose is to satisfy; with ``strict=True`` or not.

    Attributes:
        constraint: the same.

    Raises:
        TypeError: ``constraint`` is no :class:`Constraint`.
        ValueError: the tensor has fewer than two dimensions, or ``constraint`` refuses the transpose.

    A transition matrix whose columns are laws, since this layer multiplies from the left:

    >>> from torch import nn
    >>> from paraform.constraints import Simplex
    >>> from paraform.parametrize import register_parametrization
    >>> step = register_parametrization(nn.Linear(3, 3, bias=False), "weight", Transposed(Simplex()))
    >>> law = torch.tensor([0.2, 0.3, 0.5])
    >>> torch.isclose(step(law).sum(), torch.tensor(1.0))
    tensor(True)
    """

    stacks = True

    def _seen(self, value: Tensor) -> Tensor:
        return value.mT

    def _back(self, seen: Tensor, shape: torch.Size) -> Tensor:
        return seen.mT

    def _room(self, ndim: int) -> int:
        return 2

    def _dims(self, value: Tensor) -> tuple[int, ...]:
        swapped = {-1: -2, -2: -1}
        return tuple(swapped.get(dim, dim) for dim in self.constraint._dims(self._seen(value)))
