"""How far from a set a value may be by rounding alone."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import maps

# A value is rounded into its dtype, and so was the tensor that it is computed from (a base, say). Either moves an entry
# by at most eps/2 of its size, and |Q^H Q| by at most eps |Q|.
_ROUNDING = 2
# It may also be the result of a product or a factorization in the working precision. For QR, SVD, matrix products and
# their inverses of size n the error is a few eps sqrt(n), relative to the norm of the result.
_ARITHMETIC = 8


def relative_tolerance(value: Tensor, dims: Sequence[int] | None = None) -> float:
    """What rounding may do to a matrix of ``value``, or what else ``dims`` span, relative to its norm.

    >>> relative_tolerance(torch.eye(4)) < 1e-5
    True
    """
    size = max([1, *(value.shape[dim] for dim in _or_matrix(dims, value))])
    storage, working = _precisions(value)
    return _ROUNDING * storage + _ARITHMETIC * math.sqrt(size) * working


def tolerance(value: Tensor, dims: Sequence[int] | None = None) -> Tensor:
    """The residual up to which each matrix of ``value`` counts as rounding error: shape ``(*, m, n)`` to ``(*)``.

    Args:
        value: matrices, or whatever lies along ``dims``.
        dims: the dimensions that one point of a set spans, none for numbers; the last two, if not given.

    >>> tolerance(torch.eye(4)) < 1e-5, tolerance(1000 * torch.eye(4)) > 1e-3
    (tensor(True), tensor(True))
    """
    dims = _or_matrix(dims, value)
    return relative_tolerance(value, dims) * maps.size(value, dims)


def mirrors(value: Tensor, mirror: Tensor) -> Tensor:
    """Whether each matrix of ``value`` is its own ``mirror``, plus or minus its adjoint, but for rounding.

    Shape: ``(*, n, n)`` twice to ``(*)``, bool. Entry by entry, so that no large one hides what happens to a small one:
    what counts is the size of the entry, for its rounding, and the norms of its row and of its column, for that of a
    product. (For a Gram matrix, the inverse of one, ``Q D Q^T`` and ``A K A^T`` up to n = 300 the latter is at most 2.1
    eps; relative to the entry it is up to 1e5 eps.)

    >>> x = torch.tensor([[1e6, 0.5], [-0.5, 0.0]])
    >>> mirrors(x, x.mH), mirrors(x + x.mH, x + x.mH)
    (tensor(False), tensor(True))
    """
    storage, working = _precisions(value)
    wide, other = (x.to(maps.working_dtype(x.dtype)) for x in (value, mirror))
    entry = torch.maximum(wide.abs(), other.abs())
    root = maps.norm(wide, (-1,)).sqrt()
    allowed = _ROUNDING * storage * entry + _ARITHMETIC * working * (root * root.mT)
    return ((wide - other).abs() <= allowed).flatten(-2).all(-1)


def _or_matrix(dims: Sequence[int] | None, value: Tensor) -> Sequence[int]:
    return maps.matrix_dims(value) if dims is None else dims


def _precisions(value: Tensor) -> tuple[float, float]:
    return torch.finfo(value.dtype).eps, torch.finfo(maps.working_dtype(value.dtype)).eps
