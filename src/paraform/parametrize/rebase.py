"""Move the bases of parametrizations to their current values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from .chain import ParametrizationList
from .errors import explain, title
from .tensors import write


@torch.no_grad()
def rebase(model: Module) -> list[str]:
    """Move the base of each parametrization of ``model`` that has one to its current value. No value changes.

    A parametrization with a base (:class:`paraform.Orthogonal`, say) maps a raw tensor that is zero there to the base
    itself, and others to points around it. After this each raw tensor is zero again, and each base where the value is:
    maps are exact and cheap near their base, and reach everything from a base that moves (a dynamic trivialization;
    M. Lezcano-Casado, *Trivializations for gradient-based optimization on manifolds*, NeurIPS 2019). Values are the
    same to rounding. Every 16th time a base is brought nearer to its set, which rounding would leave in the long run.

    A parametrization says by an attribute ``has_base`` that it has one; its method ``rebase`` takes the raw tensors and
    gives those that stand for the same value from then on. The first one of each chain is asked, which gets them.

    Each base is a new tensor, while raw tensors stay the same ones: what was taken of the model before (a
    ``state_dict()`` that was not copied, a list of buffers as ``DistributedDataParallel`` keeps it) has the old base
    with a raw tensor of zero, and is to be taken anew. An average over models needs ``use_buffers=True``, for it is the
    bases that move.

    Args:
        model: any module.

    Returns:
        The full names of the tensors whose bases were moved, those of plain state dicts (``"rnn.weight_hh_l0"``).

    Raises:
        ValueError: a value is not finite, or a raw tensor with a base has another use in the model, whose value would
            change. Nothing is changed then.

    >>> import torch
    >>> from torch import nn
    >>> from paraform import Orthogonal, register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Orthogonal())
    >>> raw = layer.parametrizations.weight.original
    >>> with torch.no_grad():
    ...     turned = raw.add_(torch.ones(3, 3).tril(-1))
    >>> before = layer.weight.clone()
    >>> rebase(layer), raw.count_nonzero(), torch.allclose(layer.weight, before)
    (['weight'], tensor(0), True)
    """
    return rebase_chains(model, dict(_based(model)))


@torch.no_grad()
def rebase_trained(model: Module, parameters: set[int]) -> list[str]:
    """:func:`rebase` for the chains that have one of these raw tensors, given by their identities."""
    trained = {chain: name for chain, name in _based(model) if any(id(raw) in parameters for raw in chain.originals())}
    return rebase_chains(model, trained)


def rebase_chains(model: Module, chains: dict[ParametrizationList, str]) -> list[str]:
    """:func:`rebase` for some chains of ``model``, which have names."""
    _require_own(model, chains)
    undo = [(module, dict(vars(module)), dict(module._buffers)) for chain in chains for module in chain.modules()]
    moved = []
    try:
        for chain, name in chains.items():
            try:
                moved.append(_first(chain).rebase(*chain.originals()))
            except Exception as error:
                explain(error, f"while moving the base of '{name}' of {title(model)}")
                raise
    except BaseException:
        for module, attributes, buffers in undo:  # a base is replaced, never written to
            vars(module).update(attributes)
            module._buffers.clear()
            module._buffers.update(buffers)
        raise
    for chain, raws in zip(chains, moved, strict=True):
        for old, new in zip(chain.originals(), raws, strict=True):
            write(old, new)
    return list(chains.values())


def raws_with_base(model: Module) -> list[Tensor]:
    """The raw tensors that :func:`rebase` writes to."""
    return [raw for chain, _ in _based(model) for raw in chain.originals()]


def _based(model: Module) -> Iterator[tuple[ParametrizationList, str]]:
    """The chains whose first step has a base, each once, with the name of the tensor."""
    for name, module in model.named_modules():
        if isinstance(module, ParametrizationList) and getattr(_first(module), "has_base", False):
            yield module, name.replace("parametrizations.", "")


def _first(chain: ParametrizationList) -> Any:
    """The step that gets the originals; None where all are switched off."""
    return next((step for _, step in chain._on()), None)


def _require_own(model: Module, chains: dict[ParametrizationList, str]) -> None:
    """Refuse a raw tensor that belongs to something else too, which would see it become zero."""
    raws = {id(raw) for chain in chains for raw in chain.originals()}
    for path, module in model.named_modules():
        if module in chains:
            continue
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if id(tensor) in raws:
                raise ValueError(
                    f"'{path + '.' if path else ''}{name}' of {title(model)} is also the raw tensor of a "
                    f"parametrization with a base, which is set to zero when the base moves. Untie them first."
                )
