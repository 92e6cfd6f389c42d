"""Orthogonal matrices as points near a base: four maps from a raw matrix, none larger than the weight.

``base`` has orthonormal columns (``n x k`` with ``n >= k``) and ``raw`` has its shape. Every map gives ``base`` back
where ``raw`` is zero, and reaches every direction in the tangent space at ``base``.

``matrix_exp`` and ``cayley`` turn ``base`` by the exponential or the Cayley transform of a skew matrix ``A``. Where the
weight is square, ``A`` is written in the base's own coordinates and read off a triangle of ``raw``. Where it is tall,
``A = raw base^H - base raw^H`` is ``n x n`` and is never formed, for it maps the span of ``base`` and of the part ``P``
of ``raw`` that is normal to ``base`` to itself::

    A [base, P] = [base, P] [[W, -G],      W = base^H raw - raw^H base,     G = P^H P,
                             [I,  0]],     P = raw - base base^H raw.

Both maps are therefore functions of the small matrix on the right.

``polar`` goes straight on along the tangent ``base W + P`` and comes back to the nearest orthogonal matrix. It forms no
Gram matrix: what follows does not apply to it, which in float32 is orthogonal to 1e-5 up to ``|raw|_2`` of 1e6.

Rounding in these products grows with ``|P|^2``, and in the exponential with ``|A|``. One Newton-Schulz step squares
what that costs in orthogonality. It cannot bring back what has lost its first digit: in float32 the error is that of
rounding up to ``|raw|_2`` of about 100, and 1e-2 at a few 1000, where one direction of ``raw`` dominates; where none
does, it is 1e-2 at 1e5 for ``matrix_exp``, and at no size for ``cayley``; for ``householder`` of square matrices, 1e-4
at 1e4 and 1e-1 at 1e6. From about 1e19 on squares overflow: nan, or no orthogonal matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .angles import sine_and_versine
from .eager import is_readable
from .exponential import exp_minus_identity, skew_exp_minus_identity, skew_expansion
from .norms import largest
from .patterns import traceless
from .precision import precise
from .products import plus_product
from .shortcut import Gone, at_rest, is_square, shortcuts
from .triangles import half_upper, hermitian_part, identity_of, minus_adjoint, skew_from_lower


def _tangent(base: Tensor, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``W``, ``P`` and ``G`` of the module's text."""
    inner = base.mH @ raw
    P = raw - base @ inner
    return inner - inner.mH, P, P.mH @ P


def _restored(Q: Tensor, base: Tensor) -> Tensor:
    """``Q``, near to orthonormal, as orthonormal as ``base`` is; ``base`` itself to the bit.

    One Newton-Schulz step towards the Gram matrix of ``base``, whose difference to that of ``Q`` is written so that no
    two equal numbers are rounded apart.
    """
    with torch.no_grad():  # without rounding it would change nothing, so it has no derivative
        excess = Q @ (hermitian_part((Q + base).mH @ (Q - base)) / 2)
    return Q - excess


def _turned(base: Tensor, A: Tensor, E: Tensor) -> Tensor:
    """``base (I + E)``, where ``I + E`` is orthogonal, a function of ``A``: restored where rounding in it counts."""
    Q = plus_product(base, base, E)
    if is_readable(A) and _is_short(A.detach()):
        return Q
    with torch.no_grad():
        excess = plus_product(E + E.mH, E.mH, E)
        correction = Q @ excess / 2
    return Q - correction


def _is_short(A: Tensor) -> bool:
    """Whether the mean square of the singular values is at most 1, where rounding is that of adding ``E`` to ``I``."""
    limit = float(A.shape[-1] ** 0.5)
    if A.ndim == 2:
        return float(torch.linalg.vector_norm(A)) <= limit
    return bool((torch.linalg.vector_norm(A, dim=(-2, -1)) <= limit).all())


@precise
def cayley(A: Tensor) -> Tensor:
    """The Cayley transform ``(I + A/2) (I - A/2)^-1`` of a skew-symmetric (skew-Hermitian) matrix: an orthogonal one.

    Shape: ``(*, n, n)`` to ``(*, n, n)``. Every orthogonal matrix that has no eigenvalue -1 is reached.

    >>> cayley(torch.tensor([[0.0, 2.0], [-2.0, 0.0]]))
    tensor([[ 0.,  1.],
            [-1.,  0.]])
    """
    # The same function, written with the unknown on one side only: one operand less to round.
    Q: Tensor = 2 * torch.linalg.inv(identity_of(A) - A / 2) - identity_of(A)
    return Q


