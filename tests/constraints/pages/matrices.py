"""Matrices as images."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from paraform import constraints, register_parametrization
from paraform.cli import digits
from paraform.constraints import Constraint
from tests.constraints.pages.style import SIGNS

N = 12


def image(axes: Axes, matrix: Tensor, title: str, signs: bool = True, most: float | None = None) -> None:
    """A matrix, a square for each entry; white is zero."""
    top = float(matrix.abs().max()) if most is None else most
    axes.imshow(matrix.detach(), cmap=SIGNS if signs else "Blues", vmin=-top if signs else 0, vmax=top)
    axes.set_title(title, fontsize=9)
    axes.set(xticks=[], yticks=[])


def patterns(figure: Figure) -> None:
    """A random point of each linear set."""
    figure.set_size_inches(7.2, 4.4)
    shown: dict[str, Constraint] = {
        "Symmetric()": constraints.Symmetric(),
        "Skew()": constraints.Skew(),
        "Triangular()": constraints.Triangular(),
        "Banded(1, 2)": constraints.Banded(1, 2),
        "BlockDiagonal((5, 4, 3))": constraints.BlockDiagonal((5, 4, 3)),
        "Toeplitz()": constraints.Toeplitz(),
        "Circulant()": constraints.Circulant(),
        "Masked.n_of_m(W, 2, 4)": constraints.Masked.n_of_m(torch.randn(N, N), 2, 4),
    }
    for axes, (name, constraint) in zip(figure.subplots(2, 4).flat, shown.items(), strict=True):
        image(axes, constraint.sample((N, N)), name)


def masked(figure: Figure) -> None:
    """What a linear classifier of digits looks at, before and after most of it is pruned."""
    figure.set_size_inches(7.2, 1.5)
    data = digits.load()
    x, labels = data.train.pixels.flatten(1), data.train.labels
    test = data.test.pixels.flatten(1), data.test.labels
    layer = nn.Linear(64, 10)

    def train() -> float:
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.05, weight_decay=0.1)
        for _ in range(200):
            optimizer.zero_grad()
            cross_entropy(layer(x), labels).backward()
            optimizer.step()
        return float((layer(test[0]).argmax(1) == test[1]).float().mean())

    everything = train()
    weights = [layer.weight.detach().clone()]
    pruned = constraints.Masked.by_magnitude(layer.weight, 0.7)
    register_parametrization(layer, "weight", pruned)
    few = train()
    weights.append(layer.weight.detach())
    names = (f"all 640 weights\n{everything:.1%} right", f"the largest 192\n{few:.1%} right")
    for row, weight, name in zip(figure.subplots(2, 10), weights, names, strict=True):
        most = float(weight.abs().max())
        for digit, axes in enumerate(row):
            image(axes, weight[digit].reshape(8, 8), str(digit) if weight is weights[0] else "", most=most)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)


def permutation(figure: Figure) -> None:
    """A doubly stochastic matrix that learns how a list was put out of order."""
    figure.set_size_inches(7.2, 2.3)
    order = torch.randperm(8)
    x = torch.randn(64, 8)
    y = x[:, order] + 0.1 * torch.randn(64, 8)
    layer = nn.Linear(8, 8, bias=False)
    layer.weight = nn.Parameter(torch.full((8, 8), 1 / 8))
    register_parametrization(layer, "weight", constraints.DoublyStochastic())
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    steps = iter((0, 10, 25, 200))
    done = 0
    for axes in figure.subplots(1, 4):
        until = next(steps)
        for _ in range(until - done):
            optimizer.zero_grad()
            (layer(x) - y).square().mean().backward()
            optimizer.step()
        done = until
        image(axes, layer.weight, f"after {done} steps" if done else "at the start", signs=False, most=1.0)
