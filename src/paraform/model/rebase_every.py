"""A moving base for training: after optimizer steps, bases go where the values are."""

from __future__ import annotations

from typing import Any

from torch.nn import Module
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from ..parametrize.rebase import raws_with_base, rebase_trained


def rebase_every(optimizer: Optimizer, model: Module, steps: int = 1) -> RemovableHandle:
    """After every ``steps`` steps of ``optimizer``, :func:`~paraform.rebase` the model, by a hook of the optimizer's.

    With ``steps=1`` the raw tensors are zero at every forward pass: the value is the base, for which nothing is
    computed, and the gradient costs one product. What remains is one evaluation of the map after each step, outside of
    autograd.

    What the optimizer remembers stays. For square matrices the raw tensor is in the coordinates of the base, and so
    are momentum and second moments: they turn with it (left translation). For others they are directions in the space
    around the set, of which the part that is tangent at the new base counts (vector transport by projection; P.-A.
    Absil, R. Mahony and R. Sepulchre, *Optimization Algorithms on Matrix Manifolds*, 2008, section 8.1.3). Weight decay
    draws a raw tensor to zero, where it already is: with ``steps=1`` it does nothing. The scheme is that of dynamic
    trivializations (M. Lezcano-Casado, *Trivializations for gradient-based optimization on manifolds*, NeurIPS 2019).

    Only bases whose raw tensors this optimizer trains are moved. An average of the model over time (``AveragedModel``,
    an EMA) needs its buffers, ``use_buffers=True``: the raw tensors are zero, and it is the bases that move.

    A state dict of the model has the bases, and one of the optimizer how many steps are left, as an entry of its first
    parameter group. The hook is in neither: call this again for an optimizer that is made anew. Parametrizations that
    are registered later are moved as well.

    Args:
        optimizer: any that has the raw tensors.
        model: the model that it trains.
        steps: how many optimizer steps lie between two moves.

    Returns:
        A handle with ``remove()``, which is also a context manager.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: ``steps`` is not positive, no parametrization of the model has a base whose raw tensor the optimizer
            trains, or it does so already, or the optimizer is ``differentiable``, so that its steps must not be
            written over.

    >>> import torch
    >>> from torch import nn
    >>> from paraform import Orthogonal, register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Orthogonal())
    >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    >>> handle = rebase_every(optimizer, layer)
    >>> layer(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    >>> torch.equal(layer.weight, layer.parametrizations.weight[0].base)
    True
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"Expected a torch.optim.Optimizer for rebase_every, got {type(optimizer).__name__}.")
    if not isinstance(model, Module):
        raise TypeError(f"Expected an nn.Module for rebase_every, got {type(model).__name__}.")
    if isinstance(steps, bool) or not isinstance(steps, int):
        raise TypeError(f"Expected a whole number of steps for rebase_every, got {steps!r}.")
    if steps < 1:
        raise ValueError(f"Expected at least 1 step between moves of the bases, got {steps}.")
    if any(group.get("differentiable") for group in optimizer.param_groups):
        raise ValueError(
            "rebase_every expects an optimizer whose steps may be written over, got one with differentiable=True, "
            "whose steps belong to a graph. Call paraform.rebase(model) between graphs instead."
        )
    order = {id(x): i for i, x in enumerate(x for group in optimizer.param_groups for x in group["params"])}
    raws = raws_with_base(model)
    first = min((order[id(raw)] for raw in raws if id(raw) in order), default=None)
    if first is None:
        found = f"has {len(raws)} raw tensors with a base, of which the optimizer trains none" if raws else "has none"
        raise ValueError(
            f"rebase_every expects a model with a base to move (Orthogonal has one) and the optimizer that trains its "
            f"raw tensor, but this {type(model).__name__} {found}. Register first, then make the optimizer."
        )

    hook = _Moves(model, steps, f"steps_since_rebase_{first}")
    if any(other.count == hook.count for other in moves_of(optimizer)):
        raise ValueError(
            f"This optimizer moves the bases of this {type(model).__name__} already; call remove() on the handle of "
            f"the earlier rebase_every first."
        )
    return optimizer.register_step_post_hook(hook)


def moves_of(optimizer: Optimizer) -> list[_Moves]:
    """What :func:`rebase_every` has put on ``optimizer``: each has its ``model`` and its number of ``steps``."""
    return [hook for hook in optimizer._optimizer_step_post_hooks.values() if isinstance(hook, _Moves)]


class _Moves:
    """The hook. ``count`` is an entry of a parameter group, as a scheduler's are: a state dict carries it."""

    def __init__(self, model: Module, steps: int, count: str) -> None:
        self.model = model
        self.steps = steps
        self.count = count

    def __call__(self, optimizer: Optimizer, *_: Any) -> None:
        group = optimizer.param_groups[0]
        group[self.count] = (group.get(self.count, 0) + 1) % self.steps
        if group[self.count] == 0:
            rebase_trained(self.model, {id(x) for each in optimizer.param_groups for x in each["params"]})
