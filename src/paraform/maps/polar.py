"""The polar factor: the nearest matrix with orthonormal columns (or rows)."""

import torch
from torch import Tensor

from .finite import where_finite
from .norms import frobenius, largest
from .precision import measured, precise
from .triangles import identity_of

# Halvings of an interval at most pi wide, down to the last bit of float64.
_HALVINGS = 56


def newton_schulz_factor(gram: Tensor) -> Tensor:
    """``(3 I - gram) / 2``: ``Q`` times this has orthonormal columns to second order.

    With ``gram = Q^H Q`` near ``I``, this is one step of the Newton-Schulz iteration for the polar factor (N. Higham,
    *Functions of Matrices*, SIAM 2008, equation 8.20). It squares the orthogonality error, and where ``gram`` is
    exactly ``I`` it is exactly ``I``.

    >>> newton_schulz_factor(torch.eye(2))
    tensor([[1., 0.],
            [0., 1.]])
    """
    identity = identity_of(gram)
    return identity + (identity - gram) / 2


@precise
def nearer_orthonormal(Q: Tensor) -> Tensor:
    """One Newton-Schulz step: ``Q``, orthonormal in its columns (rows, if wide) but for an error, with that squared.

    Shape: ``(*, m, n)`` to ``(*, m, n)``.

    >>> nearer_orthonormal(torch.tensor([[1.01]]))
    tensor([[0.9998]])
    """
    if Q.shape[-2] < Q.shape[-1]:
        return newton_schulz_factor(Q @ Q.mH) @ Q
    return Q @ newton_schulz_factor(Q.mH @ Q)


@precise
@where_finite
def polar(x: Tensor) -> Tensor:
    """``U V^H`` of the thin singular value decomposition ``U S V^H`` of ``x``.

    The nearest matrix with orthonormal columns (rows, if wide) in Frobenius norm, and in every other unitarily
    invariant one (K. Fan and A. Hoffman, *Some metric inequalities in the space of matrices*, 1955, for square ones;
    N. Higham, *Functions of Matrices*, SIAM 2008, chapter 8, for all). Where ``x`` has not full rank there are
    several; one of them is returned.

    Shape: ``(*, m, n)`` to ``(*, m, n)``.

    >>> polar(torch.diag(torch.tensor([2.0, -3.0])))
    tensor([[ 1., 0.],
            [ 0., -1.]])
    """
    U, _, Vh = torch.linalg.svd(x, full_matrices=False)
    # A float32 decomposition leaves several times the error that float32 can hold; one step takes it away.
    Q: Tensor = nearer_orthonormal(U @ Vh)
    return Q


@precise
@where_finite
def special_polar(x: Tensor) -> Tensor:
    """The nearest orthogonal (unitary) matrix of determinant 1, in Frobenius norm: ``(*, n, n)`` to ``(*, n, n)``.

    The polar factor, and where its determinant is -1 the singular vector of the smallest singular value is turned round
    (W. Kabsch, *A solution for the best rotation to relate two sets of vectors*, 1976; S. Umeyama, *Least-squares
    estimation of transformation parameters*, 1991, Lemma). For complex ``x`` the singular vectors are turned by angles
    that add up to the phase of the determinant, and keep ``sum S_j cos theta_j`` as large as can be.

    >>> special_polar(torch.diag(torch.tensor([2.0, -1.0])))
    tensor([[1., 0.],
            [0., 1.]])
    """
    U, S, Vh = torch.linalg.svd(x, full_matrices=False)
    if x.is_complex():
        phi = torch.angle(torch.linalg.slogdet(U @ Vh).sign)
        theta = torch.sgn(phi).unsqueeze(-1) * _shares(S, phi.abs().unsqueeze(-1))
        U = U * torch.polar(torch.ones_like(theta), -theta).unsqueeze(-2)
    Q = U @ Vh
    return without_phase(newton_schulz_factor(Q @ Q.mH) @ Q, U[..., -1:])


def _shares(S: Tensor, phi: Tensor) -> Tensor:
    """The angles of :func:`special_polar` for singular values in falling order, and ``phi`` from 0 to pi.

    Where the sum is stationary ``S_j sin theta_j`` is one number, so that the angle of the smallest singular value
    tells the others. As a function of it the sum of the angles is concave, 0 at 0 and at least ``phi`` at ``phi``; the
    one crossing in between has the largest cosines.
    """
    least = S[..., -1:]
    ratio = torch.where(S > 0, least / torch.where(S > 0, S, 1), 1)[..., :-1]

    def angles(last: Tensor) -> Tensor:
        return torch.cat([torch.asin(ratio * torch.sin(last)), last], -1)

    low, high = torch.zeros_like(least), phi.expand_as(least)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        beyond = angles(middle).sum(-1, keepdim=True) > phi
        low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
    return angles(high)


def without_phase(Q: Tensor, direction: Tensor) -> Tensor:
    """A unitary ``Q`` with determinant 1: the part of it along a unit vector ``direction`` takes its phase.

    >>> without_phase(torch.diag(torch.tensor([1.0, -1.0])), torch.tensor([[0.0], [1.0]]))
    tensor([[1., 0.],
            [0., 1.]])
    """
    if Q.shape[-1] == 0:
        return Q
    # Not torch.linalg.det: on the way to a product of modulus 1, that of many pivots underflows.
    phase = torch.linalg.slogdet(Q).sign[..., None, None]
    turn = phase.conj() - 1
    special: Tensor = Q + turn * (direction @ (direction.mH @ Q))
    return special


@measured
def orthogonality_error(x: Tensor) -> Tensor:
    """``|x^H x - I|`` (``|x x^H - I|``, if wide) in Frobenius norm: shape ``(*, m, n)`` to ``(*)``.

    >>> orthogonality_error(torch.eye(3, 2)), orthogonality_error(2 * torch.eye(3, 2))
    (tensor(0.), tensor(4.2426))
    """
    tall = x.mH if x.shape[-2] < x.shape[-1] else x
    # Squares of large entries overflow to inf and their sums to NaN: divide first, multiply last.
    scale = largest(x, (-2, -1)).clamp_min(1)
    y = tall / scale
    identity = identity_of(y)
    return frobenius(y.mH @ y - identity / scale / scale) * scale[..., 0, 0] * scale[..., 0, 0]


@measured
@where_finite
def distance_of_det(x: Tensor, det: float) -> Tensor:
    """How far the determinant of each matrix is from ``det``: shape ``(*, n, n)`` to ``(*)``.

    >>> distance_of_det(torch.diag(torch.tensor([2.0, -1.0])), 1.0)
    tensor(3.)
    """
    sign, log = torch.linalg.slogdet(x)
    error: Tensor = (sign * log.exp() - det).abs()
    return error
