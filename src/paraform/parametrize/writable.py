"""A whole model as its plain self for a while, to be written to by code that knows nothing of parametrizations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Module, ModuleDict

from .chain import ParametrizationList
from .classes import chains_of, has_chains, own_class
from .errors import explain, title
from .reads import look
from .registration import remove_parametrizations
from .rollback import restored_on_failure
from .surgery import become, check_class, is_parametrized, plain_order, sort, take_back
from .switching import originals_of
from .tensors import copy_like


class _Aside(NamedTuple):
    """What makes a module parametrized, while it is plain."""

    module: Module
    cls: type
    parametrizations: ModuleDict
    children: list[str]
    """The names of its children, in their order."""
    values: dict[str, Tensor]
    """The value of each parametrized tensor, to tell what was written to."""


@contextmanager
def writable(model: Module) -> Iterator[Module]:
    """Within this context every parametrized tensor of ``model`` is a plain parameter (or buffer) that has its value.

    Any code that initialises or edits plain layers works in it: ``model.apply(init_fn)``, ``reset_parameters()``, type
    checks, ``.data``, NumPy views, ``load_state_dict`` of a plain checkpoint. When it is left, the values that were
    written to are assigned, that is, go through ``right_inverse``; those that were not stay as they are to the bit.
    The parametrizations, the originals and the class of each module are then the same objects as before.

    Do not train in it: the plain parameters are not those of the optimizer, and no set is kept.

    Args:
        model: the module whose parametrized tensors, and those of its submodules, become plain.

    Yields:
        ``model`` itself.

    Raises:
        TypeError: ``model`` is no module.
        RuntimeError: a parametrized tensor was written to, and a parametrization of it has no ``right_inverse``; or a
            parametrization was registered within the context, on a module that is plain only there.
        ValueError: a value that was written is refused (its shape, dtype, device, or it is not finite).
            Then, as after an exception in the body, every tensor has the value that it had before.

    >>> from torch import nn
    >>> from paraform import Skew, register_parametrization, writable
    >>> model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    >>> layer = register_parametrization(model[0], "weight", Skew())
    >>> def init(module):
    ...     if type(module) is nn.Linear:  # not so of a parametrized one
    ...         nn.init.zeros_(module.weight)
    >>> with writable(model):
    ...     model = model.apply(init)
    >>> torch.equal(layer.weight, torch.zeros(3, 3))
    True
    """
    if not isinstance(model, Module):
        raise TypeError(f"Expected an nn.Module to write to, got {type(model).__name__}.")
    with plain_selves(list(model.modules())):
        yield model


@contextmanager
def plain_selves(modules: Iterable[Module]) -> Iterator[None]:
    """:func:`writable`, of these modules and not of those below."""
    parametrized = [module for module in modules if has_chains(module)]
    for module in parametrized:
        check_class(module)
    aside: list[_Aside] = []
    plain: dict[ParametrizationList, Tensor] = {}  # one tensor where two modules have one chain
    try:
        for module in parametrized:
            aside.append(_set_aside(module, plain))
        yield
        for each in aside:
            _check_plain(each.module)
    except BaseException:
        for each in reversed(aside):
            _bring_back(each)
        raise
    written: dict[ParametrizationList, tuple[Module, str, Tensor]] = {}
    for each in reversed(aside):
        for name, tensor in _bring_back(each).items():
            if not _same(tensor, each.values[name]):
                written[chains_of(each.module)[name]] = (each.module, name, tensor)
    with restored_on_failure(written):
        for module, name, tensor in written.values():
            try:
                setattr(module, name, tensor.detach())
            except Exception as error:
                explain(error, "while leaving `with writable(model):`; every tensor has its value from before it")
                raise


def _set_aside(module: Module, known: dict[ParametrizationList, Tensor]) -> _Aside:
    plain = {}
    for name, chain in chains_of(module).items():  # this may fail, so it comes before anything changes
        plain[name] = known[chain] = known[chain] if chain in known else _plain(chain)
    values = {name: tensor.detach().clone() for name, tensor in plain.items()}
    cls, order = type(module), plain_order(module)
    children, parametrizations = list(module._modules), module._modules["parametrizations"]
    assert isinstance(parametrizations, ModuleDict)
    base = own_class(cls)
    assert base is not None
    del module._modules["parametrizations"]
    become(module, base.__bases__[0])
    for name, tensor in plain.items():
        take_back(module, name, tensor)
    sort(module._parameters, order)
    return _Aside(module, cls, parametrizations, children, values)


def _check_plain(module: Module) -> None:
    if is_parametrized(module):
        raise RuntimeError(
            f"A parametrization was registered on '{', '.join(chains_of(module))}' of {title(module)} within "
            "`with writable(model):`, where the module is plain for a while. Register before it or after it."
        )


def _bring_back(aside: _Aside) -> dict[str, Tensor]:
    """Make the module parametrized again; gives the plain tensors that it had."""
    module = aside.module
    for name in list(chains_of(module)) if is_parametrized(module) else ():  # was refused: _check_plain
        remove_parametrizations(module, name)
    plain = {}
    for name in aside.values:
        held = module._parameters.pop(name, None)
        plain[name] = module._buffers.get(name) if held is None else held
        module._buffers[name] = None
    module._modules["parametrizations"] = aside.parametrizations
    sort(module._modules, aside.children)
    become(module, aside.cls)
    return {name: tensor for name, tensor in plain.items() if tensor is not None}


def _plain(chain: ParametrizationList) -> Tensor:
    with torch.no_grad():
        return copy_like(originals_of(chain), look(chain))


def _same(tensor: Tensor, before: Tensor) -> bool:
    if any(getattr(tensor, kind) != getattr(before, kind) for kind in ("shape", "dtype", "device")):
        return False
    if tensor.is_meta:
        return True  # there are no numbers
    return bool(((tensor == before) | (tensor.isnan() & before.isnan())).all())
