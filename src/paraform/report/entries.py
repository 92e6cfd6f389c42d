"""What the report says of one parametrized tensor, small enough to keep it for hundreds of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from markupsafe import Markup
from torch import Tensor

from ..constraints import Hurwitz, Orthogonal, Schur
from ..constraints.view import View
from ..files.errors import FileError
from ..files.names import reason
from ..model.measure import Measurement, last_constraint, matrices_of, measure, steps_of
from ..parametrize.reads import look
from ..parametrize.switching import originals_of
from .sources import Parametrized, dtype_name
from .words import meaning, shape

LARGEST_FOR_EIGENVALUES = 2048  # side of a matrix: ten times the work of singular values, half a minute at 4096


@dataclass(frozen=True)
class Spectrum:
    """Singular values in decreasing order, of all matrices of a tensor: for some of the indices the ends."""

    indices: list[int]
    """Counted from 1."""
    low: list[float]
    high: list[float]
    count: int
    """How many each matrix has."""
    matrices: int


@dataclass(frozen=True)
class Region:
    """Where eigenvalues are to lie."""

    kind: str
    """``"half-plane"``, ``"disc"`` or ``"circle"``."""
    size: float
    """The half-plane is left of it; the others have it as their radius."""


@dataclass(frozen=True)
class Eigenvalues:
    """Eigenvalues of the matrices of a tensor, and where they are to lie."""

    points: list[complex]
    """Those nearest to the edge, or beyond it, and of the others some."""
    count: int
    region: Region


@dataclass(frozen=True)
class Step:
    """A step of a chain."""

    text: str
    meaning: Markup
    """Of it, and of the constraints that it holds."""
    inner: tuple[Markup, ...]


@dataclass(frozen=True)
class Entry:
    """A parametrized tensor in the report."""

    anchor: str
    """The id of its section in the page: no part of its name, which a file may have chosen."""
    name: str
    also: tuple[str, ...]
    """Its further names, where modules share it."""
    shape: tuple[int, ...]
    dtype: str
    measured: Measurement | None
    """None where it could not be computed."""
    error: str | None
    """Why not."""
    steps: tuple[Step, ...] = ()
    before: Spectrum | None = None
    """Of the raw tensor, where it has the shape of the value."""
    after: Spectrum | None = None
    eigenvalues: Eigenvalues | None = None
    note: str = ""
    """Why something is not drawn."""

    @property
    def state(self) -> str:
        """``"inside"``, ``"outside"``, or ``"unknown"``: no constraint says what the set is; or ``"error"``."""
        if self.measured is None:
            return "error"
        if not self.measured.is_finite:
            return "outside"
        return {True: "inside", False: "outside", None: "unknown"}[self.measured.is_inside]


@torch.no_grad()
def entry_of(found: Parametrized, *, anchor: str, points: int) -> Entry:
    """What is said of a parametrized tensor, with at most so many points a figure (none, if 0).

    A chain that cannot be made or evaluated is said to be so: a report of the others is still worth having.
    """
    named = (anchor, found.name, found.also)
    steps: tuple[Step, ...] = ()
    try:
        chain = found.chain()
        steps = tuple(_step(text, step) for text, step in zip(steps_of(chain), chain, strict=True))
        measured = measure(chain, found.name)
        drawn = _drawn(chain, measured, points) if points else {}
    except OSError:
        raise  # the file is gone, not the tensor
    except Exception as error:  # a user's parametrization raises what it likes, and one of a file on damaged numbers
        said = str(error) if isinstance(error, FileError) else reason(error)
        return Entry(*named, found.shape, found.dtype, None, said, steps)
    return Entry(*named, measured.shape, dtype_name(measured.dtype), measured, None, steps, **drawn)


def _drawn(chain: Any, measured: Measurement, points: int) -> dict[str, Any]:
    """The fields of an entry that its figures are made of."""
    value = look(chain).detach()
    matrices = matrices_of(chain, value)
    if matrices is None:
        return {"note": "It is no matrix, so it has no singular values."}
    if not measured.is_finite:
        return {"note": "It has entries that are not finite, so it has no singular values."}
    note = ""
    raws = originals_of(chain)
    before = None
    if len(raws) > 1:
        note = "It has several raw tensors, which have no singular values of their own to compare with."
    elif raws[0].shape != value.shape:
        note = "Its raw tensor has another shape, and no singular values to compare with."
    elif not bool(torch.isfinite(raws[0]).all()):
        note = "Its raw tensor has entries that are not finite."
    else:
        raw = matrices_of(chain, raws[0].detach())
        before = None if raw is None else _spectrum(raw, points)
    eigenvalues = None
    region = region_of(chain)
    if region is not None and matrices.shape[-1] == matrices.shape[-2]:
        if matrices.shape[-1] > LARGEST_FOR_EIGENVALUES:
            largest = shape((LARGEST_FOR_EIGENVALUES, LARGEST_FOR_EIGENVALUES))
            note = f"{note} Eigenvalues are drawn up to {largest}.".strip()
        else:
            eigenvalues = _eigenvalues(matrices, region, points)
    return {"before": before, "after": _spectrum(matrices, points), "eigenvalues": eigenvalues, "note": note}


def region_of(chain: Any) -> Region | None:
    """Where the eigenvalues of the value of ``chain`` are to lie, where its last constraint says so.

    >>> from torch import nn
    >>> from paraform.constraints import Blocks
    >>> from paraform.parametrize import register_parametrization
    >>> gru = register_parametrization(nn.GRU(2, 3), "weight_hh_l0", Blocks(Schur(0.9), 3))
    >>> region_of(gru.parametrizations.weight_hh_l0)
    Region(kind='disc', size=0.9)
    """
    last = last_constraint(chain)
    while isinstance(last, View):
        last = last.constraint
    match last:
        case Hurwitz():
            return Region("half-plane", -last.decay)
        case Schur():
            return Region("disc", last.radius)
        case Orthogonal():
            return Region("circle", 1.0)
    return None


def _step(text: str, step: Any) -> Step:
    inner, held = [], getattr(step, "constraint", None)
    while isinstance(held, torch.nn.Module):
        inner.append(Markup("<code>{}</code>: {}").format(type(held).__name__, meaning(held)))
        held = getattr(held, "constraint", None)
    return Step(text, meaning(step), tuple(inner))


def _spectrum(matrices: Tensor, points: int) -> Spectrum:
    singular = torch.linalg.svdvals(matrices)
    singular = singular.reshape(-1, singular.shape[-1])
    indices = _spread(singular.shape[-1], points)
    kept = singular[:, indices]
    return Spectrum(
        indices=[index + 1 for index in indices],
        low=kept.amin(0).tolist(),
        high=kept.amax(0).tolist(),
        count=singular.shape[-1],
        matrices=singular.shape[0],
    )


def _eigenvalues(matrices: Tensor, region: Region, points: int) -> Eigenvalues:
    found = torch.linalg.eigvals(matrices).flatten()
    size = {"half-plane": found.real, "disc": found.abs(), "circle": (found.abs() - 1).abs()}[region.kind]
    order = size.argsort(descending=True)
    # The ones that decide are never left out: half of the points are nearest to the edge, or beyond it.
    near = order[: math.ceil(points / 2)]
    rest = order[len(near) :][_spread(len(order) - len(near), points - len(near))]
    return Eigenvalues(found[torch.cat([near, rest])].tolist(), len(found), region)


def _spread(count: int, points: int) -> list[int]:
    """At most ``points`` of the indices below ``count``, evenly, the first and the last among them."""
    if count <= points:
        return list(range(count))
    if points < 2:
        return [0][:points]
    return sorted({round(place * (count - 1) / (points - 1)) for place in range(points)})
