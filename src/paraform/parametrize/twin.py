"""A chain to try things on, and to take over what was tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module

from .tensors import HOLDERS

M = TypeVar("M", bound=Module)


def twin_of(module: M, own: Callable[[Tensor], Tensor], seen: dict[Any, Any] | None = None) -> M:
    """``module`` and all modules below it once more, with ``own(tensor)`` in place of each tensor.

    Everything else is shared. What a call of the twin writes (an estimate that a forward pass carries on, the base that
    an inverse learns), it writes to the twin alone: nobody who reads ``module`` meanwhile notices.
    """
    seen = {} if seen is None else seen
    if isinstance(module, torch.jit.ScriptModule):
        return module  # its tensors are not Python's
    if module in seen:
        return seen[module]  # type: ignore[no-any-return]
    twin = seen[module] = type(module).__new__(type(module))
    twin.__dict__.update(module.__dict__)
    for holder in ("_parameters", "_buffers"):
        twin.__dict__[holder] = {name: _once(tensor, own, seen) for name, tensor in module.__dict__[holder].items()}
    children = module._modules.items()
    twin.__dict__["_modules"] = {name: None if child is None else twin_of(child, own, seen) for name, child in children}
    return twin


def _once(tensor: Tensor | None, own: Callable[[Tensor], Tensor], seen: dict[Any, Any]) -> Tensor | None:
    if tensor is None:
        return None
    if tensor not in seen:  # by identity, as tensors are hashed; two names of one tensor stay one
        seen[tensor] = own(tensor)
    return seen[tensor]  # type: ignore[no-any-return]


def take_over(module: Module, twin: Module) -> None:
    """Let ``module`` have what ``twin`` learned, but for what a state dict carries: that is for a load to bring.

    So: attributes, tensors that are not saved, and tensors that ``module`` did not have.
    """
    modules = dict(module.named_modules())
    for path, other in twin.named_modules():
        if modules.get(path, other) is other:
            # Shared with the twin; or an inverse has added it: its keys will be unexpected to the load, which says so.
            continue
        state = modules[path].__dict__
        for name, value in other.__dict__.items():
            if name not in HOLDERS and state.get(name, state) is not value:
                state[name] = value
        for holder in ("_parameters", "_buffers"):
            tensors, new = state[holder], other.__dict__[holder]
            for name, tensor in new.items():
                unsaved = holder == "_buffers" and name in other._non_persistent_buffers_set
                if unsaved or (tensor is None) != (tensors.get(name) is None):
                    tensors[name] = tensor


def is_as(twin: Module, module: Module) -> bool:
    """Whether ``twin`` still has the attributes and the number of modules of ``module``. Tensors are not compared."""
    twins, modules = list(twin.modules()), list(module.modules())
    return len(twins) == len(modules) and all(
        name in HOLDERS or vars(one).get(name, twins) is value
        for other, one in zip(twins, modules, strict=True)
        for name, value in vars(other).items()
    )
