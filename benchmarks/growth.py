"""How the cost of value and gradient grows with n, with k as it is, and with the number of layers.

``make growth`` draws ``benchmarks/results/growth.png``, with the fitted powers in its legends, and writes the numbers
beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from torch.nn.utils.parametrizations import orthogonal
from torch.nn.utils.parametrize import cached as torchs_cached

import paraform as pf

from .cases.case import Make
from .cases.models import Cached, Register, stacked
from .cases.models import ours as our_layer
from .cases.orthogonal import ours, torchs
from .timing import Machine, best_device, calmer_half, fitted_slope, machine, matmul, time_together

RESULTS = Path(__file__).parent / "results"
SECONDS = 2.0  # a size
QUICK = 0.3
ROUNDS = (3, 50)
EMBEDDED = 3000  # torch makes n x n matrices of tall weights, which take gigabytes and minutes beyond this
FITTED = 4
"""Through how many of the largest sizes the line goes: at small ones the time is that of the calls themselves."""

OURS, PEER, YARDSTICK = "-", "--", ":"
COLOURS = {"matrix_exp": "#0072B2", "cayley": "#D55E00", "householder": "#009E73", "layers": "#CC79A7", "": "#888888"}


@dataclass(frozen=True)
class Line:
    name: str
    call: Callable[[int], Callable[[], object]]
    """What to time, for a size."""
    kind: str
    style: str
    until: float = math.inf
    """The largest size that is asked of it."""


@dataclass(frozen=True)
class Plot:
    title: str
    x: str
    sizes: Sequence[int]
    lines: Sequence[Line]


def square(make: Make) -> Callable[[int], Callable[[], object]]:
    return lambda n: make((n, n)).run


def tall(make: Make) -> Callable[[int], Callable[[], object]]:
    return lambda n: make((n, 50)).run


def layers(register: Register, cached: Cached) -> Callable[[int], Callable[[], object]]:
    return lambda count: stacked(register, cached, count)((32, 32)).run


MAPS = ("matrix_exp", "cayley", "householder")
PLOTS = [
    Plot(
        "A square weight",
        "n",
        (16, 32, 64, 128, 256, 512, 1024),
        [
            *(Line(f"{map}, paraform", square(ours(map)), map, OURS) for map in MAPS),
            *(Line(f"{map}, torch", square(torchs(map)), map, PEER) for map in MAPS),
            Line("one matmul", lambda n: matmul((n, n)), "", YARDSTICK),
        ],
    ),
    Plot(
        "A weight of 50 columns",
        "n",
        (100, 300, 1000, 3000, 10000, 30000),
        [
            Line("auto, paraform", tall(ours()), "cayley", OURS),
            Line("cayley, torch", tall(torchs("cayley")), "cayley", PEER, EMBEDDED),
            Line("householder, paraform", tall(ours("householder")), "householder", OURS),
            Line("householder, torch", tall(torchs("householder")), "householder", PEER, EMBEDDED),
            Line("n x 50 times 50 x 50", lambda n: matmul((n, 50)), "", YARDSTICK),
        ],
    ),
    Plot(
        "Layers of 32 x 32, forward and backward",
        "layers",
        (1, 4, 16, 64),
        [
            Line("cached(model), paraform", layers(our_layer, pf.cached), "layers", OURS),
            Line("cached(), torch", layers(orthogonal, lambda _: torchs_cached()), "layers", PEER),
            Line("uncached, paraform", layers(our_layer, lambda _: nullcontext()), "matrix_exp", OURS),
        ],
    ),
]


def measure(plot: Plot, seconds: float) -> dict[str, dict[int, float]]:
    """Seconds a call, line by line and size by size."""
    found: dict[str, dict[int, float]] = {line.name: {} for line in plot.lines}
    for size in plot.sizes:
        calls = {}
        for line in plot.lines:
            if size <= line.until:
                torch.manual_seed(0)
                calls[line.name] = line.call(size)
        times = calmer_half(time_together(calls, seconds, ROUNDS))
        for name, column in times.items():
            found[name][size] = statistics.median(column)
        print(
            f"  {plot.x} = {size}: " + ", ".join(f"{name} {1e3 * found[name][size]:.3g}" for name in calls), flush=True
        )
    return found


def power(points: Mapping[int, float]) -> float:
    """What power of the size the time grows with, at the larger sizes."""
    sizes = sorted(points)[-FITTED:]
    return fitted_slope(sizes, [points[size] for size in sizes])


def draw(path: Path, found: Sequence[Mapping[str, Mapping[int, float]]], about: Machine) -> None:
    """One logarithmic plot beside another, one line a way to compute it."""
    figure = Figure(figsize=(5.2 * len(PLOTS), 5.6), layout="constrained", facecolor="white")
    all_axes: Sequence[Axes] = figure.subplots(1, len(PLOTS))
    for axes, plot, lines in zip(all_axes, PLOTS, found, strict=True):
        for line in plot.lines:
            points = lines[line.name]
            label = f"{line.name}: {plot.x}$^{{{power(points):.1f}}}$"
            milliseconds = [1e3 * seconds for seconds in points.values()]
            axes.plot(
                list(points), milliseconds, line.style, color=COLOURS[line.kind], label=label, marker="o", markersize=3
            )
        axes.set(xscale="log", yscale="log", xlabel=plot.x, ylabel="milliseconds of value and gradient")
        axes.set_xticks(plot.sizes, [str(size) for size in plot.sizes], minor=False)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_title(plot.title, loc="left", fontsize=11, fontweight="bold")
        axes.grid(color="#DDDDDD", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, title=f"fitted to the {FITTED} largest sizes", title_fontsize=8)
    figure.suptitle(f"{about}, float32", fontsize=9, color="#555555")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--device", default=best_device(), choices=["cpu", "cuda"])
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers' own
    about = machine(asked.device)
    print(f"{about}; milliseconds of value and gradient, float32")
    found = []
    with torch.device(asked.device):
        for plot in PLOTS:
            print(plot.title)
            found.append(measure(plot, QUICK if asked.quick else SECONDS))
    plots = [
        {"title": plot.title, "x": plot.x, "seconds": lines, "powers": {name: power(lines[name]) for name in lines}}
        for plot, lines in zip(PLOTS, found, strict=True)
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "growth.json").write_text(json.dumps({"machine": about.as_json(), "plots": plots}, indent=1) + "\n")
    draw(RESULTS / "growth.png", found, about)


if __name__ == "__main__":
    main()
