"""The optimizer: does it train the raw tensors, all of them and nothing else, and does it decay what it should?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.nn import Module
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from ...parametrize.switching import originals_of
from ..param_groups import decays_of, decays_something
from .finding import Finding
from .patient import Patient


def weight_decay(patient: Patient) -> Iterator[Finding]:
    """PF101, for each raw tensor of a group with weight decay whose chain does not say that it means something."""
    if patient.optimizer is None:
        return
    decay = {tensor: group.get("weight_decay", 0) for group, _, tensor in _trained(patient.optimizer)}
    meant = {id(parameter): meant for parameter, meant in decays_something(patient.model).items()}
    for named in patient.chains:
        for name, tensor in _own(named.chain):
            if not (tensor.requires_grad and decay.get(tensor, 0) != 0 and not meant.get(id(tensor), True)):
                continue
            denied = _denies(named.chain, tensor)
            yield Finding(
                "PF101",
                "warning" if denied else "note",
                named.name,
                f"weight_decay is {float(decay[tensor]):g} for {name}, of which the chain "
                f"{'says that shrinking it does not shrink the value' if denied else 'does not say what it means'}.",
                f"Make the optimizer of groups: torch.optim.{type(patient.optimizer).__name__}"
                f"(paraform.param_groups(model, weight_decay={float(decay[tensor]):g}), ...).",
            )


def unknown(patient: Patient) -> Iterator[Finding]:
    """PF102, for what a chain trains and the optimizer does not."""
    if patient.optimizer is None:
        return
    trained = {tensor for _, _, tensor in _trained(patient.optimizer)}
    for named in patient.chains:
        missing = {name: tensor for name, tensor in _own(named.chain) if tensor.requires_grad and tensor not in trained}
        if missing:
            yield Finding(
                "PF102",
                "warning",
                named.name,
                f"The optimizer does not train {', '.join(missing)} of its chain.",
                "Hand the optimizer over when you register, register_parametrization(..., optimizer=optimizer); or "
                'now optimizer.add_param_group({"params": [...]}) with them; or requires_grad_(False), if they are '
                "to stay as they are.",
            )


def strangers(patient: Patient) -> Iterator[Finding]:
    """PF103, for what the optimizer trains and the model does not have."""
    if patient.optimizer is None:
        return
    known = {*patient.model.parameters(), *patient.model.buffers()}
    trained = list(_trained(patient.optimizer))
    found = {tensor for _, _, tensor in trained}
    orphaned = [n for n in patient.chains if not any(tensor in found for _, tensor in _own(n.chain))]
    for _, place, tensor in trained:
        if tensor in known:
            continue
        # Somebody else's, as where one optimizer trains two models; unless it looks like what was here before.
        former = None if is_lazy(tensor) else next((n for n in orphaned if tensor.shape == _shape(n.chain)), None)
        yield Finding(
            "PF103",
            "note" if former is None else "warning",
            "" if former is None else former.name,
            f"{place} is no parameter of the model"
            + ("." if former is None else ", but it has the shape of this tensor, whose raw tensors do not train."),
            "If it is not another model's, make the optimizer anew, after everything is registered: "
            f"torch.optim.{type(patient.optimizer).__name__}(model.parameters(), ...).",
        )


def _own(chain: Module) -> Iterator[tuple[str, Tensor]]:
    """What the chain trains: raw tensors, and what parametrizations have of their own, by their names in it."""
    yield from chain.named_parameters()


def _denies(chain: Any, tensor: Tensor) -> bool:
    """Whether a step says of the raw tensor that shrinking it does not shrink the value."""
    for index, raw in enumerate(originals_of(chain)):
        if raw is tensor:
            return any(hasattr(step, "decays") and not decays_of(step, index) for step in chain)
    return False


def _shape(chain: Any) -> Any:
    """The shape of the value, where it is known without computing it."""
    return getattr(chain, "shape", None)


def _trained(optimizer: Optimizer) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
    """Each tensor of the optimizer, with its group and its place, or its name where there is one."""
    for number, group in enumerate(optimizer.param_groups):
        names = group.get("param_names")
        for index, tensor in enumerate(group["params"]):
            place = f"param_groups[{number}]['params'][{index}]"
            yield group, f"'{names[index]}' ({place})" if names else place, tensor
