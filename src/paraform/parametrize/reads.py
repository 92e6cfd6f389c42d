"""What a read of a parametrized tensor gives: in a forward pass the value, outside of one a value to write to."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, is_grad_enabled
from torch._C import _current_graph_task_id
from torch._C._autograd import _top_saved_tensors_default_hooks
from torch.compiler import is_dynamo_compiling
from torch.nn import Module, Parameter

from . import cache, traced
from .cache import thread
from .chain import ParametrizationList
from .errors import title
from .frames import in_forward, in_functional_call
from .switching import originals_of
from .twin import is_as, twin_of
from .writes import can_be_written, handle


def read(module: Module, name: str, chain: ParametrizationList) -> Tensor:
    """The value of ``chain``, which is what the tensor ``name`` of ``module`` is."""
    if is_dynamo_compiling():  # compiled code is a forward pass, or as good as one
        return traced.read(chain)
    recent = thread.recent
    record = None if recent is None else recent.get(chain)
    if (
        record is not None
        and record.grad is is_grad_enabled()
        # Without gradients nothing is saved for a backward pass, so no replay can miss anything.
        and (not record.grad or (_top_saved_tensors_default_hooks(False) is None and _current_graph_task_id() == -1))
        and record.holds()
    ):
        # The caller's caller first, which it is most often, and whose frame is sooner at hand than a search begun.
        if not record.is_plain or sys._getframe(2).f_code.co_name == "forward" or in_forward():
            return record.value
        if record.handle is not None:
            return record.handle
        value = record.value
    else:
        looks = chain.training and _has_state(chain) and not in_forward()
        if recent is None:
            value = look(chain) if looks else chain()
        else:
            value, record = cache.read(chain, observed if looks else None)
        if not can_be_written(value) or (not looks and in_forward()) or _is_transformed():
            return value
    if record is None:
        return handle(module, name, value, originals_of(chain))
    if record.handle is None:
        record.handle = handle(module, name, value, originals_of(chain))
    return record.handle


def checked(stand_in: Tensor, module: Module, name: str) -> Tensor:
    """``stand_in``, which was found in the place of the tensor ``name``, where ``functional_call`` has put it there.

    A loader that writes to ``module._buffers`` itself has found the same place, and would leave a weight that is no
    more computed, trained, or in any set.
    """
    # A replica of DataParallel's is called in a thread of its own.
    if is_dynamo_compiling() or hasattr(module, "_is_replica") or in_functional_call():
        return stand_in
    raise RuntimeError(
        f"A tensor was put into module._buffers under '{name}' of {title(module)}, which is parametrized. Take it out "
        f"(module._buffers['{name}'] = None) and assign it: module.{name} = value."
    )


def look(chain: ParametrizationList) -> Tensor:
    """The value of ``chain``, computed on copies of its parametrizations' buffers, which stay as they are.

    A parametrization may move its buffers on at each evaluation in training mode, as a power iteration does. That is
    for forward passes, not for those who only look.
    """
    return observed(chain)[0]


def observed(chain: ParametrizationList) -> tuple[Tensor, bool]:
    """What :func:`look` gives, and whether a forward pass would have carried nothing on either."""
    twin = looked_at(chain)
    before = _buffers_of(twin)
    value = twin()
    return value, before is not None and _buffers_of(twin) == before and is_as(twin, chain)


def looked_at(chain: ParametrizationList) -> ParametrizationList:
    """A chain to call in place of ``chain``, with the same originals, and copies of its parametrizations' buffers."""
    twin = twin_of(chain, lambda tensor: tensor if isinstance(tensor, Parameter) else tensor.clone())
    twin._buffers = chain._buffers  # originals, where a buffer is parametrized
    return twin


def _buffers_of(twin: Module) -> list[tuple[int, int]] | None:
    """Which buffers there are, at which versions; None where some do not count them."""
    buffers = list(twin.buffers())
    if any(buffer.is_inference() for buffer in buffers):
        return None
    return [(id(buffer), buffer._version) for buffer in buffers]


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
