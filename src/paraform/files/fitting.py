"""What would have to change in a model for a saved one to fit, and what does not fit. Nothing is changed here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.parameter import is_lazy

from ..parametrize import ParametrizationList
from ..parametrize.named import named_chains
from ..parametrize.reads import look
from ..parametrize.state_dict import plain_names, plain_places
from .entry import Entry, Spec
from .errors import FileError
from .keys import prefix_of
from .known import is_ours
from .names import printable, reason
from .parts import blank, check_against, kind
from .saved import SavedFile
from .saving import entry_of_chain

_MOST_NAMES = 20


class Place(NamedTuple):
    """Where a tensor of the model is."""

    module: Module
    name: str


@dataclass
class Fit:
    """What loading is to do, or why it cannot be done."""

    keys: dict[str, str] = field(default_factory=dict)
    """The keys of the model's state dict, as it will be, to those of the file."""
    ties: list[tuple[Place, Place]] = field(default_factory=list)
    """What is to be tied to what, before parametrizations come on."""
    chains: list[tuple[Place, ParametrizationList]] = field(default_factory=list)
    """What is to be parametrized, and how."""
    switched_off: list[tuple[Any, list[str]]] = field(default_factory=list)
    """Which steps of a chain that is there are to be switched off."""
    shared: dict[str, str] = field(default_factory=dict)
    """Keys of the state dict that are to be one tensor with another."""
    problems: list[str] = field(default_factory=list)


def fitted(saved: SavedFile, model: Module) -> Fit:
    """How ``saved`` fits ``model``."""
    state: dict[str, Any] = dict(model.state_dict(keep_vars=True))
    names = plain_names(model, state)
    known = set(names)
    places = {name: Place(module, own) for name, module, own in plain_places(model)}
    chains: dict[str, Any] = {named.name: named.chain for named in named_chains(model, remove_duplicate=False)}
    fit = Fit(shared=saved.shared)
    fit.problems += _other_names(saved, names)
    fit.problems += _ties(saved, fit, places, chains, state) if not fit.problems else []
    for name in saved.names:
        if name not in known or name in saved.ties:
            continue
        entry, keys = saved.parts(name)
        try:
            if entry is None:
                _fit_plain(name, saved.spec(keys[""]), state, chains)
            elif name in chains:
                _fit_chain(name, entry, saved, chains[name])
                fit.switched_off.append((chains[name], [step.key for step in entry.steps if step.off]))
            else:
                fit.chains.append((places[name], _fit_recipe(name, entry, saved, state.get(name))))
        except FileError as error:
            fit.problems.append(f"'{printable(name)}': {error}")
    for name in saved.names:
        entry, keys = saved.parts(saved.ties.get(name, name))
        fit.keys.update({name if entry is None else prefix_of(name) + own: key for own, key in keys.items()})
    return fit


def _other_names(saved: SavedFile, names: list[str]) -> Iterator[str]:
    """The names that are on one side only, each with what it may have been."""
    known = set(names)
    missing, extra = [name for name in names if name not in saved], [name for name in saved.names if name not in known]
    for what, found, others in (("the file lacks", missing, extra), ("the model lacks", extra, missing)):
        for name in found[:_MOST_NAMES]:
            close = get_close_matches(name, others, n=1)
            yield f"{what} '{printable(name)}'" + (f" (it has '{printable(close[0])}')" if close else "")
        if len(found) > _MOST_NAMES:
            yield f"{what} {len(found) - _MOST_NAMES} more names"


