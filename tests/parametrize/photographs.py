"""What a model and an optimizer are at a moment, to the bit, to be compared with what they are later."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def photograph(model: nn.Module) -> dict[Any, Any]:
    """Everything about a model that could change, in things that compare by their own numbers or identity."""
    picture: dict[Any, Any] = {"order": [name for name, _ in model.named_parameters()]}
    for path, module in model.named_modules():
        picture[path] = type(module)
        for name, value in vars(module).items():
            # A dictionary with its order, and what is in it by identity.
            items = [(key, id(each)) for key, each in value.items()] if isinstance(value, dict) else repr(value)
            picture[path, name] = items
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        memory = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), bits(tensor))
        picture[name] = (id(tensor), *memory, tensor.requires_grad, id(tensor.grad))
    return picture


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().clone().contiguous().numpy().tobytes()


def photograph_of_optimizer(optimizer: torch.optim.Optimizer) -> Any:
    groups = [{**group, "params": list(map(id, group["params"]))} for group in optimizer.param_groups]
    states = [
        (id(parameter), id(state), {name: bits(tensor) for name, tensor in state.items()})
        for parameter, state in optimizer.state.items()
    ]
    return list(map(id, optimizer.param_groups)), groups, states
