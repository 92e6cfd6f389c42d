"""Symplectic matrices: ``M^T J M = J`` with ``J = [[0, I], [-I, 0]]``, real."""

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
    """``base exp(K) exp(S)``, the skew part ``K`` and the symmetric part ``S`` of the Hamiltonian matrix of ``raw``.

    Shape: ``(*, 2n, 2n)`` twice to the same. See :func:`group_at`: both factors are symplectic.

    >>> squeeze = symplectic_at(torch.eye(2), torch.diag(torch.tensor([1.0, -1.0])))
    >>> torch.allclose(squeeze, torch.diag(torch.tensor([1.0, -1.0]).exp()))
    True
    """
    return group_at(base, hamiltonian(raw))


@measured
def symplectic_error(M: Tensor) -> Tensor:
    """``|M^T J M - J|`` in Frobenius norm: shape ``(*, 2n, 2n)`` to ``(*)``.

    >>> symplectic_error(torch.eye(2)), symplectic_error(2 * torch.eye(2))
    (tensor(0.), tensor(4.2426))
    """
    # As for orthogonal matrices: squares of large entries overflow, so divide first and multiply last.
    scale = largest(M, (-2, -1)).clamp_min(1)
    y = M / scale
    form = times_J(torch.eye(M.shape[-1], dtype=M.dtype, device=M.device)) / scale / scale
    return frobenius(y.mT @ times_J(y) - form) * scale[..., 0, 0] * scale[..., 0, 0]


def _adjoint(X: Tensor) -> Tensor:
    """``J^-1 X^T J``, which is the inverse of a symplectic ``X``."""
    return times_J(times_J(X).mT)


@precise
def symplectic_factor(X: Tensor) -> Tensor:
    """A symplectic matrix near ``X``: shape ``(*, 2n, 2n)`` to the same, of finite entries.

    The nearer of two. The generalized polar factor ``X (X^* X)^(-1/2)`` with the adjoint ``X^* = J^-1 X^T J`` exists
    where ``X^* X`` has no eigenvalue on the negative axis, and is ``X`` if that is symplectic; Newton's iteration
    ``X <- (X + (X^-1)^*) / 2`` finds it (N. Higham, D. Mackey, N. Mackey and F. Tisseur, *Functions preserving matrix
    groups and iterations for the matrix square root*, 2005, Theorem 4.2). And there always is the nearest matrix that
    is orthogonal besides, the polar factor of a complex matrix of half the size.

    >>> symplectic_factor(torch.diag(torch.tensor([4.0, 1.0])))
    tensor([[2.0000, 0.0000],
            [0.0000, 0.5000]])
    """
    n = X.shape[-1] // 2
    A, B, C, D = X[..., :n, :n], X[..., :n, n:], X[..., n:, :n], X[..., n:, n:]
    Z = polar(torch.complex(A / 2 + D / 2, B / 2 - C / 2))
    unitary = torch.cat([torch.cat([Z.real, Z.imag], -1), torch.cat([-Z.imag, Z.real], -1)], -2)
    newton = _newton(X)
    error, size = symplectic_error(newton), frobenius(newton)
    found = error <= torch.finfo(X.dtype).eps ** 0.75 * size.square().clamp_min(1)
    nearer = found & (frobenius(X - newton) <= frobenius(X - unitary))
    return torch.where(nearer[..., None, None], newton, unitary)


def _newton(X: Tensor) -> Tensor:
    for _ in range(_STEPS):
        inverse = torch.linalg.inv_ex(X).inverse
        X = X / 2 + _adjoint(inverse) / 2
    X = torch.where(torch.isfinite(X).flatten(-2).all(-1)[..., None, None], X, 0)
    # The inverse of an ill-conditioned matrix has fewer digits than a product: the last step has none.
    return X @ (1.5 * torch.eye(X.shape[-1], dtype=X.dtype, device=X.device) - _adjoint(X) @ X / 2)
