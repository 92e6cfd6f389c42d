"""Put parametrizations on a module's tensors and take them off again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from .chain import ParametrizationList
from .classes import chains_of, own_class
from .errors import explain, title
from .function import as_parametrization, check_unlearned, name_of
from .lazy import becomes_another, check_initialised, drop, pending_of, put_off
from .optimizers import handed_over
from .owners import held, is_original_elsewhere, owners_of_chain, owners_of_tensor
from .reads import look
from .rollback import restored_on_failure
from .steps import inverse_if_any
from .surgery import (
    adopt,
    check_attribute,
    check_class,
    check_unsharded,
    classes_with,
    displace,
    is_parametrized,
    place_on_all,
    tensors_of,
)
from .switching import originals_of
from .tensors import UNSAFE, check_same, copy_like, distance, write


def register_parametrization(
    module: Module,
    tensor_name: str,
    parametrization: Module | Callable[..., Tensor] | tuple[Callable[..., Tensor], Callable[[Tensor], Any]],
    *,
    unsafe: bool = False,
    optimizer: Optimizer | None = None,
) -> Module:
    """Put a parametrization on a parameter or buffer of ``module``.

    From now on ``module.weight`` (for ``tensor_name="weight"``) is computed at each read: ``parametrization`` applied
    to the raw tensor, which is ``module.parametrizations.weight.original`` and is what trains. The raw tensor is the
    same ``Parameter`` object as before, so an optimizer made earlier goes on, and starts anew if the shape is another.
    Where ``right_inverse`` returns several tensors there are several new ones, ``original0``, ``original1``, ...,
    which an optimizer has to be told about, as of whatever a parametrization trains of its own: hand it over as
    ``optimizer``.

    A tensor that several modules share (a tie: the head of a language model and its embedding) is parametrized on all
    of them at once, with one chain, and all go on to have one value.

    A ``right_inverse`` of the parametrization gives the raw tensor for the value that is there; without one (or where
    it raises ``NotImplementedError``) the raw tensor is that value. Registering again on the same tensor puts the new
    parametrization behind the ones that are there. Assigning, ``module.weight = value``, goes through the inverses.

    A weight that is not in the set of the parametrization moves, without a warning, since most weights do at this
    point; ``module.parametrizations.weight.moved`` says how far.

    If anything is refused, the module is untouched to the bit.

    On a lazy module (``nn.LazyLinear``) the registration is put off until its first forward pass has given the tensors
    their shapes. Until then ``is_parametrized`` is false and ``module.parametrizations`` holds what is waiting. What
    is refused then raises in that forward pass, and none of what was waiting is registered.

    Args:
        module: the module that has the tensor.
        tensor_name: the name of a parameter, a buffer or an already parametrized tensor of ``module``.
        parametrization: any module whose ``forward`` maps a tensor to a tensor (the first one may take several), or a
            plain function that does, or a pair ``(function, inverse)``; of the latter two a :class:`Function` is made.
        unsafe: allow the value to have another shape or dtype than the tensor has now.
        optimizer: one that trains the tensor. What is to be trained from now on takes the tensor's place, in its group
            and under the same options. All of it starts anew: moments of the value would mean nothing for the raw
            tensor. Without this, the moments of a single original stay, as under torch, if they have its shape.

    Returns:
        ``module`` itself; its class is now ``Parametrized<Base>``, a subclass of the one before.

    Raises:
        TypeError: ``module`` is no module, ``tensor_name`` no string, or ``parametrization`` neither a module nor a
            function; or the module is compiled by TorchScript.
        ValueError: the module has no such tensor, or the parametrization does not fit it, or has already learned
            what it knows from another tensor (its attribute ``learned`` is true, as a constraint's is after its
            registration); or the tensor's entries are finite and those of its value would not be; or a module holds
            another tensor in the same memory; or ``optimizer`` does not train the tensor, or cannot exchange
            parameters (``LBFGS``).
        RuntimeError: the tensor is not initialised yet and the module is no ``LazyModuleMixin``, which would say when
            it is; or another library has changed the module's class since its last registration; or the module is
            sharded by FSDP already (register first, then call ``fully_shard``).

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
    _register(module, tensor_name, [parametrization], unsafe, optimizer)
    return module


