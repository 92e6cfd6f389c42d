"""Square matrices read off a triangle of a raw one."""

import torch
from torch import Tensor


def _diagonal(x: Tensor) -> Tensor:
    return x.diagonal(dim1=-2, dim2=-1)


def identity_of(x: Tensor) -> Tensor:
    """The identity of the size of the last dimension of ``x``.

    >>> identity_of(torch.zeros(3, 2))
    tensor([[1., 0.],
            [0., 1.]])
    """
    return torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)


def diagonal_mask(x: Tensor) -> Tensor:
    """True on the diagonal of an ``m x n`` matrix such as those of ``x``.

    >>> diagonal_mask(torch.zeros(2, 3))
    tensor([[ True, False, False],
            [False,  True, False]])
    """
    return torch.eye(*x.shape[-2:], dtype=torch.bool, device=x.device)


def _real_on_diagonal(triangle: Tensor, raw: Tensor) -> Tensor:
    """``triangle``, which has the diagonal of ``raw``, without its imaginary part."""
    if not raw.is_complex():
        return triangle
    diagonal = _diagonal(raw)
    return triangle - torch.diag_embed(diagonal - torch.real(diagonal))


def half_upper(raw: Tensor) -> Tensor:
    """The upper triangle of ``raw`` with half of its diagonal.

    >>> half_upper(torch.tensor([[1.0, 2.0], [9.0, 3.0]]))
    tensor([[0.5000, 2.0000],
            [0.0000, 1.5000]])
    """
    half = torch.triu(raw / 2)
    return half + torch.triu(half, 1)


def symmetric(raw: Tensor) -> Tensor:
    """The symmetric (Hermitian) matrix whose upper triangle is that of ``raw``.

    Shape: ``(*, n, n)`` to ``(*, n, n)``. For complex ``raw`` the imaginary part of the diagonal is dropped.

    >>> symmetric(torch.tensor([[1.0, 2.0], [9.0, 3.0]]))
    tensor([[1., 2.],
            [2., 3.]])
    """
    above = torch.triu(raw, 1).mH
    return _real_on_diagonal(torch.triu(raw), raw) + above


def symmetric_from_lower(raw: Tensor) -> Tensor:
    """The symmetric (Hermitian) matrix whose lower triangle is that of ``raw``: what a Cholesky factorization reads.

    Shape: ``(*, n, n)`` to ``(*, n, n)``. For complex ``raw`` the imaginary part of the diagonal is dropped.

    >>> symmetric_from_lower(torch.tensor([[1.0, 9.0], [2.0, 3.0]]))
    tensor([[1., 2.],
            [2., 3.]])
    """
    below = torch.tril(raw, -1).mH
    return _real_on_diagonal(torch.tril(raw), raw) + below


def skew(raw: Tensor) -> Tensor:
    """The skew-symmetric (skew-Hermitian) matrix whose strict upper triangle is that of ``raw``.

    Shape: ``(*, n, n)`` to ``(*, n, n)``. For complex ``raw`` the diagonal is i times its imaginary part.

    >>> skew(torch.tensor([[1.0, 2.0], [9.0, 3.0]]))
    tensor([[ 0.,  2.],
            [-2.,  0.]])
    """
    upper = torch.triu(raw, 1)
    if not raw.is_complex():
        return upper - upper.mT
    diagonal = _diagonal(raw)
    return upper - upper.mH + torch.diag_embed(diagonal - torch.real(diagonal))


def skew_from_lower(raw: Tensor) -> Tensor:
    """``T - T^H`` with the lower triangle ``T`` of ``raw``: what ``torch.nn.utils.parametrizations.orthogonal`` reads.

    Shape: ``(*, n, n)`` to ``(*, n, n)``.

    >>> skew_from_lower(torch.tensor([[1.0, 2.0], [9.0, 3.0]]))
    tensor([[ 0., -9.],
            [ 9.,  0.]])
    """
    return minus_adjoint(torch.tril(raw))


def minus_adjoint(x: Tensor) -> Tensor:
    """``x - x^H``, through a transposed copy: subtracting a transposed view takes twice as long.

    >>> minus_adjoint(torch.tensor([[1.0, 2.0], [5.0, 3.0]]))
    tensor([[ 0., -3.],
            [ 3.,  0.]])
    """
    return x.mH.clone(memory_format=torch.contiguous_format).neg_().add_(x)


def hermitian_part(x: Tensor) -> Tensor:
    """``(x + x^H) / 2``: the nearest symmetric (Hermitian) matrix in Frobenius norm.

    >>> hermitian_part(torch.tensor([[1.0, 2.0], [4.0, 3.0]]))
    tensor([[1., 3.],
            [3., 3.]])
    """
    # Halved before the sum: the sum of two large entries may overflow where their mean does not.
    return x / 2 + x.mH / 2


def skew_part(x: Tensor) -> Tensor:
    """``(x - x^H) / 2``: the nearest skew-symmetric (skew-Hermitian) matrix in Frobenius norm.

    >>> skew_part(torch.tensor([[1.0, 2.0], [4.0, 3.0]]))
    tensor([[ 0., -1.],
            [ 1.,  0.]])
    """
    return x / 2 - x.mH / 2
