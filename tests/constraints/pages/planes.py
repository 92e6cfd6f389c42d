"""Sets that can be drawn: curves, and points in the plane and in space with the way to the nearest point of a set."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from paraform import constraints
from paraform.constraints import Constraint
from tests.constraints.pages.style import BLUE, GREY, LINES, ORANGE, PALE, plain


def numbers(figure: Figure) -> None:
    """The value over the raw number."""
    axes = figure.subplots()
    raw = torch.linspace(-6, 6, 481)
    shown: dict[str, Constraint] = {
        "Positive()": constraints.Positive(),
        "GreaterThan(2)": constraints.GreaterThan(2.0),
        "LessThan(-1)": constraints.LessThan(-1.0),
        "Interval(-1, 2)": constraints.Interval(-1.0, 2.0),
    }
    for (name, constraint), (colour, mark) in zip(shown.items(), LINES, strict=True):
        axes.plot(raw, constraint(raw), mark, color=colour, linewidth=2.2, label=name)
    for bound in (-1, 0, 2):
        axes.axhline(bound, color=GREY, linewidth=0.8, zorder=0)
    plain(axes, "Whatever the raw number is, the value keeps to its side of the bounds")
    axes.set(xlabel="raw number, which is trained", ylabel="value, which the layer reads", ylim=(-5, 6), xlim=(-6, 6))
    axes.legend(frameon=False, loc="upper left")


def vectors(figure: Figure) -> None:
    """Random points, and the nearest ones of four sets of vectors."""
    figure.set_size_inches(7.2, 7.2)
    (circle, disc), (triangle, sheet) = figure.subplots(2, 2)
    turn = torch.linspace(0, 2 * torch.pi, 241)
    round_ = torch.stack([turn.cos(), turn.sin()], dim=-1)
    plane = apart(1.2 * torch.randn(60, 2))

    circle.plot(*round_.T, color=BLUE, linewidth=2)
    arrows(circle, plane, constraints.UnitNorm().project(plane))
    plain(circle, "UnitNorm()")

    disc.fill(*round_.T, color=PALE)
    disc.plot(*round_.T, color=BLUE, linewidth=1, linestyle="--")
    arrows(disc, plane, constraints.Ball().project(plane))
    plain(disc, "Ball()")

    corners, names = torch.eye(3), ("(1, 0, 0)", "(0, 1, 0)", "(0, 0, 1)")
    triangle.fill(*seen_along_the_diagonal(corners).T, facecolor=PALE, edgecolor=BLUE, linewidth=2)
    points = apart(1 / 3 + 0.4 * torch.randn(80, 3), distance=0.4)
    arrows(triangle, seen_along_the_diagonal(points), seen_along_the_diagonal(constraints.Simplex().project(points)))
    for corner, name in zip(1.3 * seen_along_the_diagonal(corners), names, strict=True):
        triangle.text(*corner.tolist(), name, ha="center", va="center", fontsize=10)
    plain(triangle, "Simplex(), seen along (1, 1, 1)")

    x = torch.linspace(-2.9, 2.9, 241)
    sheet.plot(x, (1 + x.square()).sqrt(), color=BLUE, linewidth=2)
    points = torch.tensor([1.2, 0.0]) + torch.randn(80, 2)
    points = apart(points[points[:, 1].abs() < 2], distance=0.5)
    arrows(sheet, points.flip(-1), constraints.Hyperboloid().project(points).flip(-1))
    plain(sheet, "Hyperboloid()")
    sheet.set(xlabel="$x_1$", ylabel="$x_0$")

    for axes in (circle, disc, triangle, sheet):
        axes.set_aspect("equal")
    triangle.set(xlim=(-1.35, 1.35), ylim=(-1.25, 1.45))
    sheet.set(xlim=(-3, 3), ylim=(-1.6, 3.9))
    for axes in (circle, disc, triangle):
        axes.set(xticks=[], yticks=[])
        axes.spines[["left", "bottom"]].set_visible(False)


def apart(points: Tensor, count: int = 14, distance: float = 0.45) -> Tensor:
    """The first of the points that are not too near to another one, so that their arrows can be told apart."""
    kept: list[Tensor] = []
    for point in points:
        if all((point - other).norm() > distance for other in kept):
            kept.append(point)
    return torch.stack(kept[:count])


def seen_along_the_diagonal(points: Tensor) -> Tensor:
    """Points of space as one sees them who looks along (1, 1, 1): the triangle of the simplex in its true shape."""
    across = torch.tensor([[-1.0, 1.0, 0.0], [-1.0, -1.0, 2.0]])
    return points @ (across / across.norm(dim=1, keepdim=True)).T


def arrows(axes: Axes, points: Tensor, nearest: Tensor) -> None:
    """An arrow from each point to the nearest of the set, where that is another one."""
    outside = (points - nearest).norm(dim=-1) > 1e-3
    axes.plot(*points[~outside].T, "o", color=BLUE, markersize=5)
    axes.plot(*points[outside].T, "o", markerfacecolor="white", markeredgecolor=ORANGE, markersize=5, zorder=3)
    for start, end in zip(points[outside].tolist(), nearest[outside].tolist(), strict=True):
        style = {"arrowstyle": "-|>", "color": ORANGE, "linewidth": 1.2, "shrinkA": 3, "shrinkB": 0}
        axes.annotate("", end, start, arrowprops=style)
    axes.plot(*nearest[outside].T, ".", color=ORANGE, markersize=3)


def cone(figure: Figure) -> None:
    """The symmetric 2 x 2 matrices as space, with the semidefinite and the correlation matrices among them."""
    figure.set_size_inches(6.0, 5.8)
    axes = figure.add_subplot(projection="3d", computed_zorder=False)
    turn, height = torch.meshgrid(torch.linspace(0, 2 * torch.pi, 73), torch.linspace(0, 2.2, 12), indexing="ij")
    surface = (height * turn.cos(), height * turn.sin(), height)
    axes.plot_surface(*surface, color=BLUE, alpha=0.16, linewidth=0, antialiased=True)
    axes.plot_wireframe(*surface, color=BLUE, alpha=0.25, linewidth=0.5, rstride=6, cstride=11)

    points = torch.tensor([0.0, 0.0, 0.4]) + torch.randn(400, 3)
    nearest = coordinates(constraints.PositiveSemidefinite().project(matrices(points)))
    moved = (points - nearest).norm(dim=-1)
    # In front of the cone, as one sees it, and far enough from it for a line to be seen.
    points = apart(points[(moved > 0.5) & (points.abs() < 1.8).all(-1) & (points[:, 1] < points[:, 0])], 10, 0.8)
    nearest = coordinates(constraints.PositiveSemidefinite().project(matrices(points)))
    for path in torch.stack([points, nearest], dim=-1):
        axes.plot(*path, color=ORANGE, linewidth=1.4)
    axes.plot(*points.T, "o", markerfacecolor="white", markeredgecolor=ORANGE, markersize=5)
    axes.plot(*nearest.T, "o", color=ORANGE, markersize=4)

    ends = coordinates(torch.tensor([[[1.0, -1.0], [-1.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]]))
    axes.plot(*ends.T, color="black", linewidth=2.6, label="Correlation()")
    axes.plot([], [], color=BLUE, linewidth=6, alpha=0.3, label="PositiveSemidefinite(): the cone and what is in it")
    axes.plot([], [], "-o", color=ORANGE, label="symmetric matrices, and the nearest semidefinite ones")
    axes.set(xlabel=r"$(a - c) / \sqrt{2}$", ylabel=r"$\sqrt{2}\, b$", zlabel=r"$(a + c) / \sqrt{2}$")
    axes.set(xlim=(-2, 2), ylim=(-2, 2), zlim=(-1.6, 2.2))
    axes.set(xticks=[-2, 0, 2], yticks=[-2, 0, 2], zticks=[-1, 0, 1, 2])
    axes.set_box_aspect((4, 4, 3.8), zoom=1.02)
    axes.view_init(elev=10, azim=-50)
    figure.legend(frameon=False, loc="outside upper left", fontsize=10)


def coordinates(matrix: Tensor) -> Tensor:
    """Where a symmetric matrix ``[[a, b], [b, c]]`` stands in space; distances are those of Frobenius."""
    a, b, c = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 1]
    root = 2**0.5
    return torch.stack([(a - c) / root, root * b, (a + c) / root], dim=-1)


def matrices(point: Tensor) -> Tensor:
    """The symmetric matrices at these coordinates."""
    x, y, z = point.unbind(-1)
    return torch.stack([z + x, y, y, z - x], dim=-1).unflatten(-1, (2, 2)) / 2**0.5
