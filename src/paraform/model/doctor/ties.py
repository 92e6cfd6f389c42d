"""Ties: several places that are to have one value."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.parameter import is_lazy

from ...parametrize.named import Named, named_chains
from ...parametrize.owners import overlap
from ...parametrize.reads import look
from ...parametrize.state_dict import chains_in
from ...parametrize.switching import originals_of
from .evaluation import has_numbers
from .finding import Finding
from .patient import Patient


def raw_elsewhere(patient: Patient) -> Iterator[Finding]:
    """PF201, where what is a raw tensor of a chain, or lies in its memory, is a weight of a layer as well."""
    plain = list(_plain(patient.model))
    for named in patient.chains:
        for raw in originals_of(named.chain):
            for name, tensor in plain:
                if tensor is not raw and not overlap(raw, tensor):
                    continue
                yield Finding(
                    "PF201",
                    "warning",
                    named.name,
                    f"'{name}' {'is' if tensor is raw else 'lies in the memory of'} its raw tensor: it has the raw "
                    f"numbers, and not the value.",
                    f"For one value in both, remove the parametrization, tie them again and register once with "
                    f"paraform.register_parametrization, which parametrizes both. For two, give '{name}' a Parameter "
                    f"of its own.",
                )


def shared_raw(patient: Patient) -> Iterator[Finding]:
    """PF202, where two chains have a raw tensor in common: a warning where they make different values of it."""
    chains = [(named, {id(raw) for raw in originals_of(named.chain)}) for named in patient.chains]
    for (one, its), (other, others) in combinations(chains, 2):
        if its & others:
            same = _same(_value(one), _value(other))
            yield Finding(
                "PF202",
                "note" if same else "warning",
                one.name,
                f"It shares a raw tensor with '{other.name}', whose value is "
                + ("the same: it is computed twice." if same else "another: a step for one moves the other."),
                f"For one value, remove both parametrizations, tie the tensors and register once. For two, give "
                f"'{other.name}' a raw tensor of its own.",
            )


def copies(patient: Patient) -> Iterator[Finding]:
    """PF203, where a plain parameter is equal to the value of a chain, to the bit."""
    plain: dict[tuple[torch.Size, torch.dtype], list[tuple[str, Tensor]]] = {}
    for name, tensor in _plain(patient.model):
        if isinstance(tensor, torch.nn.Parameter) and has_numbers(tensor):
            plain.setdefault((tensor.shape, tensor.dtype), []).append((name, tensor))
    for named in patient.chains:
        alike = [(name, tensor) for name, tensor in _like(named, plain) if not _are_siblings(name, named.name)]
        if not alike:
            continue
        value = _value(named)
        for name, tensor in alike:
            if value is not None and _same(value, tensor) and _is_telling(value):
                yield Finding(
                    "PF203",
                    "note",
                    named.name,
                    f"'{name}' is a copy of its value. It goes its own way with the first step of an optimizer.",
                    f"If they are to be one tensor, remove the parametrization, assign the Parameter of one to the "
                    f"other and register again, which parametrizes both: paraform keeps ties ('{name}' was cut off by "
                    f"something else).",
                )


def _like(
    named: Named, plain: dict[tuple[torch.Size, torch.dtype], list[tuple[str, Tensor]]]
) -> list[tuple[str, Tensor]]:
    raw = originals_of(named.chain)[0]
    shape = getattr(named.chain, "shape", None) or raw.shape
    return plain.get((shape, raw.dtype), [])


def _plain(model: Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers of layers: not what belongs to a chain."""
    chained = {id(module) for named in named_chains(model) for module in named.chain.modules()}
    for path, module in model.named_modules():
        if id(module) not in chained:
            chains = chains_in(module)
            for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
                if name not in chains and not is_lazy(tensor):
                    yield f"{path}.{name}" if path else name, tensor


def _value(named: Named) -> Tensor | None:
    try:
        return look(named.chain).detach()
    except Exception:
        return None  # which another check reports


def _are_siblings(name: str, other: str) -> bool:
    """Whether two names differ in numbers only: layers that were made as copies of one have equal values too."""
    return _without_numbers(name) == _without_numbers(other)


def _without_numbers(name: str) -> list[str]:
    return [part for part in name.split(".") if not part.isdigit()]


def _is_telling(value: Tensor) -> bool:
    """Whether another tensor would not have these numbers by chance: zeros, ones and identities are everywhere."""
    return value.unique().numel() > 2  # type: ignore[no-untyped-call, no-any-return]


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or not (has_numbers(one) and has_numbers(other)):
        return False
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)
