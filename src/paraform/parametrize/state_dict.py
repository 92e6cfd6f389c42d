"""State dicts under the names of the plain model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.utils import parametrize

from .chain import ParametrizationList
from .reads import look

_CHAINS = (ParametrizationList, parametrize.ParametrizationList)


@torch.no_grad()
def plain_state_dict(model: Module) -> dict[str, Any]:
    """The state dict of the model as it was before anything was parametrized: plain names, computed values.

    It loads into the plain model with ``strict=True``, and into the parametrized one as well. Keys are in the order of
    the plain model's own state dict, where :func:`register_parametrization` of this package put the parametrizations
    on. What belongs to a parametrization (a base, an estimate, a mask) is left out: it is in the value. Values are
    those that a read would give, in the mode that the model is in, but without carrying any estimate on; call
    ``model.eval()`` first where the mode makes a difference. They are detached; what is not parametrized shares memory
    with the model, as in ``state_dict()``.

    Args:
        model: any module; one without parametrizations gives its ``state_dict()``.

    >>> from torch import nn
    >>> from paraform import Skew, register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Skew())
    >>> list(layer.state_dict()), list(plain_state_dict(layer))
    (['bias', 'parametrizations.weight.original'], ['weight', 'bias'])
    >>> nn.Linear(3, 3).load_state_dict(plain_state_dict(layer))
    <All keys matched successfully>
    """
    found = model.state_dict()
    hidden = tuple(f"{prefix}parametrizations." for prefix, module in _modules(model, "") if chains_in(module))
    plain: dict[str, Any] = type(found)()
    values: dict[Module, Tensor] = {}
    for prefix, module in _modules(model, ""):
        chains = chains_in(module)
        for name in (*names_in_order(module), "_extra_state"):
            chain = chains.get(name)
            if chain is None and prefix + name in found:
                plain[prefix + name] = found[prefix + name]
            elif chain is not None and not chain._non_persistent_buffers_set:
                if chain not in values:
                    values[chain] = look(chain).detach().contiguous()
                plain[prefix + name] = values[chain]
    for key, tensor in found.items():  # what a hook of the model's own has named
        if not key.startswith(hidden or "\0"):
            plain.setdefault(key, tensor)
    if hasattr(found, "_metadata"):
        kept = {path: data for path, data in found._metadata.items() if not f"{path}.".startswith(hidden or "\0")}
        plain._metadata = type(found._metadata)(kept)  # type: ignore[attr-defined]
    return plain


def plain_names(model: Module, found: dict[str, Any]) -> list[str]:
    """The keys of :func:`plain_state_dict`, where ``found`` is the state dict of ``model``. No value is computed."""
    names: dict[str, None] = {}
    hidden = tuple(f"{prefix}parametrizations." for prefix, module in _modules(model, "") if chains_in(module))
    for prefix, module in _modules(model, ""):
        chains = chains_in(module)
        for name in (*names_in_order(module), "_extra_state"):
            chain = chains.get(name)
            if prefix + name in found if chain is None else not chain._non_persistent_buffers_set:
                names[prefix + name] = None
    names.update({key: None for key in found if not key.startswith(hidden or "\0")})
    return list(names)


def plain_places(model: Module) -> Iterator[tuple[str, Module, str]]:
    """Each tensor of the plain model by its full name, with the module that has it, and its name there."""
    for prefix, module in _modules(model, ""):
        for name in names_in_order(module):
            yield prefix + name, module, name


def names_in_order(module: Module) -> list[str]:
    """The tensors of ``module`` by name, parameters first, as they would stand if none were parametrized."""
    chains = chains_in(module)
    parametrized = [name for name, chain in chains.items() if chain._parameters]
    # Where torch's engine has registered, nobody knows: first, as a weight is.
    order = vars(module._modules["parametrizations"]).get("plain_order", parametrized) if chains else ()
    # By their method, for those of TorchScript's modules have no other way to tell their names.
    held = {**dict.fromkeys(module._parameters.keys()), **dict.fromkeys(parametrized)}
    parameters = dict.fromkeys((*order, *held))
    buffers = dict.fromkeys((*module._buffers.keys(), *chains))  # a parametrized one has kept its place
    return [*(name for name in parameters if name in held), *(name for name in buffers if name not in held)]


def _modules(module: Module, prefix: str) -> Iterator[tuple[str, Module]]:
    """``module`` and every module below it that is not part of a chain, each with the prefix of its keys."""
    yield prefix, module
    hidden = "parametrizations" if chains_in(module) else None
    for name, child in module._modules.items():
        if child is not None and name != hidden:
            yield from _modules(child, f"{prefix}{name}.")


def chains_in(module: Module) -> dict[str, Any]:
    """The chains of ``module`` itself by the name of their tensor, also those of ``torch.nn.utils.parametrize``."""
    if isinstance(module, torch.jit.ScriptModule):
        return {}  # whatever it had is compiled
    children = module._modules.get("parametrizations")
    chains: dict[str, Any] = {} if children is None else children._modules
    return chains if all(isinstance(chain, _CHAINS) for chain in chains.values()) else {}
