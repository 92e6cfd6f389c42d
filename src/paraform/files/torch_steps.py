"""The parametrizations that torch has, as far as names and shapes tell which one it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Module

from ..constraints import WeightNorm
from ..constraints.rounding import tolerance
from ..maps.precision import working_dtype
from ..parametrizations._orthogonal import _Orthogonal
from ..parametrizations._spectral_norm import _SpectralNorm
from .errors import FileError
from .names import printable

MAPS = ("matrix_exp", "cayley", "householder")
# A base further from orthogonal is no base of torch's, which come out of a QR decomposition; bfloat16 moves entries of
# |B^H B - I| by less.
_NO_BASE = 0.1
# Singular vectors are of length 1 but for rounding, which bfloat16 does to 0.4 %.
_LENGTH = 0.01
# The vectors tell the dimension if those of another fit so much worse.
_CLEARLY = 4.0
_REMEDY = (
    "in the program that made it call torch.nn.utils.parametrize.remove_parametrizations for this tensor, and save the "
    "state dict again"
)


class Step(NamedTuple):
    """A parametrization that was recognised."""

    module: Module
    source: str
    """The function of torch that made it."""
    notes: tuple[str, ...] = ()
    """What the state dict did not say, and what was taken for it."""


@dataclass(frozen=True)
class OrthogonalMaps:
    """The maps of orthogonal tensors, which no state dict tells.

    Args:
        default: of all that have a base; None for torch's own choice.
        named: of those whose name matches a glob, with or without a base; of several globs the last one counts.

    Raises:
        ValueError: there is no such map.

    >>> OrthogonalMaps(named={"encoder.*": "cayley"}).of("encoder.weight")
    'cayley'
    """

    default: str | None = None
    named: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for each in (*self.named.values(), *([] if self.default is None else [self.default])):
            if each not in MAPS:
                raise ValueError(f"Expected an orthogonal map out of {', '.join(MAPS)}, got '{printable(each)}'.")

    def of(self, name: str) -> str | None:
        """The map that was named for this tensor."""
        matches = [each for glob, each in self.named.items() if fnmatchcase(name, glob)]
        return matches[-1] if matches else None


def refuse(name: str, reason: str) -> NoReturn:
    """Say of which tensor the parametrization is not known, and why."""
    raise FileError(f"The parametrization of '{printable(name)}' is not known: {reason}; {_REMEDY}.")


def is_number(tensor: Tensor) -> bool:
    """Whether it can be parametrized."""
    return tensor.is_floating_point() or tensor.is_complex()


def weight_norm(g: Tensor, v: Tensor) -> Step | None:
    """The step that gives directions ``v`` the sizes ``g``; None if they are not."""
    if g.dtype != v.dtype or not is_number(v):
        return None
    for dim in (None, *range(v.ndim)):
        if g.shape == (() if dim is None else tuple(size if i == dim else 1 for i, size in enumerate(v.shape))):
            step = WeightNorm(dim)
            step._shape = v.shape  # as registration would have it
            return Step(step, "weight_norm")
    return None


class SpectralVectors(NamedTuple):
    """The estimated singular vectors, and the dimensions of the weight whose matrices they fit."""

    u: Tensor
    v: Tensor
    dims: tuple[int, ...]


def dims_of(weight: Tensor, u: Tensor, v: Tensor | None) -> tuple[int, ...]:
    """The dimensions of ``weight`` that ``u`` and ``v`` fit; none where they are of another dtype."""
    if not is_number(weight) or any(x.dtype != weight.dtype for x in (u, v) if x is not None) or not weight.numel():
        return ()
    shapes = {dim: ((size,), (weight.numel() // size,)) for dim, size in enumerate(weight.shape)}
    return tuple(dim for dim, (rows, rest) in shapes.items() if u.shape == rows and (v is None or v.shape == rest))


def matrix(weight: Tensor, dim: int) -> Tensor:
    """``weight`` as a matrix of dimension ``dim`` by all the others, in the working precision."""
    return weight.to(working_dtype(weight.dtype)).movedim(dim, 0).flatten(1)


def spectral_norm(name: str, weight: Tensor, vectors: SpectralVectors) -> Step:
    """The step that divides ``weight`` by its largest singular value.

    Raises:
        FileError: it cannot be told of which dimension the singular vectors are.
    """
    u, v, dims = vectors
    dim = dims[0] if len(dims) == 1 else _fitting_dim(name, weight, vectors)
    step = _SpectralNorm(torch.empty_like(weight, device="meta"), 1, dim, 1e-12).eval()
    step._u, step._v = u.clone(), v.clone()  # a step moves them
    lengths = torch.stack([torch.linalg.vector_norm(x.to(working_dtype(x.dtype))) for x in (u, v)])
    is_short = bool(((lengths - 1).abs() > _LENGTH).any())
    note = "its singular vectors are not of length 1 (an average over models?): torch's value is not normalized"
    return Step(step, "spectral_norm", (note,) if is_short else ())


def _fitting_dim(name: str, weight: Tensor, vectors: SpectralVectors) -> int:
    """The dimension for which ``u`` is the image of ``v``, as a step of the power iteration leaves it."""
    wide = working_dtype(weight.dtype)
    u, v = (F.normalize(x.to(wide), dim=0) for x in vectors[:2])  # an average over models has shortened them
    angles, sigmas = {}, {}
    for dim in vectors.dims:
        image = matrix(weight, dim) @ v
        sigmas[dim] = float(torch.vdot(u, image).abs())
        angles[dim] = 1 - sigmas[dim] / max(float(torch.linalg.vector_norm(image)), torch.finfo(wide).tiny)
    best, second = sorted(angles, key=lambda dim: angles[dim])[:2]
    rounding = torch.finfo(weight.dtype).eps * weight.numel() ** 0.5
    if abs(sigmas[best] - sigmas[second]) <= rounding * sigmas[best]:
        return min(best, second)
    if angles[second] > _CLEARLY * abs(angles[best]):
        return best
    refuse(
        name,
        f"its singular vectors fit dimension {best} as well as {second} (they would fit one after a forward pass in "
        f"training mode)",
    )


def orthogonal(name: str, raw: Tensor, base: Tensor | None, known_map: str | None, *, is_first: bool = True) -> Step:
    """The step that turns ``base``, or the identity where there is none, by a map of ``raw``.

    Args:
        name: for errors.
        raw: what it is called with: its raw tensor, if it is the first step.
        base: torch's square base.
        known_map: None for torch's default.
        is_first: whether ``raw`` is the raw tensor.

    Raises:
        FileError: torch's orthogonal cannot have left these.
    """
    if raw.ndim < 2 or not is_number(raw):
        refuse(name, f"it is no matrix of numbers, but of shape {tuple(raw.shape)} and {raw.dtype}")
    square = raw.size(-2) == raw.size(-1)
    chosen = known_map or ("matrix_exp" if square or raw.is_complex() else "householder")
    if raw.is_complex() and chosen == "householder":
        refuse(name, "it is complex, which the map householder cannot be")
    step = _Orthogonal(torch.empty_like(raw, device="meta"), chosen, use_trivialization=base is not None).eval()
    if base is not None or chosen == "householder":  # else it has no inverse, which could learn a shape
        step._shape = raw.shape
    notes: tuple[str, ...] = ()
    if base is not None:
        notes = _based(name, raw, base, step, is_first)
        # Where a square one has moved nowhere, every map leaves the value at the base.
        moved = not square or bool(raw.tril(0 if raw.is_complex() else -1).any())
        if moved and known_map is None:
            notes = (f"its map is not saved: {chosen}, torch's default, is assumed", *notes)
    signs = raw.diagonal(dim1=-2, dim2=-1)
    if chosen == "householder" and bool((signs.abs() < 1).any()):
        notes += ("its signs have decayed: columns of torch's value are zeros, and here they are not",)
    return Step(step, "orthogonal", notes)


def _based(name: str, raw: Tensor, base: Tensor, step: _Orthogonal, is_first: bool) -> tuple[str, ...]:
    n = max(raw.shape[-2:])
    if base.shape != (*raw.shape[:-2], n, n) or base.dtype != raw.dtype:
        refuse(name, f"its base of shape {tuple(base.shape)} is not the square one of torch's orthogonal")
    wide = base.to(working_dtype(base.dtype))
    error = (wide.mH @ wide - torch.eye(n, dtype=wide.dtype)).abs()
    if error.numel() and not bool(error.max() <= _NO_BASE):
        refuse(name, "its base is not orthogonal, as that of torch's orthogonal is")
    if is_first and bool((raw.diagonal(dim1=-2, dim2=-1) == 0).any()):  # torch starts at minus the identity
        refuse(
            name, "its raw tensor has zeros on the diagonal, as that of paraform.Orthogonal, not of torch's orthogonal"
        )
    step.base = base
    is_away = bool((step.residual(base) > tolerance(base)).any())
    return ("its base is not quite orthogonal, and moves to the nearest matrix that is",) if is_away else ()
