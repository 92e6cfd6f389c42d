"""Counts bytes: what a graph keeps for its backward pass, and what is allocated at the worst moment."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.autograd.profiler import profile

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler tells on stderr when it starts and stops


def saved_bytes(forward: Callable[[], Tensor], outside: Sequence[Tensor] = ()) -> int:
    """Bytes that the graph of ``forward()`` keeps alive, each memory counted once, those of ``outside`` not at all.

    >>> x = torch.ones(1000, requires_grad=True)
    >>> saved_bytes(lambda: x.exp() * x, outside=[x])  # the exponential, kept twice
    4000
    """
    known = {x.untyped_storage().data_ptr() for x in outside}
    kept: dict[int, Tensor] = {}  # holds them, so that no address is used again

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x
        return x

    with saved_tensors_hooks(keep, lambda x: x):
        result = forward()
    del result
    return sum(x.untyped_storage().nbytes() for address, x in kept.items() if address not in known)


def peak_bytes(call: Callable[[], object]) -> int:
    """Bytes that ``call()`` allocates beyond what is there before, at the worst moment, its results included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    with profile(profile_memory=True) as profiled:
        call()
    results = profiled.kineto_results
    assert results is not None
    events = sorted((e for e in results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns())
    live = peak = 0
    for event in events:
        live += event.nbytes()
        peak = max(peak, live)
    return peak
