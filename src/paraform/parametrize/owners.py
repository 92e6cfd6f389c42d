"""Who else holds a tensor. A module knows nothing of the others, so they are looked for among all that are alive."""

from __future__ import annotations

import gc
import sys
import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from .alive import all_alive
from .errors import title

Owner = tuple[Module, str]
"""A module, and the name under which it holds the thing in question."""


class _Known(threading.local):
    def __init__(self) -> None:
        self.counts: list[dict[int, int]] = []
        """How many references there are to tensors, by identity, that are known to be held by a single module."""


_known = _Known()


@contextmanager
def counted(tensors: Iterable[Tensor], alive: Iterable[Module]) -> Iterator[None]:
    """Within this context no search is needed for which of the modules ``alive`` hold a tensor, where it is one alone.

    So it is as long as there are as many references to the tensor as there were before; it is for the caller that none
    is exchanged for another.
    """
    counts = _counts_of_sole({id(tensor) for tensor in tensors}, alive)
    del tensors, alive
    _known.counts.append(counts)
    try:
        yield
    finally:
        _known.counts.pop()


def _counts_of_sole(ids: set[int], alive: Iterable[Module]) -> dict[int, int]:
    owners: dict[int, list[Owner]] = {}
    for module in alive:
        for holder in ("_parameters", "_buffers"):
            for name, tensor in _children(module, holder).items():
                if id(tensor) in ids:
                    owners.setdefault(id(tensor), []).append((module, name))
                del tensor  # which would be counted
    sole = {key: found[0] for key, found in owners.items() if len(found) == 1}
    return {key: _references(_holder(module, name), name) for key, (module, name) in sole.items()}


def owners_of_tensor(
    module: Module, name: str, steps: Iterable[Module], alive: Sequence[Module] | None = None
) -> list[Owner]:
    """Every module that holds the parameter or buffer ``name`` of ``module``, this one first.

    They are to be parametrized together: what is written into the tensor is written for all of them. What the
    parametrizations, ``steps``, hold themselves is not counted, for it means the raw tensor.

    Args:
        module: a module that holds it.
        name: its name there.
        steps: what is to be put on it.
        alive: :func:`modules_alive`, for a caller who asks for many tensors and so looks around once.

    Raises:
        ValueError: one of them is a chain, whose raw tensor this is, or another tensor lies in the same memory.
    """
    own: Owner = (module, name)
    holder = _holder(module, name)
    if not _shares_storage(holder[name]) and (
        _is_held_once(holder, name) or (alive is None and _is_in_no_other_dictionary(holder, name))
    ):
        return [own]
    tensor, inside = holder[name], {part for step in steps for part in step.modules()}
    found = _other_owners(tensor, own) if alive is None else _others_among(alive, tensor, own)
    others = [owner for owner in found if owner[0] not in inside]
    for owner, other in others:
        both = f"'{name}' of {title(module)} and '{other}' of {title(owner)}"
        if held(owner, other) is not tensor:
            raise ValueError(
                f"{both} are two tensors in one memory, so the raw numbers of the first would show in the second. Let "
                "both modules hold one Parameter (a tie; they are then parametrized together), or give one of them a "
                "clone."
            )
        if _is_chain(owner):
            raise ValueError(
                f"{both}, where it is the raw tensor of a parametrization, are one tensor, so the raw numbers of the "
                f"first would overwrite those of the second. Give {title(module)} a clone first."
            )
    return [own, *others]


def modules_alive() -> list[Module]:
    """All modules that there are, but for those that only wait to be collected."""
    gc.collect()
    return all_alive(Module)


def held(module: Module, name: str) -> Tensor:
    """The parameter or buffer ``name`` of ``module``."""
    return _holder(module, name)[name]  # type: ignore[no-any-return]


def owners_of_chain(module: Module, name: str) -> list[Owner]:
    """Every module that has the chain on the tensor ``name`` of ``module``, this one first."""
    own: Owner = (module, name)
    chains: dict[str, Any] = module.parametrizations._modules  # type: ignore[union-attr]
    if _is_held_once(chains, name):
        return [own]
    others = [
        (other, key)
        for other in all_alive(Module)
        for key, chain in _children(_children(other, "_modules").get("parametrizations"), "_modules").items()
        if chain is chains[name] and (other, key) != own
    ]
    return [own, *others]


def is_original_elsewhere(chain: Module, name: str) -> bool:
    """Whether the original ``name`` of ``chain`` is one of another chain too, as a transfer makes it."""
    holder = _holder(chain, name)
    if _is_held_once(holder, name):
        return False
    return any(_is_chain(owner) for owner, _ in _other_owners(holder[name], (chain, name)))


def owners_of_chains(chains: Collection[Module]) -> dict[Module, list[Owner]]:
    """Every module that has one of ``chains`` on a tensor. One search for all of them."""
    owners: dict[Module, list[Owner]] = {chain: [] for chain in chains}
    for module in all_alive(Module) if owners else ():
        for name, chain in _children(_children(module, "_modules").get("parametrizations"), "_modules").items():
            if chain in owners:
                owners[chain].append((module, name))
    return owners


