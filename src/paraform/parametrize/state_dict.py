"""State dicts under the names of the plain model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    chains = {prefix + name: chain for prefix, module in modules_in(model) for name, chain in chains_in(module).items()}
    plain: dict[str, Any] = type(found)()
    values: dict[Module, Tensor] = {}
    for key in plain_names(model, found):
        chain = chains.get(key)
        if chain is None:
            plain[key] = found[key]
            continue
        if chain not in values:
            values[chain] = look(chain).detach().contiguous()
        plain[key] = values[chain]
    if hasattr(found, "_metadata"):
        hidden = _prefixes_of_chains(model)
        kept = {path: data for path, data in found._metadata.items() if not f"{path}.".startswith(hidden)}
        plain._metadata = type(found._metadata)(kept)  # type: ignore[attr-defined]
    return plain


def plain_names(model: Module, found: dict[str, Any]) -> list[str]:
    """The keys of :func:`plain_state_dict`, where ``found`` is the state dict of ``model``. No value is computed."""
    names: dict[str, None] = {}
    for prefix, module in modules_in(model):
        chains = chains_in(module)
        for name in (*names_in_order(module), "_extra_state"):
            chain = chains.get(name)
            if prefix + name in found if chain is None else not chain._non_persistent_buffers_set:
                names[prefix + name] = None
    hidden = _prefixes_of_chains(model)
    names.update({key: None for key in found if not key.startswith(hidden)})  # what a hook of the model's own has named
    return list(names)


def plain_places(model: Module) -> Iterator[tuple[str, Module, str]]:
    """Each tensor of the plain model by its full name, with the module that has it, and its name there."""
    for prefix, module in modules_in(model):
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


def modules_in(
    module: Module,
    hides: Callable[[Module], object] | None = None,
    prefix: str = "",
    above: frozenset[Module] = frozenset(),
) -> Iterator[tuple[str, Module]]:
    """``module`` and every module below it that is not part of a chain, under each of its names, as a prefix of keys.

    Args:
        module: the model.
        hides: whether a module's ``parametrizations`` are to be left out; where it has chains, if nothing is given.
        prefix: of its own keys.
        above: the modules that it is in, of which one may be below it again.
    """
    yield prefix, module
    hidden = "parametrizations" if (hides or chains_in)(module) else None
    for name, child in module._modules.items():
        if child is not None and name != hidden and child not in above:
            yield from modules_in(child, hides, f"{prefix}{name}.", above | {module})


def _prefixes_of_chains(model: Module) -> tuple[str, ...]:
    """What the keys of chains begin with; what no key begins with, where there is none."""
    return tuple(f"{prefix}parametrizations." for prefix, module in modules_in(model) if chains_in(module)) or ("\0",)


def chains_in(module: Module) -> dict[str, Any]:
    """The chains of ``module`` itself by the name of their tensor, also those of ``torch.nn.utils.parametrize``."""
    if isinstance(module, torch.jit.ScriptModule):
        return {}  # whatever it had is compiled
    children = module._modules.get("parametrizations")
    chains: dict[str, Any] = {} if children is None else children._modules
    return chains if all(isinstance(chain, _CHAINS) for chain in chains.values()) else {}
