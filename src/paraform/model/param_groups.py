"""The parameters of a model in two groups: those that weight decay means something for, and the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.nn import Module, Parameter

from ..parametrize import is_parametrized


def param_groups(model: Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters of ``model`` for an optimizer, with weight decay where it means something.

    Weight decay draws a tensor to zero, and so the model to a simpler one. The raw tensor of a parametrization it draws
    to wherever zero is mapped: for an orthogonal matrix to the base, for a length and a direction it does nothing to
    the direction but make its steps larger. Those are left out.

    A parametrization says by an attribute ``decays`` whether shrinking its raw tensor shrinks its value: True, False,
    or one of them for each of several raw tensors. A raw tensor is decayed if all parametrizations of its chain say
    so (and, where it is shared, all chains). What does not say is not decayed, nor is what a parametrization trains of
    its own. All parameters without parametrization are decayed, biases too.

    The order is one that registering a parametrization does not change: module by module, and in each by the name of
    the tensor. Each parameter has its name of ``model.named_parameters()``; see
    :func:`~paraform.parametrize.match_by_name`.

    Args:
        model: any module.
        weight_decay: for the first group. The optimizer's own setting does not matter.

    Returns:
        Two groups, decayed and not decayed, of all ``model.parameters()``; the second, or the first, may be empty.

    Raises:
        TypeError: ``model`` is no module.

    >>> import torch
    >>> from torch import nn
    >>> from paraform import Orthogonal, register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Orthogonal())
    >>> optimizer = torch.optim.AdamW(param_groups(layer, weight_decay=0.01))
    >>> [(group["param_names"], group["weight_decay"]) for group in optimizer.param_groups]
    [(['bias'], 0.01), (['parametrizations.weight.original'], 0.0)]
    """
    if not isinstance(model, Module):
        raise TypeError(f"Expected an nn.Module to group the parameters of, got {type(model).__name__}.")
    names = {parameter: name for name, parameter in model.named_parameters()}
    decays = decays_something(model)
    return [
        {
            "params": (chosen := [parameter for parameter in decays if decays[parameter] is decayed]),
            "param_names": [names[parameter] for parameter in chosen],
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for decayed in (True, False)
    ]


def decays_something(model: Module) -> dict[Parameter, bool]:
    """Whether weight decay means something for each parameter of ``model``, in the order of :func:`param_groups`."""
    decays: dict[Parameter, bool] = {}
    for parameter, means_something in _parameters(model):
        decays[parameter] = decays.get(parameter, True) and means_something
    return decays


def _parameters(module: Module) -> Iterator[tuple[Parameter, bool]]:
    """Each parameter, once for each place that has it, and whether its decay means something there."""
    chains = _chains(module)
    plain = dict(module.named_parameters(recurse=False))
    for name in sorted({*plain, *chains}):
        if name in plain:
            yield plain[name], True
        else:
            yield from _behind(chains[name])
    for child in module.children():
        if not chains or child is not module._modules["parametrizations"]:
            yield from _parameters(child)


def _chains(module: Module) -> dict[str, Module]:
    """The chains on the tensors of ``module`` itself. (A wrapper, a compiled module say, may pass on another's.)"""
    own = dict(module.named_children()).get("parametrizations")
    return dict(own.named_children()) if own is not None and is_parametrized(module) else {}


def _behind(chain: Module) -> Iterator[tuple[Parameter, bool]]:
    originals = list(chain.parameters(recurse=False))
    for index, raw in enumerate(originals):
        yield raw, all(decays_of(step, index) for step in chain.children())
    for step in chain.children():
        yield from ((parameter, False) for parameter in step.parameters())


def decays_of(step: Module, index: int) -> bool:
    """Whether ``step`` says that shrinking its raw tensor at ``index`` shrinks its value."""
    declared: bool | tuple[bool, ...] = getattr(step, "decays", False)
    return declared[index] if isinstance(declared, tuple) else declared
