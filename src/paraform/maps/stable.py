"""Stable matrices, each with its Lyapunov certificate.

``A`` has all eigenvalues in the open left half-plane exactly where ``A P + P A^H = -2 I`` has a Hermitian positive
definite solution, which is then the only one (R. Horn and C. Johnson, *Topics in Matrix Analysis*, 1991, Theorem
2.2.1). So ``A P + I = K`` is skew-Hermitian, and ``A = (K - I) P^-1``: pairs of a skew and a definite matrix stand for
the stable matrices one to one. This is the form of N. Gillis and P. Sharma (*On computing the distance to stability for
matrices using linear dissipative Hamiltonian systems*, 2017), with the dissipation fixed. The Cayley transform takes
the open left half-plane to the open unit disc.
"""

import torch
from torch import Tensor

from .finite import where_finite
from .norms import frobenius, largest
from .positive import cholesky_raw, positive_definite
from .precision import measured, precise
from .spectral import clip_singular_values
from .triangles import hermitian_part, identity_of, skew, skew_part

# With scaling, Newton's iteration for the sign of a matrix takes about ten steps; stiff spectra take some more.
_STEPS = 40


@precise
def hurwitz(raw: Tensor, decay: float = 0.0) -> Tensor:
    """``(K - I) H - decay I`` with ``K`` from the upper triangle of ``raw`` and ``H``, definite, from the lower one.

    Shape: ``(*, n, n)`` to the same. See :func:`paraform.maps.skew` and :func:`paraform.maps.positive_definite`. The
    imaginary part of a complex diagonal belongs to ``K``.

    >>> torch.linalg.eigvals(hurwitz(torch.tensor([[0.0, 5.0], [1.0, 0.0]]))).real < 0
    tensor([True, True])
    """
    identity = identity_of(raw)
    stable: Tensor = (skew(raw) - identity) @ positive_definite(raw) - decay * identity
    return stable


@precise
def schur(raw: Tensor, radius: float = 1.0) -> Tensor:
    """``radius`` times the Cayley transform ``2 (I - A)^-1 - I`` of ``A = (K - I) P^-1``.

    Shape: ``(*, n, n)`` to the same. ``P`` is read where :func:`hurwitz` reads ``H``. The inverse is that of
    ``P + I - K``, whose Hermitian part is at least ``I``.

    >>> torch.linalg.eigvals(schur(torch.tensor([[0.0, 5.0], [1.0, 0.0]]))).abs() < 1
    tensor([True, True])
    """
    identity = identity_of(raw)
    P, K = positive_definite(raw), skew(raw)
    stable: Tensor = radius * (2 * P @ torch.linalg.inv(P + identity - K) - identity)
    return stable


def hurwitz_raw(value: Tensor, decay: float = 0.0) -> Tensor:
    """The ``raw`` with ``hurwitz(raw, decay) == value``, for a stable value; computed in double precision.

    >>> A = torch.tensor([[-1.0, 3.0], [0.0, -2.0]])
    >>> torch.dist(hurwitz(hurwitz_raw(A)), A) < 1e-5
    tensor(True)
    """
    A = _shifted(value, decay)
    peak = largest(A, (-2, -1))
    # The solution goes with the inverse of the matrix, and its square would overflow.
    scale = torch.where(peak > 0, peak, 1)
    A = A / scale
    P = lyapunov(A)
    return _packed(A @ P, scale * _inverse(P)).to(value.dtype)


def schur_raw(value: Tensor, radius: float = 1.0) -> Tensor:
    """The ``raw`` with ``schur(raw, radius) == value``, for a stable value; computed in double precision.

    >>> X = torch.tensor([[0.5, 3.0], [0.0, -0.9]])
    >>> torch.dist(schur(schur_raw(X)), X) < 1e-4
    tensor(True)
    """
    A = _cayley(_double(value) / radius)
    P = lyapunov(A)
    return _packed(A @ P, P).to(value.dtype)


def lyapunov(A: Tensor) -> Tensor:
    """The solution ``P`` of ``A P + P A^H = -2 I`` for a stable ``A``: shape ``(*, n, n)`` to the same.

    By Newton's iteration for the matrix sign, ``A <- (A + A^-1) / 2``, ``Q <- (Q + A^-1 Q A^-H) / 2`` from ``Q = 2 I``,
    whose limit is ``2 P`` (J. Roberts, *Linear model reduction and solution of the algebraic Riccati equation by use of
    the sign function*, 1980), scaled by the norms of ``A`` and of its inverse; one step more, from what is left of the
    equation, takes away the rounding errors of the first.

    >>> lyapunov(torch.diag(torch.tensor([-1.0, -4.0])))
    tensor([[1.0000, 0.0000],
            [0.0000, 0.2500]])
    """
    identity = identity_of(A)
    P = _solved(A, (2 * identity).expand_as(A))
    rest = 2 * identity + A @ P + P @ A.mH
    return hermitian_part(P + _solved(A, hermitian_part(rest)))


