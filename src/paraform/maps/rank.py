"""Matrices of a bounded or a given rank, as products of a tall and a wide factor."""

import torch
from torch import Tensor

from .finite import where_finite
from .norms import frobenius, largest, unit
from .polar import polar
from .positive import floor
from .precision import measured, precise, working_dtype
from .spectral import irregular_rows


@precise
def product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right``: shape ``(*, m, r)`` and ``(*, r, n)`` to ``(*, m, n)``.

    >>> product(torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0, 4.0]]))
    tensor([[3., 4.],
            [6., 8.]])
    """
    return left @ right


@precise
def updated(base: Tensor, left: Tensor, right: Tensor, scale: float) -> Tensor:
    """``base + scale left @ right``; ``base`` to the bit where one of the factors is zero.

    >>> updated(torch.eye(2), torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0, 4.0]]), 0.5)
    tensor([[1.0000, 0.0000],
            [1.5000, 3.0000]])
    """
    return base + left @ (scale * right)


@precise
def product_of_full_rank(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right`` with each of its ``r`` leading singular values raised by ``4 eps`` of the sum of all.

    Shape: ``(*, m, r)`` and ``(*, r, n)`` with ``r <= min(m, n)`` to ``(*, m, n)``. So the rank is ``r`` for all
    factors. With QR factorizations of both the product is ``Q C P^H``; ``C``, ``r x r``, has the polar factor ``W``,
    and what is added is that much of ``Q W P^H``, at least the smallest normal number. It is rounding error in size,
    and has no derivative here.

    >>> torch.linalg.svdvals(product_of_full_rank(torch.zeros(3, 2), torch.zeros(2, 4)))[1] > 0
    tensor(True)
    """
    with torch.no_grad():
        Q, A = torch.linalg.qr(left)
        P, B = torch.linalg.qr(right.mH)
        core = A @ B.mH
        W = polar(core)
        singular_values = torch.real(W.mH @ core).diagonal(dim1=-2, dim2=-1)  # no more than their sum is meant
        share = (floor(left.dtype) * singular_values).sum(-1).clamp_min(torch.finfo(left.dtype).smallest_normal)
        extra = share[..., None, None] * (Q @ W)
    return torch.cat([left, extra], -1) @ torch.cat([right, P.mH], -2)


def factors(x: Tensor, rank: int, exact: bool = False) -> tuple[Tensor, Tensor]:
    """The factors whose product (or, if ``exact``, :func:`product_of_full_rank`) is ``x``, of that rank at most.

    Shape: ``(*, m, n)`` to ``(*, m, r)`` and ``(*, r, n)``. Balanced: each has the square root of every singular value,
    and the singular vectors. Where a singular value is zero but for rounding, the column of the left factor is zero,
    and the row of the right one is not, so that the product can grow there: it is as long as the longest, or 1, in a
    direction that has something of every feature (a singular vector could be one that never occurs).

    >>> factors(torch.tensor([[4.0, 0.0], [0.0, 0.0]]), 2)
    (tensor([[2., 0.],
            [0., 0.]]), tensor([[ 2.0000,  0.0000],
            [-1.2247,  1.5811]]))
    """
    wide = x.to(working_dtype(x.dtype))
    U, S, Vh = _leading(wide, rank)
    if exact:
        part = floor(wide.dtype)
        S = (S - (part / (1 + rank * part) * S).sum(-1, keepdim=True)).clamp_min(0)
    top = largest(S, (-1,))
    rounding = max(*x.shape[-2:], 1) * torch.finfo(wide.dtype).eps
    is_zero = rounding * top >= S
    left = U * torch.where(is_zero, 0, S).sqrt().unsqueeze(-2)
    length = torch.where(is_zero, torch.where(top > 0, top, 1), S).sqrt().unsqueeze(-1)
    right = length * torch.where(is_zero.unsqueeze(-1), unit(irregular_rows(S.shape[-1], wide), (-1,)), Vh)
    # Contiguous, as they come back from a file: products round otherwise where memory lies otherwise.
    return left.to(x.dtype).contiguous(), right.to(x.dtype).contiguous()


def _leading(x: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    U, S, Vh = torch.linalg.svd(x, full_matrices=False)
    return U[..., :rank], S[..., :rank], Vh[..., :rank, :]


@precise
@where_finite
def nearest_of_rank(x: Tensor, rank: int, exact: bool = False) -> Tensor:
    """``x`` with all singular values but the ``rank`` largest replaced by 0.

    Shape: ``(*, m, n)`` to ``(*, m, n)``. The nearest matrix of at most that rank in Frobenius norm (C. Eckart and G.
    Young, *The approximation of one matrix by another of lower rank*, 1936). If ``exact``, those that are left are
    raised to twice the least that :func:`product_of_full_rank` has; of a zero matrix, as if their sum were 1.

    >>> nearest_of_rank(torch.diag(torch.tensor([3.0, -2.0])), 1)
    tensor([[3., 0.],
            [0., 0.]])
    """
    U, S, Vh = _leading(x, rank)
    if exact:
        bottom = 2 * (floor(x.dtype) * S).sum(-1, keepdim=True)
        bottom = torch.where(bottom > torch.finfo(x.dtype).smallest_normal, bottom, 2 * floor(x.dtype))
        S = torch.maximum(S, bottom)
    nearest: Tensor = (U * S.unsqueeze(-2)) @ Vh
    return nearest


@measured
@where_finite
def distance_to_rank(x: Tensor, rank: int) -> Tensor:
    """The distance in Frobenius norm to the matrices of at most that rank: shape ``(*, m, n)`` to ``(*)``.

    >>> distance_to_rank(torch.diag(torch.tensor([7.0, 4.0, 3.0])), 1)
    tensor(5.)
    """
    return frobenius(torch.linalg.svdvals(x)[..., rank:].unsqueeze(-1))


@measured
@where_finite
def has_rank(x: Tensor, rank: int) -> Tensor:
    """Whether the singular value of that number is above ``eps`` of the largest: ``(*, m, n)`` to ``(*)``, 1 or 0.

    >>> has_rank(torch.diag(torch.tensor([3.0, 2.0, 0.0])), 2), has_rank(torch.diag(torch.tensor([3.0, 2.0, 0.0])), 3)
    (tensor(1.), tensor(0.))
    """
    S = torch.linalg.svdvals(x)
    above: Tensor = S[..., rank - 1] > torch.finfo(S.dtype).eps * S[..., 0]
    return above.to(S.dtype)
