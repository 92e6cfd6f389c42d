"""What a module is made into when its tensors are parametrized, and how to ask what it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.nn import Module, ModuleDict, Parameter

from .chain import ParametrizationList
from .classes import chains_of, own_class, parametrized_class
from .errors import title
from .tensors import hold


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether the tensor ``tensor_name`` of ``module`` is parametrized, or any tensor of it if no name is given.

    Only the module itself is asked, not its children. What waits for the first forward pass of a lazy module is not
    there yet. Mirrors ``torch.nn.utils.parametrize.is_parametrized``.

    >>> from torch import nn
    >>> from paraform import Skew, register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Skew())
    >>> is_parametrized(layer), is_parametrized(layer, "weight"), is_parametrized(layer, "bias")
    (True, True, False)
    """
    parametrizations = getattr(module, "parametrizations", None)
    if not isinstance(parametrizations, ModuleDict):
        return False
    return len(parametrizations) > 0 if tensor_name is None else tensor_name in parametrizations


def type_before_parametrizations(module: Module) -> type:
    """The class of ``module`` without its parametrizations; its class as it is where it has none.

    Mirrors ``torch.nn.utils.parametrize.type_before_parametrizations``.

    >>> from torch import nn
    >>> from paraform import Skew, register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Skew())
    >>> type(layer).__name__, type_before_parametrizations(layer).__name__
    ('ParametrizedLinear', 'Linear')
    """
    cls = own_class(type(module)) or type(module)
    return cls.__bases__[0] if is_parametrized(module) else type(module)


def check_class(module: Module) -> None:
    """Refuse what would have to change the class of ``module``, where its class is not for us to change."""
    if is_parametrized(module) and "parametrizations" not in module._modules:
        raise ValueError(
            f"{title(module)} has no parametrizations of its own but passes on those of a module that it wraps. "
            "Call this on that module."
        )
    cls = own_class(type(module))
    if cls is not None and cls is not type(module):
        raise RuntimeError(
            f"The class of this module, {title(module)}, was put on top of {cls.__name__} by another library (as "
            "torch.distributed's fully_shard does). Register and remove parametrizations before that."
        )


def check_attribute(module: Module) -> None:
    """Refuse a module that has something else where its parametrizations are to be."""
    others = getattr(module, "parametrizations", None)
    if others is not None and not is_parametrized(module):
        raise ValueError(
            f"{title(module)} has an attribute 'parametrizations' of its own ({type(others).__name__}); "
            "this name is needed for the parametrizations. Rename the attribute."
        )


def check_unsharded(module: Module, tensors: Iterable[Tensor]) -> None:
    """Refuse to take away a parameter that FSDP gathers, for each forward pass, on the module where it found it."""
    # A sharded module says so itself, and so does every module below it that was sharded along.
    if getattr(module, "_is_fsdp_managed_module", False) and any(isinstance(tensor, Parameter) for tensor in tensors):
        raise RuntimeError(
            f"{title(module)} is sharded by FSDP (torch.distributed's fully_shard), which has to find its parameters "
            "where they are. Register and remove parametrizations first, then shard the model."
        )


def class_with(module: Module, *new_names: str) -> type:
    """The class of ``module`` when these names are parametrized too.

    Raises:
        ValueError, RuntimeError: ``module`` cannot be parametrized (:func:`check_class`, :func:`check_attribute`).
    """
    check_class(module)
    check_attribute(module)
    names = set(new_names)
    if is_parametrized(module):
        names.update(chains_of(module))
    return parametrized_class(type_before_parametrizations(module), names)


def classes_with(owners: Sequence[tuple[Module, str]]) -> list[type]:
    """:func:`class_with` for each owner of a tensor, when it is parametrized under all the names it has there."""
    return [class_with(owner, *(key for other, key in owners if other is owner)) for owner, _ in owners]


def place_on_all(owners: Sequence[tuple[Module, str]], chain: ParametrizationList, classes: Sequence[type]) -> None:
    """:func:`place` on every owner of a tensor."""
    for (owner, name), cls in zip(owners, classes, strict=True):
        place(owner, name, chain, cls)


def place(module: Module, name: str, chain: ParametrizationList, cls: type) -> None:
    """Let ``chain`` be what ``name`` of ``module`` is; the plain tensor of that name goes."""
    if is_parametrized(module):
        adopt(module)
    else:
        module._modules["parametrizations"] = parametrizations = ModuleDict().train(module.training)
        vars(parametrizations)["plain_order"] = tuple(module._parameters)
    become(module, cls)
    module._parameters.pop(name, None)
    module._buffers[name] = None  # the place where functional_call puts what stands in for the value
    module._non_persistent_buffers_set.discard(name)
    chain.training = module.training
    chain._where = where(module, name)
    chains_of(module)[name] = chain


def plain_order(module: Module) -> tuple[str, ...]:
    """The names of the parameters of ``module``, as they stood before any of them was parametrized."""
    return vars(module._modules["parametrizations"]).get("plain_order", ())  # type: ignore[no-any-return]


def sort(held: dict[str, Any], order: Iterable[str]) -> None:
    """Bring the names in ``held`` into this order; others come behind."""
    names = [name for name in order if name in held]
    for name in [*names, *(name for name in list(held) if name not in names)]:
        held[name] = held.pop(name)


def take_back(module: Module, name: str, tensor: Tensor) -> None:
    """Let the plain ``tensor`` be what ``name`` of ``module`` is."""
    if isinstance(tensor, Parameter):
        module._buffers.pop(name, None)
    hold(module, name, tensor)


def displace(module: Module, name: str, tensor: Tensor) -> None:
    """Let the plain ``tensor`` be what ``name`` of ``module`` is; the chain of that name goes."""
    adopt(module)
    base, chains, order = type_before_parametrizations(module), chains_of(module), plain_order(module)
    chain = chains.pop(name)
    if chains:
        become(module, parametrized_class(base, chains))
    else:
        del module._modules["parametrizations"]
        become(module, base)
    take_back(module, name, tensor)
    sort(module._parameters, order)
    if not isinstance(tensor, Parameter) and chain._non_persistent_buffers_set:
        module._non_persistent_buffers_set.add(name)


def adopt(module: Module) -> None:
    """Make a module that ``torch.nn.utils.parametrize`` parametrized one of ours; other modules do not notice."""
    chains = chains_of(module)
    become(module, parametrized_class(type_before_parametrizations(module), chains))
    for name, chain in chains.items():
        become(chain, ParametrizationList)
        vars(chain).setdefault("_off", ())
        chain._off = chain._off  # on the chain itself, whose state torch.compile sees
        chain._where = where(module, name)
        module._buffers.setdefault(name, None)


def where(module: Module, name: str) -> str:
    """How an error of a chain names what it is on."""
    return f"'{name}' of {title(module)}"


def become(module: Module, cls: type) -> None:
    object.__setattr__(module, "__class__", cls)  # a __setattr__ of the module's own has no say in this


def tensors_of(module: Module) -> str:
    names = [name for name, tensor in (*module._parameters.items(), *module._buffers.items()) if tensor is not None]
    if is_parametrized(module):
        names += chains_of(module)
    return f" It has: {', '.join(names)}." if names else " It has none."
