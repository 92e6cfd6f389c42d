"""Points of hyperbolic space."""

from typing import Any

import torch
from torch import Tensor

from .. import maps
from .along import Along
from .shapes import require_entries, require_real


class Hyperboloid(Along):
    r"""Points of hyperbolic space along ``dim`` (Lorentz model), :math:`x_0 = \sqrt{1 + x_1^2 + \dots + x_m^2}`.

    Shape: any with a dimension ``dim`` of size ``m + 1 >= 1`` to the same. Freedom: ``m`` a vector.
    Raw tensor: the value itself, of which :math:`x_0` is not read but computed from the others. Samples:
    :math:`x_1, \dots, x_m` are standard normal (there is no uniform law, for the set has no finite size).

    The set is closed, and all of it is reached: the upper sheet of :math:`-x_0^2 + x_1^2 + \dots + x_m^2 = -1`
    (M. Nickel and D. Kiela, *Learning continuous hierarchies in the Lorentz model of hyperbolic geometry*, 2018,
    section 3). That form itself cancels: of entries of size ``s`` it shows errors ``eps s^2``, and is no measure.

    The nearest point in Euclidean norm is the root of an equation in one unknown, see
    :func:`paraform.maps.project_hyperboloid`. A point straight above or below the origin, but for the sheet's lowest
    one, may have many; one is taken.

    Args:
        dim: the dimension that the vectors lie along.
        strict: see :class:`Constraint`.

    Raises:
        TypeError: ``dim`` is not an int.
        ValueError: the tensor has no dimension ``dim``, or none of its entries, or it is complex.

    Hyperbolic distances of embedded points from the first:

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> table = register_parametrization(nn.Embedding(2, 3), "weight", Hyperboloid())
    >>> table.weight = torch.tensor([[1.0, 0.0, 0.0], [1.25, 0.75, 0.0]])
    >>> form = torch.tensor([-1.0, 1.0, 1.0])
    >>> torch.acosh(-(table.weight * form) @ table.weight[0])
    tensor([0.0000, 0.6931], grad_fn=...)
    """

    fixed_size = True
    stacks = True

    def forward(self, raw: Tensor) -> Tensor:
        return maps.hyperboloid(raw, self.dim)

    def project(self, value: Tensor) -> Tensor:
        """The nearest point; on the axis above height 2, one of the nearest."""
        self._check(value.shape, value.dtype)
        return maps.project_hyperboloid(value, self.dim)

    def residual(self, value: Tensor) -> Tensor:
        """``| x_0 - sqrt(1 + x_1^2 + ... + x_m^2) |``, which is never below the distance to the set."""
        self._check(value.shape, value.dtype)
        return maps.height_error(value, self.dim)

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        normal = maps.standard_normal(shape, **options)
        return maps.hyperboloid(normal, self.dim)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return self._count(shape) * (shape[self.dim] - 1)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        super()._check(shape, dtype)
        require_entries(self, shape, self.dim)
        require_real(self, dtype)
