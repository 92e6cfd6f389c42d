"""What a read costs, against ``torch.nn.utils.parametrize``: ratios of interleaved runs in one process.

``make bench`` prints the table and fails where a ratio is past what the README of the engine promises.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor, nn

from paraform import parametrize

ENGINES = (parametrize, torch.nn.utils.parametrize)
ROUNDS = 41
MICROSECONDS = 300.0  # how long one engine runs in one round, times 1000; short enough to fall between interruptions


class Skew(nn.Module):
    def forward(self, X: Tensor) -> Tensor:
        A = X.triu(1)
        return A - A.mT

    def right_inverse(self, A: Tensor) -> Tensor:
        return A.triu(1)


class Polar(nn.Module):
    """Two originals: a length and a direction."""

    def forward(self, length: Tensor, direction: Tensor) -> Tensor:
        return length * direction

    def right_inverse(self, X: Tensor) -> tuple[Tensor, Tensor]:
        length = X.norm()
        return length, X / length


@dataclass(frozen=True)
class Case:
    title: str
    make: Callable[[ModuleType], Callable[[], object]]
    """What to time, for an engine."""
    promised: float | None = None
    """At most this ratio."""
    cached: bool = False


def layer(engine: ModuleType, step: nn.Module) -> nn.Linear:
    return engine.register_parametrization(nn.Linear(8, 8), "weight", step)


def read(step: type[nn.Module]) -> Callable[[ModuleType], Callable[[], object]]:
    """A read in a forward pass, which is where values are used, and where paraform gives the plain tensor."""

    def make(engine: ModuleType) -> Callable[[], object]:
        module = layer(engine, step())

        def forward() -> object:
            return module.weight

        return forward

    return make


def look(step: type[nn.Module]) -> Callable[[ModuleType], Callable[[], object]]:
    """A read outside of a forward pass, where paraform gives a value that can be written to."""

    def make(engine: ModuleType) -> Callable[[], object]:
        module = layer(engine, step())
        return lambda: module.weight

    return make


def forward_pass(engine: ModuleType) -> Callable[[], object]:
    module, x = layer(engine, nn.Identity()), torch.ones(1, 8)
    return lambda: module(x)


def register(engine: ModuleType) -> Callable[[], object]:
    return lambda: layer(engine, nn.Identity())


def deepcopy(engine: ModuleType) -> Callable[[], object]:
    module = layer(engine, nn.Identity())
    return lambda: copy.deepcopy(module)


CASES = [
    Case("read, identity", read(nn.Identity), promised=0.6),
    Case("read, skew", read(Skew), promised=1.0),
    Case("read, two originals", read(Polar), promised=1.0),
    Case("forward pass, identity", forward_pass, promised=1.0),
    Case("cached read, identity", read(nn.Identity), promised=1.0, cached=True),
    Case("cached read, skew", read(Skew), promised=1.1, cached=True),
    Case("cached read, two originals", read(Polar), cached=True),
    Case("cached forward pass, identity", forward_pass, cached=True),
    Case("read outside a forward pass, identity", look(nn.Identity), promised=0.6),
    Case("read outside a forward pass, skew", look(Skew)),
    Case("cached read outside, identity", look(nn.Identity), promised=1.0, cached=True),
    Case("cached read outside, skew", look(Skew), cached=True),
    Case("make a layer and register", register),
    Case("deepcopy", deepcopy),
]


def measure(case: Case) -> tuple[float, float, float]:
    """Microseconds of paraform and of torch, and the median of the ratios of their neighbouring runs."""
    with everything_cached() if case.cached else nothing():
        runs = [case.make(engine) for engine in ENGINES]
        number = max(1, int(MICROSECONDS * 1000 / 1e6 / (timeit.timeit(runs[1], number=20) / 20)))
        rounds = [[timeit.timeit(run, number=number, timer=time.thread_time) for run in runs] for _ in range(ROUNDS)]
    ours, theirs = (min(times) / number * 1e6 for times in zip(*rounds, strict=True))
    return ours, theirs, statistics.median(mine / its for mine, its in rounds)


@contextmanager
def everything_cached() -> Iterator[None]:
    first, second = (engine.cached() for engine in ENGINES)
    with first, second:
        yield


@contextmanager
def nothing() -> Iterator[None]:
    yield


def main() -> int:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, Python {sys.version.split()[0]}, one thread; microseconds a call\n")
    print(f"{'':40}{'paraform':>10}{'torch':>10}{'ratio':>8}  promised")
    broken = 0
    for case in CASES:
        ours, theirs, ratio = measure(case)
        late = case.promised is not None and ratio > case.promised
        broken += late
        promised = "" if case.promised is None else f"{case.promised:>8.2f}{'  BROKEN' if late else ''}"
        print(f"{case.title:40}{ours:10.2f}{theirs:10.2f}{ratio:8.2f}  {promised}")
    return broken


if __name__ == "__main__":
    sys.exit(main())
