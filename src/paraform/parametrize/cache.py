"""Compute a value once: the cache behind :func:`cached`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Module
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import _get_current_dispatch_mode

from .chain import ParametrizationList

Evaluate = Callable[[ParametrizationList], Tensor]


class _Entry(NamedTuple):
    value: Tensor
    version: int | None
    modules: tuple[tuple[Module, bool, int], ...]
    """Each module of the chain, its mode and how many children it has."""
    slots: tuple[Any, ...]
    """Each child, parametrization, parameter and buffer: the dictionary and name that hold it, itself, its state."""
    order: tuple[str, ...]
    """The keys of the chain's steps, in their order."""

    def is_current(self) -> bool:
        """Whether neither the value nor anything that it was computed from has changed since."""
        if self.version != _version(self.value) or tuple(self.modules[0][0]._modules) != self.order:
            return False
        for module, training, children in self.modules:  # loops, for this is what a cached read costs
            if module.training is not training or len(module._modules) != children:
                return False
        for holder, name, held, state in self.slots:
            if holder.get(name) is not held or (state is not None and state != _state(held)):
                return False
        return True


class _Scope:
    """What one ``with cached():`` remembers."""

    def __init__(self, replay: tuple[Any, ...]) -> None:
        self.replay = replay
        self.entries: dict[tuple[Any, ...], _Entry] = {}
        self.handles: dict[int, Any] = {}

    def read(self, chain: ParametrizationList, evaluate: Evaluate | None) -> Tensor:
        if _replay() != self.replay:
            return chain() if evaluate is None else evaluate(chain)
        modes = _modes()
        entry = self.entries.get((chain, None, *modes))
        if entry is not None and entry.is_current():
            return entry.value
        if evaluate is not None:
            entry = self.entries.get((chain, evaluate, *modes))
            if entry is not None and entry.is_current():
                return entry.value
        value = chain() if evaluate is None else evaluate(chain)
        new = _record(chain, value)
        if new is not None:
            self.entries[(chain, evaluate, *modes)] = new
        if entry is not None:
            self.handles.pop(id(entry.value), None)
        return value

    def forget(self, *_: object) -> None:
        self.entries.clear()
        self.handles.clear()


class _Thread(threading.local):
    def __init__(self) -> None:
        self.scopes: list[_Scope] = []


_thread = _Thread()

# While torch.compile traces a `with cached():`, the values of that trace. Outside of a trace it is always None.
_traced: dict[tuple[Any, ...], tuple[Tensor, list[Any]]] | None = None


@contextmanager
def cached() -> Iterator[None]:
    """Within this context each parametrized tensor is computed once, however often it is read.

    Leaving it (the outermost one, where they are nested) forgets every value. Reads in the same context give the same
    tensor, and gradients through all of them add up. Worth it wherever one forward pass reads a tensor more than
    once: the kernel of a recurrent cell, a weight that two layers share.

    The cache belongs to the thread that entered the context and to the module that is read. A value is computed anew
    when anything that it depends on changed: an original or another tensor or the mode of a parametrization, the
    gradient mode, inference mode, autocast; and within a transform, a trace or a checkpointed region that was entered
    inside the context. What leaves no trace cannot be seen: a write through ``tensor.data`` or a NumPy view, and a
    change of something that a parametrization uses but does not hold as a module does (a plain Python attribute, a
    tensor of another module).

    Under ``torch.compile`` the context works inside of compiled code (where an in-place write to an original, other
    than by assignment to the parametrized tensor, is not seen until the context is left); compiled code that is called
    within a context entered outside computes its own value at each call.

    Mirrors ``torch.nn.utils.parametrize.cached``.

    >>> from torch import nn
    >>> from paraform import Skew, register_parametrization
    >>> cell = register_parametrization(nn.RNNCell(4, 4), "weight_hh", Skew())
    >>> with cached():
    ...     cell.weight_hh is cell.weight_hh  # computed once
    True
    >>> cell.weight_hh is cell.weight_hh  # forgotten
    False
    """
    if torch.compiler.is_dynamo_compiling():
        global _traced  # noqa: PLW0603 (torch.compile traces a global; it cannot see into a threading.local)
        outer = _traced
        _traced = {} if outer is None else outer
        try:
            yield
        finally:
            _traced = outer
        return

    scopes, replay = _thread.scopes, _replay()
    scope = scopes[-1] if scopes and scopes[-1].replay == replay else _Scope(replay)
    scopes.append(scope)
    # A fused optimizer step changes a parameter without changing its version.
    hook = register_optimizer_step_post_hook(scope.forget)
    try:
        yield
    finally:
        hook.remove()
        # Not pop(): contexts held by generators may be left in any order.
        del scopes[len(scopes) - 1 - scopes[::-1].index(scope)]
        if scope not in scopes:
            scope.forget()


