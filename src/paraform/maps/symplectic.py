"""Symplectic matrices: ``M^H J M = J`` with ``J = [[0, I], [-I, 0]]``."""

import torch
from torch import Tensor

from .finite import where_finite
from .groups import group_at
from .norms import frobenius, largest
from .patterns import hamiltonian, times_J
from .polar import polar
from .precision import measured, precise
from .triangles import hermitian_part, identity_of

# Newton's iteration halves what is too large and then squares the error; this is enough for a condition number of 1e15.
_STEPS = 60
# The descent to a nearer point: steps at most, the fractions of a step that are tried, the relative gain it must have.
_DESCENT = 50
_FRACTIONS = (1.0, 0.5, 0.2, 0.05)
_GAIN = 1e-5


@precise
def symplectic_at(base: Tensor, raw: Tensor) -> Tensor:
    """``base exp(K) exp(S)``, the skew part ``K`` and the Hermitian part ``S`` of the Hamiltonian matrix of ``raw``.

    Shape: ``(*, 2n, 2n)`` twice to the same. See :func:`group_at`: both factors are symplectic.

    >>> squeeze = symplectic_at(torch.eye(2), torch.diag(torch.tensor([1.0, -1.0])))
    >>> torch.allclose(squeeze, torch.diag(torch.tensor([1.0, -1.0]).exp()))
    True
    """
    return group_at(base, hamiltonian(raw))


@measured
def symplectic_error(M: Tensor) -> Tensor:
    """``|M^H J M - J| / |M|`` in Frobenius norm (without the division below 1): shape ``(*, 2n, 2n)`` to ``(*)``.

    The equation is quadratic; so divided, what is left of it is of the size of an error in ``M``.

    >>> symplectic_error(torch.eye(2)), symplectic_error(2 * torch.eye(2))
    (tensor(0.), tensor(1.5000))
    """
    # As for orthogonal matrices: squares of large entries overflow, so divide first and multiply last.
    scale = largest(M, (-2, -1)).clamp_min(1)
    y = M / scale
    form = times_J(identity_of(M)) / scale / scale
    left = frobenius(y.mH @ times_J(y) - form) * scale[..., 0, 0]
    return left * (scale[..., 0, 0] / frobenius(M).clamp_min(1))


def _adjoint(X: Tensor) -> Tensor:
    """``J^-1 X^H J``, which is the inverse of a symplectic ``X``."""
    return times_J(times_J(X).mH)


@precise
def symplectic_factor(X: Tensor) -> Tensor:
    """A symplectic matrix near ``X``: shape ``(*, 2n, 2n)`` to the same, of finite entries.

    The nearer of two. The generalized polar factor ``X (X^* X)^(-1/2)`` with the adjoint ``X^* = J^-1 X^H J`` exists
    where ``X^* X`` has no eigenvalue on the negative axis, and is ``X`` if that is symplectic; Newton's iteration
    ``X <- (X + (X^-1)^*) / 2`` finds it (N. Higham, D. Mackey, N. Mackey and F. Tisseur, *Functions preserving matrix
    groups and iterations for the matrix square root*, 2005, Theorem 4.2). And there always is the nearest matrix that
    is unitary besides: ``[[A, B], [-B, A]]``, with polar factors ``A + i B`` and ``A - i B`` of half the size.

    >>> symplectic_factor(torch.diag(torch.tensor([4.0, 1.0])))
    tensor([[2.0000, 0.0000],
            [0.0000, 0.5000]])
    """
    n = X.shape[-1] // 2
    A, B, C, D = X[..., :n, :n], X[..., :n, n:], X[..., n:, :n], X[..., n:, n:]
    like, twist = A / 2 + D / 2, 1j * (B / 2 - C / 2)
    plus, minus = polar(like + twist), polar(like - twist)
    A, B = plus / 2 + minus / 2, (plus / 2 - minus / 2) / 1j
    unitary = torch.cat([torch.cat([A, B], -1), torch.cat([-B, A], -1)], -2)
    unitary = unitary if X.is_complex() else torch.real(unitary)  # one polar factor is the conjugate of the other then
    newton = _newton(X)
    error, size = symplectic_error(newton), frobenius(newton)
    found = error <= torch.finfo(X.dtype).eps ** 0.75 * size.clamp_min(1)
    nearer = found & (frobenius(X - newton) <= frobenius(X - unitary))
    return torch.where(nearer[..., None, None], newton, unitary)


@precise
@where_finite
def nearer_symplectic(X: Tensor) -> Tensor:
    """A symplectic matrix from which no step leads much nearer to ``X``: shape ``(*, 2n, 2n)`` to the same.

    From :func:`symplectic_factor`, Gauss-Newton steps: to ``M exp(t J S)`` with the Hermitian ``S`` for which ``M + M J
    S`` is nearest to ``X``, and the first ``t`` out of some fractions that brings it nearer, until a step gains less
    than 1e-5 of the distance. Steps that lose the digits of the equation are not taken.

    >>> nearer_symplectic(torch.diag(torch.tensor([2.0, 0.0]))).round(decimals=2)
    tensor([[2.1100, 0.0000],
            [0.0000, 0.4700]])
    """
    # In double precision: the errors of the steps add up, and in the equation they count by the norm of the matrix.
    wide = X.to(torch.promote_types(X.dtype, torch.float64))
    M = symplectic_factor(wide)
    for _ in range(_DESCENT if X.numel() else 0):
        before, step = M, times_J(_least_squares(wide - M, _times_J_right(M)))
        moved = torch.zeros_like(frobenius(M), dtype=torch.bool)
        for fraction in _FRACTIONS:
            other = before @ torch.matrix_exp(fraction * step)
            nearer = frobenius(wide - other) < (1 - _GAIN) * frobenius(wide - before)
            sound = symplectic_error(other) <= torch.finfo(wide.dtype).eps ** 0.75 * frobenius(other)
            gains = nearer & sound & ~moved
            M, moved = torch.where(gains[..., None, None], other, M), moved | gains
            if bool(moved.all()):
                break
        if not bool(moved.any()):
            break
    return _polished(M).to(X.dtype)


def _times_J_right(M: Tensor) -> Tensor:
    return -times_J(M.mT).mT


def _least_squares(D: Tensor, B: Tensor) -> Tensor:
    """The Hermitian ``S`` with the least ``|D - B S|``: ``B^H B S + S B^H B = B^H D + D^H B``."""
    a, V = torch.linalg.eigh(hermitian_part(B.mH @ B))
    C = V.mH @ hermitian_part(B.mH @ D) @ V
    S: Tensor = V @ (2 * C / (a.unsqueeze(-1) + a.unsqueeze(-2))) @ V.mH
    return S


def _newton(X: Tensor) -> Tensor:
    for _ in range(_STEPS):
        inverse = torch.linalg.inv_ex(X).inverse
        X = X / 2 + _adjoint(inverse) / 2
    X = torch.where(torch.isfinite(X).flatten(-2).all(-1)[..., None, None], X, 0)
    # The inverse of an ill-conditioned matrix has fewer digits than a product: the last step has none.
    return _polished(X)


def _polished(M: Tensor) -> Tensor:
    """``M``, near to symplectic, after one step of the iteration without inverses, which squares the error."""
    return M @ (1.5 * identity_of(M) - _adjoint(M) @ M / 2)
