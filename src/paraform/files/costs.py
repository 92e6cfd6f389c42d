"""What the values of a saved model cost to compute, known from the recipe alone, and how much of it a file may ask for.

A few kilobytes of factors can stand for a matrix that fills the memory, and whose decomposition takes hours. What a
file may cost grows with its own size, so that one that was made to harm does not, and an honest one is computed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from .entry import Entry

LARGEST_VALUE = 2**27
"""In bytes: so much a value may take, or :data:`GROWTH` times what is stored for it if that is more."""
LARGEST_SUM = 2**30
"""In bytes: so much all values of a file may take together, or :data:`GROWTH` times its size if that is more."""
GROWTH = 128
WORK = 2**15
"""Multiplications for each byte of a file, some tens of seconds for a megabyte of it; a square matrix of single
precision and a side of 100 000 is within it."""
SMALL_WORK = 2**30
"""Multiplications that any file may ask for: a second."""
# These multiply or lay out what they are given; the others may decompose.
_CHEAP = ("LowRank", "Circulant", "Toeplitz")
_TORCHS_ORTHOGONAL = "parametrizations.orthogonal"


def bytes_needed(entry: Entry) -> int:
    """The bytes of the largest tensor on the way to the value.

    A dimension of no entries counts as one: a norm over it has an entry for each of the others.

    >>> from .entry import Step
    >>> import torch
    >>> low = {"name": "LowRank", "arguments": {"rank": 1}}
    >>> bytes_needed(Entry((1000, 500), torch.float16, (Step(low, "0"),)))
    2000000
    """
    return max(map(_numbers, _shapes(entry))) * max(entry.dtype.itemsize, 4)  # half precision is computed in single


def work_of_value(entry: Entry) -> int:
    """About how many multiplications the value takes."""
    if len(entry.steps) == 1 and entry.steps[0].name in _CHEAP:
        return max(map(_numbers, _shapes(entry)))
    return work_of_measuring(entry)


def work_of_measuring(entry: Entry) -> int:
    """About how many multiplications it takes to decompose the value, once for each parametrization."""
    count = sum(_parametrizations_in(step.data) for step in entry.steps)
    return count * max(map(_work_of_decomposition, _shapes(entry)))


def most_work(works: Sequence[int], size: int) -> int:
    """The work up to which all tensors can be computed within what a file of ``size`` bytes may cost.

    >>> most_work([10, 20, 2**40], size=1000), most_work([10, 20], size=1000)
    (20, 20)
    """
    left, most = max(SMALL_WORK, WORK * size), 0
    for work, count in sorted(Counter(works).items()):
        left -= work * count
        if left < 0:
            break
        most = work
    return most


def _shapes(entry: Entry) -> list[tuple[int, ...]]:
    shapes = [entry.shape, *[step.shape for step in entry.steps if step.shape is not None]]
    if any(_TORCHS_ORTHOGONAL in _names_in(step.data) for step in entry.steps):
        # The exponential and Cayley's map of torch's complete a matrix to a square one.
        maps = [step.data["arguments"].get("orthogonal_map") for step in entry.steps]
        if maps != ["householder"]:
            shapes += [(*shape[:-2], max(shape[-2:]), max(shape[-2:])) for shape in shapes if len(shape) > 1]
    return shapes


def _numbers(shape: Sequence[int]) -> int:
    return math.prod(max(size, 1) for size in shape)


def _work_of_decomposition(shape: Sequence[int]) -> int:
    numbers = _numbers(shape)
    # Nobody knows how a view cuts more dimensions into matrices; they have no more rows than that.
    return numbers * (max(min(shape), 1) if len(shape) == 2 else math.isqrt(numbers))


def _names_in(data: Any) -> list[Any]:
    """The names of the parametrizations in a recipe, inner ones too."""
    if isinstance(data, list):
        return [name for each in data for name in _names_in(each)]
    if not isinstance(data, dict):
        return []
    own = [data["name"]] if isinstance(data.get("name"), str) else []
    return own + [name for each in data.values() for name in _names_in(each)]


def _parametrizations_in(data: Any) -> int:
    return max(len(_names_in(data)), 1)
