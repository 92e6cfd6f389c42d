"""Call a module with other tensors in place of its own, also in place of parametrized ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from .chain import ParametrizationList
from .classes import chains_of, has_chains
from .errors import title


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: dict[str, Tensor] | Sequence[dict[str, Tensor]],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Call ``module`` with these tensors in place of its own, a parametrized tensor by either name.

    Under ``weight`` the tensor given is the weight: the parametrization is not used, needs no ``right_inverse``, and
    gradients go to what is given. Under ``parametrizations.weight.original`` it is the raw tensor.
    ``torch.func.functional_call`` does the same with modules of ours; it only does not know the plain names where
    ``strict=True``, nor that a parametrized tensor is tied.

    Args:
        module: the module to call.
        parameter_and_buffer_dicts: tensors by name, or several such dictionaries with distinct names.
        args: positional arguments of the call, a tuple, or the only one.
        kwargs: its keyword arguments.
        tie_weights: what is given for one of several tied tensors stands in for all of them.
        strict: refuse names that are not there or are left out. A parametrized tensor is either all its originals and
            the buffers of its parametrizations, or its plain name.

    Returns:
        What ``module`` returns.

    Raises:
        RuntimeError: ``strict``, and names are missing, or unexpected.

    Mirrors ``torch.func.functional_call``.

    >>> from torch import nn
    >>> from paraform import Skew, functional_call, register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 3, bias=False), "weight", Skew())
    >>> W = torch.ones(3, 3, requires_grad=True)  # the output of another network, say
    >>> functional_call(layer, {"weight": W}, torch.ones(1, 3), strict=True).sum().backward()
    >>> W.grad is not None
    True
    """
    dicts = (
        (parameter_and_buffer_dicts,) if isinstance(parameter_and_buffer_dicts, dict) else parameter_and_buffer_dicts
    )
    given = [name for tensors in dicts for name in tensors]
    chains = dict(_chains_by_plain_name(module))
    if strict:
        _check_names(module, given, chains)
    if tie_weights:
        tied = {chains[name]: tensors[name] for tensors in dicts for name in tensors if name in chains}
        more: dict[str, Tensor] = {}
        # A place under two names is put to what was there once: torch would put the stand-in back the second time.
        places = {place for name, place in _places(module) if name in given}
        for name, place in _places(module):
            if chains[name] in tied and place not in places:
                more[name] = tied[chains[name]]
                places.add(place)
        if more:
            parameter_and_buffer_dicts = [*dicts, more]
    return torch.func.functional_call(module, parameter_and_buffer_dicts, args, kwargs, tie_weights=tie_weights)


def _chains_by_plain_name(module: Module) -> Iterator[tuple[str, ParametrizationList]]:
    return ((full, chains_of(below)[name]) for full, (below, name) in _places(module))


def _places(module: Module) -> Iterator[tuple[str, tuple[Module, str]]]:
    """Each parametrized tensor by every plain name that it has: the module, and its name there."""
    for path, below in module.named_modules(remove_duplicate=False):
        if has_chains(below):
            for name in chains_of(below):
                yield f"{path}.{name}".lstrip("."), (below, name)


def _check_names(module: Module, given: Iterable[str], chains: dict[str, ParametrizationList]) -> None:
    given = set(given)
    expected = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    expected |= {name for name, _ in module.named_buffers(remove_duplicate=False)}
    for plain in chains.keys() & given:
        path, _, name = plain.rpartition(".")
        below = f"{path}.parametrizations.{name}.".lstrip(".")
        expected = {name for name in expected if not name.startswith(below)} | {plain}
    problems = [
        f"{kind} key(s): {', '.join(map(repr, sorted(names)))}."
        for kind, names in (("Unexpected", given - expected), ("Missing", expected - given))
        if names
    ]
    if problems:
        raise RuntimeError("\n\t".join([f"Error(s) in reparametrizing for {title(module)}:", *problems]))
