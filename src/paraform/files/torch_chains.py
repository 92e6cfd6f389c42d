"""What torch's own parametrizations leave in a state dict: ``weight_norm``, ``spectral_norm`` and ``orthogonal``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

from .. import maps
from ..constraints import WeightNorm
from ..constraints.rounding import tolerance
from ..maps.precision import working_dtype
from ..parametrizations._orthogonal import _Orthogonal
from ..parametrizations._spectral_norm import _SpectralNorm
from .errors import FileError
from .names import printable

# A base further from orthogonal is no base of torch's, which come out of a QR decomposition; bfloat16 moves entries of
# |B^H B - I| by less.
_NO_BASE = 0.1
# Singular vectors are of length 1 but for rounding, which bfloat16 does to 0.4 %.
_LENGTH = 0.01
# The vectors tell the dimension if those of another fit so much worse.
_CLEARLY = 4.0
_ROOM = ".parametrizations."
_INDEX = re.compile("0|[1-9][0-9]{0,2}")  # no chain is that long
_REMEDY = (
    "in the program that made it call torch.nn.utils.parametrize.remove_parametrizations for this tensor, and save the "
    "state dict again"
)


MAPS = ("matrix_exp", "cayley", "householder")


@dataclass(frozen=True)
class OrthogonalMaps:
    """The maps of orthogonal tensors, which no state dict tells.

    Args:
        default: of all that have a base; None for torch's own choice.
        named: of those whose name matches a glob, with or without a base.

    Raises:
        ValueError: there is no such map.
    """

    default: str | None = None
    named: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for each in (*self.named.values(), *([] if self.default is None else [self.default])):
            if each not in MAPS:
                raise ValueError(f"Expected an orthogonal map out of {', '.join(MAPS)}, got '{printable(each)}'.")

    def of(self, name: str) -> str | None:
        """The map that was named for this tensor, the last one that was."""
        return next((map for glob, map in reversed(self.named.items()) if fnmatchcase(name, glob)), None)


@dataclass(frozen=True)
class Converted:
    """A tensor of the plain model, and what of a state dict stands for it."""

    name: str
    """Its name in the plain model's state dict."""
    source: str
    """The function of torch that parametrized it; empty where it was plain."""
    chain: tuple[Module, ...]
    """The parametrizations; none where it is plain."""
    stored: Mapping[str, Tensor]
    """The raw tensors and the buffers as the chain's state dict names them; of a plain tensor itself, as ``""``."""
    keys: tuple[str, ...]
    """The names that they had."""
    notes: tuple[str, ...] = ()
    """What the state dict did not say, and what was taken for it."""


