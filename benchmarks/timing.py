"""Times things against each other: interleaved runs in one process, and medians of the ratios of neighbouring runs.

Each run is a block of calls under ``torch.utils.benchmark.Timer``, which warms up first, and on CUDA waits for the
device before it looks at the clock. What shares a machine with others is slow at times; the runs of one round are
slow together, and their ratio stays. Where they are not, the calmer half of the rounds tells.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

THREADS = int(os.environ.get("THREADS", "2"))  # one is calmer on a machine that others use: no thread waits for another
BLOCK = 0.005  # seconds of one run at least, long against the clock and short against an interruption
ROUNDS = (3, 200)  # at least, at most

Call = Callable[[], object]
Times = dict[str, list[float]]
"""Seconds a call of each, one number a round."""


@dataclass(frozen=True)
class Machine:
    """What the numbers belong to."""

    torch: str
    processor: str
    threads: int
    device: str
    load: float
    """How many programs wanted to run in the last minute."""

    def __str__(self) -> str:
        threads = "" if self.device == "cuda" else f", {self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"torch {self.torch}, {self.device}: {self.processor}{threads}; load {self.load:.1f}"

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def machine(device: str) -> Machine:
    """This machine, with the device that is timed."""
    name = torch.cuda.get_device_name() if device == "cuda" else _processor()
    return Machine(torch.__version__, name, THREADS, device, os.getloadavg()[0])


def _processor() -> str:
    about = Path("/proc/cpuinfo")  # platform.processor() is empty on most Linux systems
    for line in about.read_text().splitlines() if about.exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def time_together(calls: Mapping[str, Call], seconds: float, rounds: tuple[int, int] = ROUNDS) -> Times:
    """Seconds a call of each, in rounds that run all of them once, for about so many seconds altogether.

    Every second round runs backwards, so that a drift of the machine favours none.
    """
    end = time.perf_counter() + seconds
    timers = {name: Timer("call()", globals={"call": call}, num_threads=THREADS) for name, call in calls.items()}
    times: Times = {name: [] for name in calls}
    least, most = rounds
    for i in range(most):
        if i >= least and time.perf_counter() > end:
            break
        for name in list(calls)[:: -1 if i % 2 else 1]:
            times[name].append(timers[name].blocked_autorange(min_run_time=BLOCK).median)
    return times


def calmer_half(times: Times) -> Times:
    """The half of the rounds in which everything took least more than it does at best: the others shared the machine.

    >>> calmer_half({"ours": [5.0, 6.0, 5.1, 9.0], "theirs": [1.0, 1.1, 9.0, 8.0]})
    {'ours': [5.0, 6.0], 'theirs': [1.0, 1.1]}
    """
    least = {name: min(column) for name, column in times.items()}
    count = len(next(iter(times.values())))
    calm = sorted(range(count), key=lambda i: max(times[name][i] / least[name] for name in times))
    kept = sorted(calm[: (count + 1) // 2])
    return {name: [column[i] for i in kept] for name, column in times.items()}


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> list[float]:
    """Round by round.

    >>> ratios([2.0, 6.0], [1.0, 2.0])
    [2.0, 3.0]
    """
    return [a / b for a, b in zip(numerator, denominator, strict=True)]


def median_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """The median of the ratios of neighbouring runs, which is not the ratio of medians.

    >>> median_ratio([2.0, 60.0, 4.0], [1.0, 20.0, 1.0])
    3.0
    """
    return statistics.median(ratios(numerator, denominator))


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third; between them is half of the values."""
    if len(values) < 2:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


def fitted_slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The power of the size that the time grows with: the slope of the line through the logarithms (least squares).

    >>> round(fitted_slope([10, 20, 40], [3.0, 24.0, 192.0]), 6)
    3.0
    """
    return statistics.linear_regression([math.log(n) for n in sizes], [math.log(t) for t in seconds]).slope


def matmul(shape: Sequence[int]) -> Callable[[], Tensor]:
    """The yardstick of an ``n x k`` weight: ``n x k`` times ``k x k``, for a square weight one of its own size."""
    k, n = sorted(shape)[-2:]
    A, B = torch.randn(n, k), torch.randn(k, k)
    return lambda: A @ B
