"""Roots of Hermitian matrices, with derivatives that repeated eigenvalues do not disturb."""

import torch
from torch import Tensor

from .precision import precise
from .triangles import hermitian_part


@precise
def inverse_sqrt(M: Tensor) -> Tensor:
    """``M^(-1/2)`` of a Hermitian positive definite ``M``: shape ``(*, n, n)`` to ``(*, n, n)``.

    The root ``R`` is found outside autograd, by an eigenvalue decomposition, whose own derivative divides by the gaps
    between eigenvalues. Two steps of Newton's method for ``X M X = I``, with the derivative of that at ``R`` in both,
    then give ``X`` the first two derivatives of the root: each step is a Sylvester equation ``H E + E H = I - X M X``
    with ``H = R M``, solved in the basis of the eigenvectors, where it is a division by sums of positive numbers
    (N. Higham, *Functions of Matrices*, SIAM 2008, section 6.1).

    >>> inverse_sqrt(torch.diag(torch.tensor([4.0, 4.0])))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]])
    """
    root, V, sums = _decomposed(M)
    X = root
    for _ in range(2):
        rest = torch.eye(M.shape[-1], dtype=M.dtype, device=M.device) - X @ M @ X
        X = X + V @ ((V.mH @ rest @ V) / sums) @ V.mH
    return X


@torch.no_grad()
def _decomposed(M: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``M^(-1/2)``, the eigenvectors, and the sums of the roots of two eigenvalues each."""
    constant = M.detach()
    finite = torch.isfinite(constant).flatten(-2).all(-1)[..., None, None]
    identity = torch.eye(M.shape[-1], dtype=M.dtype, device=M.device)
    eigenvalues, V = torch.linalg.eigh(torch.where(finite, constant, identity))  # LAPACK would raise
    roots = eigenvalues.clamp_min(torch.finfo(eigenvalues.dtype).tiny).sqrt()
    return (V / roots.unsqueeze(-2)) @ V.mH, V, roots.unsqueeze(-1) + roots.unsqueeze(-2)


# tanh(x / 128) is a quotient of polynomials to all digits for |x| up to 25, beyond which tanh(x) is 1 to all digits.
_DOUBLINGS = 7


@precise
def hermitian_tanh(S: Tensor) -> Tensor:
    """``tanh(S)`` of a Hermitian ``S``, with eigenvalues in ``[-1, 1]`` whatever ``S`` is: ``(*, n, n)`` to the same.

    ``tanh`` of a small part of ``S`` by its continued fraction, then ``tanh(2x) = 2 tanh(x) / (1 + tanh(x)^2)``, which
    maps all numbers into ``[-1, 1]``. Nothing overflows, as the exponential would, and no eigenvalues are needed.

    >>> hermitian_tanh(torch.diag(torch.tensor([0.5, -100.0])))
    tensor([[ 0.4621,  0.0000],
            [ 0.0000, -1.0000]])
    """
    identity = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)
    x = S / 2**_DOUBLINGS
    square = x @ x
    above = 945 * identity + 105 * square + square @ square
    below = 945 * identity + 420 * square + 15 * (square @ square)
    T = x @ above @ torch.linalg.inv(below)
    for _ in range(_DOUBLINGS):
        T = 2 * T @ torch.linalg.inv(identity + T @ T)
    return hermitian_part(T)
