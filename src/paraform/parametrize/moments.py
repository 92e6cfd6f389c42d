"""What optimizers remember of a parameter: moments, which have its shape."""

from __future__ import annotations

import gc
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import SGD, Adagrad, Optimizer

from .alive import all_alive


def forget(parameter: Parameter) -> None:
    """Let every optimizer that remembers ``parameter`` start anew with it: it has another shape than before.

    Most would raise in their next step. A fused step asks for no shape: it would take the moments of other entries for
    those of this one, and read and write beyond the end of their memory.
    """
    if torch.compiler.is_compiling() or not _is_a_key(parameter):
        return
    for optimizer in all_alive(Optimizer):
        if optimizer.state.pop(parameter, None) is not None:
            for group in optimizer.param_groups:
                if any(each is parameter for each in group["params"]):
                    start(optimizer, group, parameter)


def _is_a_key(parameter: Parameter) -> bool:
    """Whether a dictionary has ``parameter`` for a key, as the state of an optimizer has after a step.

    This search is shorter than that among all objects, and mostly there is nothing to find.
    """
    referrers = (thing for thing in gc.get_referrers(parameter) if isinstance(thing, dict))
    return any(key is parameter for referrer in referrers for key in list(referrer))


def start(optimizer: Optimizer, group: dict[str, Any], parameter: Parameter) -> None:
    """Give ``parameter`` the state of the first step, where the optimizer does not do so in that step."""
    if isinstance(optimizer, Adagrad):  # does it in the constructor
        fresh = Adagrad([parameter], initial_accumulator_value=group["initial_accumulator_value"], fused=group["fused"])
        optimizer.state[parameter] = fresh.state[parameter]
    others = (optimizer.state.get(other, {}) for other in group["params"])
    if isinstance(optimizer, SGD) and group["fused"] and any("momentum_buffer" in other for other in others):
        # A fused step makes the buffers of all tensors in a group or of none.
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