def read(chain: ParametrizationList, evaluate: Evaluate | None = None) -> Tensor:
    """The value of ``chain``, from the cache where there is one and it is current.

    ``evaluate`` computes it in another way than by calling the chain. Such a value serves only those who ask for it in
    that way, and they are served with the chain's own where there is one.
    """
    if torch.compiler.is_dynamo_compiling():
        return chain() if _traced is None else _read_traced(chain, _traced)
    scopes = _thread.scopes
    if scopes:
        return scopes[-1].read(chain, evaluate)
    return chain() if evaluate is None else evaluate(chain)


def handles() -> dict[int, Any] | None:
    """Where to keep what was handed out for a value, by its id, so that two reads in one context give one object."""
    scopes = _thread.scopes
    return scopes[-1].handles if scopes else None


def forget(chain: ParametrizationList) -> None:
    """Drop what a trace remembers of ``chain``, which has been written to. (Outside of a trace, versions tell.)"""
    if torch.compiler.is_dynamo_compiling() and _traced is not None:
        for key in [key for key in _traced if key[0] is chain]:
            del _traced[key]


def _read_traced(chain: ParametrizationList, traced: dict[tuple[Any, ...], tuple[Tensor, list[Any]]]) -> Tensor:
    device = chain.originals()[0].device.type
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    key = (chain, torch.is_grad_enabled(), autocast)  # torch.compile refuses to trace a question for inference mode
    parts = _parts(chain)
    entry = traced.get(key)
    if entry is None or not _same(parts, entry[1]):
        entry = (chain(), parts)
        traced[key] = entry
    return entry[0]


def _same(parts: list[Any], before: list[Any]) -> bool:
    return len(parts) == len(before) and all(new is old for new, old in zip(parts, before, strict=True))


def _parts(module: Module) -> list[Any]:
    """Every module below, its mode and its tensors; not by ``modules()``: torch.compile refuses it after a write."""
    parts = [
        module,
        module.training,
        *getattr(module, "_off", ()),
        *module._parameters.values(),
        *module._buffers.values(),
    ]
    for child in module._modules.values():
        parts += [] if child is None else _parts(child)
    return parts


def _modes() -> tuple[Any, ...]:
    """The modes that a value is computed under; each combination has its own value."""
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        _autocast() if torch._C._is_any_autocast_enabled() else None,
        _get_current_dispatch_mode() if torch._C._len_torch_dispatch_stack() else None,
    )


def _autocast() -> tuple[Any, ...]:
    devices = ("cpu", torch.accelerator.current_accelerator() or "cpu")
    kinds = [device if isinstance(device, str) else device.type for device in devices]
    return tuple((torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in kinds)


def _replay() -> tuple[Any, ...]:
    """What may run the same code again, or turn its tensors into something else: checkpoints, transforms, traces.

    A value computed inside belongs to the inside, and one computed outside must not be used there, because a replay
    has to compute exactly what the first run computed.
    """
    if torch.compiler.is_dynamo_compiling():
        return (object(),)  # of a function that torch.compile broke up: equal to nothing, so nothing is shared with it
    interpreter = torch._C._functorch.peek_interpreter_stack()
    return (
        torch._C._autograd._top_saved_tensors_default_hooks(False),
        torch._C._current_graph_task_id(),
        interpreter.level() if interpreter is not None else 0,
        forward_ad._current_level,
        torch._C._get_tracing_state(),
    )


def _record(chain: ParametrizationList, value: Tensor) -> _Entry | None:
    """What ``value`` was computed from, or None where a later change of it could not be noticed."""
    modules = list(chain.modules())
    children = [(module._modules, name, child, None) for module in modules for name, child in module._modules.items()]
    tensors = [
        (holder, name, tensor)
        for module in modules
        for holder in (module._parameters, module._buffers)
        for name, tensor in holder.items()
        if tensor is not None
    ]
    if any(tensor.is_inference() for _, _, tensor in tensors):
        return None  # inference tensors do not count their versions
    return _Entry(
        value,
        _version(value),
        tuple((module, module.training, len(module._modules)) for module in modules),
        (
            (vars(chain), "_off", vars(chain).get("_off"), None),
            *children,
            *((holder, name, tensor, _state(tensor)) for holder, name, tensor in tensors),
        ),
        tuple(chain._modules),
    )


def _state(tensor: Tensor) -> tuple[Any, ...]:
    """What shows that a tensor object holds something else than before.

    ``Module.to()`` and ``parameter.data = ...`` keep both the object and its version, and give it other memory.
    """
    try:
        address = tensor.data_ptr()
    except RuntimeError:
        address = None  # a fake tensor, or one of a transform, has no memory
    return tensor._version, address, tensor.dtype, tensor.requires_grad


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version
