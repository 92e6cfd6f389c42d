"""The parametrized tensors of a whole model by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch.nn import Module

from .chain import ParametrizationList
from .lazy import pending_of
from .state_dict import chains_in, modules_in


class Named(NamedTuple):
    """A parametrized tensor of a model."""

    name: str
    """Its full name, that of plain state dicts: ``"encoder.layers.0.linear1.weight"``."""
    module: Module
    """The module that has it."""
    tensor_name: str
    """Its name there."""
    chain: ParametrizationList
    """Its parametrizations."""


def named_chains(model: Module, *, remove_duplicate: bool = True) -> Iterator[Named]:
    """The parametrized tensors of ``model``, in the order of its modules.

    Chains of ``torch.nn.utils.parametrize`` are found too. What is parametrized within a parametrization is not.

    Args:
        model: any module.
        remove_duplicate: name a chain once, as ``nn.Module.named_parameters`` does, though tied modules share it.

    >>> from torch import nn
    >>> from paraform import Skew, register_parametrization
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3))
    >>> _ = register_parametrization(model[1], "weight", Skew())
    >>> [named.name for named in named_chains(model)]
    ['1.weight']
    """
    seen = set()
    for prefix, module in named_modules(model):
        for name, chain in chains_in(module).items():
            if chain not in seen:
                yield Named(prefix + name, module, name, chain)
            if remove_duplicate:
                seen.add(chain)


def named_modules(model: Module) -> Iterator[tuple[str, Module]]:
    """``model`` and every module below it that is not part of a chain, under each of its names, as a prefix of keys."""
    return modules_in(model, hides=lambda module: chains_in(module) or pending_of(module) is not None)
