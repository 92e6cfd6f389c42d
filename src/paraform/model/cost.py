"""What it costs to compute a parametrized tensor, next to what its layer does with it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Module
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.rnn import RNNCellBase
from torch.nn.utils import parametrize

from .. import maps
from ..parametrize.chain import ParametrizationList
from ..parametrize.lazy import becomes_another
from ..parametrize.named import Named, named_chains
from ..parametrize.override import functional_call
from ..parametrize.reads import looked_at

POSITIONS = 256
"""How many vectors a layer is given where no sample says what it gets."""
_SEQUENCES = (16, 16)
_IMAGES: dict[int, tuple[int, ...]] = {1: (256,), 2: (16, 16), 3: (8, 8, 4)}

# The median of this many runs, or of as many as fit into so many seconds.
_RUNS = 9
_LIMIT = 0.2


class Costs:
    """How long reads take next to the calls of their layers, on the machine that this runs on, without gradient.

    Operations are not counted: most of what a read does (factorizations, triangular solves, everything that goes entry
    by entry) has no count in torch, and costs more than as many operations of a product.

    A layer is timed with its values as plain tensors, so that no read is counted in it, and as in :func:`measure`
    nothing of the model is moved on: it has copies of all buffers, and generators are set back.

    Args:
        model: the model, or a single layer.
        values: the values of its parametrized tensors, by their names.
        sample: what to call the model with: a tensor, a tuple of arguments, or a dict of keyword arguments. Layers are
            timed in its forward pass. Without one, where that does not call a layer, and while modules of the model
            are lazy, a layer is called with 256 vectors, if it is one of torch's own that multiply.

    Raises:
        Exception: whatever the model raises at the sample.
    """

    def __init__(self, model: Module, values: Mapping[str, Tensor], sample: Any = None) -> None:
        self._values = values
        # A stand-in for a tensor of torch's engine would be written through its inverse; its cache serves there.
        ours = {named.name for named in named_chains(model) if isinstance(named.chain, ParametrizationList)}
        self._plain = {name: value for name, value in values.items() if name in ours}
        # A forward pass gives a lazy module its shapes, and is the user's to make.
        can_be_called = sample is not None and not any(map(becomes_another, model.modules()))
        self._in_model = _timed_forward(model, values, self._plain, sample) if can_be_called else {}

    def of(self, named: Named) -> float | None:
        """How many calls of its layer a read costs; None where one of them is not known.

        Raises:
            Exception: whatever the parametrizations raise.
        """
        value = self._values.get(named.name)
        if value is None or not maps.has_entries(value):
            return None
        layer = self._in_model.get(named.module) or self._alone(named, value)
        if not layer:
            return None
        with _apart(value.device):
            return seconds_of(looked_at(named.chain), value.device) / layer

    def _alone(self, named: Named, value: Tensor) -> float | None:
        """Seconds that the layer takes by itself."""
        arguments = _arguments(named.module, value)
        if arguments is None:
            return None
        prefix = named.name.removesuffix(named.tensor_name)
        own = {name.removeprefix(prefix): each for name, each in self._plain.items() if name.startswith(prefix)}
        state = own | _copied_buffers(named.module)
        try:
            with _apart(value.device):
                return seconds_of(lambda: functional_call(named.module, state, arguments), value.device)
        except Exception:  # what a layer of the user's own, on one of torch's, takes is not known
            return None


def seconds_of(call: Callable[[], Any], device: torch.device) -> float:
    """The median time of a call, after one that does not count."""
    call()
    runs: list[float] = []
    begun = _now(device)
    while len(runs) < _RUNS and (not runs or runs[-1] + sum(runs) < _LIMIT):
        call()
        ended = _now(device)
        runs.append(ended - begun)
        begun = ended
    return median(runs)


def _now(device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


@contextmanager
def _apart(device: torch.device) -> Iterator[None]:
    """Nothing that is done within is seen after: no graph, no random number; and no code is compiled for it."""
    accelerators = [] if device.type == "cpu" else [device]
    dynamo = sys.modules.get("torch._dynamo")  # which takes seconds to import, and without which nothing is compiled
    with (
        torch.no_grad(),
        torch.random.fork_rng(devices=accelerators, device_type=device.type if accelerators else "cuda"),
        parametrize.cached(),  # the values of torch's engine
        nullcontext() if dynamo is None else torch.compiler.set_stance("force_eager"),
    ):
        yield


def _timed_forward(
    model: Module, values: Mapping[str, Tensor], plain: Mapping[str, Tensor], sample: Any
) -> dict[Module, float]:
    """The median seconds of a call of each module that has a value, in forward passes at the sample."""
    arguments, keywords = _as_call(sample)
    state = dict(plain) | _copied_buffers(model)
    device = next((value.device for value in values.values()), torch.device("cpu"))
    calls: dict[Module, list[float]] = {}
    begun: list[float] = []

    def begin(*_: Any) -> None:
        begun.append(_now(device))

    def end(module: Module, *_: Any) -> None:
        calls.setdefault(module, []).append(_now(device) - begun.pop())

    layers = {model.get_submodule(name.rpartition(".")[0]) for name in values}
    handles = [
        handle
        for layer in layers
        for handle in (layer.register_forward_pre_hook(begin), layer.register_forward_hook(end, prepend=True))
    ]
    try:
        with _apart(device):
            seconds_of(lambda: functional_call(model, state, arguments, keywords), device)
    finally:
        for handle in handles:
            handle.remove()
    return {layer: median(times) for layer, times in calls.items()}


def _as_call(sample: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(sample, Mapping):
        return (), dict(sample)
    return tuple(sample) if isinstance(sample, tuple | list) else (sample,), {}


def _copied_buffers(module: Module) -> dict[str, Tensor]:
    return {name: buffer.detach().clone() for name, buffer in module.named_buffers()}


def _arguments(layer: Any, value: Tensor) -> tuple[Tensor, ...] | None:
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
    return tuple(torch.ones(shape, dtype=value.dtype, device=value.device) for shape in shapes)
