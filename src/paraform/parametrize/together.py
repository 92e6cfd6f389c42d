"""Several changes to a model together: all of them, or none."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import Module
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from .alive import all_alive
from .lazy import pending_of
from .owners import counted
from .state_dict import chains_in
from .surgery import become
from .tensors import overlaps_itself


@contextmanager
def unchanged_on_failure(model: Module, optimizer: Optimizer | None = None) -> Iterator[None]:
    """If the body raises, ``model`` and its optimizers are what they were before it.

    That is: the class, the attributes and the hooks of each module, every tensor (the object, its entries to the bit,
    its memory, ``requires_grad``, ``grad``), the order of ``parameters()``, and the groups and the state of every
    optimizer that knows one of the parameters. So it is for modules outside of the model that share a tensor with it.
    An exception of any kind counts, ``KeyboardInterrupt`` too; it goes on.

    Meant for what registers, removes, edits and assigns. The entries of gradients and of an optimizer's moments are not
    copied: do not train in it. It takes as much memory as the model's parameters and buffers.

    Args:
        model: the module whose changes belong together.
        optimizer: one that trains it. (Others that do are found, too.)

    >>> from torch import nn
    >>> from paraform import Skew, register_parametrization
    >>> model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 4))
    >>> with unchanged_on_failure(model):
    ...     for layer in model:
    ...         register_parametrization(layer, "weight", Skew())
    Traceback (most recent call last):
    ValueError: Skew() expects square matrices, shape (*, n, n), got shape (4, 3); pick another tensor...
    >>> model
    Sequential(
      (0): Linear(in_features=3, out_features=3, bias=True)
      (1): Linear(in_features=3, out_features=4, bias=True)
    )
    """
    with unchanged_modules(model.modules(), optimizer):
        yield


@contextmanager
def unchanged_modules(modules: Iterable[Module], optimizer: Optimizer | None = None) -> Iterator[None]:
    """:func:`unchanged_on_failure`, of these modules with their chains, and not of other modules below."""
    inside = list(dict.fromkeys(part for module in modules for part in _with_chains(module)))
    tensors = list({id(tensor): tensor for module in inside for tensor in _tensors_of(module)}.values())
    ids = {id(tensor) for tensor in tensors}
    alive = all_alive(Module, Optimizer)
    optimizers = [thing for thing in alive if isinstance(thing, Optimizer) and _knows(thing, ids)]
    if isinstance(optimizer, Optimizer) and all(optimizer is not other for other in optimizers):
        optimizers.append(optimizer)
    alive_modules = [thing for thing in alive if isinstance(thing, Module)]
    others = _sharing(alive_modules, inside, ids)
    before: list[Any] = [
        *map(_ModuleBefore, [*inside, *others]),
        *map(_TensorBefore, tensors),
        *map(_OptimizerBefore, optimizers),
    ]
    with counted(tensors, alive_modules):
        del alive, alive_modules
        try:
            yield
        except BaseException:
            _restore(before)
            raise


def _restore(before: list[Any]) -> None:
    """Restore each of them. An interruption waits: half a model is neither what it was nor what it was to be."""
    interruption: KeyboardInterrupt | None = None
    done = False
    while not done:
        try:
            for each in before:
                each.restore()  # once more is as good as once
            done = True
        except KeyboardInterrupt as error:
            interruption = error
    if interruption is not None:
        raise interruption


def _with_chains(module: Module) -> Iterator[Module]:
    yield module
    if chains_in(module) or pending_of(module) is not None:
        parametrizations = module._modules["parametrizations"]
        assert parametrizations is not None
        yield from parametrizations.modules()


def _tensors_of(module: Module) -> list[Tensor]:
    held = (*module._parameters.values(), *module._buffers.values())
    return [tensor for tensor in held if tensor is not None and not is_lazy(tensor)]  # which has nothing to remember


def _knows(optimizer: Optimizer, ids: set[int]) -> bool:
    groups = getattr(optimizer, "param_groups", ())
    return any(id(parameter) in ids for group in groups for parameter in group["params"])


def _sharing(alive: list[Module], inside: list[Module], ids: set[int]) -> list[Module]:
    """The modules that are not ``inside`` and have a tensor, or a chain, of those that are."""
    known, others = set(inside), []
    for module in alive:
        state = vars(module)
        if module in known or "_buffers" not in state or isinstance(module, torch.jit.ScriptModule):
            continue  # inside, not built yet, or with its tensors elsewhere
        if any(id(tensor) in ids for holder in ("_parameters", "_buffers") for tensor in [*state[holder].values()]):
            others.append(module)
        elif "parametrizations" in state["_modules"] and not known.isdisjoint(chains_in(module).values()):
            others += [module, state["_modules"]["parametrizations"]]
    return others


class _ContainerBefore:
    """What is in a dictionary, a list or a set."""

    def __init__(self, container: Any) -> None:
        self.container = container
        self.content = self._content()

    def _content(self) -> list[Any]:
        is_mapping = isinstance(self.container, dict)
        return [part for pair in list(self.container.items()) for part in pair] if is_mapping else list(self.container)

    def restore(self) -> None:
        now, before = self._content(), self.content
        if len(now) == len(before) and all(one is other for one, other in zip(now, before, strict=True)):
            return  # also in the order
        self.container.clear()
        if isinstance(self.container, dict):
            self.container.update(zip(before[::2], before[1::2], strict=True))
        elif isinstance(self.container, list):
            self.container.extend(before)
        else:
            self.container.update(before)


class _ModuleBefore:
    """The class and the attributes of a module."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.cls = type(module)
        # Of TorchScript's modules they are not Python's, and nothing here changes them.
        self.attributes = [] if isinstance(module, torch.jit.ScriptModule) else list(vars(module).items())
        kinds = (dict, OrderedDict, list, set)
        self.containers = [_ContainerBefore(value) for _, value in self.attributes if type(value) in kinds]

    def restore(self) -> None:
        if not self.attributes:
            return
        if type(self.module) is not self.cls:
            become(self.module, self.cls)
        state, before = vars(self.module), dict(self.attributes)
        for name in state.keys() - before.keys():
            del state[name]
        state.update(before)
        for container in self.containers:
            container.restore()


