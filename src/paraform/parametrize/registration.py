"""Put parametrizations on a module's tensors and take them off again."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from .chain import UNSAFE, ParametrizationList, check_same, copy_like, hold, originals_of, write
from .classes import chains_of, own_class, parametrized_class
from .errors import explain, says_there_is_no_inverse, title
from .rollback import restored_on_failure
from .surgery import (
    adopt,
    become,
    check_class,
    check_initialised,
    class_with,
    is_parametrized,
    place,
    tensors_of,
    type_before_parametrizations,
)


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Put a parametrization on a parameter or buffer of ``module``.

    From now on ``module.weight`` (for ``tensor_name="weight"``) is computed at each read: ``parametrization`` applied
    to the raw tensor, which is ``module.parametrizations.weight.original`` and is what trains. The raw tensor is the
    same ``Parameter`` object as before, so an optimizer made earlier goes on. Where ``right_inverse`` returns several
    tensors there are several new ones, ``original0``, ``original1``, ..., which an optimizer has to be told about.

    A ``right_inverse`` of the parametrization gives the raw tensor for the value that is there; without one (or where
    it raises ``NotImplementedError``) the raw tensor is that value. Registering again on the same tensor puts the new
    parametrization behind the ones that are there. Assigning, ``module.weight = value``, goes through the inverses.

    A weight that is not in the set of the parametrization moves, without a warning, since most weights do at this
    point; ``module.parametrizations.weight.moved`` says how far.

    If anything is refused, the module is untouched to the bit.

    Args:
        module: the module that has the tensor.
        tensor_name: the name of a parameter, a buffer or an already parametrized tensor of ``module``.
        parametrization: any module whose ``forward`` maps a tensor to a tensor (the first one may take several).
        unsafe: allow the value to have another shape or dtype than the tensor has now.

    Returns:
        ``module`` itself; its class is now ``Parametrized<Base>``, a subclass of the one before.

    Raises:
        TypeError: ``module`` or ``parametrization`` is no module, or ``tensor_name`` no string; or the module is
            compiled by TorchScript.
        ValueError: the module has no such tensor, or the parametrization does not fit it, or has already learned
            what it knows from another tensor (its attribute ``learned`` is true, as a constraint's is after its
            registration).
        RuntimeError: the tensor is not initialised yet (a lazy module before its first forward pass), or another
            library has changed the module's class since its last registration.

    Mirrors ``torch.nn.utils.parametrize.register_parametrization``.

    >>> from torch import nn
    >>> from paraform import Skew
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Skew())
    >>> torch.equal(layer.weight, -layer.weight.T)  # holds now, and after every optimizer step
    True
    >>> layer.weight = torch.zeros(3, 3)  # goes through Skew.right_inverse
    >>> layer
    ParametrizedLinear(
      in_features=3, out_features=3, bias=True
      (parametrizations): ModuleDict(
        (weight): ParametrizationList(
          (0): Skew()
        )
      )
    )
    """
    _check_arguments(module, tensor_name, parametrization)
    try:
        with restored_on_failure([parametrization]):
            parametrization.train(module.training)
            if is_parametrized(module, tensor_name):
                _append(module, tensor_name, parametrization, unsafe)
            else:
                _install(module, tensor_name, parametrization, unsafe)
    except Exception as error:
        explain(error, f"while registering {title(parametrization)} on '{tensor_name}' of {title(module)}")
        raise
    return module


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Take all parametrizations off a tensor: a plain parameter or buffer again.

    Args:
        module: the module that has the parametrized tensor.
        tensor_name: its name.
        leave_parametrized: leave the value that it has now; otherwise leave the raw tensor.

    Returns:
        ``module`` itself. Without its last parametrized tensor it has the class that it had before the first.

    Raises:
        ValueError: the tensor is not parametrized, or ``leave_parametrized=False`` and there are several originals.
        RuntimeError: the value has another dtype than the single original, which is to hold it, or is no tensor; or
            another library has changed the module's class since the registration.

    Mirrors ``torch.nn.utils.parametrize.remove_parametrizations``. A single original stays the same ``Parameter``
    object. With several, the value becomes a new ``Parameter`` where they were parameters, also under ``no_grad``.

    >>> from torch import nn
    >>> from paraform import Skew
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Skew())
    >>> raw = layer.parametrizations.weight.original
    >>> type(remove_parametrizations(layer, "weight")) is nn.Linear
    True
    >>> layer.weight is raw and torch.equal(layer.weight, -layer.weight.T)
    True
    """
    if not is_parametrized(module, tensor_name):
        found = ", ".join(chains_of(module)) if is_parametrized(module) else "none"
        raise ValueError(f"{title(module)} has no parametrization on '{tensor_name}'. Parametrized: {found}.")
    check_class(module)
    chain = chains_of(module)[tensor_name]
    originals = originals_of(chain)
    if not leave_parametrized and not chain.is_tensor:
        raise ValueError(
            f"'{tensor_name}' of {title(module)} has {len(originals)} originals, so there is no single raw tensor to "
            "leave. Call remove_parametrizations with leave_parametrized=True."
        )
    tensor = _plain(chain, originals, module, tensor_name) if leave_parametrized else originals[0]
    adopt(module)
    persistent = not chain._non_persistent_buffers_set
    base = type_before_parametrizations(module)
    chains = chains_of(module)
    del chains[tensor_name]
    if chains:
        become(module, parametrized_class(base, chains))
    else:
        del module._modules["parametrizations"]
        become(module, base)
    hold(module, tensor_name, tensor)
    if not isinstance(tensor, Parameter) and not persistent:
        module._non_persistent_buffers_set.add(tensor_name)
    return module


def _check_arguments(module: Module, tensor_name: str, parametrization: Module) -> None:
    if not isinstance(module, Module):
        raise TypeError(f"Expected an nn.Module to parametrize, got {type(module).__name__}.")
    if not isinstance(tensor_name, str):
        raise TypeError(f"Expected the name of a tensor as a string, got {type(tensor_name).__name__}.")
    if not isinstance(parametrization, Module):
        if isinstance(parametrization, type) and issubclass(parametrization, Module):
            name = parametrization.__name__
            raise TypeError(f"Expected a parametrization, got the class {name}. Did you mean {name}()?")
        raise TypeError(
            f"Expected a parametrization that is an nn.Module, got {type(parametrization).__name__}. "
            "Write its forward in a subclass of nn.Module."
        )
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError("A module that TorchScript compiled cannot be parametrized. Register first, then compile.")
    if getattr(parametrization, "learned", False):
        raise ValueError(
            f"This {title(parametrization)} serves the tensor that it was registered on before. "
            f"Build a new one for '{tensor_name}' of {title(module)}."
        )
    if isinstance(module, ParametrizationList):
        raise ValueError(
            "This is the chain of an already parametrized tensor. Register on the module that has the tensor: "
            "registering again puts the new parametrization behind the ones that are there."
        )


def _install(module: Module, name: str, parametrization: Module, unsafe: bool) -> None:
    """The first parametrization on a tensor."""
    original = module._parameters.get(name, module._buffers.get(name))
    if original is None:
        path, _, last = name.rpartition(".")
        hint = (
            f" For a tensor of a submodule pass the submodule: module.get_submodule('{path}'), '{last}'."
            if path
            else ""
        )
        raise ValueError(
            f"{title(module)} has no parameter, buffer or parametrized tensor '{name}'.{tensors_of(module)}{hint}"
        )
    check_initialised(module, name, original)
    check_class(module)
    others = getattr(module, "parametrizations", None)
    if others is not None and not is_parametrized(module):
        raise ValueError(
            f"{title(module)} has an attribute 'parametrizations' of its own ({type(others).__name__}); "
            "this name is needed for the parametrizations. Rename the attribute."
        )
    persistent = name not in module._non_persistent_buffers_set
    cls = class_with(module, name)  # the base class may refuse to be subclassed, so before anything is written
    chain = ParametrizationList([parametrization], original, unsafe)
    if not persistent:
        chain._non_persistent_buffers_set.update(chain._buffers)
    place(module, name, chain, cls)


def _append(module: Module, name: str, parametrization: Module, unsafe: bool) -> None:
    """A further parametrization, behind the ones that are on the tensor."""
    chain = chains_of(module)[name]
    if not unsafe:
        with torch.no_grad():
            before = chain()
            value = parametrization(before)
            check_same("the parametrization", value, before, ("dtype", "shape"), hint=UNSAFE)
            if hasattr(parametrization, "right_inverse"):
                try:
                    raw = parametrization.right_inverse(value)  # type: ignore[operator]
                except NotImplementedError as error:
                    if not says_there_is_no_inverse(error):
                        raise
                else:
                    check_same("right_inverse", raw, before, ("dtype", "shape"), hint=UNSAFE)
    # Not a module that passes on another's parametrizations, nor one with a class on top of ours.
    if "parametrizations" in module._modules and own_class(type(module)) in (None, type(module)):
        adopt(module)
    chain.append(parametrization)
    chain.unsafe |= unsafe
    chain.shape = None if unsafe else chain.shape


def _plain(chain: ParametrizationList, originals: tuple[Tensor, ...], module: Module, name: str) -> Tensor:
    """The value of ``chain`` as the plain tensor that is to take its place."""
    value: Tensor
    with torch.no_grad():
        try:
            value = chain()
        except Exception as error:
            explain(error, f"while removing the parametrizations of '{name}' of {title(module)}")
            raise
        if not isinstance(value, Tensor):
            raise RuntimeError(
                f"The value of '{name}' of {title(module)} is no tensor but a {type(value).__name__}, which cannot be "
                "left in its place. Call remove_parametrizations with leave_parametrized=False."
            )
        if chain.is_tensor:
            (original,) = originals
            if value.dtype != original.dtype:
                raise RuntimeError(
                    f"The value of '{name}' of {title(module)} has dtype {value.dtype}, but its original, which is to "
                    f"hold it, has dtype {original.dtype}. Call remove_parametrizations with leave_parametrized=False."
                )
            write(original, value)
            return original
        return copy_like(originals, value)
