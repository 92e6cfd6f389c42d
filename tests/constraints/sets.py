"""Every set that the laws run over: one line a case, nothing listed twice."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from paraform import parametrize
from paraform.constraints import (
    Constraint,
    Flatten,
    Masked,
    Orthogonal,
    PositiveDefinite,
    Skew,
    SpectralNorm,
    Symmetric,
    WeightNorm,
)

ENGINES = pytest.mark.parametrize("engine", [parametrize, nn.utils.parametrize], ids=["paraform", "torch"])

# Twice what a backward stable computation of this size leaves, and what a user sees as equal.
CLOSE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.complex128: 1e-10}


@dataclass(frozen=True)
class Case:
    """A constraint, a shape that it fits, and what is special about it."""

    make: Callable[..., Constraint]
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float64
    nearest: bool = True  # the projection is the nearest point
    batch: bool = True  # leading dimensions are a batch, however many

    def __str__(self) -> str:
        kind = "-complex" if self.dtype.is_complex else ""
        return f"{self.make()}{kind}-{'x'.join(map(str, self.shape))}"

    def layer(self, engine: object, value: Tensor | None = None, **options: bool) -> "Layer":
        return Layer(self.random() if value is None else value, self.make(**options), engine)

    def random(self, dtype: torch.dtype | None = None) -> Tensor:
        """A tensor that is in the set by chance only."""
        return torch.randn(self.shape, dtype=dtype or self.dtype)

    def registered(self) -> tuple[Constraint, tuple[Tensor, ...]]:
        """The constraint after a first right_inverse, and raw tensors of a generic point inside the set."""
        constraint = self.make().eval()
        raws = constraint.right_inverse(constraint.sample(self.shape, dtype=self.dtype))
        raws = raws if isinstance(raws, tuple) else (raws,)
        return constraint, tuple(0.9 * raw + 0.01 * torch.randn_like(raw) for raw in raws)


class Layer(nn.Module):
    """The smallest module with a parametrized tensor."""

    def __init__(self, value: Tensor, constraint: Constraint, engine: object) -> None:
        super().__init__()
        self.weight = nn.Parameter(value.clone())
        engine.register_parametrization(self, "weight", constraint)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight

    @property
    def constraint(self) -> Constraint:
        return self.parametrizations.weight[0]


def masked(**options: bool) -> Masked:
    return Masked(torch.tensor([[1, 0, 1], [0, 1, 1]]), **options)


def bounded(**options: bool) -> SpectralNorm:
    return SpectralNorm(0.8, slices=True, **options)


def cayley(**options: bool) -> Orthogonal:
    return Orthogonal("cayley", **options)


def householder(**options: bool) -> Orthogonal:
    return Orthogonal("householder", **options)


def by_column(**options: bool) -> WeightNorm:
    return WeightNorm(-1, **options)


def whole(**options: bool) -> WeightNorm:
    return WeightNorm(None, **options)


def filters(**options: bool) -> Flatten:
    return Flatten(Orthogonal(**options))


def slices(**options: bool) -> Orthogonal:
    return Orthogonal(slices=True, **options)


C = torch.complex128
CASES = [
    Case(Symmetric, (4, 4)),
    Case(Symmetric, (2, 3, 3), C),
    Case(Skew, (2, 4, 4)),
    Case(Skew, (3, 3), C),
    *(Case(turn, shape) for turn in (Orthogonal, cayley, householder) for shape in [(4, 4), (5, 3)]),
    *(Case(turn, (2, 3, 4), batch=False) for turn in (Orthogonal, cayley, householder)),
    *(Case(turn, shape, C) for turn in (Orthogonal, cayley) for shape in [(3, 3), (2, 3)]),
    *(Case(turn, (2, 4, 2), C, batch=False) for turn in (Orthogonal, cayley)),
    Case(slices, (2, 2, 3, 2)),
    Case(PositiveDefinite, (2, 4, 4), nearest=False),
    Case(PositiveDefinite, (3, 3), C, nearest=False),
    Case(WeightNorm, (4, 3), batch=False),  # its slices run across the batch
    Case(by_column, (2, 3, 4), C, batch=False),
    Case(whole, (3,), batch=False),
    Case(bounded, (2, 4, 3)),
    Case(bounded, (2, 3), C),
    Case(masked, (2, 2, 3)),
    Case(masked, (2, 3), C),
    Case(filters, (4, 2, 3), batch=False),
    Case(filters, (4, 2, 2, 2), batch=False),
    Case(filters, (3, 2, 1, 2), C, batch=False),
]
MATRIX_BY_MATRIX = pytest.mark.parametrize("case", [case for case in CASES if case.batch], ids=str)
FOR_ALL = pytest.mark.parametrize("case", CASES, ids=str)


def assert_inside(constraint: Constraint, value: Tensor) -> None:
    size = max(1.0, float(torch.linalg.vector_norm(value.detach())))
    assert torch.all(constraint.residual(value) <= CLOSE[value.dtype] * size)


def assert_close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=CLOSE[other.dtype], atol=CLOSE[other.dtype])


def value_of(constraint: Constraint, raws: Tensor | tuple[Tensor, ...]) -> Tensor:
    return constraint(*raws) if isinstance(raws, tuple) else constraint(raws)
