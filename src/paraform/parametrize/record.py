"""What a value was computed from, and whether all of it is still so."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._dynamo.guards import TensorGuards
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import Module
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from .chain import ParametrizationList
from .writes import can_be_written

# Another object after each step of any optimizer: a fused step changes a parameter without counting a version.
# For all threads, for a model may be read in one and trained in another.
_steps = object()


def _count_step(*_: object) -> None:
    global _steps  # noqa: PLW0603
    _steps = object()


@functools.cache
def _listen() -> None:
    register_optimizer_step_post_hook(_count_step)


class Record:
    """A value and everything that it was computed from. Whoever keeps it asks :meth:`holds` before each use.

    Args:
        chain: what computed the value.
        value: the value.
        begun: what :func:`begin` said before the value was computed.
        real: there is no trace or transform whose tensors these could be.
        like: a record of now, of a chain whose tensors differ from those of ``chain`` in their numbers only.

    Raises:
        UntraceableError: a later change could not be noticed, or there was one meanwhile (of another thread).
    """

    __slots__ = ("_memory", "grad", "guards", "handle", "holds", "is_plain", "value")

    guards: TensorGuards
    holds: Callable[[], bool]
    """Whether the value would be the same if it were computed now, under the modes of then."""

    def __init__(
        self, chain: ParametrizationList, value: Tensor, begun: Begun, real: bool, like: Record | None = None
    ) -> None:
        if not isinstance(value, Tensor):
            raise UntraceableError("only tensors count what is written to them")
        modules = modules_of(chain)
        absent, watched, tensors = _tensor_slots(modules, checked=like is not None)
        if begin(chain) != begun:
            raise UntraceableError("an original was written to while the value was computed")
        self.value = value
        self.is_plain = can_be_written(value)
        self.handle: Tensor | None = None
        """What was handed out for the value outside of a forward pass, if it was."""
        self.grad = torch.is_grad_enabled()
        # Everything but its memory about each tensor, and the state of the thread that decides how operators treat it.
        self.guards = guards_of(tensors, real) if like is None else like.guards
        # Memory that is kept is not given to another tensor, so that the same address means the same memory.
        self._memory = [tensor.untyped_storage() for _, _, tensor, _, address in watched if address is not None]
        self.holds = _question(
            begun[0],
            chain._modules,
            _module_slots(modules) + absent,
            watched,
            # A value that is an original is watched as such; an inference tensor cannot be.
            None if any(value is tensor for tensor in tensors) or value.is_inference() else value,
            self.guards.check,
            tensors,
        )


def _question(  # noqa: PLR0917 (in the order in which it asks)
    steps: object,
    chain: dict[str, Any],
    modules: list[tuple[Any, ...]],
    watched: list[tuple[Any, ...]],
    value: Tensor | None,
    check: Callable[..., bool],
    tensors: list[Tensor],
) -> Callable[[], bool]:
    """What :attr:`Record.holds` asks. It is most of what a cached read costs: loops without a call of ours.

    (A closure, because its variables are sooner at hand than attributes.)
    """
    order = tuple(chain) if len(chain) > 1 else None
    written = None if value is None else value._version

    def holds() -> bool:
        if steps is not _steps or (order is not None and tuple(chain) != order):
            return False
        for state, switch, switched, children, before in modules:
            if state.get(switch) is not switched or children != before:
                return False
        for holder, name, tensor, version, address in watched:
            if (
                holder.get(name) is not tensor
                or tensor._version != version
                or (address is not None and tensor.data_ptr() != address)
            ):
                return False
        return (value is None or value._version == written) and check(*tensors)

    return holds


Begun = tuple[object, list[int]]


def begin(chain: ParametrizationList) -> Begun:
    """What must not change while a value is computed. (A parametrization may write to its own tensors, though.)"""
    _listen()
    raws = (*chain._parameters.values(), *chain._buffers.values())
    return _steps, [0 if raw is None or raw.is_inference() else raw._version for raw in raws]


class UntraceableError(Exception):
    """A value that depends on something whose changes leave no trace."""


def modules_of(module: Module) -> list[Module]:
    """``module`` and all modules below it, each once. (``modules()`` takes ten times as long: it makes up names.)"""
    modules, seen = [module], {id(module)}
    for each in modules:  # which grows
        for child in each._modules.values():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                modules.append(child)
    return modules


def _module_slots(modules: list[Module]) -> list[tuple[Any, ...]]:
    """Of each module its mode (of a chain, what is switched off): where it stands, and itself; its children, and then.

    A module stands for a child of its own too, if that has an equality of its own.
    """
    slots: list[tuple[Any, ...]] = []
    for module in modules:
        state, children = module.__dict__, module._modules
        switch = "_off" if isinstance(module, ParametrizationList) else "training"
        slots.append((state, switch, state.get(switch), children, dict(children)))
        for name, child in children.items():
            # Dictionaries are compared by identity, unless what they hold has an equality of its own.
            if type(child).__eq__ is not object.__eq__:
                slots.append((children, name, child, None, None))
    return slots


def _tensor_slots(
    modules: list[Module], checked: bool
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]], list[Tensor]]:
    """The parameters and buffers of modules, and what they are made of.

    Where none stands; where each stands, with itself, its version and its address; and each once. ``checked`` tensors
    are all different, with entries and versions, and made of nothing else.
    """
    absent: list[tuple[Any, ...]] = []
    watched: list[tuple[Any, ...]] = []
    unique: dict[int, Tensor] = {}  # by identity
    holders = [holder for module in modules for holder in (module._parameters, module._buffers)]
    for holder in holders:  # which grows
        for name, tensor in holder.items():
            if tensor is None:
                absent.append((holder, name, None, None, None))
                continue
            if checked:
                unique[len(unique)] = tensor
                watched.append((holder, name, tensor, tensor._version, _address(tensor)))
                continue
            if tensor.is_inference() or tensor.is_nested:
                raise UntraceableError("inference tensors do not count what is written to them, nested have no shape")
            unique[id(tensor)] = tensor
            watched.append((holder, name, tensor, tensor._version, _address(tensor)))
            if is_traceable_wrapper_subclass(tensor):  # a DTensor, say, whose local tensor may be written to
                parts = {name: getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]}
                holders.append({name: part for name, part in parts.items() if isinstance(part, Tensor)})
    return absent, watched, list(unique.values())


def guards_of(tensors: Sequence[Tensor], real: bool) -> TensorGuards:
    """What asks whether tensors are as these are, but for their numbers; not where those of a trace are symbols."""
    return TensorGuards(
        *tensors,
        dynamic_dims_sizes=[_dims(tensor.shape, real) for tensor in tensors],  # type: ignore[misc]
        dynamic_dims_strides=[_strides(tensor, real) for tensor in tensors],  # type: ignore[misc]
    )


def _address(tensor: Tensor) -> int | None:
    """Where a tensor's entries are, which ``Module.to()`` and ``tensor.data = ...`` change and no version tells.

    A fake tensor, or one of a transform, has no memory.
    """
    if isinstance(tensor, FakeTensor):
        return None
    try:
        return tensor.data_ptr()
    except RuntimeError:
        return None


def _dims(dims: Sequence[int], real: bool) -> list[Any]:
    """Dimensions to watch. Those of a trace are symbols, and comparing them would pin them down."""
    return [*dims] if real else [None] * len(dims)


def _strides(tensor: Tensor, real: bool) -> list[Any]:
    return _dims(tensor.stride(), real) if tensor.layout == torch.strided else [None] * tensor.dim()
