"""Vectors of non-negative entries with sum 1."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .precision import measured, precise


@precise
def simplex(raw: Tensor, dim: int) -> Tensor:
    """``exp(raw_i) / sum_j exp(raw_j)`` along ``dim``: softmax.

    >>> simplex(torch.tensor([0.0, 0.0, 200.0]), -1)
    tensor([0., 0., 1.])
    """
    return torch.softmax(raw, dim)


@precise
def log_ratios(p: Tensor, dims: Sequence[int]) -> Tensor:
    """``log p`` less its mean over ``dims``, after :func:`off_the_faces`: what softmax makes ``p`` of, if its sum is 1.

    >>> log_ratios(torch.tensor([0.25, 0.5, 0.25]), (-1,)).exp() * 0.5 ** (5 / 3)
    tensor([0.2500, 0.5000, 0.2500])
    """
    raw = torch.log(off_the_faces(p, dims))
    return raw - raw.mean(tuple(dims), keepdim=True)


@precise
def off_the_faces(p: Tensor, dims: Sequence[int], within: float = 0.0) -> Tensor:
    """``(1 - eps) p + eps / n`` where ``p`` has an entry that is not positive, else ``p``, for each point on its own.

    Args:
        p: probabilities along the last of ``dims``, ``n`` of them.
        dims: the dimensions that one point spans.
        within: take entries up to this many ``eps / n`` for 0, as what arithmetic leaves of one.

    >>> off_the_faces(torch.tensor([[0.5, 0.5], [0.0, 1.0]]), (-1,))
    tensor([[5.0000e-01, 5.0000e-01],
            [5.9605e-08, 1.0000e+00]])
    """
    eps = torch.finfo(p.dtype).eps
    least = eps / max(p.shape[dims[-1]], 1)
    on_a_face = (p <= within * least).any(tuple(dims), keepdim=True)
    return torch.where(on_a_face, (1 - eps) * p.clamp_min(0) + least, p)


@precise
def project_simplex(x: Tensor, dim: int) -> Tensor:
    """``max(0, x - t)`` along ``dim``, with the ``t`` that makes the sum 1: the nearest point.

    J. Duchi and others, *Efficient projections onto the l1-ball for learning in high dimensions*, 2008, figure 1.

    >>> project_simplex(torch.tensor([1.0, 0.5, -2.0]), -1)
    tensor([0.7500, 0.2500, 0.0000])
    """
    # Of numbers near to the largest no digit is lost beside 1, however large they are.
    y = x - x.amax(dim, keepdim=True)
    return (y - simplex_threshold(y, dim)).clamp_min(0)


@measured
def simplex_threshold(x: Tensor, dim: int) -> Tensor:
    """The ``t`` of :func:`project_simplex`; ``dim`` is kept as size 1.

    >>> simplex_threshold(torch.tensor([1.0, 0.5, -2.0]), -1)
    tensor([0.2500])
    """
    falling = x.movedim(dim, -1).sort(-1, descending=True).values
    top = falling[..., :1]
    below = falling - top
    rank = torch.arange(1, x.shape[dim] + 1, dtype=x.dtype, device=x.device)
    thresholds = (below.cumsum(-1) - 1) / rank
    count = (below > thresholds).sum(-1, keepdim=True).clamp_min(1)
    rough = thresholds.gather(-1, count - 1)
    # Long sums that cancel have cost digits; what is left of them is a sum near to 1.
    exact = rough + ((below - rough).clamp_min(0).sum(-1, keepdim=True) - 1) / count
    return (top + exact).movedim(-1, dim)
