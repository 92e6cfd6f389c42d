"""``docs/performance.md``, from what the other scripts measured: ``.venv/bin/python -m benchmarks.page``.

Every number on that page comes from ``results/``. A row that is past its bar needs a reason in ``REASONS``, or this
raises: there is no loser without a word about why.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"

REASONS = {
    "Orthogonal('matrix_exp'), |A| = 10": (
        "A turn by ten radians takes three more doublings of the exponential, each three products with its gradient, "
        "and one Newton-Schulz step, which keeps the value ten times as orthogonal as the peers' is. With a moving "
        "base no weight is ever that far away from it."
    ),
    "Orthogonal('matrix_exp'), |A| = 1": (
        "At 64 x 64 what counts is how many operations there are, not how large they are: about 60 small ones. At "
        "256 x 256 it is at its bar, give or take a few percent: 14 products, and as much time for sums between them."
    ),
    "Orthogonal('cayley'), |A| = 1": (
        "One LU factorization and its solve, which take most of the time at this size and which the peers need as "
        "well. The value is two to three times as orthogonal as theirs."
    ),
    "Orthogonal('householder'), |A| = 1": (
        "Seven products and one triangular solve; the peer is sequential, and how slow that is depends on the machine."
    ),
    "SGD step, base moves every step": (
        "What is left is the gradient, one product, and one evaluation of the map outside autograd, three or four."
    ),
    "64 layers under cached(model)": (
        "The batch itself takes about a millisecond. The rest is Python, layer by layer: what tells that a value is "
        "still right (2 ms for 64 layers), the calls of the layers, and autograd's own work for 64 gradients, which "
        "the peer has too."
    ),
    "WeightNorm()": (
        "The value and the gradient are torch's own operation; the rest is the Python around it, some 60 microseconds "
        "at every size, which looks for slices of zeros and makes second derivatives right (torch's are wrong)."
    ),
    "SpectralNorm()": (
        "It computes the largest singular value at every read, by an eigenvalue decomposition, where torch takes one "
        "step of a power iteration. So it does not lag: `benchmarks/adversarial_norm.py` drives the norm that torch's "
        "promises to be 1 up to 6.8. `paraform.parametrizations.spectral_norm` is torch's algorithm."
    ),
    "UnitNorm()": "Geotorch's `SphereEmbedded` divides by the norm and takes no care of zeros.",
    "Symmetric()": "The same operations as the peer's.",
    "Skew()": "The same operations as the peer's.",
    "SpecialLinear()": "Two exponentials of the size of the weight on either side.",
    "Invertible()": "Two exponentials of the size of the weight on either side.",
    "eval, parametrization removed": "The same layer on both sides: this is noise.",
    "Orthogonal(): value and gradient": "It is bound by memory, and shared with others here.",
    "Orthogonal(): growth with n": "It is bound by memory, and shared with others here.",
    "Orthogonal('cayley'): backward beyond forward": "Timed as the difference of two noisy numbers.",
}


def main() -> None:
    table, growth, maps = (json.loads((HERE / "results" / f"{name}.json").read_text()) for name in NAMES)
    PAGE.write_text(page(table, growth, maps))


NAMES = ("table", "growth", "maps")


def page(table: dict[str, Any], growth: dict[str, Any], maps: dict[str, Any]) -> str:
    """The whole page."""
    return "\n\n".join(
        [
            INTRODUCTION,
            "## What was measured",
            about(table["machine"]),
            cases(table["cases"]),
            limits(table["limits"]),
            LEGEND,
            "## Where it is slower, and why",
            losers([*table["cases"], *table["limits"]]),
            "## How the cost grows",
            growth_of(growth),
            "## Which map",
            choice(maps),
            LAST,
        ]
    )


INTRODUCTION = """# Performance

<!-- Made by `.venv/bin/python -m benchmarks.page` from `benchmarks/results/`; edit that. -->

Constrained training used to cost ten or a hundred times as much as free training. It need not. Three habits:

**Let the base move.** An orthogonal weight is a base, turned by a map of the raw tensor. If the base follows the
weight after every optimizer step, the raw tensor is zero at every forward pass: there is nothing to compute, and the
gradient is one matrix product.

```python
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
paraform.rebase_every(optimizer, model)  # one line; momentum, state dicts and schedulers go on
```

**Compute each weight once a forward pass.** A recurrent network reads its kernel at every time step; and equal
constraints on small tensors of equal shape are evaluated as one batch.

```python
with paraform.cached(model):
    loss = criterion(model(x), y)
loss.backward()
```

(`paraform.cache_each_forward(model)` does it without the `with`.)

