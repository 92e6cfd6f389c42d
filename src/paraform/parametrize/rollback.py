"""A refused call leaves the parametrizations that it asked as they were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import Module
from torch.nn.parameter import is_lazy

from .tensors import HOLDERS


@contextmanager
def restored_on_failure(steps: Iterable[Module]) -> Iterator[None]:
    """Undo what the ``steps`` did to their own tensors and attributes, if the body raises.

    An inverse may learn from the value that it is given (the base of an orthogonal matrix, the vectors of a spectral
    norm). Where a later check refuses the value, it must not have learned anything.
    """
    modules = {module for step in steps for module in step.modules()}
    remembered = [(module, _attributes(module), _tensors(module)) for module in modules]
    try:
        yield
    except BaseException:
        for module, attributes, tensors in remembered:
            _restore(module, attributes, tensors)
        raise


def _attributes(module: Module) -> dict[str, Any]:
    return {name: dict(value) if name in HOLDERS else value for name, value in vars(module).items()}


def _tensors(module: Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    held = (*module._parameters.values(), *module._buffers.values())
    return [(tensor, tensor.detach().clone()) for tensor in held if tensor is not None and not is_lazy(tensor)]


@torch.no_grad()
def _restore(module: Module, attributes: dict[str, Any], tensors: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    if not isinstance(module, torch.jit.ScriptModule):  # whose attributes are not Python's
        state = vars(module)
        for holder in HOLDERS:
            state[holder].clear()
            state[holder].update(attributes.pop(holder))
        for name in state.keys() - attributes.keys() - set(HOLDERS):
            del state[name]
        state.update(attributes)
    for tensor, before in tensors:
        if tensor.shape != before.shape:
            tensor.set_(before)  # type: ignore[call-overload]
        elif not torch.equal(tensor, before):
            tensor.copy_(before)
