"""Positive semidefinite matrices of a bounded or a given rank, as Gram matrices of few columns."""

import torch
from torch import Tensor

from .finite import where_finite
from .norms import frobenius, largest, unit
from .positive import floor
from .precision import measured, precise
from .spectral import irregular_rows
from .triangles import hermitian_part, skew_part


@precise
def gram(factor: Tensor) -> Tensor:
    """``L L^H``: shape ``(*, n, r)`` to ``(*, n, n)``.

    >>> gram(torch.tensor([[1.0], [2.0]]))
    tensor([[1., 2.],
            [2., 4.]])
    """
    return factor @ factor.mH


@precise
def gram_of_full_rank(factor: Tensor) -> Tensor:
    """``L L^H + 4 eps |L|^2 Q Q^H``, with ``r`` orthonormal columns in ``Q`` whose span has that of ``L`` in it.

    Shape: ``(*, n, r)`` with ``r <= n`` to ``(*, n, n)``. So the rank is ``r`` for every ``L``: where ``L`` has less, a
    QR factorization finds further columns for ``Q``. The share of the identity on that space is at least the smallest
    normal number. It is rounding error in size, and has no derivative here.

    >>> torch.linalg.eigvalsh(gram_of_full_rank(torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])))[1] > 0
    tensor(True)
    """
    with torch.no_grad():
        Q = torch.linalg.qr(factor).Q
        share = floor(factor.dtype) * frobenius(factor)[..., None, None].square()
        extra = share.clamp_min(torch.finfo(factor.dtype).smallest_normal).sqrt() * Q
    return gram(torch.cat([factor, extra], -1))


def _leading(x: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The ``rank`` largest eigenvalues of the Hermitian part in rising order, 0 for negative ones; eigenvectors."""
    eigenvalues, Q = torch.linalg.eigh(hermitian_part(x))
    rest = x.shape[-1] - rank
    return eigenvalues[..., rest:].clamp_min(0), Q[..., rest:]


@precise
def gram_factor(x: Tensor, rank: int, exact: bool = False) -> Tensor:
    """``L`` of ``rank`` columns with ``L L^H`` (or, if ``exact``, :func:`gram_of_full_rank` of it) equal to ``x``.

    Shape: ``(*, n, n)`` to ``(*, n, r)``. A column of zeros would have no gradient. So eigenvalues below ``eps`` of the
    largest one are raised to that; those of a zero matrix, to ``eps``. Their columns have something of every direction
    (an eigenvector could be one in which there never is a gradient).

    >>> gram(gram_factor(torch.tensor([[1.0, 2.0], [2.0, 4.0]]), 1))
    tensor([[1., 2.],
            [2., 4.]])
    """
    eigenvalues, Q = _leading(x, rank)
    if exact:
        part = floor(x.dtype)
        eigenvalues = eigenvalues - (part / (1 + rank * part) * eigenvalues).sum(-1, keepdim=True)
    top = largest(eigenvalues.clamp_min(0), (-1,))
    least = torch.finfo(x.dtype).eps * torch.where(top > 0, top, 1)
    anywhere = unit(irregular_rows(rank, x), (-1,)).mT
    Q = torch.where((eigenvalues < least).unsqueeze(-2), anywhere, Q)
    factor = Q * torch.maximum(eigenvalues, least).sqrt().unsqueeze(-2)
    return factor.contiguous()  # as it comes back from a file: products round otherwise where memory lies otherwise


@precise
@where_finite
def nearest_semidefinite(x: Tensor, rank: int, exact: bool = False) -> Tensor:
    """The Hermitian part of ``x`` with its ``rank`` largest eigenvalues, the negative ones among them replaced by 0.

    Shape: ``(*, n, n)`` to ``(*, n, n)``. The nearest positive semidefinite matrix of at most that rank in Frobenius
    norm (N. Higham, *Computing a nearest symmetric positive semidefinite matrix*, 1988, Theorem 2.1; with a rank, A.
    Dax, *Low-rank positive approximants of symmetric matrices*, 2014). If ``exact``, the eigenvalues are raised to
    twice the least that :func:`gram_of_full_rank` has; those of a zero matrix, as if it had trace 1.

    >>> nearest_semidefinite(torch.diag(torch.tensor([3.0, 2.0, -1.0])), 1)
    tensor([[3., 0., 0.],
            [0., 0., 0.],
            [0., 0., 0.]])
    """
    eigenvalues, Q = _leading(x, rank)
    if exact:
        bottom = 2 * (floor(x.dtype) * eigenvalues).sum(-1, keepdim=True)
        bottom = torch.where(bottom > torch.finfo(x.dtype).smallest_normal, bottom, 2 * floor(x.dtype))
        eigenvalues = torch.maximum(eigenvalues, bottom)
    return hermitian_part((Q * eigenvalues.unsqueeze(-2)) @ Q.mH)


@measured
@where_finite
def distance_to_semidefinite(x: Tensor, rank: int) -> Tensor:
    """The distance in Frobenius norm to the semidefinite matrices of at most that rank: ``(*, n, n)`` to ``(*)``.

    >>> distance_to_semidefinite(torch.diag(torch.tensor([5.0, 4.0, -3.0])), 1)
    tensor(5.)
    """
    eigenvalues = torch.linalg.eigvalsh(hermitian_part(x))
    rest = x.shape[-1] - rank
    dropped = torch.cat([eigenvalues[..., :rest], eigenvalues[..., rest:].clamp_max(0)], -1)
    return torch.hypot(frobenius(skew_part(x)), frobenius(dropped.unsqueeze(-1)))
