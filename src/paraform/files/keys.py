"""The keys of a parametrized model's state dict, by the names of the plain model."""

from __future__ import annotations

from collections.abc import Iterable

from .errors import FileError
from .names import printable


def grouped(keys: Iterable[str], names: Iterable[str], parametrized: Iterable[str]) -> dict[str, dict[str, str]]:
    """The keys of a state dict by the plain name that they belong to, and there by the chain's own key, or ``""``.

    Raises:
        FileError: a key belongs to no name.

    >>> grouped(["bias", "parametrizations.weight.original"], ["weight", "bias"], ["weight"])
    {'weight': {'original': 'parametrizations.weight.original'}, 'bias': {'': 'bias'}}
    """
    groups: dict[str, dict[str, str]] = {name: {} for name in names}
    prefixes = {prefix_of(name): name for name in parametrized}
    plain = groups.keys() - prefixes.values()
    for key in keys:
        if key in plain:
            groups[key][""] = key
            continue
        name, own = _owner(key, prefixes)
        if name not in groups:
            raise FileError(f"it has a tensor '{printable(key)}', of which its recipe says nothing.")
        groups[name][own] = key
    return groups


def _owner(key: str, prefixes: dict[str, str]) -> tuple[str, str]:
    """The parametrized name whose prefix ``key`` has, and what follows it."""
    start = 0
    while (start := key.find(".", start) + 1) > 0:
        if key[:start] in prefixes:
            return prefixes[key[:start]], key[start:]
    return "", ""


def prefix_of(name: str) -> str:
    """What the keys of the chain on ``name`` begin with.

    >>> prefix_of("encoder.weight")
    'encoder.parametrizations.weight.'
    """
    path, dot, last = name.rpartition(".")
    return f"{path}{dot}parametrizations.{last}."