def _square_cayley(base: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    """``base (I + E)`` and ``E = (I - A/2)^-1 A``, which is small where ``A`` is: that is rounded, and not ``I``."""
    A = skew_from_lower(raw)
    E = torch.linalg.solve(torch.add(identity_of(A), A, alpha=-1 / 2), A)
    return _turned(base, A, E), E


def _square_cayley_gradient(gradient: Tensor, base: Tensor, Q: Tensor, E: Tensor) -> Tensor:
    """Two products: ``dQ = X dA J`` with ``J = (I - A/2)^-1 = I + E/2`` and ``X = base J = (base + Q) / 2``."""
    inner = (base + Q).mH @ plus_product(gradient, gradient, E.mH, beta=1 / 2, alpha=1 / 4)
    return minus_adjoint(inner).tril_()


def _short_square_cayley(base: Tensor, raw: Tensor, _: bool) -> Gone | None:
    if not is_square(raw):
        return None
    Q, E = _square_cayley(base, raw)
    return Q, _square_cayley_gradient, (E,)


@precise
@shortcuts(at_rest, _short_square_cayley)
def cayley_at(base: Tensor, raw: Tensor) -> Tensor:
    """``base`` turned by the Cayley transform of ``A`` (see the module's text).

    Shape: ``(*, n, k)`` and ``(*, n, k)`` to ``(*, n, k)``. One ``k x k`` inverse: with ``K = W/2 - G/4``, block
    elimination turns the transform into ``(2 base + P) (I - K)^-1 - base``, whose matrix is never singular because the
    Hermitian part of ``I - K`` is at least ``I``. The ``2k x 2k`` form of Z. Wen and W. Yin (*A feasible method for
    optimization with orthogonality constraints*, Mathematical Programming 142, 2013, Lemma 4) is the same function.

    >>> cayley_at(torch.eye(3, 1), torch.tensor([[0.0], [2.0], [0.0]]))
    tensor([[0.],
            [1.],
            [0.]])
    """
    if is_square(raw):
        return _square_cayley(base, raw)[0]
    W, P, G = _tangent(base, raw)
    return _tall_cayley(base, 2 * base + P, W / 2 - G / 4)


def _tall_cayley(base: Tensor, shifted: Tensor, K: Tensor) -> Tensor:
    """``shifted (I - K)^-1 - base``, the Cayley transform that :func:`cayley_at` explains."""
    # An inverse, not a solve: as accurate here (its norm is at most 1), and the derivative is two products.
    return _restored(shifted @ torch.linalg.inv(identity_of(K) - K) - base, base)


def _short_square_exp(base: Tensor, raw: Tensor, differentiable: bool) -> Gone | None:
    if not is_square(raw):
        return None
    A = skew_from_lower(raw)
    expansion = skew_expansion(A, differentiable)
    gradient = partial(_square_exp_gradient, expansion.skew_gradient)
    return _turned(base, A, expansion.value), gradient, expansion.kept


def _square_exp_gradient(
    skew_gradient: Callable[..., Tensor], gradient: Tensor, base: Tensor, _: Tensor, *kept: Tensor
) -> Tensor:
    return minus_adjoint(skew_gradient(base.mH @ gradient, *kept)).tril_()


@precise
@shortcuts(at_rest, _short_square_exp)
def matrix_exp_at(base: Tensor, raw: Tensor) -> Tensor:
    """``base`` turned by the exponential of ``A`` (see the module's text): the geodesic of the canonical metric.

    Shape: ``(*, n, k)`` and ``(*, n, k)`` to ``(*, n, k)``. For tall matrices one ``2k x 2k`` exponential (A. Edelman,
    T. Arias and S. Smith, *The geometry of algorithms with orthogonality constraints*, SIAM J. Matrix Anal. Appl. 20,
    1998, section 2.4.2, with ``P`` where they have its QR factors, which have no derivative at ``raw = 0``).

    >>> half_turn = torch.tensor([[0.0], [torch.pi], [0.0]])
    >>> matrix_exp_at(torch.eye(3, 1), half_turn).round(decimals=5).T.abs()
    tensor([[1., 0., 0.]])
    """
    if is_square(raw):
        A = skew_from_lower(raw)
        return _turned(base, A, skew_exp_minus_identity(A))
    W, P, G = _tangent(base, raw)
    k = base.shape[-1]
    # P is divided by its own size s, a change of basis that balances the blocks; the result does not depend on s.
    s = _spectral_bound(G.detach()).sqrt().clamp_min(1)
    identity = identity_of(G).expand_as(G)
    top, bottom = torch.cat([W, -G / s], -1), torch.cat([s * identity, torch.zeros_like(G)], -1)
    E = exp_minus_identity(torch.cat([top, bottom], -2))[..., :k]
    along, across = E[..., :k, :], E[..., k:, :] / s
    return _restored(base + base @ along + P @ across, base)


@precise
def special_unitary_at(base: Tensor, raw: Tensor) -> Tensor:
    """:func:`matrix_exp_at` for square matrices, with ``A`` less its trace, which is the phase of the determinant.

    Shape: ``(*, n, n)`` and ``(*, n, n)`` to ``(*, n, n)``.

    >>> Q = special_unitary_at(torch.eye(2) + 0j, torch.tensor([[0.3j, 0.0], [2.0, 0.0]]))
    >>> torch.linalg.det(Q).abs().round(decimals=5), torch.linalg.det(Q).angle().abs() < 1e-6
    (tensor(1.), tensor(True))
    """
    A = traceless(skew_from_lower(raw))
    return _turned(base, A, skew_exp_minus_identity(A))


def _spectral_bound(gram: Tensor) -> Tensor:
    """The largest row sum of magnitudes: never below the largest eigenvalue. Shape ``(*, 1, 1)``."""
    return largest(gram.abs().sum(-1, keepdim=True), (-2,))


@precise
@shortcuts(at_rest)
def polar_at(base: Tensor, raw: Tensor) -> Tensor:
    """The polar factor of ``Y``, ``base`` plus the tangent that ``A`` turns it along: ``Y (Y^H Y)^(-1/2)``.

    Shape: ``(*, n, k)`` and ``(*, n, k)`` to ``(*, n, k)``. For the tangent ``D`` there is ``Y^H Y = I + D^H D``: the
    factor is made of sines and cosines of ``arctan D``. Derivatives are exact to the second order.
    P.-A. Absil, R. Mahony and R. Sepulchre, *Optimization Algorithms on Matrix Manifolds*, 2008, equation 4.7.

    >>> polar_at(torch.eye(3, 1), torch.tensor([[0.0], [1.0], [0.0]])).T
    tensor([[0.7071, 0.7071, 0.0000]])
    """
    if is_square(base):
        D = base @ skew_from_lower(raw)
    else:
        W, P, _ = _tangent(base, raw)
        D = base @ W + P
    sine, versine = sine_and_versine(D)
    return _restored(base - base @ versine + sine, base)


@precise
def grassmann_at(base: Tensor, raw: Tensor) -> Tensor:
    """:func:`cayley_at` along the part ``P`` of ``raw`` alone, which moves the span of ``base`` and turns none in it.

    Shape: ``(*, n, k)`` and ``(*, n, k)`` to ``(*, n, k)``. A singular value ``p`` of ``P`` turns the span by the angle
    ``2 arctan(p / 2)``: every subspace is reached, those at right angles with ``p = 2``.

    >>> grassmann_at(torch.eye(2, 1), torch.tensor([[7.0], [2.0]])).T
    tensor([[0., 1.]])
    """
    if is_square(base):
        return base + 0 * raw  # there is one such span: P would be rounding
    _, P, G = _tangent(base, raw)
    return _tall_cayley(base, 2 * base + P, -G / 4)


@precise
def almost_orthogonal_at(base: Tensor, raw: Tensor, slack: float) -> Tensor:
    """``Q (I + slack sin(4 arctan(S / 4 slack)))`` with the Hermitian part ``S`` of ``base^H raw``.

    Shape: ``(*, n, k)`` and ``(*, n, k)`` to ``(*, n, k)``. ``Q`` is :func:`cayley_at` of the rest, written for tall
    matrices, square ones too. The sine is a rational function, of slope 1 at 0. It turns at an end of the slack, where
    an eigenvalue of ``S`` is 1.66 slack, and from there runs to the other end: a step past an end is no dead end, as it
    would be for ``sin(2 arctan)``, which comes back to 0 only.

    >>> end = 0.4 * torch.tan(torch.tensor(torch.pi / 8))
    >>> almost_orthogonal_at(torch.eye(2), torch.diag(torch.stack([0 * end, end])), 0.1)
    tensor([[1.0000, 0.0000],
            [0.0000, 1.1000]])
    """
    W, P, G = _tangent(base, raw)
    Q = _tall_cayley(base, 2 * base + P, W / 2 - G / 4)
    t = hermitian_part(base.mH @ raw) / (4 * slack)
    h = torch.linalg.inv(identity_of(t) + t @ t)
    half_sine, cosine = t @ h, 2 * h - identity_of(t)  # of 2 arctan(t)
    value: Tensor = Q + 4 * slack * (Q @ (half_sine @ cosine))
    return value


def _square_householder(base: Tensor, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The value, ``L`` and ``R``, with ``V = base U``, ``U = I + L`` and ``T U^T = 2 I + R``.

    It is ``base (U T U^T - I) = base (I + E)``. ``R`` and ``E = 2 L + R + L R`` are small where ``raw`` is: they are
    rounded, and not ``I``.
    """
    L = torch.tril(raw, -1)
    C = L.mT @ L
    # Transposed, for to add L^T takes twice as long as to add L.
    inverse_of_T = C + L  # of which the lower triangle is read
    inverse_of_T.diagonal(dim1=-2, dim2=-1).add_(1).mul_(0.5)
    rest = torch.tril(C).mul_(-2).sub_(L)
    rest.diagonal(dim1=-2, dim2=-1).mul_(0.5)
    R = torch.linalg.solve_triangular(inverse_of_T, rest, upper=False, left=False).mT
    E = plus_product(torch.add(L, R, alpha=0.5), L, R, beta=2)
    return _turned(base, L, E), L, R


def _square_householder_gradient(gradient: Tensor, base: Tensor, Q: Tensor, L: Tensor, R: Tensor) -> Tensor:
    """Four products and no solve: ``Q^T dQ = S^T (X - X^T) S - dU S + (dU S)^T`` with ``S = T U^T = 2 I + R`` and ``X =
    stril(U^T dU)``."""
    W = minus_adjoint(Q.mT @ gradient)
    WS = plus_product(W, W, R.mT, beta=2)
    Z = plus_product(WS, R, WS, beta=2).tril_(-1)
    return plus_product(Z - WS, L, Z).tril_(-1)


def _short_square_householder(base: Tensor, raw: Tensor, _: bool) -> Gone | None:
    if not is_square(raw):
        return None
    Q, L, R = _square_householder(base, raw)
    return Q, _square_householder_gradient, (L, R)


@precise
@shortcuts(_short_square_householder)
def householder_at(base: Tensor, raw: Tensor) -> Tensor:
    """``- H_1 H_2 ... H_k base`` with reflections ``H_i`` in the columns of ``V = base + raw - base triu(base^T raw)``.

    Shape: ``(*, n, k)`` and ``(*, n, k)`` to ``(*, n, k)``, real. Column i of ``V`` has the component 1 along column i
    of ``base`` and none along those before it, so that no reflection is undefined. For square matrices ``raw`` is in
    the coordinates of ``base``: ``V = base + base stril(raw)``. The product is one triangular solve:
    ``H_1 ... H_k = I - V T V^T`` (R. Schreiber and C. Van Loan, *A storage-efficient WY representation for products of
    Householder transformations*, 1989) with ``T^-1 = striu(V^T V) + diag(V^T V) / 2`` (T. Joffrain and others,
    *Accumulating Householder transformations, revisited*, ACM Trans. Math. Softw. 32, 2006).

    >>> householder_at(torch.eye(3, 1), torch.tensor([[0.0], [1.0], [0.0]])).T.abs().round(decimals=5)
    tensor([[0., 1., 0.]])
    """
    if is_square(raw):
        return _square_householder(base, raw)[0]
    Y = raw - base @ torch.triu(base.mT @ raw)
    # V = base + Y, and base^T base = I is known without rounding: the products of V are those of Y, and that.
    base_Y = base.mT @ Y
    V_base = identity_of(base_Y) + base_Y.mT
    V_V = V_base + base_Y + Y.mT @ Y
    Q: Tensor = (base + Y) @ torch.linalg.solve_triangular(half_upper(V_V), V_base, upper=True) - base
    return Q