def held_elsewhere(raws: Iterable[tuple[Module, Tensor]]) -> set[Tensor]:
    """Those of the tensors that (or whose memory) a module besides the chain given with them has. One search."""
    raws = list(raws)
    found = _held_elsewhere(raws)
    if found:
        gc.collect()  # what is only waiting to be collected owns nothing
        found = _held_elsewhere(raws)
    return found


def _held_elsewhere(raws: list[tuple[Module, Tensor]]) -> set[Tensor]:
    by_memory = defaultdict(list)
    for chain, raw in raws:
        by_memory[_memory(raw)].append((chain, raw))
    return {
        raw
        for module in (all_alive(Module) if raws else ())
        for holder in ("_parameters", "_buffers")
        for other in _children(module, holder).values()
        if isinstance(other, Tensor)
        for chain, raw in by_memory.get(_memory(other), ())
        if module is not chain and (other is raw or overlap(raw, other)) and not _is_left_over(module)
    }


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata if _has_storage(tensor) else id(tensor)


def is_submodule(module: Module, *, besides: Module | None = None) -> bool:
    """Whether some module, ``besides`` the one given, has ``module`` as a child."""
    return any(
        parent is not besides and any(child is module for child in _children(parent, "_modules").values())
        for parent in all_alive(Module)
    )


def _other_owners(tensor: Tensor, own: Owner) -> list[Owner]:
    """Everyone but ``own`` who has this tensor, or another one in the same memory, as a parameter or buffer."""
    others = [owner for owner in _owners(tensor) if owner != own]
    if others:
        del others
        gc.collect()  # what is only waiting to be collected owns nothing
        others = [owner for owner in _owners(tensor) if owner != own and not _is_left_over(owner[0])]
    return others


def _others_among(alive: Iterable[Module], tensor: Tensor, own: Owner) -> list[Owner]:
    return [owner for owner in _owners(tensor, alive) if owner != own and not _is_left_over(owner[0])]


def _is_left_over(module: Module) -> bool:
    """Whether ``module`` is a chain that is on no module any more: ``cached()`` keeps the chains that it has read."""
    return _is_chain(module) and not is_submodule(module)


def _owners(tensor: Tensor, alive: Iterable[Module] | None = None) -> Iterator[Owner]:
    shares = _shares_storage(tensor)
    for module in all_alive(Module) if alive is None else alive:
        for holder in ("_parameters", "_buffers"):
            for name, other in _children(module, holder).items():
                if other is tensor or (shares and overlap(tensor, other)):
                    yield module, name


def _children(module: Module | None, holder: str) -> dict[str, Any]:
    children = {} if module is None else vars(module).get(holder)
    # A copy, since other threads may be building modules. (TorchScript has its own elsewhere.)
    return dict(children) if isinstance(children, dict) else {}


def _holder(module: Module, name: str) -> dict[str, Any]:
    return module._parameters if name in module._parameters else module._buffers


def _is_chain(module: Module) -> bool:
    return isinstance(module, torch.nn.ModuleList) and hasattr(module, "ntensors")  # torch's engine has such, too


def _is_held_once(holder: dict[str, Any], name: str) -> bool:
    # A compiler sees neither references nor memory; and what it traces into being belongs to nobody else.
    references = 0 if torch.compiler.is_compiling() else _references(holder, name)
    return references <= _ONE_HOLDER or any(count.get(id(holder[name])) == references for count in _known.counts)


def _is_in_no_other_dictionary(holder: dict[str, Any], name: str) -> bool:
    """As a module's tensor would be. Most often it is in the list of an optimizer, and this is the shorter search."""
    tensor = holder[name]
    return sum(held is tensor for held in holder.values()) == 1 and not any(
        isinstance(referrer, dict) and referrer is not holder for referrer in gc.get_referrers(tensor)
    )


def _references(holder: dict[str, Any], name: str) -> int:
    return sys.getrefcount(holder[name])


def _storage_uses(tensor: Tensor) -> int:
    return torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)


# What the two count where nobody else holds the thing: most tensors need no search.
_ONE_HOLDER = _references({"tensor": object()}, "tensor")
_ONE_TENSOR = _storage_uses(torch.empty(0))


def _shares_storage(tensor: Tensor) -> bool:
    return not torch.compiler.is_compiling() and _has_storage(tensor) and _storage_uses(tensor) > _ONE_TENSOR


def _has_storage(tensor: Tensor) -> bool:
    """Whether the tensor itself lies in memory. (A wrapper of other tensors, as DTensor is, does not.)"""
    return not (
        is_lazy(tensor)
        or tensor.is_nested
        or is_traceable_wrapper_subclass(tensor)
        or not torch._C._has_storage(tensor)
    )


def overlap(tensor: Tensor, other: Tensor | None) -> bool:
    """Whether two tensors reach into the same memory, from the first entry of each to its last."""
    if other is None or not (_has_storage(tensor) and _has_storage(other)):
        return False
    if other.untyped_storage()._cdata != tensor.untyped_storage()._cdata:
        return False
    (start, stop), (first, last) = _span(tensor), _span(other)
    return bool(max(start, first) < min(stop, last))


def _span(tensor: Tensor) -> tuple[Any, Any]:
    start, steps = tensor.storage_offset(), zip(tensor.shape, tensor.stride(), strict=True)
    length = 1 + sum((size - 1) * stride for size, stride in steps) if tensor.numel() else 0
    return start * tensor.element_size(), (start + length) * tensor.element_size()
