"""Saved optimizers whose parameters are in another order, or have other names, than those at hand."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

# What a single raw tensor is called, which without its parametrization would be called by the middle part alone.
_SINGLE_ORIGINAL = re.compile(r"(^|\.)parametrizations\.([^.]+)\.original$")


def match_by_name(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """The saved state of an optimizer, put in the order of the parameters of ``optimizer``.

    ``load_state_dict`` goes by position alone, and registering a parametrization changes the order of
    ``model.parameters()``: moments would be loaded for the wrong tensors. Here each goes to the tensor of its name,
    where a single raw tensor and the plain tensor (``parametrizations.weight.original`` and ``weight``) are one. Both
    optimizers need names, as they have when they are built from ``model.named_parameters()`` or from
    :func:`paraform.param_groups`. Hyperparameters are those of the saved group at the same position.

    Load with it, or let the optimizer use it whenever it loads:
    ``optimizer.register_load_state_dict_pre_hook(match_by_name)``.

    Args:
        optimizer: the one that is to load.
        state_dict: what ``state_dict()`` of the other one gave. It is not changed.

    Raises:
        ValueError: one of the two has no names, or a name twice; a name is only on one side; the numbers of groups
            differ; or what was saved for a tensor does not fit its shape.

    >>> from torch import nn, optim
    >>> from paraform import Skew, register_parametrization
    >>> layer = nn.Linear(3, 3)
    >>> before = optim.SGD(layer.named_parameters(), lr=0.1)
    >>> register_parametrization(layer, "weight", Skew())
    ParametrizedLinear(...)
    >>> after = optim.SGD(layer.named_parameters(), lr=0.1)  # the bias comes first here
    >>> after.load_state_dict(match_by_name(after, before.state_dict()))
    >>> after.param_groups[0]["param_names"]
    ['bias', 'parametrizations.weight.original']
    """
    groups, saved_groups = optimizer.param_groups, state_dict["param_groups"]
    if len(groups) != len(saved_groups):
        raise ValueError(
            f"Expected a saved optimizer with {len(groups)} parameter groups, as the one that loads has, got "
            f"{len(saved_groups)}. Build the groups as they were when it was saved."
        )
    saved, wanted = _by_name(saved_groups, "The saved optimizer"), _by_name(groups, "The optimizer that loads")
    if saved.keys() != wanted.keys():
        raise ValueError(
            f"Expected both optimizers to have the same parameters by name; only the saved one has "
            f"{_listed(saved.keys() - wanted.keys())}, only the one that loads has "
            f"{_listed(wanted.keys() - saved.keys())}. Load first and register then, with optimizer=, where a tensor "
            "has become several."
        )
    number = {name: index for index, name in enumerate(wanted)}
    renumbered = {each: number[name] for name, each in saved.items()}
    for name, parameter in wanted.items():
        _check_fits(name, parameter, state_dict["state"].get(saved[name], {}))
    return {
        **state_dict,
        "state": {renumbered.get(key, key): value for key, value in state_dict["state"].items()},
        "param_groups": [
            {
                **saved_group,
                "params": [number[_plain(name)] for name in group["param_names"]],
                "param_names": list(group["param_names"]),
            }
            for group, saved_group in zip(groups, saved_groups, strict=True)
        ],
    }


def _by_name(groups: list[dict[str, Any]], who: str) -> dict[str, Any]:
    """Each parameter, or what stands for it in a saved optimizer, by the name that it has without parametrization."""
    found: dict[str, Any] = {}
    for group in groups:
        names = group.get("param_names")
        if names is None:
            raise ValueError(
                f"{who} has no names for its parameters, so nobody can say which is which. Build it from "
                "model.named_parameters() or param_groups(model, ...)."
            )
        for name, parameter in zip(names, group["params"], strict=True):
            if found.setdefault(_plain(name), parameter) is not parameter:
                raise ValueError(f"{who} has two parameters named '{_plain(name)}'. Give each a name of its own.")
    return found


def _plain(name: str) -> str:
    return _SINGLE_ORIGINAL.sub(r"\1\2", name)


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def _check_fits(name: str, parameter: Tensor, state: dict[str, Any]) -> None:
    for key, value in state.items():
        # Of fewer dimensions are counters; sums over a dimension (Adafactor's) have size 1 there. Of more dimensions
        # are the moments of a matrix whose raw tensor is a vector.
        if isinstance(value, Tensor) and value.ndim >= parameter.ndim:
            shape = (1,) * (value.ndim - parameter.ndim) + parameter.shape
            if not all(size in (1, wanted) for size, wanted in zip(value.shape, shape, strict=True)):
                raise ValueError(
                    f"Expected '{key}' of '{name}' to fit shape {tuple(parameter.shape)}, got one of shape "
                    f"{tuple(value.shape)}. Was the optimizer saved for another model?"
                )
