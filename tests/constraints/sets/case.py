"""One line of the table of sets, and what the laws do with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from paraform import parametrize
from paraform.constraints import Constraint

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
    outside: bool = True  # three times a random tensor is outside
    edges: tuple[tuple[int, ...], ...] = ((0, 0), (1, 1))  # the smallest shapes that it fits
    magnifies: float = 1.0  # by how much a round trip may magnify rounding: the condition number of a certificate
    holds: str = ""  # what it is built with, and no value of the weight tells

    def __str__(self) -> str:
        kind = "-complex" if self.dtype.is_complex else ""
        return f"{self.make()}{kind}-{'x'.join(map(str, self.shape))}"

    def has(self, law: str) -> bool:
        """Whether a law of :mod:`paraform.testing` is meant for it."""
        return {"nearest": self.nearest, "batch": self.batch}.get(law, True)

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


@dataclass(frozen=True)
class Family:
    """Sets that belong together: a page of the docs, a part of the README's catalogue, cases for every law."""

    name: str
    title: str
    text: str  # what they have in common
    cases: Sequence[Case]

    @property
    def sets(self) -> list[type[Constraint]]:
        """The classes, in the order of the cases."""
        return list(dict.fromkeys(type(case.make()) for case in self.cases))


def assert_inside(constraint: Constraint, value: Tensor) -> None:
    size = max(1.0, float(torch.linalg.vector_norm(value.detach())))
    assert torch.all(constraint.residual(value) <= CLOSE[value.dtype] * size)


def assert_close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=CLOSE[other.dtype], atol=CLOSE[other.dtype])


def value_of(constraint: Constraint, raws: Tensor | tuple[Tensor, ...]) -> Tensor:
    return constraint(*raws) if isinstance(raws, tuple) else constraint(raws)
