"""What torch's parametrizations leave in a state dict: raw tensors and buffers, under ``parametrizations``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import Module

from .names import printable
from .torch_steps import OrthogonalMaps, SpectralVectors, Step, dims_of, orthogonal, refuse, spectral_norm, weight_norm

_ROOM = ".parametrizations."
ORIGINALS = ("original", "original0", "original1")
_INDEX = re.compile("0|[1-9][0-9]{0,2}")  # no chain is that long


@dataclass(frozen=True)
class Converted:
    """A tensor of the plain model, and what of a state dict stands for it."""

    name: str
    """Its name in the plain model's state dict."""
    source: str
    """The function of torch that parametrized it, or several; empty where it was plain."""
    chain: tuple[Module, ...]
    """The parametrizations; none where it is plain."""
    stored: Mapping[str, Tensor]
    """The raw tensors and the buffers as the chain's state dict names them; of a plain tensor itself, as ``""``."""
    keys: tuple[str, ...]
    """The names that they had."""
    notes: tuple[str, ...] = ()
    """What the state dict did not say, and what was taken for it."""


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
        before, hit, after = f".{key}".rpartition(_ROOM)
        name, dot, rest = after.partition(".")
        if hit and dot:
            groups.setdefault(f"{before}{_ROOM}{name}", {})[rest] = key
    # One without a raw tensor is a module of the user's that is called so.
    groups = {path: group for path, group in groups.items() if not group.keys().isdisjoint(ORIGINALS)}
    found = {}
    for path, group in groups.items():
        before, _, last = path.rpartition(_ROOM)
        name = f"{before}.{last}"[1:]
        while before:
            before, _, inner = before.rpartition(_ROOM)
            if f"{before}{_ROOM}{inner.partition('.')[0]}" in groups:
                refuse(name, "it belongs to the parametrization of another tensor")
        count = 1
        while f"{path[1:]}.{count}" in modules:
            count += 1
        state = {rest: tensors[key] for rest, key in group.items()}
        steps = _steps(name, state, count, orthogonal_maps)
        found[name] = Converted(
            name,
            ", ".join(step.source for step in steps),
            tuple(step.module for step in steps),
            state,
            tuple(group.values()),
            tuple(note for step in steps for note in step.notes),
        )
    return found


def _steps(name: str, state: Mapping[str, Tensor], count: int, orthogonal_maps: OrthogonalMaps) -> list[Step]:
    """The steps of a chain, which are ``count`` at least."""
    buffers: dict[int, dict[str, Tensor]] = {}
    for rest, tensor in state.items():
        index, dot, inner = rest.partition(".")
        if dot and _INDEX.fullmatch(index):
            buffers.setdefault(int(index), {})[inner] = tensor
        elif rest not in ORIGINALS:
            refuse(name, f"'{printable(rest)}' is no key that torch's parametrizations have")
    count = max(count, *(index + 1 for index in buffers), 1)
    originals = [state[key] for key in ORIGINALS if key in state]
    if "original" in state:
        if len(originals) > 1:
            refuse(name, "it has one raw tensor, and more than one")
        if count == 1 and not buffers and (known_map := orthogonal_maps.of(name)) is not None:
            return [orthogonal(name, originals[0], None, known_map)]
        steps = [_step(name, originals[0], buffers, 0, orthogonal_maps)]
    else:
        sized = None if len(originals) != 2 or 0 in buffers else weight_norm(*originals)
        if sized is None:
            refuse(name, "its raw tensors are not the sizes and directions of weight_norm, which alone has several")
        steps = [sized]
    for place in range(1, count):
        if place not in buffers:  # before anything is computed
            _refuse_unknown(name, place)
    for place in range(1, count):
        with torch.no_grad():
            originals = [steps[-1].module(*originals)]
        steps.append(_step(name, originals[0], buffers, place, orthogonal_maps))
    return steps


def _step(
    name: str, x: Tensor, buffers: Mapping[int, Mapping[str, Tensor]], index: int, orthogonal_maps: OrthogonalMaps
) -> Step:
    """The step at ``index``, on the tensor ``x``."""
    held = buffers.get(index, {})
    if held.keys() == {"_u", "_v"}:
        u, v = held["_u"], held["_v"]
        dims = dims_of(x, u, v) if x.ndim > 1 else ()
        if not dims:
            refuse(name, f"its singular vectors do not fit a weight of shape {tuple(x.shape)} and {x.dtype}")
        return spectral_norm(name, x, SpectralVectors(u, v, dims))
    if held.keys() == {"base"}:
        known_map = orthogonal_maps.of(name) or orthogonal_maps.default
        return orthogonal(name, x, held["base"], known_map, is_first=index == 0)
    if held:
        keys = ", ".join(f"'{printable(key)}'" for key in held)
        refuse(name, f"{keys} of step {index} is nothing that torch's parametrizations keep")
    _refuse_unknown(name, index)


def _refuse_unknown(name: str, index: int) -> NoReturn:
    refuse(
        name,
        f"step {index} keeps nothing that would tell what it is, as orthogonal with use_trivialization=False, "
        f"spectral_norm of a vector and most of paraform's constraints do not (for paraform's own, load it into the "
        f"model that it was saved from, and call paraform.save; for orthogonal, name its map)",
    )
