"""What a module is made into when its tensors are parametrized, and how to ask what it is."""

from __future__ import annotations

from torch import Tensor
from torch.nn import Module, ModuleDict, Parameter
from torch.nn.parameter import is_lazy

from .chain import ParametrizationList, hold
from .classes import chains_of, own_class, parametrized_class
from .errors import title


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether the tensor ``tensor_name`` of ``module`` is parametrized, or any tensor of it if no name is given.

    Only the module itself is asked, not its children. Mirrors ``torch.nn.utils.parametrize.is_parametrized``.

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


def check_initialised(module: Module, name: str, tensor: Tensor) -> None:
    if is_lazy(tensor):
        raise RuntimeError(
            f"'{name}' of {title(module)} has no shape yet. Run one forward pass, then register the parametrization."
        )


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


def class_with(module: Module, *new_names: str) -> type:
    """The class of ``module`` when these names are parametrized too.

    Raises:
        ValueError, RuntimeError: ``module`` cannot be parametrized (:func:`check_class`), or has something else under
            the name ``parametrizations``.
    """
    check_class(module)
    others = getattr(module, "parametrizations", None)
    if others is not None and not is_parametrized(module):
        raise ValueError(
            f"{title(module)} has an attribute 'parametrizations' of its own ({type(others).__name__}); "
            "this name is needed for the parametrizations. Rename the attribute."
        )
    names = set(new_names)
    if is_parametrized(module):
        names.update(chains_of(module))
    return parametrized_class(type_before_parametrizations(module), names)


def place(module: Module, name: str, chain: ParametrizationList, cls: type) -> None:
    """Let ``chain`` be what ``name`` of ``module`` is; the plain tensor of that name goes."""
    if is_parametrized(module):
        adopt(module)
    else:
        module._modules["parametrizations"] = ModuleDict().train(module.training)
    become(module, cls)
    module._parameters.pop(name, None)
    module._buffers.pop(name, None)
    module._non_persistent_buffers_set.discard(name)
    chain.training = module.training
    chains_of(module)[name] = chain


def displace(module: Module, name: str, tensor: Tensor) -> None:
    """Let the plain ``tensor`` be what ``name`` of ``module`` is; the chain of that name goes."""
    adopt(module)
    base, chains = type_before_parametrizations(module), chains_of(module)
    chain = chains.pop(name)
    if chains:
        become(module, parametrized_class(base, chains))
    else:
        del module._modules["parametrizations"]
        become(module, base)
    hold(module, name, tensor)
    if not isinstance(tensor, Parameter) and chain._non_persistent_buffers_set:
        module._non_persistent_buffers_set.add(name)


def adopt(module: Module) -> None:
    """Make a module that ``torch.nn.utils.parametrize`` parametrized one of ours; other modules do not notice."""
    chains = chains_of(module)
    become(module, parametrized_class(type_before_parametrizations(module), chains))
    for chain in chains.values():
        become(chain, ParametrizationList)


def become(module: Module, cls: type) -> None:
    object.__setattr__(module, "__class__", cls)  # a __setattr__ of the module's own has no say in this


def tensors_of(module: Module) -> str:
    names = [name for name, tensor in (*module._parameters.items(), *module._buffers.items()) if tensor is not None]
    if is_parametrized(module):
        names += chains_of(module)
    return f" It has: {', '.join(names)}." if names else " It has none."
