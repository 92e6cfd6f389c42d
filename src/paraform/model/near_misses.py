"""What somebody may have meant whose rule names no tensor of the model."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor

from ..parametrize import type_before_parametrizations
from .recipe import Place, Rule

_MOST = 3
"""So many suggestions are made at most."""


def near_misses(rule: Rule, places: list[Place]) -> str:
    """Sentences that say so, with a space in front; empty where nothing is near."""
    computed = _computed(rule.key, places)
    if computed:
        return (
            f" Neither parameter nor buffer is: {_listed(computed)}. What a hook computes, as that of torch's older "
            "weight_norm or of pruning does, can be constrained when the hook is taken off."
        )
    if isinstance(rule.key, str):
        return _near_names(rule.key, places)
    if isinstance(rule.key, tuple):
        types, name = rule.key
        return _near_types(types, name, places)
    return " It is asked about parameters only; name a buffer by its full name."


def _computed(key: Any, places: list[Place]) -> list[str]:
    """The full names of tensors that the rule would name if they were parameters, and not plain attributes."""
    modules = {place.module: place.name.removesuffix(place.tensor_name) for place in reversed(places)}
    return [
        prefix + name
        for module, prefix in reversed(modules.items())
        for name, value in list(vars(module).items())
        if isinstance(value, Tensor)
        and (
            (isinstance(key, str) and fnmatchcase(prefix + name, key))
            or (isinstance(key, tuple) and issubclass(type(module), key[0]) and fnmatchcase(name, key[1]))
        )
    ]


def _near_names(key: str, places: list[Place]) -> str:
    buffers = [place.name for place in places if fnmatchcase(place.name, key)]
    if buffers:
        return f" A pattern is for parameters only; name a buffer by its full name: {_listed(buffers)}."
    inside = [place.name for place in places if fnmatchcase(place.name.removesuffix(f".{place.tensor_name}"), key)]
    if inside:
        return f" That is a module; its tensors are: {_listed(inside)}."
    head, _, tail = key.rpartition(".")
    for near_tail in difflib.get_close_matches(tail, {place.tensor_name for place in places}, 1):
        better = f"{head}.{near_tail}" if head else near_tail
        if any(fnmatchcase(place.name, better) for place in places):
            return f" Did you mean: {better}?"
    of_tail = [place.name for place in places if fnmatchcase(place.tensor_name, tail)]
    near = difflib.get_close_matches(key, of_tail or [place.name for place in places], _MOST, cutoff=0.5)
    if near:
        return f" Did you mean: {_listed(near)}?"
    if of_tail:
        return f" There is a '{tail}' in: {_listed(name.rpartition('.')[0] or 'the model itself' for name in of_tail)}."
    return f" The model has: {_listed(place.name for place in places)}."


def _near_types(types: type | tuple[type, ...], name: str, places: list[Place]) -> str:
    own = [place for place in places if issubclass(type(place.module), types)]
    if any(fnmatchcase(place.tensor_name, name) for place in own):
        return f" A pattern is for parameters only; name a buffer exactly: {_listed(_tensor_names(own))}."
    if own:
        return f" Such modules have: {_listed(_tensor_names(own))}."
    return f" The types with tensors in the model are: {_listed(_type_name(place) for place in places)}."


def _tensor_names(places: list[Place]) -> list[str]:
    return [place.tensor_name for place in places]


def _type_name(place: Place) -> str:
    return type_before_parametrizations(place.module).__name__


def _listed(names: Iterable[str]) -> str:
    unique = list(dict.fromkeys(names))
    most = 8
    return ", ".join(unique[:most]) + (f" and {len(unique) - most} more" if len(unique) > most else "")
