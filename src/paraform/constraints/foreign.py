"""Values that are written down in the state dicts of other implementations."""

import torch
from torch import Tensor

from .. import maps


def over_estimate(weight: Tensor, u: Tensor, v: Tensor | None) -> Tensor | None:
    """What torch's spectral norms make of ``weight``: ``W / |u^H M v|``, or None where the vectors do not fit.

    ``M`` is ``weight`` as a matrix of dimension 0 by all the others, or of dimension 1, as for transposed convolutions;
    if the vectors fit both, the estimate with the wrong one is the smaller. Before its version 1.0 torch saved no
    ``v``; it took ``M^H u`` of length 1.

    >>> e = torch.tensor([1.0, 0.0])
    >>> over_estimate(torch.diag(torch.tensor([0.5, 0.25])), e, e)
    tensor([[1.0000, 0.0000],
            [0.0000, 0.5000]])
    """
    dims = [dim for dim in range(min(weight.ndim, 2)) if _fits(weight, dim, u, v)]
    return _over_estimate(weight, dims, u, v) if dims and weight.ndim > 1 else None


def _fits(weight: Tensor, dim: int, u: Tensor, v: Tensor | None) -> bool:
    m = weight.shape[dim]
    return u.shape == (m,) and (v is None or v.shape == (weight.numel() // max(m, 1),))


@maps.precise
def _over_estimate(weight: Tensor, dims: list[int], u: Tensor, v: Tensor | None) -> Tensor:
    images = [weight.movedim(dim, 0).flatten(1).mH @ u for dim in dims]
    sigmas = [torch.linalg.vector_norm(x) if v is None else torch.vdot(x, v).abs() for x in images]
    return weight / torch.stack(sigmas).max()
