"""Put the parametrizations of one module on another."""

from __future__ import annotations

import torch
from torch.nn import Module

from .chain import ParametrizationList
from .classes import chain_of, chains_of
from .errors import title
from .lazy import check_initialised
from .surgery import check_class, check_unsharded, class_with, is_parametrized, place
from .tensors import check_same


def transfer_parametrizations_and_params(
    from_module: Module, to_module: Module, tensor_name: str | None = None
) -> Module:
    """Put the parametrizations of ``from_module``, and the tensors they act on, on ``to_module`` too.

    Afterwards the two modules share them: the same parametrizations and the same originals. A tensor that
    ``to_module`` does not have is made; one that is parametrized there already keeps its parametrizations in front.
    Where ``from_module`` is not parametrized nothing happens.

    Args:
        from_module: the module to take from; it does not change.
        to_module: the module to put on.
        tensor_name: the one tensor to transfer; all parametrized ones if it is not given.

    Returns:
        ``to_module`` itself.

    Raises:
        ValueError: ``from_module`` has no parametrization on ``tensor_name``, or ``to_module`` has some on a tensor
            that several originals would have to go to.

    Mirrors ``torch.nn.utils.parametrize.transfer_parametrizations_and_params``. The parametrizations are not called,
    so that what one of them learned from its tensor (the base of an orthogonal one) stays.

    >>> from torch import nn
    >>> from paraform import Skew
    >>> from paraform import register_parametrization
    >>> first = register_parametrization(nn.Linear(3, 3), "weight", Skew())
    >>> second = transfer_parametrizations_and_params(first, nn.Linear(3, 3))
    >>> torch.equal(first.weight, second.weight)
    True
    >>> second.parametrizations.weight.original is first.parametrizations.weight.original
    True
    """
    for module in (from_module, to_module):
        if not isinstance(module, Module):
            raise TypeError(f"Expected an nn.Module to transfer from and to, got {type(module).__name__}.")
    if not is_parametrized(from_module):
        return to_module
    check_class(to_module)
    names = list(chains_of(from_module)) if tensor_name is None else [tensor_name]
    chains = {name: _chain_after_transfer(from_module, to_module, name) for name in names}  # refuses before it changes
    for name, chain in chains.items():
        place(to_module, name, chain, class_with(to_module, name))
    return to_module


def _chain_after_transfer(from_module: Module, to_module: Module, name: str) -> ParametrizationList:
    if not is_parametrized(from_module, name):
        found = ", ".join(chains_of(from_module))
        raise ValueError(f"{title(from_module)} has no parametrization on '{name}'. Parametrized: {found}.")
    source, target = chains_of(from_module)[name], chain_of(to_module, name)
    if target is not None:
        if not (source.is_tensor and target.is_tensor):
            raise ValueError(
                f"'{name}' of {title(to_module)} is parametrized already, and one of the two chains has several "
                "originals, which only the first parametrization of a chain can take. Remove the parametrization first."
            )
        return _shared_chain(source, [*_steps_of(target), *_steps_of(source)])
    plain = to_module._parameters.get(name, to_module._buffers.get(name))
    if plain is not None:
        check_initialised(to_module, name, plain)
        check_unsharded(to_module, [plain])
        with torch.no_grad():
            check_same("from_module", source(), plain, ("shape",))
    elif name not in to_module._parameters and name not in to_module._buffers and hasattr(to_module, name):
        raise ValueError(
            f"'{name}' of {title(to_module)} is no parameter or buffer; a transferred tensor would hide it. Rename it."
        )
    return _shared_chain(source, _steps_of(source))


def _steps_of(chain: ParametrizationList) -> list[tuple[str, Module, bool]]:
    """The steps with their keys, and whether they are switched off."""
    off = getattr(chain, "_off", ())  # a chain of torch's has no such thing
    return [(key, step, key in off) for key, step in chain._modules.items()]


def _shared_chain(source: ParametrizationList, steps: list[tuple[str, Module, bool]]) -> ParametrizationList:
    """A chain of these steps on the originals of ``source``, without calling any of them."""
    chain = ParametrizationList.__new__(ParametrizationList)
    torch.nn.ModuleList.__init__(chain)
    off = []
    for key, step, is_off in steps:
        new_key = chain._free_key() if key in chain._modules else key
        chain._modules[new_key] = step
        off += [new_key] if is_off else []
    chain._set_off(off)
    chain.unsafe, chain.is_tensor, chain.ntensors = source.unsafe, source.is_tensor, source.ntensors
    chain.shape, chain._kin = getattr(source, "shape", None), getattr(source, "_kin", None)
    chain._parameters.update(source._parameters)
    chain._buffers.update(source._buffers)
    chain._non_persistent_buffers_set.update(source._non_persistent_buffers_set)
    return chain