class _TensorBefore:
    """The entries of a tensor, where they lie, and its gradient."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.version = None if tensor.is_inference() else tensor._version
        self.place = _place(tensor)
        self.storage = None if self.place is None else tensor.untyped_storage()  # kept, so that it is not given away
        self.requires_grad, self.grad = tensor.requires_grad, tensor.grad if tensor.is_leaf else None
        with torch.inference_mode(tensor.is_inference()), torch.no_grad():
            self.entries = tensor.detach().clone()

    def restore(self) -> None:
        tensor = self.tensor
        with torch.inference_mode(tensor.is_inference()), torch.no_grad():
            if _place(tensor) != self.place:
                tensor.data = self._in_its_place()
            if not self._is_as_before():
                tensor.copy_(self.entries)
        if tensor.is_leaf:
            if tensor.requires_grad != self.requires_grad:
                tensor.requires_grad_(self.requires_grad)
            if tensor.grad is not self.grad:
                tensor.grad = self.grad

    def _in_its_place(self) -> Tensor:
        if self.place is None or self.storage is None:
            return self.entries
        _, device, dtype, *geometry = self.place
        return torch.empty(0, device=device, dtype=dtype).set_(self.storage, *geometry)

    def _is_as_before(self) -> bool:
        """Whether it need not be written to, which a graph that has saved it would take for a change."""
        if overlaps_itself(self.tensor):
            return True  # nobody can have written to it
        is_counted = self.version is not None and self.tensor._version == self.version
        return is_counted and (self.place is None or self.tensor.is_meta or torch.equal(self.tensor, self.entries))


class _OptimizerBefore:
    """The groups of an optimizer and what it remembers; not the entries of its moments."""

    def __init__(self, optimizer: Optimizer) -> None:
        groups, state = optimizer.param_groups, optimizer.state
        lists = [value for group in groups for value in group.values() if isinstance(value, list)]
        self.containers = [_ContainerBefore(each) for each in (groups, *groups, *lists, state, *state.values())]

    def restore(self) -> None:
        for container in self.containers:
            container.restore()


def _place(tensor: Tensor) -> tuple[Any, ...] | None:
    """Where and how the entries of a tensor lie in memory; None where that is not for one tensor to say."""
    if (
        tensor.layout != torch.strided
        or tensor.is_nested
        or isinstance(tensor, FakeTensor)
        or is_traceable_wrapper_subclass(tensor)
        or not torch._C._has_storage(tensor)
    ):
        return None
    memory = tensor.untyped_storage()._cdata
    return memory, tensor.device, tensor.dtype, tensor.storage_offset(), tensor.shape, tensor.stride()