def _ties(
    saved: SavedFile, fit: Fit, places: dict[str, Place], chains: dict[str, Any], state: dict[str, Any]
) -> Iterator[str]:
    """What is tied in the model and not in the file; what is tied in the file only will be."""
    first: dict[int, str] = {}
    for name in saved.names:
        thing: Any = chains.get(name, state.get(name))
        known = first.setdefault(id(thing), name)
        target = saved.ties.get(name, name)
        if known != name and saved.ties.get(known, known) != target:
            yield f"'{printable(name)}' and '{printable(known)}' are one tensor in the model, and two in the file"
        other: Any = chains.get(target, state.get(target))
        if target == name or thing is other:
            continue
        if name in chains or target in chains or name not in places or target not in places:
            yield f"'{printable(name)}' and '{printable(target)}' are one tensor in the file, and two in the model"
        elif thing.shape != other.shape or thing.dtype != other.dtype:
            yield (
                f"'{printable(name)}' and '{printable(target)}' are one tensor in the file, and of other shapes or "
                f"dtypes in the model"
            )
        else:
            fit.ties.append((places[name], places[target]))


def _fit_plain(name: str, spec: Spec, state: dict[str, Any], chains: dict[str, Any]) -> None:
    if name in chains:
        raise FileError(
            "it is parametrized in the model, and plain in the file. Load into the plain model, or load the state dict "
            "of the file by load_state_dict, which goes through the inverses."
        )
    tensor = state[name]
    if isinstance(tensor, Tensor) and not is_lazy(tensor):
        _check_like(tensor, spec.shape, spec)


def _check_like(tensor: Tensor, shape: tuple[int, ...], spec: Spec | Entry) -> None:
    if tuple(tensor.shape) != shape or kind(tensor.dtype) != kind(spec.dtype):
        raise FileError(
            f"the file has {spec.dtype} of shape {shape}, and the model {tensor.dtype} of shape {tuple(tensor.shape)}."
        )


def _fit_recipe(name: str, entry: Entry, saved: SavedFile, tensor: Any) -> ParametrizationList:
    if not isinstance(tensor, Tensor):
        raise FileError(f"it is no tensor in the model but a {type(tensor).__name__}.")
    if is_lazy(tensor):
        raise FileError("it has no shape yet in the model. Run one forward pass first.")
    if not entry.unsafe:
        _check_like(tensor, entry.shape, entry)
    keys = saved.parts(name)[1]
    specs = {own: saved.spec(key) for own, key in keys.items()}
    dtype = tensor.dtype if kind(tensor.dtype) == kind(entry.dtype) else entry.dtype
    chain = blank(entry, specs, lambda own: saved.read(keys[own]), dtype)
    # What holds numbers already (a user's part, the bounds of a set of torch's) cannot be tried without any.
    is_blank = '"numbers"' not in json.dumps(entry.recipe()) and all(x.is_meta for x in chain.state_dict().values())
    if not entry.unsafe and is_blank and all(map(is_ours, chain)):
        _check_value(chain, entry.shape)
    return chain


def _check_value(chain: ParametrizationList, shape: tuple[int, ...]) -> None:
    """Refuse a chain without numbers that has no value, as a damaged recipe's; no layer could read it."""
    try:
        with torch.no_grad():
            value = look(chain)
    except Exception as error:
        raise FileError(f"no value can be computed by the recipe of the file: {reason(error)}") from error
    if tuple(value.shape) != shape:
        raise FileError(f"the recipe of the file gives a value of shape {tuple(value.shape)}, where it says {shape}.")


def _fit_chain(name: str, entry: Entry, saved: SavedFile, chain: Any) -> None:
    own = entry_of_chain(chain)
    if _written(own) != _written(entry):
        raise FileError(f"it is parametrized by {_written(own)} in the model, and by {_written(entry)} in the file.")
    if own.shape != entry.shape or kind(own.dtype) != kind(entry.dtype):
        raise FileError(
            f"the file has {entry.dtype} of shape {entry.shape}, and the model {own.dtype} of shape {own.shape}."
        )
    check_against(chain, {key: saved.spec(stored) for key, stored in saved.parts(name)[1].items()})


def _written(entry: Entry) -> str:
    """A chain in one line; which steps are switched off does not count."""
    steps = [{key: value for key, value in step.items() if key != "off"} for step in entry.recipe()]
    return json.dumps(steps, sort_keys=True) + (" (unsafe)" if entry.unsafe else "")
