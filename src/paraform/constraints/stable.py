"""Stable matrices: of differential equations, and of recurrences."""

import math
from typing import Any

import torch
from torch import Tensor

from .. import maps
from .base import Constraint, distance_between
from .shapes import require_number, require_square

# How far inside of the set a matrix is moved that is outside, relative to its size. The certificate of stability is as
# large as the inverse of that: it takes as many digits of the value, and makes a step of the raw tensor as long.
_MARGIN = 0.05


class Certified(Constraint):
    """What stable sets share: the certificate of a matrix near to the edge takes digits of it, which is told.

    ``distance`` counts what it takes, where that is more than ``sqrt(n eps)`` of the size of the value; at an
    assignment it causes a :class:`ProjectionWarning`, or an error if strict.
    """

    def _counted(self, value: Tensor, raw: Tensor | tuple[Tensor, ...], distance: Tensor | None) -> Tensor | None:
        if distance is None:
            return None
        lost = distance_between(self.forward(raw), value)
        size = distance_between(value, torch.zeros_like(value))
        if not bool(lost > (value.shape[-1] * torch.finfo(value.dtype).eps) ** 0.5 * size):
            return distance
        if self.learned and not bool(distance > 0):
            self._report(lost)
        return lost

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return reals * shape.numel()

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_square(self, shape)


class Hurwitz(Certified):
    r"""Matrices whose eigenvalues have real parts below :math:`-d`: the solutions of :math:`x' = A x` decay like it.

    Shape: ``(*, n, n)`` to the same. Freedom: all entries.
    Raw tensor: all entries are read. The value is :math:`(K - I) H - d I` with a skew (skew-Hermitian, if complex)
    matrix ``K`` from the upper triangle, and a positive definite ``H`` from the lower triangle and the diagonal, as in
    :class:`PositiveDefinite`. Such pairs are the matrices of the set, one to one (:mod:`paraform.maps.stable`): ``H``
    is the inverse of the solution of a Lyapunov equation, and :math:`x^H H x` falls along every solution (N. Gillis and
    P. Sharma, *On computing the distance to stability for matrices using linear dissipative Hamiltonian systems*,
    2017).
    Samples: the value for a ``K`` with standard normal entries and a Wishart matrix ``H`` of mean ``I``.

    The set is open, and values stay inside of it but for rounding, however ``K`` grows. An assigned value comes back to
    about ``eps`` times the condition number of ``H``, relative to its size; the equation is solved in double precision.
    Near the edge ``K`` is large against ``H``, and a step of the raw tensor goes far.
    Finding the nearest stable matrix is not convex, and :meth:`project` gives a near one, not the nearest: a shift by a
    multiple of ``I``, or the nearest matrix whose symmetric part is stable, whichever is nearer, at 0.05 of its size
    (of ``|d|``, if that is larger) inside of the edge.

    Args:
        decay: ``d``, the rate at which solutions decay at least; may be negative, to allow growth.
        strict: see :class:`Constraint`.

    Raises:
        ValueError: ``decay`` is not finite, or the matrices are not square.

    The state matrix of a linear system, which forgets where it started:

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> system = register_parametrization(nn.Linear(4, 4, bias=False), "weight", Hurwitz(0.5))
    >>> start = torch.randn(4)
    >>> later = torch.matrix_exp(60.0 * system.weight) @ start
    >>> later.norm() < 1e-3 * start.norm()
    tensor(True)
    """

    stacks = True

    def __init__(self, decay: float = 0.0, *, strict: bool = False) -> None:
        require_number("Hurwitz", "decay", decay)
        if not math.isfinite(decay):
            raise ValueError(f"Hurwitz expects a finite decay, got {decay}; 0.0 is the left half-plane.")
        super().__init__(strict=strict)
        self.decay = decay

    def forward(self, raw: Tensor) -> Tensor:
        return maps.hurwitz(raw, self.decay)

    def project(self, value: Tensor) -> Tensor:
        """``value``, if it is in the set, or a stable matrix near it; see the class."""
        require_square(self, value.shape)
        near = maps.near_hurwitz(value, self.decay, _margin(value))
        return torch.where(self._contains(value)[..., None, None], value, near)

    def residual(self, value: Tensor) -> Tensor:
        """How far the largest real part of the eigenvalues is above ``-decay``."""
        require_square(self, value.shape)
        return (maps.abscissa(value) + self.decay).clamp_min(0)

    def _contains(self, value: Tensor) -> Tensor:
        # Nearer than this to the edge, rounding decides whether the Lyapunov equation has a solution.
        return maps.abscissa(value) + self.decay < -_rounding(value) * (maps.frobenius(value) + abs(self.decay))

    def _raw(self, value: Tensor) -> Tensor:
        return maps.hurwitz_raw(value, self.decay) if maps.has_entries(value) else value

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        return maps.hurwitz(_random_raw(shape, **options), self.decay)


