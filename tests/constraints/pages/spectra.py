"""Eigenvalues and singular values of weights before and after training, with a constraint and without."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from paraform import constraints, register_parametrization
from paraform.constraints import Constraint
from tests.constraints.pages.style import BLUE, GREY, ORANGE, PALE, plain

N = 12
STEPS = 800
RATE = 0.02


def trained(found: Tensor, x: Tensor, y: Tensor, constraint: Constraint | None) -> tuple[Tensor, Tensor]:
    """A weight at the start and at the end of training to map ``x`` to ``y``, from the one that is found."""
    layer = nn.Linear(*reversed(found.shape), bias=False)
    layer.weight = nn.Parameter(found.clone())
    if constraint is not None:
        register_parametrization(layer, "weight", constraint)
    start = layer.weight.detach().clone()
    optimizer = torch.optim.Adam(layer.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (layer(x) - y).square().mean().backward()
        optimizer.step()
        schedule.step()
    return start, layer.weight.detach().clone()


def at_random() -> Tensor:
    return torch.randn(N, N) / N**0.5


def pairs(truth: Tensor, count: int, noise: float) -> tuple[Tensor, Tensor]:
    """A few inputs of a linear map, and what it makes of them, measured badly."""
    x = torch.randn(count, truth.shape[1])
    y = x @ truth.T
    return x, y + noise * torch.randn_like(y)


def eigenvalues(
    before: Axes, after: Axes, /, *, constraint: Constraint, found: Tensor, truth: Tensor, noise: float
) -> None:
    """Eigenvalues in the complex plane: of a weight that is found, and of what training makes of it."""
    x, y = pairs(truth, 2 * N, noise)
    start, end = trained(found, x, y, constraint)
    _, free = trained(found, x, y, None)
    name = f"{type(constraint).__name__}()"
    points(before, found, "x", ORANGE, "as it was found")
    points(before, start, "o", BLUE, f"registered with {name}")
    points(after, truth, "s", GREY, "of the map that is learned")
    points(after, free, "x", ORANGE, "without a constraint")
    points(after, end, "o", BLUE, f"with {name}")
    reach = 1.15 * max(float(torch.linalg.eigvals(each).abs().max()) for each in (found, start, truth, free, end))
    for axes, title in ((before, "before training"), (after, "after training")):
        plain(axes, title)
        axes.set_aspect("equal")
        axes.set(xlabel="real part", ylabel="imaginary part", xlim=(-reach, reach), ylim=(-reach, reach))
        axes.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.16))


def points(axes: Axes, matrix: Tensor, mark: str, colour: str, label: str) -> None:
    values = torch.linalg.eigvals(matrix)
    face = colour if mark == "x" else "none"
    size, width = {"s": (11, 1.0), "o": (7, 1.8), "x": (6, 1.6)}[mark]
    look = {"color": colour, "markerfacecolor": face, "markersize": size, "markeredgewidth": width}
    axes.plot(values.real, values.imag, mark, label=label, **look)


def circle(axes: Axes, filled: bool) -> None:
    turn = torch.linspace(0, 2 * torch.pi, 241)
    if filled:
        axes.fill(turn.cos(), turn.sin(), color=PALE, zorder=0)
    axes.plot(turn.cos(), turn.sin(), color=GREY, linewidth=1, zorder=0)


def orthogonal(figure: Figure) -> None:
    """The unit circle."""
    before, after = figure.subplots(1, 2)
    constraint, found = constraints.Orthogonal(), at_random()
    truth = constraint.sample((N, N))
    truth[0] *= torch.linalg.det(truth @ constraint.project(found)).sign()  # training does not change that of det
    for axes in (before, after):
        circle(axes, filled=False)
    eigenvalues(before, after, constraint=constraint, found=found, truth=truth, noise=0.35)


def symmetric_and_skew(figure: Figure) -> None:
    """The real and the imaginary axis."""
    figure.set_size_inches(7.2, 8.4)
    for row, constraint in zip(figure.subplots(2, 2), (constraints.Symmetric(), constraints.Skew()), strict=True):
        for axes in row:
            line = axes.axhline if isinstance(constraint, constraints.Symmetric) else axes.axvline
            line(0, color=GREY, linewidth=1, zorder=0)
        eigenvalues(*row, constraint=constraint, found=at_random(), truth=constraint.sample((N, N)) / N**0.5, noise=0.8)


def stable(figure: Figure) -> None:
    """The left half of the plane, and the unit disc."""
    figure.set_size_inches(7.2, 8.4)
    above, below = figure.subplots(2, 2)
    turn = constraints.Orthogonal().sample((N, N))
    swings = torch.block_diag(*(torch.tensor([[-0.05, w], [-w, -0.05]]) for w in torch.linspace(0.4, 1.6, N // 2)))
    for axes in above:
        axes.axvspan(-10, 0, color=PALE, zorder=0)
        axes.axvline(0, color=GREY, linewidth=1, zorder=0)
    eigenvalues(*above, constraint=constraints.Hurwitz(), found=at_random(), truth=turn @ swings @ turn.T, noise=0.6)
    for axes in below:
        circle(axes, filled=True)
    eigenvalues(
        *below,
        constraint=constraints.Schur(),
        found=at_random(),
        truth=turn @ torch.matrix_exp(swings) @ turn.T,
        noise=0.6,
    )


def singular_values(figure: Figure) -> None:
    """The singular values, the largest first."""
    before, after = figure.subplots(1, 2, sharey=True)
    n, constraint = 32, constraints.SpectralNorm()
    found = 1.5 * torch.randn(n, n) / n**0.5
    x, y = pairs(2.0 * torch.randn(n, n) / n**0.5, 2 * n, noise=1.0)
    start, end = trained(found, x, y, constraint)
    _, free = trained(found, x, y, None)
    for axes, without, within, names in (
        (before, found, start, ("as it was found", "registered with SpectralNorm()")),
        (after, free, end, ("without a constraint", "with SpectralNorm()")),
    ):
        axes.axhspan(0, 1, color=PALE, zorder=0)
        axes.axhline(1, color=GREY, linewidth=1, zorder=0)
        for matrix, mark, colour, label in ((without, "x", ORANGE, names[0]), (within, "o", BLUE, names[1])):
            face = colour if mark == "x" else "none"
            values = torch.linalg.svdvals(matrix)
            look = {"color": colour, "markerfacecolor": face, "markeredgewidth": 1.5}
            axes.plot(range(1, n + 1), values, mark, label=label, **look)
        axes.set(xlabel="number of the singular value")
        axes.legend(frameon=False, fontsize=9, loc="upper right")
    before.set_ylabel("singular value")
    before.set_ylim(bottom=0)
    plain(before, "before training")
    plain(after, "after training")
