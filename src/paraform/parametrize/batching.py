"""Equal parametrizations of equal shape, evaluated as one batch: one call where there would be one for each."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn.modules.module import _has_any_global_hook

from .chain import ParametrizationList
from .twin import twin_of

# More entries than this keep a machine busy by themselves, and evaluating what nobody reads would cost.
_LARGE = 2**14


def alike(model: Module) -> dict[Module, list[ParametrizationList]]:
    """The chains of ``model``, each with those that may be like it (itself among them): a first, quick sorting."""
    kinds: dict[Hashable, list[ParametrizationList]] = {}
    groups: dict[Module, list[ParametrizationList]] = {}
    for module in model.modules():
        if isinstance(module, ParametrizationList):
            kind: Hashable = module
            if all(hasattr(step, "stack_key") for step in module._modules.values()):
                kind = (module.shape, *map(type, module._modules.values()))
            groups[module] = kinds.setdefault(kind, [])
            groups[module].append(module)
    return groups


def equal_to(chain: ParametrizationList, others: Iterable[ParametrizationList]) -> list[ParametrizationList]:
    """``chain``, and those of the ``others`` that one call can evaluate with it."""
    key = _key(chain)
    return [chain, *(other for other in others if other is not chain and key is not None and _key(other) == key)]


def _key(chain: ParametrizationList) -> Hashable | None:
    """What two chains share that can be evaluated together, as they are now; None where a chain is for itself."""
    if (
        type(chain) is not ParametrizationList
        or chain.unsafe
        or len(chain._off) == len(chain._modules)  # the value is the original itself
        or _has_any_global_hook()
    ):
        return None
    steps = chain._modules.values()
    keys = [step.stack_key() if hasattr(step, "stack_key") else None for step in steps]
    tensors = [_tensors_key(module, module is chain) for module in chain.modules()]
    if None in keys or None in tensors:
        return None
    return (chain.is_tensor, chain.ntensors, *chain._modules, chain._off, *keys, *tensors)


def _tensors_key(module: Module, is_chain: bool) -> Hashable | None:
    """What is to be the same about the tensors of a module, which has no hooks."""
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        return None
    key: list[tuple[Any, ...]] = [(module.training,)]
    for holder in (module._parameters, module._buffers):
        for name, tensor in holder.items():
            if tensor is None:
                key.append((name,))
                continue
            if (
                type(tensor) not in (Tensor, Parameter)
                or tensor.layout != torch.strided
                or tensor.is_nested
                or tensor.is_inference()
                or tensor.numel() > _LARGE
                or (tensor.requires_grad and not is_chain)
            ):
                return None
            key.append((name, type(tensor), tensor.shape, tensor.dtype, tensor.device, tensor.requires_grad))
    return tuple(key)


def evaluate(chains: Sequence[ParametrizationList]) -> tuple[Tensor, ...]:
    """The values of chains that are :func:`equal_to` one another. Each has its own memory and its own gradient."""
    raws = [raw for chain in chains for raw in chain.originals()]
    with torch.no_grad():
        batch = _stacked(chains)
    if torch.is_grad_enabled() and any(raw.requires_grad for raw in raws):
        values: tuple[Tensor, ...] = _Evaluation.apply(batch, *raws)  # type: ignore[no-untyped-call]
        return values
    return _apart(batch())


def _stacked(chains: Sequence[ParametrizationList]) -> ParametrizationList:
    """One of the chains once more, with stacks of the tensors of all in place of its own."""
    slots = [[tensor for module in chain.modules() for tensor in _tensors_of(module)] for chain in chains]
    stacks = {id(tensors[0]): torch.stack(tensors) for tensors in zip(*slots, strict=True)}
    batch = twin_of(chains[0], lambda tensor: stacks[id(tensor)])
    for module in batch.modules():
        if hasattr(module, "hold_stack"):
            module.hold_stack()
    return batch


def _tensors_of(module: Module) -> list[Tensor]:
    return [tensor for tensor in (*module._parameters.values(), *module._buffers.values()) if tensor is not None]


def _apart(stack: Tensor) -> tuple[Tensor, ...]:
    """The tensors of a stack. Not as views of it, in which a write to one is a write to all."""
    return torch.unbind_copy(stack)  # type: ignore[no-any-return]


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
            torch.autograd.grad(
                value, wanted, gradient, keep, create_graph=torch.is_grad_enabled(), allow_unused=True
            )
        )
        result: list[Tensor | None] = [None] * len(ctx.raws)
        for place, point in enumerate(points):
            each = next(found) if point.requires_grad else None
            if each is not None:
                for index, grad in zip(used, _apart(each), strict=True):
                    result[index * len(points) + place] = grad
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
