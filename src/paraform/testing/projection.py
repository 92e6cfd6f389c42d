"""What a set knows of itself: nearest points, random points, its dimension."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .law import InapplicableError, law, leaves_alone, require
from .subject import Subject, distance, relative_error, tolerance, value_at

_SIZES = (1e-3, 1e-2, 0.1, 1.0, 10.0)
"""How far from the projection other points of the set are looked for."""


def _with(subject: Subject, name: str) -> Any:
    step = subject.step()
    if not hasattr(step, name):
        raise InapplicableError(f"it has no {name}")
    return step


@law
def projection(subject: Subject) -> None:
    """The projection is in the set, and changes nothing that is: no projection, and no other point."""
    step, value = _with(subject, "project"), subject.random()
    once = leaves_alone(step.project, value, "project")
    outside, again = subject.outside(step, once), relative_error(step.project(once), once)
    allowed = tolerance(value.dtype)
    require(outside <= allowed, f"the projection is {outside:.3g} outside the set; {allowed:.3g} is allowed")
    require(again <= allowed, f"projecting again moves it by {again:.3g}; {allowed:.3g} is allowed")
    point = subject.point(step=step)
    moved = relative_error(step.project(point), point)
    require(moved <= allowed, f"the projection moves a point of the set by {moved:.3g}; {allowed:.3g} is allowed")


@law
def nearest(subject: Subject) -> None:
    """No point of the set that is tried is nearer than the projection: near, far, and down the gradient from it."""
    step, value = _with(subject, "project"), subject.random()
    nearest = step.project(value)
    others = [step.project(nearest + size * subject.random()) for size in _SIZES for _ in "12"]
    if subject.invertible:
        others += _values_around(step, nearest, value)
    least, reached = min(float(distance(other, value)) for other in others), float(distance(nearest, value))
    require(
        least >= reached - tolerance(value.dtype) * max(1.0, reached),
        f"the projection is at distance {reached:.6g}, another point of the set at {least:.6g}",
    )


def _values_around(step: Any, start: Tensor, goal: Tensor) -> list[Tensor]:
    """Values of the map around ``start``, which owe nothing to a projection; some of them towards ``goal``."""
    raws = step.right_inverse(start.clone())
    raws = [raw.detach().clone().requires_grad_() for raw in ((raws,) if isinstance(raws, Tensor) else raws)]
    loss = (value_at(step, raws) - goal).abs().square().sum()
    slopes = torch.autograd.grad(loss, raws, allow_unused=True) if loss.requires_grad else [None] * len(raws)
    downhill = [torch.zeros_like(raw) if slope is None else slope for raw, slope in zip(raws, slopes, strict=True)]
    values = []
    for size in _SIZES:
        values.append(value_at(step, [raw + size * torch.randn_like(raw) for raw in raws]))
        values.append(value_at(step, [raw - size * slope for raw, slope in zip(raws, downhill, strict=True)]))
    return values


@law
def sample(subject: Subject) -> None:
    """Samples are in the set, of the shape and dtype asked for, and the generator decides them."""
    step = _with(subject, "sample")

    def draw(seed: int) -> Tensor:
        generator = torch.Generator(subject.device).manual_seed(seed)
        drawn: Tensor = step.sample(subject.shape, generator=generator, dtype=subject.dtype, device=subject.device)
        return drawn

    first, outside = draw(1), subject.outside(step, draw(1))
    require(
        (first.shape, first.dtype) == (torch.Size(subject.shape), subject.dtype),
        f"a sample has shape {tuple(first.shape)} and {first.dtype}, asked for {subject.shape} and {subject.dtype}",
    )
    if not subject.dtype.is_complex:  # a set of complex numbers may have no other sample
        usual, default = step.sample(subject.shape).dtype, torch.get_default_dtype()
        require(usual == default, f"a sample without a dtype has {usual}, where {default} is the default")
    allowed = tolerance(subject.dtype)
    require(outside <= allowed, f"a sample is {outside:.3g} outside the set; {allowed:.3g} is allowed")
    require(torch.equal(first, draw(1)), "two samples with equal generators differ")
    many = torch.stack([draw(seed) for seed in range(2, 7)])
    one = subject.step().dof(subject.shape, dtype=subject.dtype) if hasattr(step, "dof") else 1
    require(one == 0 or not bool((many == many[0]).all()), "samples with other generators are all the same")


@law
def dof(subject: Subject) -> None:
    """The degrees of freedom are the rank of the derivative of the map."""
    _with(subject, "dof")
    if math.prod(subject.shape) == 0:
        raise InapplicableError("the tensor is empty")
    layer = subject.stirred(subject.layer(subject.point()))
    step, raws = layer.step, [raw.detach() for raw in layer.raws]
    sizes = [_flat(raw).numel() for raw in raws]

    def value(flat: Tensor) -> Tensor:
        pieces = zip(torch.split(flat, sizes), raws, strict=True)
        return _flat(value_at(step, [_like(piece, raw) for piece, raw in pieces]))

    jacobian = torch.func.jacrev(value)(torch.cat([_flat(raw) for raw in raws]))
    rank = int(torch.linalg.matrix_rank(jacobian, rtol=tolerance(subject.dtype)))
    said = step.dof(subject.shape, dtype=subject.dtype)
    require(said == rank, f"dof says {said}, the derivative has rank {rank}")


def _flat(x: Tensor) -> Tensor:
    return (torch.view_as_real(x) if x.is_complex() else x).flatten()


def _like(flat: Tensor, x: Tensor) -> Tensor:
    return torch.view_as_complex(flat.reshape(*x.shape, 2)) if x.is_complex() else flat.reshape(x.shape)