**Make it plain when training is over.** `paraform.remove_parametrizations(layer, "weight")` leaves the layer that it
was before, with the trained value: evaluation costs what it costs without the library. `paraform.frozen(model)` is
for a model that has to stay as it is."""

LEGEND = """\
Each line is value and gradient of one weight, if it does not say otherwise. *matmuls* is our time in units of one
product of the weight with a square matrix. ‖A‖ is by how many radians the weight is turned away from its base at
most. Ratios are medians of neighbouring runs in one process."""

LAST = """\
A device that is not listed was not there to be measured: the scripts run on CUDA where there is one, and say so. In
compiled code and under `torch.func.vmap` numbers cannot be looked at, and there the exponential is
`torch.matrix_exp`'s; the other maps are the same products everywhere."""


def about(machine: dict[str, Any]) -> str:
    return (
        f"torch {machine['torch']}, {machine['device']}: {machine['processor']}, {machine['threads']} threads, float32 "
        f"(load of the machine while it ran: {machine['load']:.1f}). Run it yourself: `make bench`."
    )


def sizes(row: dict[str, Any]) -> str:
    return " x ".join(map(str, row["shape"]))


def named(row: dict[str, Any]) -> str:
    """The title, without what would end a cell of a table."""
    return str(row["title"]).replace("|", "‖")


def in_cells(header: str, lines: list[str]) -> str:
    """A table in Markdown."""
    return "\n".join([header, "|" + " --- |" * (header.count("|") - 1), *lines])


def cases(rows: list[dict[str, Any]]) -> str:
    """The table of ratios."""
    return in_cells(
        "| | | against | theirs, ms | ours, ms | times faster | matmuls | bar |",
        [
            f"| {named(row)} | {sizes(row)} | {row['peer']} | {1e3 * row['theirs']:.3g} | {1e3 * row['ours']:.3g} "
            f"| **{row['ratio']:.2f}** | {row['matmuls']:.1f} | {row['bar']:.3g}{'' if row['met'] else ' (missed)'} |"
            for row in rows
        ],
    )


def limits(rows: list[dict[str, Any]]) -> str:
    """The table of numbers about our side alone."""
    return in_cells(
        "| | | found | at most |",
        [
            f"| {named(row)} | {sizes(row)} | {row['found']:.3g} {row['unit']} "
            f"| {'' if row['at most'] is None else row['at most']}{'' if row['met'] else ' (missed)'} |"
            for row in rows
        ],
    )


def losers(rows: list[dict[str, Any]]) -> str:
    """Every row past its bar, and every one where the peer is faster, with the reason."""
    lost: dict[str, list[str]] = {}
    for row in rows:
        if not row["met"] or row.get("ratio", 1) < 1:
            found = f"{row['ratio']:.2f} at {sizes(row)}" if "ratio" in row else f"{row['found']:.3g} at {sizes(row)}"
            lost.setdefault(row["title"], []).append(found)
    return "\n".join(
        f"- **{title.replace('|', '‖')}** ({', '.join(found)}). {REASONS[title]}" for title, found in lost.items()
    )


def growth_of(growth: dict[str, Any]) -> str:
    """The picture, and the fitted powers."""
    lines = ["![Time of value and gradient against size, both logarithmic](../benchmarks/results/growth.png)", ""]
    for plot in growth["plots"]:
        powers = ", ".join(f"{name} {power:.2f}" for name, power in plot["powers"].items())
        lines.append(f"- {plot['title']}, powers of {plot['x']}: {powers}.")
    return "\n".join(lines)


def choice(maps: dict[str, Any]) -> str:
    """What the maps cost."""
    parts = [
        "`Orthogonal()` takes the Cayley transform: of it and the exponential, the two whose steps do not depend on "
        "the order of the columns and which reach all that the base is connected to, or nearly, it was faster at every "
        "shape, dtype and device measured (a test holds the choice against these numbers). So the choice need not "
        "depend on them; it must not, for a checkpoint has to mean the same on every device. The exponential follows "
        "geodesics, and reaches half turns, for which the Cayley transform needs an infinite raw tensor; with a moving "
        "base that makes no difference. Householder reflections are a little faster still for tall weights, but know "
        "no zero raw tensor for which nothing is computed."
    ]
    for device, measured in maps.items():
        machine = measured["machine"]
        names = list(measured["maps"][0]["seconds"])
        parts.append(
            f"Milliseconds of value and gradient on {device} ({machine['processor']}, {machine['threads']} threads), "
            f"‖A‖ = 1:"
        )
        lines = [
            f"| {sizes(row)} | {row['dtype'].removeprefix('torch.')} | "
            + " | ".join(f"{1e3 * row['seconds'][name]:.3g}" for name in names)
            + " |"
            for row in measured["maps"]
        ]
        parts.append(in_cells("| | | " + " | ".join(names) + " |", lines))
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
