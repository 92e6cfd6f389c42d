"""Orthonormal columns from a raw tensor and back, in the coordinates that torch's checkpoints are written in.

``X`` and ``Q`` are tall here: ``(*, n, k)`` with ``n >= k``. Only the lower triangle of ``X`` is read.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import maps
from ..maps.triangles import half_upper


def exponential(X: Tensor) -> Tensor:
    """The first columns of ``exp(A)``, with ``A`` the skew-Hermitian matrix that :func:`skew` makes of ``X``."""
    if _is_thin(X):  # then the exponential of a 2k x 2k matrix, which does as well, is the smaller one
        return maps.matrix_exp_at(identity_like(X), X.tril())
    # Every squaring of the exponential's argument costs digits.
    return _polished(identity_like(X) + maps.skew_exp_minus_identity(skew(X))[..., : X.size(-1)])


def cayley(X: Tensor) -> Tensor:
    """The first columns of ``(I + A/2) (I - A/2)^-1``, with ``A`` as in :func:`exponential`."""
    if _is_thin(X):
        return _polished(_thin_cayley(X))
    return _polished(maps.cayley(skew(X))[..., : X.size(-1)])


def _thin_cayley(X: Tensor) -> Tensor:
    """:func:`cayley` with one ``k x k`` inverse and one QR decomposition ``[P/2; I] = [V; T] R``, ``P`` the part below.

    Block elimination gives the columns as ``2 [T; V] (I - S)^-1 T^H - [I; 0]``, with the skew ``S = T^H W T / 2``,
    where ``W`` is the top of ``A``. No factor is longer than 1 and ``P^H P`` does not occur, so a large ``X`` costs no
    digits. ``[P/2; I]`` has full rank, so that its QR decomposition has a derivative. Its large rows come first, which
    keeps the rounding of the large from the small (A. Cox and N. Higham, *Stability of Householder QR factorization for
    weighted least squares problems*, 1998; they pivot columns too, which was measured to gain nothing here).
    """
    n, k = X.shape[-2:]
    top, below = X.tril().tensor_split([k], dim=-2)
    identity = identity_like(top)
    U = torch.linalg.qr(torch.cat([below / 2, identity.expand_as(top)], dim=-2)).Q
    V, T = U.tensor_split([n - k], dim=-2)
    S = maps.skew_part(T.mH @ skew(top) @ T) / 2
    Q: Tensor = 2 * torch.cat([T, V], dim=-2) @ torch.linalg.inv(identity - S) @ T.mH - identity_like(X)
    return Q


def _is_thin(X: Tensor) -> bool:
    return X.size(-2) >= 2 * X.size(-1)


def _polished(Q: Tensor) -> Tensor:
    """``Q``, orthonormal but for rounding, with the digits that this has cost."""
    with torch.no_grad():  # it changes nothing but rounding, so it has no derivative
        factor = maps.newton_schulz_factor(Q.mH @ Q)
    return Q @ factor


def reflections(X: Tensor) -> Tensor:
    """The first columns of the product of ``k`` Householder reflections.

    Reflection ``i`` has the vector with zeros above entry ``i``, 1 there, and column ``i`` of ``X`` below. The product
    is one triangular solve, as :func:`paraform.maps.householder_at` explains.
    """
    V = X.tril(-1) + identity_like(X)
    top = V[..., : X.size(-1), :]
    return _polished(identity_like(X) - V @ torch.linalg.solve_triangular(half_upper(V.mT @ V), top.mT, upper=True))


def skew(X: Tensor) -> Tensor:
    """The ``(*, n, n)`` skew-Hermitian matrix that grows from the lower triangle of ``X``."""
    n, k = X.shape[-2:]
    return maps.skew_from_lower(F.pad(X, (0, n - k)))


def stored_signs(X: Tensor) -> Tensor:
    """The sign bits of the diagonal as a row, ``(*, 1, k)``: the same however far an optimizer has decayed it."""
    diagonal = X.detach().diagonal(dim1=-2, dim2=-1).unsqueeze(-2)
    return torch.copysign(torch.ones_like(diagonal), diagonal)


def reflectors(Q: Tensor) -> Tensor:
    """The ``X`` for which ``reflections(X) * stored_signs(X)`` is the orthonormal ``Q``."""
    if Q.is_meta:
        return torch.empty_like(Q)  # geqrf has no meta kernel
    packed, tau = torch.geqrf(Q)
    sign = _sign(packed.diagonal(dim1=-2, dim2=-1))
    # LAPACK leaves a reflection out by tau == 0; ours has the vector e_i then, which turns the sign of column i.
    return packed.tril(-1) + torch.where(tau == 0, -sign, sign).unsqueeze(-2) * identity_like(Q)


def orthonormal_factor(A: Tensor) -> Tensor:
    """Q of the QR decomposition of ``A`` with a positive diagonal of R."""
    Q, R = torch.linalg.qr(A)
    return Q * _sign(R.diagonal(dim1=-2, dim2=-1)).unsqueeze(-2)  # type: ignore[no-any-return]


def completed(Q: Tensor) -> Tensor:
    """A unitary matrix, ``(*, n, n)``, that begins with the orthonormal columns ``Q``; the others are random."""
    n, k = Q.shape[-2:]
    more = torch.randn(*Q.shape[:-2], n, n - k, dtype=Q.dtype, device=Q.device)
    return torch.cat([Q, orthonormal_factor(torch.cat([Q, more], dim=-1))[..., k:]], dim=-1)


def identity_like(X: Tensor) -> Tensor:
    """The first columns of the identity, of the shape ``(n, k)``, dtype and device of ``X``."""
    return torch.eye(X.size(-2), X.size(-1), dtype=X.dtype, device=X.device)


def _sign(x: Tensor) -> Tensor:
    """The sign (of a complex number: the phase), 1 for zero, so that a singular matrix has a Q factor too."""
    return torch.where(x == 0, 1, x.sgn())
