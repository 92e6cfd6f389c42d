"""The value lies in the set, whatever is done."""

from __future__ import annotations

import torch

from .law import InapplicableError, law, leaves_alone, require
from .subject import Layer, Subject, tolerance


def _require_inside(subject: Subject, layer: Layer, when: str) -> None:
    value = layer.weight.detach()
    outside, allowed = subject.outside(layer.step, value), tolerance(value.dtype)
    require(
        bool(torch.isfinite(value).all()) and outside <= allowed,
        f"{when} the value is {outside:.3g} outside the set, relative to its size; {allowed:.3g} is allowed",
    )


@law
def start(subject: Subject) -> None:
    """The value is in the set from registration on."""
    _require_inside(subject, subject.layer(), "after registration")


@law
def anywhere(subject: Subject) -> None:
    """The value is in the set for random raw tensors too, far from those that it started with."""
    layer = subject.layer()
    for _ in range(3):
        with torch.no_grad():
            for raw in layer.raws:
                raw.add_(torch.randn_like(raw))
        _require_inside(subject, layer, "for random raw tensors")


@law
def training(subject: Subject) -> None:
    """The value is in the set after steps of AdamW with weight decay."""
    layer = subject.layer().train()
    target = subject.random()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.5)
    for count in range(1, 4):
        optimizer.zero_grad()
        torch.autograd.backward((layer.weight - target).abs().square().sum())
        optimizer.step()
        _require_inside(subject, layer, f"after {count} steps of AdamW with decay")


@law
def assignment(subject: Subject) -> None:
    """A value that is in the set can be assigned, and is read again."""
    layer = subject.stirred(subject.layer())
    if not subject.invertible:
        raise InapplicableError("it has no right_inverse")
    layer.weight = subject.point(step=layer.step)
    _require_inside(subject, layer, "after assignment of a point of the set")


@law
def residual(subject: Subject) -> None:
    """The residual is one number a point, 0 inside the set, never below, and above where the projection moves it."""
    step = subject.step()
    if not (hasattr(step, "residual") and hasattr(step, "project")):
        raise InapplicableError("it has no residual, or no projection to compare it with")
    value = 3 * subject.random()
    got, moved = leaves_alone(step.residual, value, "residual"), step.project(value.clone()) - value
    require(bool((got >= 0).all()), f"a residual is {float(got.min()):.3g}: it is a distance, 0 or above")
    lead = value.shape[: got.ndim]
    require(got.ndim <= value.ndim, f"the residual has shape {tuple(got.shape)}, the value {tuple(value.shape)}")
    if got.shape == lead and got.ndim < value.ndim:
        moves = moved.abs().reshape(*lead, -1).sum(-1)
    else:  # one number for each of other dimensions than the first: look at all of them at once
        got, moves = got.abs().sum(), moved.abs().sum()
    silent = (moves > 1e-3 * value.abs().sum()) & (got <= 0)
    require(not bool(silent.any()), f"the residual is 0 where the projection moves by {float(moves.max()):.3g}")
