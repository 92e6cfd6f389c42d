"""Vectors of increasing entries."""

from typing import Any

import torch
from torch import Tensor

from .. import maps
from .along import Along
from .shapes import require_real


class Ordered(Along):
    r"""Vectors of increasing entries along ``dim``, :math:`x_1 \le x_2 \le \dots \le x_n`, by steps that are softplus.

    Shape: any with a dimension ``dim`` to the same. Freedom: all entries.
    Raw tensor: its first entry is :math:`x_1`, the others give the steps,
    :math:`x_{i+1} = x_i + \log(1 + e^{r_{i+1}})`. Samples: standard normal entries, sorted.

    The map increases strictly but for rounding: a step below ``eps / 2`` of an entry, or one that underflows, leaves
    two entries equal, which the set has too. An assigned step of 0 becomes ``eps / n``, with ``eps`` of the working
    precision (1.2e-7 in float32, 2.2e-16 in float64; half precision counts as float32), so that no entry moves by more
    than ``eps``; a step trains at a rate in proportion to itself as long as it is below 1.

    The nearest point to other vectors is the isotonic regression (M. Best and N. Chakravarti, *Active set algorithms
    for isotonic regression; a unifying framework*, 1990), untied as above.

    Args:
        dim: the dimension that the vectors lie along.
        strict: see :class:`Constraint`.

    Raises:
        TypeError: ``dim`` is not an int.
        ValueError: the tensor has no dimension ``dim``, or it is complex.

    Cut points of an ordinal regression, which stay in order while they train:

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> model = nn.ParameterDict({"cuts": torch.tensor([-1.0, 2.0, 1.0])})
    >>> model = register_parametrization(model, "cuts", Ordered())
    >>> model.cuts.round(decimals=5)
    tensor([-1.0000, 1.5000, 1.5000], grad_fn=...)
    """

    stacks = True

    def forward(self, raw: Tensor) -> Tensor:
        return maps.ordered(raw, self.dim)

    def project(self, value: Tensor) -> Tensor:
        """The nearest point, its ties broken by ``eps / n`` (see the class)."""
        self._check(value.shape, value.dtype)
        return maps.untied(maps.isotonic(value, self.dim), self.dim)

    def residual(self, value: Tensor) -> Tensor:
        """The Euclidean norm of the steps down."""
        self._check(value.shape, value.dtype)
        return maps.decrease(value, self.dim)

    def _settled(self, value: Tensor) -> Tensor:
        return maps.untied(value, self.dim)

    def _raw(self, value: Tensor) -> Tensor:
        return maps.ordered_raw(value, self.dim)

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        return maps.standard_normal(shape, **options).sort(self.dim).values

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return shape.numel()

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        super()._check(shape, dtype)
        require_real(self, dtype)
