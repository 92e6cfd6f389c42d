"""What linear sets of matrices share."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from .. import maps
from .base import Constraint


class Subspace(Constraint):
    """A linear set: the nearest point is a linear function of the value, and so is the value of the raw tensor.

    The raw tensor has the value's shape, its projection is the value, and weight decay of it is one of the value,
    unless a subclass says otherwise.
    """

    decays = True

    def forward(self, raw: Tensor) -> Tensor:
        return self.project(raw)

    @abstractmethod
    def project(self, value: Tensor) -> Tensor:
        """The orthogonal projection."""

    def residual(self, value: Tensor) -> Tensor:
        """The distance to the set."""
        return _distance(value, self.project(value))

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        return self.project(maps.standard_normal(shape, **options))


class Pattern(Subspace):
    """A linear set of matrices that are zero in given places."""

    def _contains(self, value: Tensor) -> Tensor:
        return self.residual(value) == 0  # no arithmetic makes a zero less than exact


@maps.measured
def _distance(one: Tensor, other: Tensor) -> Tensor:
    return maps.frobenius(one - other)
