"""The cache while torch.compile traces. It cannot follow a ``threading.local``, nor what a tensor's version says.

A trace belongs to one thread and happens once, so a module global that exists only in the trace serves instead: the
compiled code contains the values, not the dictionary. Modes, switches and tensor objects are compared while tracing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from .chain import ParametrizationList

_Values = dict[tuple[Any, ...], tuple[Tensor, list[Any]]]

# The contexts that the trace is in, outermost first: the model, whether it is frozen, its values.
# Outside of a trace it is always empty.
_scopes: tuple[tuple[Module | None, bool, _Values], ...] = ()


@contextmanager
def scope(model: Module | None, frozen: bool) -> Iterator[None]:
    global _scopes  # noqa: PLW0603 (torch.compile traces a global)
    outer = _scopes
    _scopes = (*outer, (model, frozen, {}))
    try:
        yield
    finally:
        _scopes = outer


def read(chain: ParametrizationList) -> Tensor:
    for freezing in (True, False):
        for model, frozen, values in _scopes:
            if frozen is freezing and (model is None or _is_in(chain, model)):
                return _read(chain, frozen, values)
    return chain()  # type: ignore[no-any-return]


def forget(chain: ParametrizationList) -> None:
    """Drop what the trace remembers of ``chain``, which has been assigned to."""
    for _, _, values in _scopes:
        for key in [key for key in values if key[0] is chain]:
            del values[key]


def _read(chain: ParametrizationList, frozen: bool, values: _Values) -> Tensor:
    device = chain.originals()[0].device.type
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    key = (chain, torch.is_grad_enabled(), autocast)  # torch.compile refuses to trace a question for inference mode
    parts = _parts(chain)
    entry = values.get(key)
    if entry is None or not _same(parts, entry[1]):
        if frozen:
            with torch.no_grad():
                entry = (chain().detach(), parts)
        else:
            entry = (chain(), parts)
        values[key] = entry
    return entry[0]


def _is_in(chain: Module, model: Module) -> bool:
    """Not by ``modules()``: torch.compile refuses it after a write."""
    if model is chain:
        return True
    return any(child is not None and _is_in(chain, child) for child in model._modules.values())


def _same(parts: list[Any], before: list[Any]) -> bool:
    return len(parts) == len(before) and all(new is old for new, old in zip(parts, before, strict=True))


def _parts(module: Module) -> list[Any]:
    """Every module below, its mode, its switches and its tensors."""
    parts = [module, module.training, *module._parameters.values(), *module._buffers.values()]
    if isinstance(module, ParametrizationList):
        parts += getattr(module, "_off", ())
    for child in module._modules.values():
        parts += [] if child is None else _parts(child)
    return parts