class Schur(Certified):
    r"""Matrices of spectral radius below :math:`\rho`: the solutions of :math:`x_{t+1} = A x_t` stay bounded, or decay.

    Shape: ``(*, n, n)`` to the same. Freedom: all entries.
    Raw tensor: all entries are read. The value is :math:`\rho (2 P (P + I - K)^{-1} - I)` with a skew matrix ``K``
    (skew-Hermitian, if complex) from the upper triangle, and a positive definite ``P`` from the lower triangle and the
    diagonal, as in :class:`PositiveDefinite`: the Cayley transform of what :class:`Hurwitz` has, one to one
    (:mod:`paraform.maps.stable`). :math:`x^H P^{-1} x` falls with every step (N. Gillis, M. Karow and P. Sharma,
    *Approximating the nearest stable discrete-time system*, 2019, is about this set).
    Samples: the value for a ``K`` with standard normal entries and a Wishart matrix ``P`` of mean ``I``.

    The set is open, and values stay inside of it but for rounding. The matrix may be far from normal: a single step can
    make a vector longer. (:class:`SpectralNorm` forbids that, and much else.) An assigned value comes back to about
    ``eps`` times the condition number of ``P``, relative to its size; the equation is solved in double precision.
    :meth:`project` gives a near point, not the nearest, for which no method is known that always finds it: a multiple
    of the value, or the value with its singular values clipped, whichever is nearer, at 0.05 of the radius inside of
    it.

    Args:
        radius: ``rho``, above 0.
        strict: see :class:`Constraint`.

    Raises:
        ValueError: ``radius`` is not above 0 and finite, or the matrices are not square.

    A recurrent layer whose state cannot explode, over a thousand steps:

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> step = register_parametrization(nn.Linear(8, 8, bias=False), "weight", Schur())
    >>> A, x = step.weight.detach(), torch.randn(8)
    >>> for _ in range(1000):
    ...     x = A @ x
    >>> x.norm() < 10
    tensor(True)
    """

    _clearance = _MARGIN
    stacks = True

    def __init__(self, radius: float = 1.0, *, strict: bool = False) -> None:
        require_number("Schur", "radius", radius)
        if not 0 < radius < math.inf:
            raise ValueError(f"Schur expects a radius above 0, got {radius}; 1.0 is the unit circle.")
        super().__init__(strict=strict)
        self.radius = radius

    def forward(self, raw: Tensor) -> Tensor:
        return maps.schur(raw, self.radius)

    def project(self, value: Tensor) -> Tensor:
        """``value``, if it is in the set, or a stable matrix near it; see the class."""
        require_square(self, value.shape)
        near = maps.near_schur(value, self.radius, _margin(value))
        return torch.where(self._contains(value)[..., None, None], value, near)

    def residual(self, value: Tensor) -> Tensor:
        """How far the spectral radius is above ``radius``."""
        require_square(self, value.shape)
        return (maps.spectral_radius(value) - self.radius).clamp_min(0)

    def _contains(self, value: Tensor) -> Tensor:
        return maps.spectral_radius(value) - self.radius < -_rounding(value) * (self.radius + maps.frobenius(value))

    def _raw(self, value: Tensor) -> Tensor:
        return maps.schur_raw(value, self.radius) if maps.has_entries(value) else value

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        return maps.schur(_random_raw(shape, **options), self.radius)


def _random_raw(shape: torch.Size, **options: Any) -> Tensor:
    """A skew matrix of standard normal entries, and a Wishart matrix of mean ``I`` with ``2 n`` degrees of freedom."""
    *batch, n, _ = shape
    K = maps.standard_normal(shape, **options)
    normal = maps.standard_normal((*batch, n, 2 * n), **options)
    W = maps.hermitian_part(normal @ normal.mH / max(2 * n, 1))
    diagonal = torch.diag_embed(K.diagonal(dim1=-2, dim2=-1))
    return maps.cholesky_raw(W).tril() + K.triu(1) + (diagonal - torch.real(diagonal))


def _margin(value: Tensor) -> float:
    return max(_MARGIN, 4 * torch.finfo(value.dtype).eps)


def _rounding(value: Tensor) -> float:
    return 8 * max(value.shape[-1], 1) * torch.finfo(maps.working_dtype(value.dtype)).eps