def register_chain(
    module: Module, tensor_name: str, parametrizations: Sequence[Any], *, optimizer: Optimizer | None = None
) -> None:
    """Put several parametrizations on a tensor at once: as one after the other, but the value is kept through all.

    (One that is registered behind others takes their value for its raw tensor.)
    """
    _register(module, tensor_name, parametrizations, unsafe=False, optimizer=optimizer)


def _register(
    module: Module, tensor_name: str, parametrizations: Sequence[Any], unsafe: bool, optimizer: Optimizer | None
) -> None:
    _check_arguments(module, tensor_name)
    on = f"'{tensor_name}' of {title(module)}"
    try:
        steps = [as_parametrization(each) for each in parametrizations]
        for step in steps:
            check_unlearned(step, on)
            if hasattr(step, "check_layer"):  # a parametrization may have a say in what it is put on
                step.check_layer(module, tensor_name)  # type: ignore[operator]
        with restored_on_failure(steps), handed_over(optimizer, module, tensor_name):
            for step in steps:
                step.train(module.training)
            if is_parametrized(module, tensor_name):
                for step in steps:
                    _append(module, tensor_name, step, unsafe)
            else:
                _install(module, tensor_name, steps, unsafe)
    except Exception as error:
        explain(error, f"while registering {', '.join(map(name_of, parametrizations))} on {on}")
        raise


def remove_parametrizations(
    module: Module, tensor_name: str, leave_parametrized: bool = True, *, optimizer: Optimizer | None = None
) -> Module:
    """Take all parametrizations off a tensor: a plain parameter or buffer again.

    Of a tied tensor they are taken off on every module that shares it.

    Args:
        module: the module that has the parametrized tensor.
        tensor_name: its name.
        leave_parametrized: leave the value that it has now; otherwise leave the raw tensor.
        optimizer: one that trains the originals. The plain parameter takes the place of the first and starts anew, and
            what was trained only for this tensor leaves the optimizer.

    Returns:
        ``module`` itself. Without its last parametrized tensor it has the class that it had before the first.

    Raises:
        ValueError: the tensor is not parametrized, or ``leave_parametrized=False`` and there are several originals; or
            ``optimizer`` does not train them, or cannot exchange parameters (``LBFGS``).
        RuntimeError: the value has another dtype than the single original, which is to hold it, or is no tensor; or
            another library has changed the module's class since the registration; or the module is sharded by FSDP.

    What is waiting for the first forward pass of a lazy module is dropped.

    Mirrors ``torch.nn.utils.parametrize.remove_parametrizations``. A single original stays the same ``Parameter``
    object, unless another module shares it after a transfer. Then, and with several, the value becomes a new
    ``Parameter`` where they were parameters, also under ``no_grad``.

    >>> from torch import nn
    >>> from paraform import Skew
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Skew())
    >>> raw = layer.parametrizations.weight.original
    >>> type(remove_parametrizations(layer, "weight")) is nn.Linear
    True
    >>> layer.weight is raw and torch.equal(layer.weight, -layer.weight.T)
    True
    """
    _check_name(tensor_name)
    pending = pending_of(module) if isinstance(module, Module) else None
    if pending is not None and tensor_name in pending._modules:
        drop(module, pending, tensor_name)
        return module
    if not is_parametrized(module, tensor_name):
        found = ", ".join(chains_of(module)) if is_parametrized(module) else "none"
        raise ValueError(f"{title(module)} has no parametrization on '{tensor_name}'. Parametrized: {found}.")
    check_class(module)
    chain = chains_of(module)[tensor_name]
    originals = originals_of(chain)
    check_unsharded(module, originals)
    if not leave_parametrized and not chain.is_tensor:
        raise ValueError(
            f"'{tensor_name}' of {title(module)} has {len(originals)} originals, so there is no single raw tensor to "
            "leave. Call remove_parametrizations with leave_parametrized=True."
        )
    owners = owners_of_chain(module, tensor_name)
    for owner, _ in owners:
        check_class(owner)
    with handed_over(optimizer, module, tensor_name):
        tensor = _plain(chain, originals, module, tensor_name) if leave_parametrized else originals[0]
        for owner, name in owners:
            displace(owner, name, tensor)
    return module


