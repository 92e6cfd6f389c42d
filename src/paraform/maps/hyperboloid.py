"""Points of hyperbolic space in the Lorentz model: ``(sqrt(1 + |y|^2), y)``."""

import torch
from torch import Tensor

from .ball import on_sphere
from .norms import norm
from .precision import measured, precise

# Newton's method squares the error at each step, but near to the axis at height 2, where two roots meet, a step
# only takes a third of it; there, 60 steps bring it from 1 to 1e-10.
_STEPS = 60


def _height(y: Tensor) -> Tensor:
    """``sqrt(1 + |y|^2)`` along the last dimension, which does not overflow and has derivatives at zero."""
    one = y.new_ones((*y.shape[:-1], 1))
    return norm(torch.cat([one, y], -1), (-1,))


@precise
def hyperboloid(raw: Tensor, dim: int) -> Tensor:
    """``raw`` with its first entry along ``dim`` replaced by ``sqrt(1 + |y|^2)``, where ``y`` is all the others.

    >>> hyperboloid(torch.tensor([9.0, 0.0, 0.75]), -1)
    tensor([1.2500, 0.0000, 0.7500])
    """
    y = raw.movedim(dim, -1)[..., 1:]
    return torch.cat([_height(y), y], -1).movedim(-1, dim)


@measured
def height_error(x: Tensor, dim: int) -> Tensor:
    """``|x_0 - sqrt(1 + |y|^2)|`` along ``dim``, one number for each vector.

    >>> height_error(torch.tensor([9.0, 0.0, 0.75]), -1)
    tensor(7.7500)
    """
    z = x.movedim(dim, -1)
    return (z[..., :1] - _height(z[..., 1:])).abs().squeeze(-1)


@precise
def project_hyperboloid(x: Tensor, dim: int) -> Tensor:
    """The nearest point in Euclidean norm.

    By symmetry it is ``(sqrt(1 + s^2), s y / |y|)``, with the largest root ``s`` of the derivative of half the squared
    distance, ``2 s - |y| - x_0 s / sqrt(1 + s^2)``. For positive ``x_0`` that function is convex, and Newton's method
    comes down to the root from ``(x_0 + |y|) / 2``; for negative it is concave and rises, and the method climbs from 0.

    >>> project_hyperboloid(torch.tensor([0.0, 0.0, 1.0]), -1)
    tensor([1.1180, 0.0000, 0.5000])
    """
    z = x.movedim(dim, -1)
    a, y = z[..., :1], z[..., 1:]
    b = norm(y, (-1,))
    s = torch.where(a > 0, a / 2 + b / 2, 0 * b)
    one = torch.ones_like(s)
    for _ in range(_STEPS):
        t = torch.hypot(one, s)
        slope = 2 - a / t / t / t
        step = (2 * s - b - a * (s / t)) / slope
        s = torch.where(slope > 0, s - step, s).clamp_min(0)
    return hyperboloid(torch.cat([a, s * on_sphere(y, -1)], -1), -1).movedim(-1, dim)
