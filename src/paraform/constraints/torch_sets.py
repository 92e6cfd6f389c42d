"""What torch does not say of the sets that it names: their nearest points, their dimension, what one point spans."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import maps
from .bounded import as_like
from .rounding import mirrors, tolerance
from .shapes import batch_size, require_entries, require_square


class TorchSet(ABC):
    """A set that torch names."""

    span = 0  # a point spans so many of the last dimensions
    fixed_size = False

    def dims(self, ndim: int) -> tuple[int, ...]:
        """The dimensions that one point spans in a tensor of ``ndim``, counted from the end."""
        return tuple(range(-self.span, 0))

    @abstractmethod
    def closest(self, x: Tensor) -> Tensor:
        """The nearest point of the set and its edge."""

    @abstractmethod
    def inside(self, x: Tensor) -> Tensor:
        """A point of the set and its edge, moved off the edge by as little as the inverse map asks."""

    def project(self, x: Tensor) -> Tensor:
        """The nearest point, moved off the edge."""
        return self.inside(self.closest(x))

    def distance(self, x: Tensor) -> Tensor:
        """How far each point is from the set and its edge, one number for each."""
        return _distance(x, self)

    def contains(self, x: Tensor) -> Tensor:
        """Whether a point is in the set or on its edge, but for rounding; the answer stands at each of its entries."""
        dims = self.dims(x.ndim)
        return at_entries(self.distance(x) <= tolerance(x, dims), x, dims)

    @abstractmethod
    def dof(self, shape: torch.Size) -> int:
        """The dimension of the set of tensors of this shape."""

    def check(self, who: object, shape: torch.Size) -> None:
        """Raise a ValueError, in the name of ``who``, for a shape that does not suit."""
        if len(shape) < self.span:
            raise ValueError(
                f"{who} expects tensors of {self.span} dimensions at least, got shape {tuple(shape)}; pick another one."
            )


@maps.measured
def _distance(x: Tensor, where: TorchSet) -> Tensor:
    return maps.size(x - where.closest(x), where.dims(x.ndim))


def at_entries(per_point: Tensor, like: Tensor, dims: Sequence[int]) -> Tensor:
    """One number a point, at each of its entries.

    >>> at_entries(torch.tensor([1, 2]), torch.zeros(2, 3), (-1,))
    tensor([[1, 1, 1],
            [2, 2, 2]])
    """
    return maps.spread(per_point, like, dims).expand(like.shape)


class Numbers(TorchSet):
    """Numbers above ``lower`` and below ``upper``; bounds are numbers or tensors."""

    def __init__(self, lower: Any = -math.inf, upper: Any = math.inf) -> None:
        ordered = torch.as_tensor(lower < upper)
        if maps.has_entries(ordered) and not bool(ordered.all()):
            raise ValueError(f"from_distribution expects lower below upper, got {lower} and {upper}; exchange them.")
        self.lower, self.upper = lower, upper

    def closest(self, x: Tensor) -> Tensor:
        lower, upper = as_like(x, self.lower), as_like(x, self.upper)
        return torch.where(x < lower, lower, torch.where(x > upper, upper, x))

    def inside(self, x: Tensor) -> Tensor:
        return maps.strictly_between(x, self.lower, self.upper)

    def dof(self, shape: torch.Size) -> int:
        return shape.numel()

    def check(self, who: object, shape: torch.Size) -> None:
        for bound in (self.lower, self.upper):
            try:
                torch.as_tensor(bound).expand(shape)
            except RuntimeError as error:
                raise ValueError(
                    f"{who} expects a tensor that its bound of shape {tuple(bound.shape)} can be broadcast to, got "
                    f"shape {tuple(shape)}; give the bound that shape, or make it a number."
                ) from error


class ProbabilityVectors(TorchSet):
    """Vectors without negative entries that sum to 1."""

    span = 1
    fixed_size = True

    def closest(self, x: Tensor) -> Tensor:
        return maps.project_simplex(x, -1)

    def inside(self, x: Tensor) -> Tensor:
        return maps.off_the_faces(x, (-1,))

    def project(self, x: Tensor) -> Tensor:
        return maps.off_the_faces(self.closest(x), (-1,), 0.5)

    def dof(self, shape: torch.Size) -> int:
        return shape.numel() - shape[:-1].numel()

    def check(self, who: object, shape: torch.Size) -> None:
        super().check(who, shape)
        require_entries(who, shape, -1)


class LowerCholesky(TorchSet):
    """Lower triangles with a positive diagonal."""

    span = 2

    def closest(self, x: Tensor) -> Tensor:
        return torch.where(maps.diagonal_mask(x), x.clamp_min(0), x.tril())

    def inside(self, x: Tensor) -> Tensor:
        return torch.where(maps.diagonal_mask(x), maps.raised_above(x, 0.0), x.tril())

    def contains(self, x: Tensor) -> Tensor:
        # No arithmetic makes a zero, or a sign, less than exact.
        return at_entries((x == self.closest(x)).flatten(-2).all(-1), x, (-2, -1))

    def dof(self, shape: torch.Size) -> int:
        return batch_size(shape) * (shape[-1] * (shape[-1] + 1) // 2)

    def check(self, who: object, shape: torch.Size) -> None:
        require_square(who, shape)


class CorrelationCholesky(LowerCholesky):
    """Lower triangles with a positive diagonal and rows of length 1."""

    fixed_size = True

    def closest(self, x: Tensor) -> Tensor:
        return maps.nearest_unit_rows(x)

    def inside(self, x: Tensor) -> Tensor:
        least = torch.finfo(maps.working_dtype(x.dtype)).eps  # the length of the row does not matter to the inverse
        return torch.where(maps.diagonal_mask(x), x.clamp_min(least), x.tril())

    def contains(self, x: Tensor) -> Tensor:
        return TorchSet.contains(self, x) & at_entries((x == x.tril()).flatten(-2).all(-1), x, (-2, -1))

    def dof(self, shape: torch.Size) -> int:
        return batch_size(shape) * (shape[-1] * (shape[-1] - 1) // 2)

    def check(self, who: object, shape: torch.Size) -> None:
        super().check(who, shape)
        require_entries(who, shape, -1)


class Semidefinite(TorchSet):
    """Symmetric matrices without negative eigenvalues."""

    span = 2

    def closest(self, x: Tensor) -> Tensor:
        return maps.nearest_semidefinite(x, x.shape[-1])

    def inside(self, x: Tensor) -> Tensor:
        kept = maps.has_cholesky(x)[..., None, None]
        return torch.where(kept, maps.symmetric_from_lower(x), maps.clamp_spectrum(x))

    def project(self, x: Tensor) -> Tensor:
        return maps.clamp_spectrum(x)

    def distance(self, x: Tensor) -> Tensor:
        return maps.indefiniteness(x)  # to more digits than by the nearest point

    def contains(self, x: Tensor) -> Tensor:
        return at_entries(mirrors(x, x.mT), x, (-2, -1)) & super().contains(x)

    def dof(self, shape: torch.Size) -> int:
        return batch_size(shape) * (shape[-1] * (shape[-1] + 1) // 2)

    def check(self, who: object, shape: torch.Size) -> None:
        require_square(who, shape)
