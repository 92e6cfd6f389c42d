"""forward and right_inverse undo each other."""

from __future__ import annotations

import torch

from .law import InapplicableError, law, leaves_alone, require
from .subject import Subject, relative_error, tolerance, value_at


@law
def round_trip(subject: Subject) -> None:
    """forward(right_inverse(value)) is the value, for a point of the set."""
    step = subject.step()
    if not subject.invertible:
        raise InapplicableError("it has no right_inverse")
    value = subject.point()
    raw = leaves_alone(step.right_inverse, value, "right_inverse")
    error, allowed = relative_error(value_at(step, raw), value), tolerance(value.dtype)
    require(error <= allowed, f"a point of the set comes back with an error of {error:.3g}; {allowed:.3g} is allowed")


@law
def raw_round_trip(subject: Subject) -> None:
    """right_inverse(forward(raw)) stands for the same value as raw."""
    layer = subject.stirred(subject.layer())
    if not subject.invertible:
        raise InapplicableError("it has no right_inverse")
    value = layer.weight.detach().clone()
    layer.weight = value
    error, allowed = relative_error(layer.weight, value), tolerance(value.dtype)
    require(
        error <= allowed, f"the value of a raw tensor comes back with an error of {error:.3g}; {allowed:.3g} is allowed"
    )


@law
def outside(subject: Subject) -> None:
    """A value outside of the set becomes its projection, when it is registered and when it is assigned."""
    if not (subject.invertible and hasattr(subject.step(), "project")):
        raise InapplicableError("it has no right_inverse, or no projection")
    value = subject.random()
    layer = subject.layer(value)
    for done in ("registered", "assigned"):
        error, allowed = relative_error(layer.weight, layer.step.project(value)), tolerance(value.dtype)
        require(error <= allowed, f"the value {done} is off its projection by {error:.3g}; {allowed:.3g} is allowed")
        value = 3 * subject.random()
        layer.weight = value


@law
def one_original_stays(subject: Subject) -> None:
    """Where there is one raw tensor, it is the very Parameter that was registered, and an optimizer goes on."""
    weight = torch.nn.Parameter(subject.random())
    raws = subject.layer(weight).raws
    if len(raws) > 1:
        raise InapplicableError("it has several raw tensors")
    require(raws[0] is weight, "the raw tensor is another Parameter than the one that was registered")
