"""One row of the table, and the layers that the rows are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paraform import Constraint

Shape = tuple[int, ...]

NOT_SLOWER = 1 / 1.1
"""The bar of "not slower": the ratio of two that are equal is seen between 1 / 1.1 and 1.1 on a shared machine."""


@dataclass(frozen=True)
class Subject:
    """Something to time."""

    run: Callable[[], object]
    value: Callable[[], Tensor]
    """The weight, or a batch of them; not timed."""


Make = Callable[[Shape], Subject]


@dataclass(frozen=True)
class Case:
    """Two that do the same, and how many times faster than the other ours has to be."""

    title: str
    shape: Shape
    peer: str
    theirs: Make
    ours: Make
    constraint: Callable[[Shape], Constraint]
    """What both values are in."""
    bar: float
    small: Shape = (6, 6)
    """The smallest shape that says something, for tests."""
    note: str = ""

    def __str__(self) -> str:
        return f"{self.title}, {' x '.join(map(str, self.shape))}, against {self.peer}"


@dataclass(frozen=True)
class Limit:
    """A number about our side alone, and what it may be at most, if something was promised."""

    title: str
    shape: Shape
    measure: Callable[[Shape, float], float]
    """Given a shape, and for how many seconds it may time."""
    unit: str
    at_most: float | None = None
    small: Shape = (6, 6)
    note: str = ""

    def __str__(self) -> str:
        return f"{self.title}, {' x '.join(map(str, self.shape))}"


class Weight(nn.Module):
    """A layer whose forward pass is a read of its weight, as layers read it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape) / max(shape) ** 0.5)

    def forward(self) -> Tensor:
        return self.weight


def value(layer: nn.Module) -> Subject:
    """The value alone, with its graph."""
    return Subject(layer, lambda: layer().detach())


def value_and_gradient(layer: nn.Module) -> Subject:
    """The value, and the gradient of a linear function of it in every raw tensor.

    Its slope has spectral norm 1, as the gradient of a loss has at most: ``torch.matrix_exp`` takes more squarings in
    its backward pass for a larger one.
    """
    raw, slope = list(layer.parameters()), torch.randn_like(layer())
    slope /= spectral_norm(slope)

    def run() -> object:
        return torch.autograd.grad(layer(), raw, slope)

    return Subject(run, lambda: layer().detach())


def originals(layer: nn.Module, name: str = "weight") -> list[Tensor]:
    return list(layer.parametrizations[name].parameters(recurse=False))  # type: ignore[index, union-attr, operator]


def spectral_norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x) if x.ndim < 2 else torch.linalg.matrix_norm(x, ord=2).max()
