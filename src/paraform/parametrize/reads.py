"""What a read of a parametrized tensor gives: in a forward pass the value, outside of one a value to write to."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from . import cache
from .chain import ParametrizationList
from .switching import originals_of
from .writes import handle


def read(module: Module, name: str, chain: ParametrizationList) -> Tensor:
    """The value of ``chain``, which is what the tensor ``name`` of ``module`` is."""
    if torch.compiler.is_dynamo_compiling():  # compiled code is a forward pass, or as good as one
        return cache.read(chain)
    looks = chain.training and _has_state(chain) and not in_forward()
    value = cache.read(chain, look if looks else None)
    if type(value) is not Tensor or in_forward() or _is_transformed():
        return value
    handles = cache.handles()
    if handles is None:
        return handle(module, name, value, originals_of(chain))
    known = handles.get(id(value))
    if known is None or known[0] is not value:
        known = handles[id(value)] = (value, handle(module, name, value, originals_of(chain)))
    return known[1]


def in_forward() -> bool:
    """Whether this thread is inside the forward pass of some module: its ``forward``, or the hooks around it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "forward" or code is _CALL:
            return True
        frame = frame.f_back
    return False


_CALL = Module._call_impl.__code__


def look(chain: ParametrizationList) -> Tensor:
    """The value of ``chain``, computed on copies of its parametrizations' buffers, which stay as they are.

    A parametrization may move its buffers on at each evaluation in training mode, as a power iteration does. That is
    for forward passes, not for those who only look.
    """
    twin = _twin(chain, {})
    twin._buffers = chain._buffers  # originals, where a buffer is parametrized
    return twin()  # type: ignore[no-any-return]


def _twin(module: Module, known: dict[Module, Module]) -> Any:
    """A module with the same attributes and parameters, and copies of the buffers. (Not a change of the module itself
    for a while: another thread may be computing with it.)"""
    if isinstance(module, torch.jit.ScriptModule):
        return module  # its tensors are not Python's
    twin = known.get(module)
    if twin is None:
        twin = known[module] = object.__new__(type(module))
        state = vars(twin)
        state.update(vars(module))
        state["_buffers"] = {name: None if held is None else held.clone() for name, held in module._buffers.items()}
        state["_modules"] = {
            name: None if child is None else _twin(child, known) for name, child in module._modules.items()
        }
    return twin


def _has_state(chain: ParametrizationList) -> bool:
    """Whether a parametrization of ``chain`` may have buffers. (Quick, for every read asks it.)"""
    for step in chain._modules.values():  # noqa: SIM110 (any() costs as much again)
        if step._buffers or step._modules:
            return True
    return False


def _is_transformed() -> bool:
    """Whether a trace or a transform looks at every operation: it would see the difference."""
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._get_tracing_state() is not None
    )
