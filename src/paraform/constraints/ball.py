"""Vectors of length one, and of bounded length."""

import math
from typing import Any

import torch
from torch import Tensor

from .. import maps
from .along import Along
from .shapes import require_entries


class UnitNorm(Along):
    r"""Vectors of Euclidean norm 1 along ``dim``, :math:`\lVert x \rVert = 1`: :math:`x = v / \lVert v \rVert`.

    Shape: any with a dimension ``dim`` of size ``n >= 1`` to the same. Freedom: ``n - 1`` a vector (complex: ``2 n -
    1``). Raw tensor: ``v``, all entries are read, and its length has no effect; registration and assignment make it 1.
    A gradient is orthogonal to ``v`` and makes it longer, and weight decay makes it shorter: together they set the
    pace, and neither takes the value out of the set. Samples: the uniform law (normal vectors over their length: G.
    Marsaglia, *Choosing a point from the surface of a sphere*, 1972).

    The set is closed, and all of it is reached. A vector of zeros, to which all points are equally near, is taken for
    one of ones, by :meth:`project` and as a raw tensor.

    Args:
        dim: the dimension that the vectors lie along.
        strict: see :class:`Constraint`.

    Raises:
        TypeError: ``dim`` is not an int.
        ValueError: the tensor has no dimension ``dim``, or no entries along it.

    An embedding whose products are cosines:

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> table = register_parametrization(nn.Embedding(100, 8), "weight", UnitNorm())
    >>> words = table(torch.tensor([3, 14, 15]))
    >>> (words @ words.T).diagonal().round(decimals=5)
    tensor([1., 1., 1.], grad_fn=...)
    """

    fixed_size = True
    stacks = True

    def forward(self, raw: Tensor) -> Tensor:
        return maps.on_sphere(raw, self.dim)

    def project(self, value: Tensor) -> Tensor:
        """``x / |x|``, the nearest point; for zeros, one of the nearest."""
        self._check(value.shape, value.dtype)
        return maps.on_sphere(value, self.dim)

    def residual(self, value: Tensor) -> Tensor:
        """The distance to the set, ``| |x| - 1 |``."""
        self._check(value.shape, value.dtype)
        return (maps.size(value, (self.dim,)) - 1).abs()

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        normal = maps.standard_normal(shape, **options)
        return maps.on_sphere(normal, self.dim)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return self._count(shape) * (reals * shape[self.dim] - 1)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        super()._check(shape, dtype)
        require_entries(self, shape, self.dim)


class Ball(Along):
    r"""Vectors in a ball along ``dim``, :math:`|x| < R`: :math:`x = v \tanh(r) / r` with :math:`r = |v| / R`.

    Shape: any with a dimension ``dim`` to the same. Freedom: all entries. Raw tensor: ``v``, all entries are read; the
    value has its direction. Near zero the map is the identity. Samples: the uniform law.

    The set is open, and its edge is not reached: ``R`` in the map is ``(1 - 4 eps)`` of ``radius``, so that the exact
    length of the rounded value is below ``radius`` in float32 and float64, and ``log(1 - |x|^2)`` and the like stay
    finite. (In half precision, rounding to it may still pass by ``eps / 2`` of its own.) A vector assigned on the edge
    or beyond becomes the one at ``5 eps radius`` inside, the nearest point but for that much; there its raw length is
    8.3 radii in float32 and 18.4 in float64; its direction trains at that fraction of the pace, and its length hardly.
    In hyperbolic geometry (the Poincaré ball) the map is the exponential at 0, with ``v`` half the tangent vector.

    Args:
        radius: positive and finite.
        dim: the dimension that the vectors lie along.
        strict: see :class:`Constraint`.

    Raises:
        TypeError: ``dim`` is not an int.
        ValueError: ``radius`` is not positive and finite, or the tensor has no dimension ``dim``.

    Points of the Poincaré disk, and their distances from its centre:

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> table = register_parametrization(nn.Embedding(2, 2), "weight", Ball())
    >>> table.weight = torch.tensor([[0.3, 0.4], [0.0, 0.99]])
    >>> 2 * torch.atanh(table.weight.norm(dim=-1))
    tensor([1.0986, 5.2933], grad_fn=...)
    """

    stacks = True

    def __init__(self, radius: float = 1.0, dim: int = -1, *, strict: bool = False) -> None:
        if not 0 < radius < math.inf:
            raise ValueError(f"Ball expects a positive and finite radius, got {radius}; choose one above 0.")
        super().__init__(dim, strict=strict)
        self.radius = radius

    def forward(self, raw: Tensor) -> Tensor:
        return maps.into_ball(raw, self.radius, self.dim)

    def project(self, value: Tensor) -> Tensor:
        """``value``, and of vectors that are too long those of their direction at ``5 eps radius`` inside."""
        self._check(value.shape, value.dtype)
        return maps.pulled_into_ball(value, self.radius, self.dim)

    def residual(self, value: Tensor) -> Tensor:
        """The distance to the closed ball, ``max(0, |x| - radius)``."""
        self._check(value.shape, value.dtype)
        return maps.length_beyond(value, self.radius, self.dim)

    def _settled(self, value: Tensor) -> Tensor:
        return self.project(value)

    def _raw(self, value: Tensor) -> Tensor:
        return maps.into_ball_raw(value, self.radius, self.dim)

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        normal = maps.standard_normal(shape, **options)
        lengths = list(shape)
        lengths[self.dim] = 1
        reals = max(1, shape[self.dim] * (2 if normal.is_complex() else 1))
        length = maps.uniform(lengths, **options) ** (1 / reals)
        return maps.pulled_into_ball(self.radius * length * maps.on_sphere(normal, self.dim), self.radius, self.dim)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return reals * shape.numel()
