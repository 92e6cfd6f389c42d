"""Vectors on the unit sphere and inside a ball."""

import torch
from torch import Tensor

from .norms import largest, norm, ordinary_unit, size, unit
from .precision import measured, precise


@precise
def on_sphere(x: Tensor, dim: int) -> Tensor:
    """``x / |x|`` along ``dim``; zeros, which have no direction, are taken for ones.

    >>> on_sphere(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), -1)
    tensor([[0.6000, 0.8000],
            [0.7071, 0.7071]])
    """
    direction = ordinary_unit(x, (dim,))
    if direction is not None:
        return direction
    # Added, not put in their place: so there is a derivative to leave zero by.
    return unit(torch.where(largest(x, (dim,)) == 0, x + 1, x), (dim,))


def _inner(radius: float, dtype: torch.dtype) -> float:
    """A radius so far inside that a vector of this length, rounded entry by entry, is no longer than ``radius``."""
    return radius * (1 - 4 * torch.finfo(dtype).eps)


# Below, the series to this order is tanh(s) / s in float64; above, no derivative of tanh(s) / s loses many digits.
_NEAR = 0.01


@precise
def into_ball(raw: Tensor, radius: float, dim: int) -> Tensor:
    """``raw`` made ``R tanh(|raw| / R)`` long along ``dim``, with ``R = (1 - 4 eps) radius``.

    >>> into_ball(torch.tensor([[30.0, 40.0], [0.003, 0.004], [0.0, 0.0]]), 1.0, -1)
    tensor([[0.6000, 0.8000],
            [0.0030, 0.0040],
            [0.0000, 0.0000]])
    """
    inner = _inner(radius, raw.dtype)
    y = raw / inner
    near = norm(y.detach(), (dim,)) < _NEAR
    z = torch.where(near, y, 0)
    square = torch.linalg.vecdot(z, z, dim=dim).real.unsqueeze(dim)
    series = z * (1 - square / 3 * (1 - square * 2 / 5 * (1 - square * 17 / 42)))
    z = torch.where(near, 1, y)  # away from zero, where the norm has no derivative
    return inner * torch.where(near, series, torch.tanh(norm(z, (dim,))) * unit(z, (dim,)))


@precise
def into_ball_raw(x: Tensor, radius: float, dim: int) -> Tensor:
    """The ``raw`` with ``into_ball(raw, radius, dim) == x``; longer vectors are taken for ones at ``5 eps`` inside.

    >>> into_ball(into_ball_raw(torch.tensor([0.0, 1.0]), 2.0, -1), 2.0, -1)
    tensor([0., 1.])
    """
    inner = _inner(radius, x.dtype)
    length = (norm(x, (dim,)) / inner).clamp_max(1 - torch.finfo(x.dtype).eps)
    return unit(x, (dim,)) * (inner * torch.atanh(length))


@precise
def pulled_into_ball(x: Tensor, radius: float, dim: int) -> Tensor:
    """``x``, and where it is longer than ``radius`` the vector of its direction at ``5 eps`` inside.

    >>> pulled_into_ball(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 1.0, -1)
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """
    edge = _inner(radius, x.dtype) * (1 - torch.finfo(x.dtype).eps)
    return torch.where(norm(x, (dim,)) > radius, edge * unit(x, (dim,)), x)


@measured
def length_beyond(x: Tensor, radius: float, dim: int) -> Tensor:
    """``max(0, |x| - radius)`` along ``dim``, one number for each vector.

    >>> length_beyond(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 1.0, -1)
    tensor([4., 0.])
    """
    return (size(x, (dim,)) - radius).clamp_min(0)
