"""What can be said of a parametrized tensor in numbers: whether it is in its set, and how it is conditioned."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from .. import maps
from ..constraints import Constraint
from ..parametrize.named import named_chains
from ..parametrize.reads import look
from ..parametrize.switching import originals_of


@dataclass(frozen=True)
class Measurement:
    """A parametrized tensor in numbers. What cannot be known is None."""

    name: str
    """The full name of the tensor, as in the plain model's state dict."""
    shape: tuple[int, ...]
    dtype: torch.dtype
    chain: tuple[str, ...]
    """The parametrizations in their order, as they print; a step that is switched off says so."""
    dof: int | None
    """The true dimension of the set; None for a chain of several, or of one that does not know it."""
    trained: int
    """How many real numbers train: those of the raw tensors, and what the parametrizations train of their own."""
    raw_norm: float
    """The Frobenius norm of the raw tensors together."""
    residual: float | None
    """How far the value is from the set of the last parametrization, of all its matrices the farthest."""
    is_inside: bool | None
    """Whether that is no more than rounding."""
    condition: float | None
    """The largest singular value divided by the smallest, of all matrices the largest; None for vectors and numbers."""
    is_finite: bool
    """Whether all entries of the value are finite; otherwise residual and condition are nan."""


def measurements(model: Module) -> Iterator[Measurement]:
    """The measurement of each parametrized tensor of ``model``; a tie is measured once, under its first name.

    Computes each value once, without a graph and without carrying estimates on. Nothing is changed.

    >>> from torch import nn
    >>> from paraform import Skew, register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Skew())
    >>> [(m.name, m.chain, m.dof, m.trained, m.residual) for m in measurements(layer)]
    [('weight', ('Skew()',), 3, 9, 0.0)]
    """
    for named in named_chains(model):
        yield measure(named.chain, named.name)


@torch.no_grad()
def measure(chain: Any, name: str = "") -> Measurement:
    """The measurement of one chain, which is on the tensor ``name``.

    Raises:
        Exception: whatever its parametrizations raise.
    """
    value, raws = look(chain).detach(), originals_of(chain)
    last, several = last_constraint(chain), len(chain) > 1
    is_finite = bool(torch.isfinite(value).all())
    residual = is_inside = None
    if last is not None:
        residual = _largest(last.residual(value)) if is_finite else math.nan
        is_inside = is_finite and bool(last.contains(value).all())
    return Measurement(
        name=name,
        shape=tuple(value.shape),
        dtype=value.dtype,
        chain=steps_of(chain),
        dof=None if last is None or several else last.dof(value.shape, dtype=value.dtype),
        trained=sum(reals(tensor) for tensor in {*raws, *chain.parameters()}),
        raw_norm=math.hypot(*(float(torch.linalg.vector_norm(wide(raw.detach()))) for raw in raws)),
        residual=residual,
        is_inside=is_inside,
        condition=condition(matrices_of(chain, value)) if is_finite else math.nan,
        is_finite=is_finite,
    )


def last_constraint(chain: Any) -> Constraint | None:
    """The constraint whose set the value is to lie in: the last step that is switched on, if it is a constraint."""
    on = list(chain._on()) if hasattr(chain, "_on") else list(enumerate(chain))
    last = on[-1][1] if on else None
    return last if isinstance(last, Constraint) else None


def steps_of(chain: Any) -> tuple[str, ...]:
    """The steps of a chain as they print, each in one line."""
    off = getattr(chain, "_off", ())
    return tuple(step_text(step) + (" (switched off)" if key in off else "") for key, step in chain._modules.items())


def step_text(step: Module) -> str:
    """A parametrization as it prints, in one line."""
    return type(step).__name__ if "\n" in repr(step) else repr(step)


def matrices_of(chain: Any, value: Tensor) -> Tensor | None:
    """The value as the matrices that its constraint is about, shape ``(*, m, n)``; None for vectors and numbers."""
    last = last_constraint(chain)
    seen = value if last is None else last.seen(value)
    return None if seen.ndim < 2 or 0 in seen.shape else wide(seen)


def condition(matrices: Tensor | None) -> float | None:
    """The largest of the condition numbers of ``matrices``, in the 2-norm."""
    if matrices is None:
        return None
    singular = torch.linalg.svdvals(matrices)
    return _largest(singular[..., 0] / singular[..., -1])


def wide(tensor: Tensor) -> Tensor:
    """``tensor`` in a precision that linear algebra can work in."""
    return tensor.to(maps.working_dtype(tensor.dtype)) if tensor.is_floating_point() or tensor.is_complex() else tensor


def reals(tensor: Tensor) -> int:
    """How many real numbers a tensor stores."""
    return tensor.numel() * (2 if tensor.is_complex() else 1)


def _largest(numbers: Tensor) -> float:
    # nan, as where a zero matrix is divided by zero, is no number to compare with: an infinite condition
    return float(torch.nan_to_num(numbers, nan=math.inf).max()) if numbers.numel() else 0.0