class SpectralVectors(NamedTuple):
    """The estimated singular vectors, and the dimensions of the weight whose matrices they fit."""

    u: Tensor
    v: Tensor
    dims: tuple[int, ...]

    @classmethod
    def of(cls, weight: Tensor, u: Tensor, v: Tensor | None) -> SpectralVectors | None:
        """None where they fit no dimension, or are of another dtype."""
        if u.dtype != weight.dtype or (v is not None and v.dtype != weight.dtype) or not weight.numel():
            return None
        dims = tuple(
            dim
            for dim, size in enumerate(weight.shape)
            if u.shape == (size,) and (v is None or v.shape == (weight.numel() // size,))
        )
        return cls(u, u if v is None else v, dims) if dims else None


def chains(
    tensors: Mapping[str, Tensor], modules: Mapping[str, Any], orthogonal_maps: OrthogonalMaps
) -> dict[str, Converted]:
    """The parametrized tensors by name.

    Args:
        tensors: a state dict.
        modules: its ``_metadata``, which tells how many steps a chain has; may be empty.
        orthogonal_maps: what is known of them.

    Raises:
        FileError: what a chain is made of is not known.
    """
    groups: dict[str, dict[str, str]] = {}
    for key in tensors:
        path, _, rest = f".{key}".rpartition(_ROOM)
        name, dot, rest = rest.partition(".")
        if dot and f".{key}" != path:
            groups.setdefault(f"{path}{_ROOM}{name}"[1:], {})[rest] = key
    # One without a raw tensor is a module of the user's that is called so.
    groups = {path: group for path, group in groups.items() if "original" in group or "original0" in group}
    found = {}
    for path, group in groups.items():
        before, _, last = f".{path}".rpartition(_ROOM)
        name = f"{before}.{last}"[1:]
        while before:
            before, _, inner = before.rpartition(_ROOM)
            if f"{before}{_ROOM}{inner.partition('.')[0]}"[1:] in groups:
                _refuse(name, "it belongs to the parametrization of another tensor")
        count = 0
        while f"{path}.{count}" in modules:
            count += 1
        state = {rest: tensors[key] for rest, key in group.items()}
        found[name] = _chain(name, state, tuple(group.values()), count, orthogonal_maps)
    return found


def _chain(
    name: str, state: Mapping[str, Tensor], keys: tuple[str, ...], least: int, known_maps: OrthogonalMaps
) -> Converted:
    originals = [state[rest] for rest in ("original", "original0", "original1") if rest in state]
    buffers: dict[int, dict[str, Tensor]] = {}
    for rest, tensor in state.items():
        index, dot, inner = rest.partition(".")
        if dot and _INDEX.fullmatch(index):
            buffers.setdefault(int(index), {})[inner] = tensor
        elif rest not in ("original", "original0", "original1"):
            _refuse(name, f"'{printable(rest)}' is no key that torch's parametrizations have")
    count = max([least, *(index + 1 for index in buffers), 1])
    if count > len(buffers) + 1:
        _refuse(name, f"it has {count} steps, of which some keep nothing that would tell what they are")
    pair = "original0" in state
    if pair and (len(originals) != 2 or "original" in state):
        _refuse(
            name, "it has not the two raw tensors of weight_norm, which is the only one that is known to have several"
        )
    x, steps, sources, notes = originals[0], [], [], []
    for index in range(count):
        held = buffers.get(index, {})
        if index == 0 and pair:
            step, source, said = _sizes(name, held, *originals), "weight_norm", ()
        else:
            step, source, said = _step(name, x, held, index, count, known_maps)
        steps.append(step)
        sources.append(source)
        notes += said
        if index + 1 < count:
            with torch.no_grad():
                x = step(*originals) if index == 0 else step(x)
    return Converted(name, ", ".join(sources), tuple(steps), dict(state), keys, tuple(notes))


def _sizes(name: str, held: Mapping[str, Tensor], g: Tensor, v: Tensor) -> Module:
    if held or norm_dim(g, v) is NotImplemented:
        _refuse(name, "its two raw tensors are not sizes and directions of weight_norm")
    return weight_norm(g, v)


def _step(
    name: str, x: Tensor, held: Mapping[str, Tensor], index: int, count: int, known_maps: OrthogonalMaps
) -> tuple[Module, str, tuple[str, ...]]:
    if held.keys() == {"_u", "_v"} and is_number(x):
        vectors = SpectralVectors.of(x, held["_u"], held["_v"])
        if vectors is None:
            _refuse(name, f"its singular vectors do not fit a weight of shape {tuple(x.shape)} and {x.dtype}")
        step, notes = spectral(name, x, vectors)
        return step, "spectral_norm", notes
    if held.keys() == {"base"} and is_number(x):
        return _orthogonal(name, x, held["base"], index == 0, known_maps.of(name) or known_maps.default)
    known_map = known_maps.of(name)
    if not held and known_map is not None and count == 1 and x.ndim >= 2 and is_number(x):
        notes = _signs(x) if known_map == "householder" else ()
        return _Orthogonal(_like(name, x, known_map), known_map, use_trivialization=False), "orthogonal", notes
    if held:
        _refuse(
            name,
            f"{', '.join(printable(key) for key in held)} of step {index} is nothing that torch's parametrizations keep",
        )
    return _refuse(
        name,
        f"step {index} keeps nothing that would tell what it is (orthogonal with use_trivialization=False does not, nor "
        f"does spectral_norm of a vector, nor many of paraform's constraints)",
    )


def _orthogonal(
    name: str, raw: Tensor, base: Tensor, is_first: bool, known_map: str | None
) -> tuple[Module, str, tuple[str, ...]]:
    square = raw.ndim > 1 and raw.size(-1) == raw.size(-2)
    n = max(raw.shape[-2:]) if raw.ndim > 1 else 0
    if raw.ndim < 2 or base.shape != (*raw.shape[:-2], n, n) or base.dtype != raw.dtype:
        _refuse(name, f"its base of shape {tuple(base.shape)} is not the square one of torch's orthogonal")
    error = (base.mH.to(wide := working_dtype(base.dtype)) @ base.to(wide) - torch.eye(n, dtype=wide)).abs()
    if base.numel() and not bool(error.max() <= _NO_BASE):
        _refuse(name, "its base is not orthogonal, as that of torch's orthogonal is")
    if is_first and bool((raw.diagonal(dim1=-2, dim2=-1) == 0).any()):
        # torch starts at minus the identity
        _refuse(
            name,
            "its raw tensor has zeros on the diagonal, as that of paraform.Orthogonal, and not of torch's orthogonal",
        )
    chosen = known_map or ("matrix_exp" if square or raw.is_complex() else "householder")
    step = _Orthogonal(_like(name, raw, chosen), chosen)
    step.base = base
    moved = bool(raw.tril(0 if raw.is_complex() else -1).any()) if is_first and square else True
    notes = () if known_map or not moved else (f"its map is not saved: {chosen}, torch's default, is assumed",)
    if bool((step.residual(base) > tolerance(base)).any()):
        notes += ("its base is moved to the nearest orthogonal matrix",)
    return step, "orthogonal", notes + (_signs(raw) if chosen == "householder" else ())


def _like(name: str, x: Tensor, orthogonal_map: str) -> Tensor:
    if x.is_complex() and orthogonal_map == "householder":
        _refuse(name, "it is complex, which the map householder cannot be")
    return torch.empty_like(x, device="meta")


def _signs(raw: Tensor) -> tuple[str, ...]:
    diagonal = raw if raw.size(-2) >= raw.size(-1) else raw.mT
    if bool((diagonal.diagonal(dim1=-2, dim2=-1).abs() < 1).any()):
        return ("its signs have decayed: torch's value has columns of zeros, this one has not",)
    return ()


def weight_norm(g: Tensor, v: Tensor) -> Module:
    return WeightNorm(norm_dim(g, v))


def norm_dim(g: Tensor, v: Tensor) -> Any:
    """The ``dim`` of weight_norm; NotImplemented where ``g`` is not the sizes of ``v``."""
    if g.dtype != v.dtype or not is_number(v):
        return NotImplemented
    sizes = {dim: tuple(size if i == dim else 1 for i, size in enumerate(v.shape)) for dim in range(v.ndim)}
    return next((dim for dim in (None, *sizes) if tuple(g.shape) == sizes.get(dim, ())), NotImplemented)


def spectral(name: str, weight: Tensor, vectors: SpectralVectors) -> tuple[Module, tuple[str, ...]]:
    """The step that divides ``weight`` by its largest singular value, and what is to be said of it."""
    u, v, _ = vectors
    dim = vectors.dims[0] if len(vectors.dims) == 1 else _fitting_dim(name, weight, vectors)
    step = _SpectralNorm(torch.empty_like(weight, device="meta"), 1, dim, 1e-12)
    step._u, step._v = u.clone(), v.clone()  # which a step may move
    step.eval()
    lengths = torch.stack([torch.linalg.vector_norm(x.to(working_dtype(x.dtype))) for x in (u, v)])
    if bool(((lengths - 1).abs() > _LENGTH).any()):
        return step, (
            "its singular vectors are not of length 1 (an average over models?), where torch's value is too large",
        )
    return step, ()


def _fitting_dim(name: str, weight: Tensor, vectors: SpectralVectors) -> int:
    """The dimension for which ``u`` is the image of ``v``, as a step of the power iteration leaves it."""
    wide = working_dtype(weight.dtype)
    # An average over models has shortened them.
    u, v = (torch.nn.functional.normalize(x.to(wide), dim=0) for x in (vectors.u, vectors.v))
    angles, sigmas = {}, {}
    for dim in vectors.dims:
        image = matrix(weight, dim).to(wide) @ v
        sigmas[dim] = sigma = float(torch.vdot(u, image).abs())
        angles[dim] = 1 - sigma / max(float(torch.linalg.vector_norm(image)), torch.finfo(wide).tiny)
    best, second = sorted(angles, key=lambda dim: angles[dim])[:2]
    alike = abs(sigmas[best] - sigmas[second]) <= torch.finfo(weight.dtype).eps * weight.numel() ** 0.5 * sigmas[best]
    if alike or angles[second] > _CLEARLY * abs(angles[best]):
        return min(best, second) if alike else best
    return _refuse(
        name,
        f"its singular vectors fit dimension {best} as well as {second}; after a forward pass in training mode they "
        f"would fit one",
    )


def matrix(weight: Tensor, dim: int) -> Tensor:
    """``weight`` as a matrix of dimension ``dim`` by all the others."""
    return weight.movedim(dim, 0).flatten(1)


def is_number(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _refuse(name: str, reason: str) -> Any:
    raise FileError(f"The parametrization of '{printable(name)}' is not known: {reason}; {_REMEDY}.")
