"""A copy of a model to run forward passes of, so that the model itself sees nothing of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn import Module, RNNBase
from torch.utils._pytree import tree_leaves

from ..parametrize.state_dict import chains_in


def copied(model: Module, besides: set[int] = frozenset()) -> Any:  # type: ignore[assignment]
    """A copy to do anything with. Parameters are the model's own, which spares memory, but for some, by identity.

    Raises:
        Exception: whatever ``copy.deepcopy`` raises at something that a module holds.
    """
    memo: dict[int, Any] = {id(p): p for p in model.parameters() if id(p) not in besides}
    with _unread(model):
        memo |= {id(tensor): tensor.detach().clone() for tensor in _results(model)}
        other = copy.deepcopy(model, memo)
    for one, its in zip(model.modules(), other.modules(), strict=True):
        its.training = one.training
    return other


def _results(model: Module) -> Iterator[Tensor]:
    """What modules keep of their last forward pass, a hidden state say: with a graph, deepcopy refuses it."""
    for module in model.modules():
        for held in vars(module).values():
            yield from (leaf for leaf in tree_leaves(held) if isinstance(leaf, Tensor) and not leaf.is_leaf)


@contextmanager
def _unread(model: Module) -> Iterator[None]:
    """Within it a recurrent layer can be copied: it then reads its weights, which is to leave no trace."""
    layers = [module for module in model.modules() if isinstance(module, RNNBase)]
    lists = [(vars(layer), vars(layer).copy()) for layer in layers]
    modes = [(m, m.training) for layer in layers for chain in chains_in(layer).values() for m in chain.modules()]
    try:
        for attributes, before in lists:  # values of the last pass, of whose graph there can be no copy
            attributes["_flat_weights"] = [x if x is None or x.is_leaf else x.detach() for x in before["_flat_weights"]]
        for module, _ in modes:
            module.training = False  # torch's engine carries an estimate on at every read in training mode
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for attributes, before in lists:
            attributes.update(before)
