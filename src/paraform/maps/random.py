"""Random tensors and matrices."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .precision import working_dtype


def standard_normal(
    shape: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Independent standard normal entries, drawn in the working precision of ``dtype`` (the default dtype, if None).

    >>> standard_normal((2, 3), dtype=torch.float16).dtype
    torch.float32
    """
    drawn = working_dtype(torch.get_default_dtype() if dtype is None else dtype)
    return torch.randn(tuple(shape), generator=generator, dtype=drawn, device=device)


def uniform(
    shape: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Independent real numbers, uniform on ``[0, 1)``, drawn in the working precision of ``dtype``.

    >>> uniform((2, 3), dtype=torch.complex128).dtype
    torch.float64
    """
    drawn = working_dtype(torch.get_default_dtype() if dtype is None else dtype).to_real()
    return torch.rand(tuple(shape), generator=generator, dtype=drawn, device=device)


def standard_exponential(shape: Sequence[int], **options: Any) -> Tensor:
    """Independent numbers from the exponential law of mean 1; the options are those of :func:`uniform`.

    >>> bool((standard_exponential((2, 3)) >= 0).all())
    True
    """
    return -torch.log1p(-uniform(shape, **options))


def haar(
    shape: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """A uniformly distributed matrix with orthonormal columns (rows, if wide), in the working precision of ``dtype``.

    QR of a Gaussian matrix, with the phases that make the factors unique (F. Mezzadri, *How to generate random matrices
    from the classical compact groups*, Notices of the AMS 54, 2007, the section "A correct and efficient algorithm").

    >>> Q = haar((3, 2))
    >>> torch.dist(Q.T @ Q, torch.eye(2)) < 1e-5
    tensor(True)
    """
    *batch, rows, columns = shape
    wide = rows < columns
    normal = standard_normal(
        (*batch, columns, rows) if wide else shape, generator=generator, dtype=dtype, device=device
    )
    F, R = torch.linalg.qr(normal)
    Q: Tensor = F * torch.sgn(R.diagonal(dim1=-2, dim2=-1)).unsqueeze(-2)
    return Q.mT if wide else Q


def contraction(
    shape: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """A uniformly distributed matrix with no singular value above 1, in the working precision of ``dtype``.

    A corner of a random orthogonal matrix: the corner of size ``m x n`` of one of size ``N`` has a density proportional
    to ``det(I - X X^H)`` to the power ``(N - m - n - 1) / 2`` (real) or ``N - m - n`` (complex), which is constant for
    ``N = m + n + 1`` and ``N = m + n`` (K. Zyczkowski and H.-J. Sommers, *Truncations of random unitary matrices*,
    2000; P. Forrester, *Quantum conductance problems and the Jacobi ensemble*, 2006).

    >>> torch.linalg.svdvals(contraction((4, 3))).max() <= 1
    tensor(True)
    """
    *batch, rows, columns = shape
    is_complex = (torch.get_default_dtype() if dtype is None else dtype).is_complex
    n, k = max(rows, columns), min(rows, columns)  # the law is that of its transposes, and k columns are fewest
    corner = haar((*batch, n + k + (not is_complex), k), generator=generator, dtype=dtype, device=device)[..., :n, :]
    return corner.mT if rows < columns else corner
