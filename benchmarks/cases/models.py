"""Whole steps of training, many small layers, and layers that are plain again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal
from torch.nn.utils.parametrize import cached as torchs_cached

import paraform as pf
from paraform.model import fold

from ..timing import calmer_half, matmul, median_ratio, time_together
from .case import NOT_SLOWER, Case, Limit, Make, Shape, Subject
from .orthogonal import TYPICAL, moved

BATCH = 64
LAYERS = 64
STEPS = 20
"""How many are taken before any is timed."""
RATE = 5.0
"""At which the layer learns: the first step turns it by 0.3 radians, and the 12th, when most of the loss is gone, by
0.1. With ten times as much it turns by 3 radians at every step, and the loss stays high."""

Register = Callable[[nn.Module], nn.Module]
Cached = Callable[[nn.Module], AbstractContextManager[None]]
Train = Callable[[nn.Linear], torch.optim.Optimizer]


def free(layer: nn.Linear) -> torch.optim.Optimizer:
    return torch.optim.SGD(layer.parameters(), lr=RATE)


def by_torch(layer: nn.Linear) -> torch.optim.Optimizer:
    return free(orthogonal(layer))


def with_moving_base(layer: nn.Linear) -> torch.optim.Optimizer:
    optimizer = free(pf.register_parametrization(layer, "weight", pf.Orthogonal()))
    pf.rebase_every(optimizer, layer, steps=1)
    return optimizer


def weight_of(layer: nn.Module) -> Callable[[], Tensor]:
    def value() -> Tensor:
        return layer.weight.detach()

    return value


def training(train: Train) -> Make:
    """Steps of SGD of one linear layer, which learns to be another one; they go on while they are timed."""

    def make(shape: Shape) -> Subject:
        n, k = shape
        layer, x, y = nn.Linear(k, n, bias=False), torch.randn(BATCH, k), torch.randn(BATCH, n)
        optimizer = train(layer)

        def step() -> None:
            optimizer.zero_grad()
            F.mse_loss(layer(x), y).backward()
            optimizer.step()

        for _ in range(STEPS):
            step()
        return Subject(step, weight_of(layer))

    return make


def beyond_free_step(shape: Shape, seconds: float) -> float:
    """By how many matmuls of its own size an orthogonal layer's step is dearer than a free one's."""
    calls = {"ours": training(with_moving_base)(shape).run, "free": training(free)(shape).run, "matmul": matmul(shape)}
    times = calmer_half(time_together(calls, seconds))
    beyond = [ours - free for ours, free in zip(times["ours"], times["free"], strict=True)]
    return median_ratio(beyond, times["matmul"])


def stacked(register: Register, cached: Cached, count: int = LAYERS) -> Make:
    """Forward and backward pass of many equal layers, one after another."""

    def make(shape: Shape) -> Subject:
        layers = nn.Sequential(*(moved(register(nn.Linear(*shape, bias=False)), TYPICAL) for _ in range(count)))
        x, slope, raw = torch.randn(BATCH, shape[0]), torch.randn(BATCH, shape[0]), list(layers.parameters())

        def run() -> object:
            with cached(layers):
                return torch.autograd.grad(layers(x), raw, slope)

        def value() -> Tensor:
            return torch.stack([layer.weight.detach() for layer in layers])

        return Subject(run, value)

    return make


def ours(layer: nn.Module) -> nn.Module:
    return pf.register_parametrization(layer, "weight", pf.Orthogonal())


def evaluated(prepare: Callable[[nn.Linear], object]) -> Make:
    """The forward pass in evaluation mode, without a graph."""

    def make(shape: Shape) -> Subject:
        layer, x = nn.Linear(shape[1], shape[0]), torch.randn(BATCH, shape[1])
        nn.init.orthogonal_(layer.weight)
        prepare(layer)
        layer.eval()

        def run() -> None:
            with torch.inference_mode():
                layer(x)

        return Subject(run, weight_of(layer))

    return make


def made_plain_again(layer: nn.Linear) -> None:
    fold(ours(layer))


def constraint(shape: Shape) -> pf.Constraint:
    return pf.Orthogonal()


CASES = [
    *(
        Case(
            "SGD step, base moves every step",
            (n, n),
            "torch",
            training(by_torch),
            training(with_moving_base),
            constraint,
            bar=10.0,
            note=f"one linear layer, batch {BATCH}, timed after {STEPS} steps",
        )
        for n in (512, 1024)
    ),
    *(
        Case(
            f"{LAYERS} layers under cached(model)",
            (n, n),
            "torch cached()",
            stacked(orthogonal, lambda _: torchs_cached()),
            stacked(ours, pf.cached),
            constraint,
            bar=5.0,
            note=f"forward and backward pass, batch {BATCH}",
        )
        for n in (16, 32)
    ),
    *(
        Case(
            "eval, parametrization removed",
            (n, n),
            "plain layer",
            evaluated(lambda _: None),
            evaluated(made_plain_again),
            constraint,
            bar=NOT_SLOWER,
            note=f"forward pass, batch {BATCH}",
        )
        for n in (64, 512)
    ),
]

LIMITS = [
    Limit("SGD step, base moves every step: beyond a free step", (n, n), beyond_free_step, "matmuls")
    for n in (512, 1024)
]
