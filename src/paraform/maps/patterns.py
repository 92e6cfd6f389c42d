"""Matrices with a pattern: bands, blocks, constant diagonals, and the form of Hamiltonian systems."""

from collections.abc import Sequence

import torch
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


def _circulant_index(n: int, device: torch.device) -> Tensor:
    i = torch.arange(n, device=device)
    return (i.unsqueeze(1) - i) % max(n, 1)


def circulant(c: Tensor) -> Tensor:
    """The matrix whose columns are ``c``, turned on by one place from each to the next: ``(*, n)`` to ``(*, n, n)``.

    >>> circulant(torch.tensor([1.0, 2.0, 3.0]))
    tensor([[1., 3., 2.],
            [2., 1., 3.],
            [3., 2., 1.]])
    """
    return c[..., _circulant_index(c.shape[-1], c.device)]


@precise
def circulant_means(x: Tensor) -> Tensor:
    """The mean over each of the ``n`` cyclic diagonals: ``(*, n, n)`` to ``(*, n)``.

    >>> circulant_means(torch.tensor([[1.0, 4.0], [2.0, 3.0]]))
    tensor([2., 3.])
    """
    n = x.shape[-1]
    j = torch.arange(n, device=x.device)
    rows = (j.unsqueeze(1) + j) % max(n, 1)  # entry (k, j) is the row that diagonal k has in column j
    return (x[..., rows, j] / max(n, 1)).sum(-1)


def _toeplitz_index(m: int, n: int, device: torch.device) -> Tensor:
    return torch.arange(m, device=device).unsqueeze(1) - torch.arange(n, device=device) + n - 1


def toeplitz(t: Tensor, m: int, n: int) -> Tensor:
    """The ``m x n`` matrix with ``t[n - 1 + i - j]`` at ``(i, j)``: ``(*, m + n - 1)`` to ``(*, m, n)``.

    >>> toeplitz(torch.tensor([1.0, 2.0, 3.0, 4.0]), 2, 3)
    tensor([[3., 2., 1.],
            [4., 3., 2.]])
    """
    return t[..., _toeplitz_index(m, n, t.device)]


@precise
def diagonal_means(x: Tensor) -> Tensor:
    """The mean over each diagonal, from the upper right to the lower left: ``(*, m, n)`` to ``(*, m + n - 1)``.

    >>> diagonal_means(torch.tensor([[3.0, 2.0, 1.0], [4.0, 5.0, 2.0]]))
    tensor([1., 2., 4., 4.])
    """
    m, n = x.shape[-2:]
    index = _toeplitz_index(m, n, x.device).flatten()
    diagonals = m + n - 1 if m * n else 0
    k = torch.arange(diagonals, device=x.device)
    lengths = torch.minimum(k + 1, diagonals - k).clamp_max(min(m, n))
    zeros = torch.zeros((*x.shape[:-2], diagonals), dtype=x.dtype, device=x.device)
    return zeros.index_add(-1, index, x.flatten(-2) / lengths[index])
