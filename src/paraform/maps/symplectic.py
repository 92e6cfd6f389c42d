"""Symplectic matrices: ``M^H J M = J`` with ``J = [[0, I], [-I, 0]]``."""

import torch
from torch import Tensor

from .groups import group_at
from .norms import frobenius, largest
from .patterns import hamiltonian, times_J
from .polar import polar
from .precision import measured, precise

# Newton's iteration halves what is too large and then squares the error; this is enough for a condition number of 1e15.
_STEPS = 60


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
    form = times_J(torch.eye(M.shape[-1], dtype=M.dtype, device=M.device)) / scale / scale
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


def _newton(X: Tensor) -> Tensor:
    for _ in range(_STEPS):
        inverse = torch.linalg.inv_ex(X).inverse
        X = X / 2 + _adjoint(inverse) / 2
    X = torch.where(torch.isfinite(X).flatten(-2).all(-1)[..., None, None], X, 0)
    # The inverse of an ill-conditioned matrix has fewer digits than a product: the last step has none.
    return X @ (1.5 * torch.eye(X.shape[-1], dtype=X.dtype, device=X.device) - _adjoint(X) @ X / 2)