def _solved(A: Tensor, Q: Tensor) -> Tensor:
    before, settled = A, False
    for _ in range(_STEPS):
        inverse = torch.linalg.inv_ex(A).inverse
        ratio = frobenius(inverse) / frobenius(A)
        scale = torch.where(torch.isfinite(ratio) & (ratio > 0), ratio, 1).sqrt()[..., None, None]
        A = (scale * A + inverse / scale) / 2
        Q = (scale * Q + inverse @ Q @ inverse.mH / scale) / 2
        if settled:
            break
        # Each step squares the error: one more after this has all digits. (What is nan never settles.)
        settled = bool((frobenius(A - before) <= torch.finfo(A.dtype).eps ** 0.5 * frobenius(A)).all())
        before = A
    return hermitian_part(Q / 2)


def _packed(AP: Tensor, definite: Tensor) -> Tensor:
    """A raw matrix with ``K`` of ``A P = K - I`` in its upper triangle, and the factor of a definite one below."""
    K = skew_part(AP)
    # The diagonal carries both: a real number for the factor, an imaginary one for K.
    diagonal = torch.diag_embed(K.diagonal(dim1=-2, dim2=-1)) if K.is_complex() else torch.zeros_like(K)
    return cholesky_raw(hermitian_part(definite)).tril() + K.triu(1) + diagonal


def _double(value: Tensor) -> Tensor:
    return value.to(torch.complex128 if value.is_complex() else torch.float64)


def _shifted(value: Tensor, decay: float) -> Tensor:
    A = _double(value)
    return A + decay * identity_of(A)


def _inverse(P: Tensor) -> Tensor:
    L, info = torch.linalg.cholesky_ex(P)
    inverse = hermitian_part(torch.cholesky_inverse(L))
    return torch.where((info == 0)[..., None, None], inverse, torch.nan)  # no certificate: the matrix is not stable


def _cayley(X: Tensor) -> Tensor:
    """``(X - I) (X + I)^-1``: the open unit disc to the open left half-plane."""
    A: Tensor = identity_of(X) - 2 * torch.linalg.inv(X + identity_of(X))
    return A


@measured
@where_finite
def abscissa(A: Tensor) -> Tensor:
    """The largest real part of the eigenvalues, -inf where there are none: shape ``(*, n, n)`` to ``(*)``.

    >>> abscissa(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))
    tensor(0.)
    """
    return _largest(torch.linalg.eigvals(A).real)


@measured
@where_finite
def spectral_radius(X: Tensor) -> Tensor:
    """The largest magnitude of the eigenvalues, -inf where there are none: shape ``(*, n, n)`` to ``(*)``.

    >>> spectral_radius(torch.diag(torch.tensor([-2.0, 1.0])))
    tensor(2.)
    """
    return _largest(torch.linalg.eigvals(X).abs())


def _largest(x: Tensor) -> Tensor:
    if x.shape[-1] == 0:
        return x.sum(-1) - torch.inf
    return x.amax(-1)


@precise
@where_finite
def near_hurwitz(A: Tensor, decay: float, margin: float) -> Tensor:
    """A matrix near ``A`` with real parts of at most ``-decay``, less ``margin`` times the size of ``A``.

    Shape: ``(*, n, n)`` to the same. The nearer of two: ``A`` less a multiple of ``I``, and ``A`` with the eigenvalues
    of its Hermitian part brought down, the nearest one whose solutions do not grow even for a while. The size of ``A``
    is its norm by ``sqrt(n)``, or ``|decay|`` if that is larger, or 1 for zeros.

    >>> near_hurwitz(torch.diag(torch.tensor([1.0, -2.0])), 0.0, 1e-3).round(decimals=2)
    tensor([[-0.,  0.],
            [ 0., -2.]])
    """
    bound = -decay - margin * _size(A, abs(decay))
    excess = (abscissa(A)[..., None, None] - bound).clamp_min(0)
    shifted = A - excess * identity_of(A)
    eigenvalues, V = torch.linalg.eigh(hermitian_part(A))
    dissipative = skew_part(A) + (V * torch.minimum(eigenvalues.unsqueeze(-2), bound)) @ V.mH
    return _nearer(A, shifted, dissipative)


@precise
@where_finite
def near_schur(X: Tensor, radius: float, margin: float) -> Tensor:
    """A matrix near ``X`` with a spectral radius of at most ``radius (1 - margin)``.

    Shape: ``(*, n, n)`` to the same. The nearer of two: a multiple of ``X``, and ``X`` with its singular values
    clipped.

    >>> near_schur(torch.diag(torch.tensor([3.0, 0.5])), 1.0, 0.0)
    tensor([[1.0000, 0.0000],
            [0.0000, 0.5000]])
    """
    bound = radius * (1 - margin)
    reached = spectral_radius(X)[..., None, None]
    shrunk = X * (bound / torch.where(reached > bound, reached, bound))
    return _nearer(X, shrunk, clip_singular_values(X, bound))


def _nearer(x: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where((frobenius(x - one) < frobenius(x - other))[..., None, None], one, other)


def _size(A: Tensor, least: float) -> Tensor:
    size = (frobenius(A) / max(A.shape[-1], 1) ** 0.5)[..., None, None].clamp_min(least)
    return torch.where(size > 0, size, 1)
