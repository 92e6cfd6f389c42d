"""Equal parametrizations of equal shape, evaluated as one batch: one call where there would be one for each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn.modules.module import _has_any_global_hook

from .chain import ParametrizationList
from .record import guards_of, modules_of
from .twin import twin_of

# A tensor with more entries, 64 x 64, keeps a machine busy by itself: at 128 x 128 there is little left to gain (less
# than a factor of 2 on two cores), and a batch costs where only one of its values is read. Beyond 150 x 150 torch's LU
# factors of a batch are wrong under several threads besides (pytorch issue 142815).
_LARGE = 2**12


def alike(model: Module) -> dict[Module, list[ParametrizationList]]:
    """The chains of ``model``, each with those that may be like it (itself among them): a first, quick sorting."""
    kinds: dict[Hashable, list[ParametrizationList]] = {}
    groups: dict[Module, list[ParametrizationList]] = {}
    for module in modules_of(model):
        if isinstance(module, ParametrizationList):
            kind: Hashable = module
            small = module.shape is not None and module.shape.numel() <= _LARGE
            if small and all(hasattr(step, "stack_key") for step in module._modules.values()):
                kind = (module.shape, *map(type, module._modules.values()))
            groups[module] = kinds.setdefault(kind, [])
            groups[module].append(module)
    return groups


Members = dict[ParametrizationList, list[Tensor]]
"""Chains, and all tensors of each."""


def equal_to(chain: ParametrizationList, others: Iterable[ParametrizationList]) -> Members:
    """``chain``, and those of the ``others`` that one call can evaluate with it, as they are now."""
    modules = modules_of(chain)
    settings, tensors = _settings(chain, modules), _tensors_of(modules)
    equal = {chain: tensors}
    if (
        settings is None
        or not all(map(_can_be_stacked, tensors))
        or any(tensor.requires_grad for tensor in tensors[chain.ntensors :])  # which are no originals
        or _has_any_global_hook()  # type: ignore[no-untyped-call]
    ):
        return equal
    check = guards_of(tensors, real=True).check
    for other in others:
        if other is not chain and _settings(other, modules := modules_of(other)) == settings:
            tensors = _tensors_of(modules)
            if check(*tensors):
                equal[other] = tensors
    return equal


def _settings(chain: ParametrizationList, modules: list[Module]) -> list[object] | None:
    """All but the tensors that two chains share that can be evaluated together; None where a chain is for itself."""
    off, steps = chain._off, chain._modules
    if (
        type(chain) is not ParametrizationList
        or chain.unsafe
        or len(off) == len(steps)  # the value is the original itself
    ):
        return None
    settings: list[object] = [chain.is_tensor, chain.ntensors, off, *steps]
    for step in steps.values():
        stack_key: Callable[[], object] | None = getattr(step, "stack_key", None)
        key = None if stack_key is None else stack_key()
        if key is None:
            return None
        settings.append(key)
    for module in modules:
        if (
            module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
            or (module is not chain and module._parameters)
        ):
            return None
        settings.append((module.training, *[name for name, x in module._buffers.items() if x is not None]))
    return settings


def _can_be_stacked(tensor: Tensor) -> bool:
    return (
        type(tensor) in (Tensor, Parameter)
        and tensor.layout == torch.strided
        and not tensor.is_nested
        and not tensor.is_inference()
        and tensor.numel() <= _LARGE
    )


def evaluate(members: Members) -> tuple[Tensor, ...]:
    """The values of chains that are :func:`equal_to` one another. Each has its own memory and its own gradient."""
    raws = [raw for chain in members for raw in chain.originals()]
    with torch.no_grad():
        batch = _stacked(members)
    if torch.is_grad_enabled() and any(raw.requires_grad for raw in raws):
        values: tuple[Tensor, ...] = _Evaluation.apply(batch, *raws)  # type: ignore[no-untyped-call]
        return values
    return _apart(batch())


def _stacked(members: Members) -> ParametrizationList:
    """One of the chains once more, with stacks of the tensors of all in place of its own."""
    stacks = {id(together[0]): torch.stack(together) for together in zip(*members.values(), strict=True)}
    batch = twin_of(next(iter(members)), lambda tensor: stacks[id(tensor)])
    for module in modules_of(batch):
        hold_stack: Callable[[], None] | None = getattr(module, "hold_stack", None)
        if hold_stack is not None:
            hold_stack()
    return batch


def _tensors_of(modules: list[Module]) -> list[Tensor]:
    """All tensors of a chain with these modules, the originals first."""
    tensors: list[Tensor | None] = []
    for module in modules:
        tensors += module._parameters.values()
        tensors += module._buffers.values()
    return [tensor for tensor in tensors if tensor is not None]


def _apart(stack: Tensor) -> tuple[Tensor, ...]:
    """The tensors of a stack. Not as views of it, in which a write to one is a write to all."""
    values: tuple[Tensor, ...] = torch.unbind_copy(stack)  # type: ignore[func-returns-value, assignment]
    return values


class _Evaluation(torch.autograd.Function):
    """The values of a batch, each of which can be differentiated as if it had been computed alone.

    The raw tensors of a value that nobody used get no gradient, and not one of zeros: an optimizer tells the two apart.
    And no backward pass takes the graph away from one that comes later, by way of another value.
    """

    @staticmethod
    def forward(ctx: Any, batch: ParametrizationList, *raws: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.batch, ctx.raws, ctx.autocast = batch, raws, _autocast(raws[0].device.type)
        for stack, raw in zip(batch.originals(), raws[: batch.ntensors], strict=True):
            stack.requires_grad_(raw.requires_grad)
        with torch.enable_grad():
            ctx.value = batch()
        values = _apart(ctx.value.detach())
        if not ctx.value.requires_grad:
            ctx.mark_non_differentiable(*values)
        return values

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        used = [index for index, grad in enumerate(grads) if grad is not None]
        gradient = torch.stack([grad for grad in grads if grad is not None])
        points, value = ctx.batch.originals(), ctx.value
        keep = torch._C._autograd._get_current_graph_task_keep_graph()
        if not keep:
            ctx.value = None
        if value is None or torch.is_grad_enabled() or len(used) < len(grads):
            points, value = _again(ctx, used)
        wanted = [point for point in points if point.requires_grad]
        found = iter(
            torch.autograd.grad(value, wanted, gradient, keep, create_graph=torch.is_grad_enabled(), allow_unused=True)
        )
        result: list[Tensor | None] = [None] * len(ctx.raws)
        for place, point in enumerate(points):
            each = next(found) if point.requires_grad else None
            if each is not None:
                for index, grad in zip(used, each.unbind(), strict=True):
                    # Not unbind_copy, for which a batch of gradients has no rule.
                    result[index * len(points) + place] = grad.clone()
        return None, *result


def _autocast(device_type: str) -> AbstractContextManager[Any]:
    """A context with the autocast of now."""
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    dtype, enabled = torch.get_autocast_dtype(device_type), torch.is_autocast_enabled(device_type)
    return torch.autocast(device_type, dtype, enabled)


def _again(ctx: Any, used: list[int]) -> tuple[tuple[Tensor, ...], Tensor]:
    """Raw tensors and values of some of a batch once more: for their gradients alone, or for higher derivatives."""
    parts: dict[Tensor, Tensor] = {}
    for place, stack in enumerate(ctx.batch.originals()):
        part = parts[stack] = stack.detach()[used]
        if stack.requires_grad and torch.is_grad_enabled():
            raws = torch.stack([ctx.raws[index * ctx.batch.ntensors + place] for index in used])
            parts[stack] = part + (raws - raws.detach())  # the numbers of then, the derivative of the raw tensors
        else:
            part.requires_grad_(stack.requires_grad)
    some = twin_of(ctx.batch, lambda tensor: parts[tensor] if tensor in parts else tensor[used])
    with torch.enable_grad(), ctx.autocast:
        return some.originals(), some()