def _check_arguments(module: Module, tensor_name: str) -> None:
    if not isinstance(module, Module):
        hint = " Pass the module that has the tensor, and the tensor's name." if isinstance(module, Tensor) else ""
        raise TypeError(f"Expected an nn.Module to parametrize, got {type(module).__name__}.{hint}")
    _check_name(tensor_name)
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError(
            "A module that TorchScript compiled cannot be parametrized. Register first, then torch.jit.trace it."
        )
    if isinstance(module, ParametrizationList):
        raise ValueError(
            "This is the chain of an already parametrized tensor. Register on the module that has the tensor: "
            "registering again puts the new parametrization behind the ones that are there."
        )


def _check_name(tensor_name: str) -> None:
    if not isinstance(tensor_name, str):
        raise TypeError(f"Expected the name of a tensor as a string, got {type(tensor_name).__name__}.")


def _install(module: Module, name: str, steps: Sequence[Module], unsafe: bool) -> None:
    """The first parametrizations on a tensor."""
    original = module._parameters.get(name, module._buffers.get(name))
    if original is None:
        path, _, last = name.rpartition(".")
        hint = (
            f" For a tensor of a submodule pass the submodule: module.get_submodule('{path}'), '{last}'."
            if path
            else ""
        )
        if isinstance(getattr(module, name, None), Tensor):
            hint = (
                f" Its '{name}' is a plain attribute. If a hook computes it, as that of torch.nn.utils.prune does, "
                f"take the hook off first: prune.remove(module, '{name}'). Otherwise make it a parameter or a buffer."
            )
        raise ValueError(
            f"{title(module)} has no parameter, buffer or parametrized tensor '{name}'.{tensors_of(module)}{hint}"
        )
    if becomes_another(module) or pending_of(module) is not None:
        if pending_of(module) is None:
            check_attribute(module)
        for step in steps:
            put_off(module, name, step, unsafe)
        return
    check_initialised(module, name, original)
    check_unsharded(module, [original])
    del original  # whoever holds it is counted
    owners = owners_of_tensor(module, name, steps)
    # A base class may refuse to be subclassed, so before anything is written.
    classes = classes_with(owners)
    persistent = name not in module._non_persistent_buffers_set
    chain = ParametrizationList(steps, held(module, name), unsafe)
    if not persistent:
        chain._non_persistent_buffers_set.update(chain._buffers)
    place_on_all(owners, chain, classes)


def _append(module: Module, name: str, parametrization: Module, unsafe: bool) -> None:
    """A further parametrization, behind the ones that are on the tensor."""
    chain = chains_of(module)[name]
    moved = None
    if not unsafe:
        with torch.no_grad():
            before = look(chain)
            value = parametrization(before)
            check_same("the parametrization", value, before, ("dtype", "shape"), hint=UNSAFE)
            moved = distance(value, before)
            raw = inverse_if_any(len(chain), parametrization, value)
            if raw is not NotImplemented:
                check_same("right_inverse", raw, before, ("dtype", "shape"), hint=UNSAFE)
    # Not a module that passes on another's parametrizations, nor one with a class on top of ours.
    if "parametrizations" in module._modules and own_class(type(module)) in (None, type(module)):
        adopt(module)
    chain.append(parametrization)
    chain.unsafe |= unsafe
    chain.shape = None if unsafe else chain.shape
    chain.moved = moved


def _plain(chain: ParametrizationList, originals: tuple[Tensor, ...], module: Module, name: str) -> Tensor:
    """The value of ``chain`` as the plain tensor that is to take its place."""
    value: Tensor
    with torch.no_grad():
        try:
            value = look(chain)
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
            if not is_original_elsewhere(chain, "original"):
                write(original, value)
                return original
        return copy_like(originals, value)
