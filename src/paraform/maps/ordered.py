"""Vectors of increasing entries."""

import torch
from torch import Tensor

from .norms import size
from .positive import inverse_softplus, softplus
from .precision import measured, precise


def _with_first(x: Tensor, steps: Tensor) -> Tensor:
    return torch.cat([x[..., :1], steps], -1)


@precise
def ordered(raw: Tensor, dim: int) -> Tensor:
    """``raw_1, raw_1 + softplus(raw_2), raw_1 + softplus(raw_2) + softplus(raw_3), ...`` along ``dim``.

    >>> ordered(torch.tensor([1.0, 0.5413, 0.5413]), -1)
    tensor([1.0000, 2.0000, 3.0000])
    """
    r = raw.movedim(dim, -1)
    return _with_first(r, softplus(r[..., 1:])).cumsum(-1).movedim(-1, dim)


@precise
def ordered_raw(x: Tensor, dim: int) -> Tensor:
    """The ``raw`` with ``ordered(raw, dim) == x``; see :func:`untied` for steps that are not positive.

    >>> ordered(ordered_raw(torch.tensor([1.0, 2.0, 4.0]), -1), -1)
    tensor([1., 2., 4.])
    """
    y = x.movedim(dim, -1)
    return _with_first(y, inverse_softplus(_positive_steps(y))).movedim(-1, dim)


def _positive_steps(y: Tensor) -> Tensor:
    steps = y.diff(dim=-1)
    return torch.where(steps <= 0, torch.finfo(y.dtype).eps / max(y.shape[-1], 1), steps)


@precise
def untied(x: Tensor, dim: int) -> Tensor:
    """``x`` with each step up that is not positive made ``eps / n``, so that no entry moves by more than ``eps``.

    >>> untied(torch.tensor([0.0, 0.0, 2.0]), -1)
    tensor([0.0000e+00, 3.9736e-08, 2.0000e+00])
    """
    y = x.movedim(dim, -1)
    tied = (y.diff(dim=-1) <= 0).any(-1, keepdim=True)
    return torch.where(tied, _with_first(y, _positive_steps(y)).cumsum(-1), y).movedim(-1, dim)


@precise
def isotonic(x: Tensor, dim: int) -> Tensor:
    """The nearest vector whose entries do not decrease along ``dim``.

    It has the mean of a block of ``x`` on each block. Blocks start as single entries, and all that stand above their
    right neighbour are joined with it, over and over (pool adjacent violators, in any order: M. Best and
    N. Chakravarti, *Active set algorithms for isotonic regression; a unifying framework*, 1990). A round costs
    ``O(n)``; a random vector takes a few of them, and none takes more than ``n``.

    >>> isotonic(torch.tensor([1.0, 3.0, 2.0, 0.0, 5.0]), -1)
    tensor([1.0000, 1.6667, 1.6667, 1.6667, 5.0000])
    """
    y = x.movedim(dim, -1)
    starts = torch.ones_like(y, dtype=torch.bool)
    while True:
        block = starts.cumsum(-1) - 1
        total, count = (torch.zeros_like(y).scatter_add(-1, block, z) for z in (y, torch.ones_like(y)))
        means = (total / count.clamp_min(1)).gather(-1, block)
        falls = means.diff(dim=-1) < 0
        if not bool(falls.any()):
            return means.movedim(-1, dim)
        starts = torch.cat([starts[..., :1], starts[..., 1:] & ~falls], -1)


@measured
def decrease(x: Tensor, dim: int) -> Tensor:
    """The Euclidean norm of the steps down along ``dim``, one number for each vector.

    >>> decrease(torch.tensor([1.0, 4.0, 0.0, -3.0]), -1)
    tensor(5.)
    """
    return size(x.diff(dim=dim).clamp_max(0), (dim,))
