"""What a value was computed from, and whether all of it is still so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._dynamo.guards import TensorGuards
from torch.nn import Module
from torch.optim.optimizer import register_optimizer_step_post_hook

from .chain import ParametrizationList


# Another object after each step of any optimizer: a fused step changes a parameter without counting a version.
# For all threads, for a model may be read in one and trained in another.
_steps = object()


def _count_step(*_: object) -> None:
    global _steps  # noqa: PLW0603
    _steps = object()


register_optimizer_step_post_hook(_count_step)


class Record:
    """A value and everything that it was computed from. Whoever keeps it asks :meth:`holds` before each use.

    Args:
        chain: what computed the value.
        value: the value.
        begun: what :func:`begin` said before the value was computed.
        real: there is no trace or transform whose tensors these could be.

    Raises:
        Untraceable: a later change could not be noticed, or there was one meanwhile (of another thread).
    """

    __slots__ = (
        "_check",
        "_empty",
        "_held",
        "_keys",
        "_memory",
        "_steps",
        "_tensors",
        "_unique",
        "_version",
        "grad",
        "value",
    )

    def __init__(self, chain: ParametrizationList, value: Tensor, begun: Begun, real: bool) -> None:
        if not isinstance(value, Tensor):
            raise Untraceable("only tensors count what is written to them")
        modules = list(chain.modules())
        tensors = tensors_of(modules)
        if any(tensor.is_inference() for tensor in tensors):
            raise Untraceable("inference tensors do not count their versions")
        if begin(chain) != begun:
            raise Untraceable("an original was written to while the value was computed")
        self.value = value
        self._steps = begun[0]
        self.grad = torch.is_grad_enabled()
        self._version = None if value.is_inference() else value._version
        self._tensors = tuple((tensor, tensor._version, _address(tensor)) for tensor in tensors)
        # Memory that is kept is not given to another tensor, so that the same address means the same memory.
        self._memory = [tensor.untyped_storage() for tensor, _, address in self._tensors if address is not None]
        # Everything else about a tensor, and the state of this thread that decides how operators treat it.
        self._unique = tensors
        self._check = TensorGuards(
            *tensors,
            dynamic_dims_sizes=[_dims(tensor.shape, real) for tensor in tensors],  # type: ignore[misc]
            dynamic_dims_strides=[  # type: ignore[misc]
                _dims(tensor.stride(), real) if tensor.layout == torch.strided else [None] * tensor.dim()
                for tensor in tensors
            ],
        ).check
        self._held = tuple(slot for module in modules for slot in _slots(module))
        self._keys = tuple((module._modules, [*module._modules]) for module in modules if module._modules)
        self._empty = tuple(module._modules for module in modules if not module._modules)

    def holds(self) -> bool:
        """Whether the value would be the same if it were computed now, under the modes of then.

        This is what a cached read costs: loops and no calls of ours, the cheapest question first.
        """
        if self._steps is not _steps:
            return False
        for holder, name, held in self._held:
            if holder.get(name) is not held:
                return False
        for children, names in self._keys:
            if [*children] != names:
                return False
        for children in self._empty:
            if children:
                return False
        for tensor, version, address in self._tensors:
            if tensor._version != version or (address is not None and tensor.data_ptr() != address):
                return False
        value = self.value
        return (self._version is None or value._version == self._version) and self._check(*self._unique)


Begun = tuple[object, list[int]]


def begin(chain: ParametrizationList) -> Begun:
    """What must not change while a value is computed. (A parametrization may write to its own tensors, though.)"""
    raws = (*chain._parameters.values(), *chain._buffers.values())
    return _steps, [0 if raw is None or raw.is_inference() else raw._version for raw in raws]


class Untraceable(Exception):
    """A value that depends on something whose changes leave no trace."""


def tensors_of(modules: Sequence[Module]) -> list[Tensor]:
    """The parameters and buffers of these modules, each once."""
    unique = {
        id(tensor): tensor
        for module in modules
        for holder in (module._parameters, module._buffers)
        for tensor in holder.values()
        if tensor is not None
    }
    return list(unique.values())


def _slots(module: Module) -> list[tuple[dict[str, Any], str, Any]]:
    """Each child, tensor, mode and switch of a module: the dictionary that holds it, its name there, and itself."""
    state = vars(module)
    switch = "_off" if isinstance(module, ParametrizationList) else "training"  # a chain's own mode changes nothing
    holders: tuple[dict[str, Any], ...] = (module._modules, module._parameters, module._buffers)
    return [
        (state, switch, state.get(switch)),
        *((holder, name, held) for holder in holders for name, held in holder.items()),
    ]


def _address(tensor: Tensor) -> int | None:
    """Where a tensor's entries are. ``Module.to()`` and ``tensor.data = ...`` change it, and neither object nor version.

    A fake tensor, or one of a transform, has no memory.
    """
    try:
        return tensor.data_ptr()
    except RuntimeError:
        return None


def _dims(dims: Sequence[int], real: bool) -> list[int | None]:
    """Dimensions to watch. Those of a trace are symbols, and comparing them would pin them down."""
    return [*dims] if real else [None] * len(dims)
