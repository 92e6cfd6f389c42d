"""Matrices with a pattern: bands, blocks, constant diagonals, and the form of Hamiltonian systems."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import precise
from .triangles import hermitian_part


def band(x: Tensor, lower: int, upper: int) -> Tensor:
    """``x`` on the diagonal, ``lower`` diagonals below and ``upper`` above it; 0 elsewhere.

    >>> band(torch.ones(3, 4), 1, 0)
    tensor([[1., 0., 0., 0.],
            [1., 1., 0., 0.],
            [0., 1., 1., 0.]])
    """
    return x.tril(upper).triu(-lower)


def block_mask(sizes: Sequence[tuple[int, int]], device: torch.device | None = None) -> Tensor:
    """True within blocks of these sizes (rows, columns) along the diagonal.

    >>> block_mask([(1, 2), (1, 1)])
    tensor([[ True,  True, False],
            [False, False,  True]])
    """
    blocks = [torch.ones(size, dtype=torch.bool, device=device) for size in sizes]
    mask: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return mask


@precise
def traceless(x: Tensor) -> Tensor:
    """``x - tr(x) / n I``: the nearest matrix of trace 0. Shape: ``(*, n, n)`` to the same.

    >>> traceless(torch.tensor([[3.0, 4.0], [5.0, 1.0]]))
    tensor([[ 1.,  4.],
            [ 5., -1.]])
    """
    n = x.shape[-1]
    # Divided before they are summed: the trace may overflow where its mean does not.
    mean = (x.diagonal(dim1=-2, dim2=-1) / max(n, 1)).sum(-1)
    return x - mean[..., None, None] * torch.eye(n, dtype=x.dtype, device=x.device)


@precise
def hamiltonian(x: Tensor) -> Tensor:
    """The nearest Hamiltonian matrix: ``J y`` is the Hermitian part of ``J x``, with ``J = [[0, I], [-I, 0]]``.

    Shape: ``(*, 2n, 2n)`` to the same.

    >>> hamiltonian(torch.tensor([[1.0, 2.0], [3.0, 5.0]]))
    tensor([[-2.,  2.],
            [ 3.,  2.]])
    """
    return -times_J(hermitian_part(times_J(x)))


def times_J(x: Tensor) -> Tensor:
    """``J x`` with ``J = [[0, I], [-I, 0]]``: the lower half above the upper one with the other sign.

    >>> times_J(torch.tensor([[1.0], [2.0]]))
    tensor([[ 2.],
            [-1.]])
    """
    n = x.shape[-2] // 2
    return torch.cat([x[..., n:, :], -x[..., :n, :]], -2)


def circulant(c: Tensor) -> Tensor:
    """The matrix whose columns are ``c``, turned on by one place from each to the next: ``(*, n)`` to ``(*, n, n)``.

    >>> circulant(torch.tensor([1.0, 2.0, 3.0]))
    tensor([[1., 3., 2.],
            [2., 1., 3.],
            [3., 2., 1.]])
    """
    n = c.shape[-1]
    return toeplitz(torch.cat([c[..., 1:], c], -1), n, n)


@precise
def circulant_means(x: Tensor) -> Tensor:
    """The mean over each of the ``n`` cyclic diagonals: ``(*, n, n)`` to ``(*, n)``.

    >>> circulant_means(torch.tensor([[1.0, 4.0], [2.0, 3.0]]))
    tensor([2., 3.])
    """
    n = x.shape[-1]
    sums = _diagonal_sums(x / n)
    # A cyclic diagonal is one that starts in the first column, and the one that goes on from its end in the first row.
    return sums[..., max(n - 1, 0) :] + F.pad(sums[..., : max(n - 1, 0)], (1, 0))


def toeplitz(t: Tensor, m: int, n: int) -> Tensor:
    """The ``m x n`` matrix with ``t[n - 1 + i - j]`` at ``(i, j)``: ``(*, m + n - 1)`` to ``(*, m, n)``.

    A matrix without entries has no diagonals: there ``t`` is empty.

    >>> toeplitz(torch.tensor([1.0, 2.0, 3.0, 4.0]), 2, 3)
    tensor([[3., 2., 1.],
            [4., 3., 2.]])
    """
    # One copy of t a row, cut into rows of one entry more, each of which begins one place further in t; read from the
    # right. (An index takes twice as long, and the derivative of unfold has no rule for vmap.)
    *batch, count = t.shape
    copies = t.unsqueeze(-2).expand(*batch, m, count).flatten(-2)
    rows = F.pad(copies, (0, m)).reshape(*batch, m, count + 1)
    return rows[..., :n].flip(-1).reshape(*batch, m, n)


def diagonals(x: Tensor) -> Tensor:
    """The ``t`` that a Toeplitz matrix is made of, read from its first row and column.

    Shape: ``(*, m, n)`` to ``(*, m + n - 1)``.

    >>> diagonals(torch.tensor([[3.0, 2.0, 1.0], [4.0, 3.0, 2.0]]))
    tensor([1., 2., 3., 4.])
    """
    row, column = x[..., :1, 1:].flatten(-2), x[..., :1].flatten(-2)
    return torch.cat([row.flip(-1), column], -1)


@precise
def diagonal_means(x: Tensor) -> Tensor:
    """The mean over each diagonal, from the upper right to the lower left: ``(*, m, n)`` to ``(*, m + n - 1)``.

    >>> diagonal_means(torch.tensor([[3.0, 2.0, 1.0], [4.0, 5.0, 2.0]]))
    tensor([1., 2., 4., 4.])
    """
    longest = min(x.shape[-2:])
    sums = _diagonal_sums(x / longest)  # divided before they are summed: sums may overflow where means do not
    k = torch.arange(sums.shape[-1], device=x.device)
    lengths = torch.minimum(k + 1, sums.shape[-1] - k).clamp_max(longest).to(x.dtype)
    return sums * (longest / lengths)


def _diagonal_sums(x: Tensor) -> Tensor:
    """The sum over each diagonal, from the upper right to the lower left: ``(*, m, n)`` to ``(*, m + n - 1)``."""
    m, n = x.shape[-2:]
    count = m + n - 1 if m and n else 0
    # With m zeros behind each row, rows of one entry less begin one place further left each: a diagonal is a column.
    sheared = F.pad(x.flip(-1), (0, m)).flatten(-2)[..., : m * count].reshape(*x.shape[:-2], m, count)
    return sheared.sum(-2)
