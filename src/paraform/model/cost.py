"""What it costs to compute a parametrized tensor, next to what its layer does with it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import Module
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.rnn import RNNCellBase
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from .. import maps
from ..parametrize.chain import ParametrizationList
from ..parametrize.lazy import becomes_another
from ..parametrize.named import Named, named_chains
from ..parametrize.reads import look, looked_at
from ..parametrize.switching import originals_of
from .copied import copied
from .randomness import kept_randomness

POSITIONS = 256
"""How many vectors a layer is given where no sample says what it gets."""
_SEQUENCES = (16, 16)
_IMAGES: dict[int, tuple[int, ...]] = {1: (256,), 2: (16, 16), 3: (8, 8, 4)}

# The shortest of this many runs, or of as many as fit into so many seconds: what else a machine does only adds to a
# time, so that the shortest is the one that comes out again.
_RUNS = 9
_LIMIT = 0.2


def read_costs(model: Module, chains: Sequence[Named], sample: Any = None) -> dict[str, float | None]:
    """How long a read takes, divided by how long a call of its layer takes, on this machine, without gradient.

    Operations are not counted: most of what a read does (factorizations, triangular solves, everything that goes entry
    by entry) has no count in torch, and costs more than as many operations of a product.

    A layer is timed with its values as plain tensors, so that no read is counted in it. As in :func:`measure` nothing
    of the model moves on: there are copies of all buffers, and generators are set back.

    Args:
        model: the model.
        chains: those of its chains that can be evaluated; each once.
        sample: what to call the model with: a tensor, a tuple of arguments, or a dict of keyword arguments. Layers are
            timed in its forward pass. Without one, where that does not call a layer, and while modules of the model
            are lazy, a layer is called with 256 vectors, if it is one of torch's own that multiply.

    Returns:
        The quotient by the name of the tensor; None where the layer's part is not known.

    Raises:
        Exception: whatever the model raises at the sample.
    """
    chains = [named for named in chains if all(map(maps.has_entries, originals_of(named.chain)))]
    layers = list(dict.fromkeys(named.module for named in chains))
    seconds: dict[Module, float | None] = {}
    # A forward pass gives a lazy module its shapes, and is the user's to make.
    if sample is not None and layers and not any(map(becomes_another, model.modules())):
        arguments, keywords = _as_call(sample)
        seconds.update(_timed(model, layers, arguments, keywords))
    for named in chains:
        if named.module not in seconds:
            seconds[named.module] = _timed_alone(named)
    return {named.name: _read(named, seconds[named.module]) for named in chains}


def _read(named: Named, layer: float | None) -> float | None:
    if not layer:
        return None
    device = _device_of(named)
    with _apart(device):
        return seconds_of(looked_at(named.chain), device) / layer


def _timed_alone(named: Named) -> float | None:
    """The seconds of a call of the layer, with arguments that suit it; None where nobody knows which do."""
    arguments = _arguments(named.module, originals_of(named.chain)[0].dtype, _device_of(named))
    if arguments is None:
        return None
    try:
        return _timed(named.module, [named.module], arguments, {})[named.module]
    except Exception:  # a layer of the user's own, on one of torch's, may take something else
        return None


def _timed(
    model: Module, layers: list[Module], arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> dict[Module, float]:
    """The seconds of a call of each of the ``layers`` in a forward pass of ``model``, without reads.

    Of several calls in one pass, on average. The pass is one of a copy: a forward that keeps something, a hidden state
    say, keeps it there, and nobody else who runs the model meanwhile sees the values that are put in place.
    """
    device = next((_device_of(named) for named in named_chains(model)), torch.device("cpu"))
    originals = list(model.modules())
    with _apart(device):
        model = _copied(model)
    own = dict(zip(originals, model.modules(), strict=True))
    passes: list[dict[Module, list[float]]] = []
    begun: list[float] = []

    def begin(*_: Any) -> None:
        begun.append(_now(device))

    def end(module: Module, *_: Any) -> None:
        passes[-1].setdefault(module, []).append(_now(device) - begun.pop())

    def forward() -> None:
        passes.append({})
        functional_call(model, state, arguments, keywords, tie_weights=False)

    handles: list[RemovableHandle] = []
    try:
        with _apart(device):
            state = _values(model) | _copied_buffers(model)
            for layer in map(own.__getitem__, layers):
                handles += layer.register_forward_pre_hook(begin), layer.register_forward_hook(end, prepend=True)
            seconds_of(forward, device)
    finally:
        for handle in handles:
            handle.remove()
    times = {layer: [each[own[layer]] for each in passes if own[layer] in each] for layer in layers}
    return {layer: min(sum(calls) / len(calls) for calls in seen) for layer, seen in times.items() if seen}


def _copied(model: Module) -> Module:
    """A copy that shares the parameters, or the model itself where it holds what cannot be copied, a lock say."""
    try:
        return copied(model)  # type: ignore[no-any-return]
    except Exception:
        return model


def _values(model: Module) -> dict[str, Tensor]:
    """What to put in place of each parametrized tensor: one name for each module that has it, also where it is tied."""
    values: dict[Module, Tensor] = {}
    names: dict[tuple[Module, str], tuple[str, Module]] = {}
    for named in named_chains(model, remove_duplicate=False):
        # A stand-in for a tensor of torch's engine would be written through its inverse; its cache serves there.
        if isinstance(named.chain, ParametrizationList):
            names.setdefault((named.module, named.tensor_name), (named.name, named.chain))
            if named.chain not in values:
                values[named.chain] = look(named.chain)
    return {name: values[chain] for name, chain in names.values()}


def _copied_buffers(model: Module) -> dict[str, Tensor]:
    """A copy for each buffer, the same one where it is shared; one name for each module that has it."""
    copies: dict[Tensor, Tensor] = {}
    return {
        f"{path}.{name}".lstrip("."): copies.setdefault(buffer, buffer.clone())
        for path, module in model.named_modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    }


def seconds_of(call: Callable[[], Any], device: torch.device) -> float:
    """The shortest time of a call, after one that does not count."""
    call()
    runs: list[float] = []
    begun = _now(device)
    while len(runs) < _RUNS and (not runs or runs[-1] + sum(runs) < _LIMIT):
        call()
        ended = _now(device)
        runs.append(ended - begun)
        begun = ended
    return min(runs)


def _now(device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


@contextmanager
def _apart(device: torch.device) -> Iterator[None]:
    """Nothing that is done within is seen after: no graph, no random number; and no code is compiled for it."""
    dynamo = sys.modules.get("torch._dynamo")  # which takes seconds to import, and without which nothing is compiled
    with (
        torch.no_grad(),
        kept_randomness([device]),
        parametrize.cached(),  # the values of torch's engine
        nullcontext() if dynamo is None else torch.compiler.set_stance("force_eager"),
    ):
        yield


def _as_call(sample: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(sample, Mapping):
        return (), dict(sample)
    return sample if isinstance(sample, tuple) else (sample,), {}


def _device_of(named: Named) -> torch.device:
    return originals_of(named.chain)[0].device


def _arguments(layer: Any, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...] | None:
    """What a layer of torch's own is called with: 256 vectors, as a batch, as 16 sequences of 16, or as one image."""
    shapes: list[tuple[int, ...]]
    match layer:
        case nn.Linear():
            shapes = [(POSITIONS, layer.in_features)]
        case nn.Bilinear():
            shapes = [(POSITIONS, size) for size in (layer.in1_features, layer.in2_features)]
        case RNNCellBase():
            shapes = [(POSITIONS, layer.input_size)]
        case nn.RNNBase():
            shapes = [(*_SEQUENCES, layer.input_size)]
        case nn.MultiheadAttention():
            shapes = [(*_SEQUENCES, size) for size in (layer.embed_dim, layer.kdim, layer.vdim)]
        case _ConvNd():
            reach = [d * (k - 1) + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
            shapes = [(1, layer.in_channels, *map(max, _IMAGES[len(reach)], reach))]
        case _:
            return None
    return tuple(torch.ones(shape, dtype=dtype, device=device) for shape in shapes)
