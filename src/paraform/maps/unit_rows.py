"""Lower-triangular matrices with rows of length 1 and a positive diagonal: Cholesky factors of correlations."""

import math

import torch
from torch import Tensor

from .norms import norm
from .precision import precise
from .triangles import diagonal_mask


@precise
def unit_rows(raw: Tensor) -> Tensor:
    """Lower-triangular ``L`` with ``L_ij = c_ij tanh(x_ij)`` and ``L_ii = c_ii``, for ``c_ij = prod 1 / cosh(x_ik)``.

    Shape: ``(*, n (n - 1) / 2)``, the ``x`` row by row, to ``(*, n, n)``. The product is over all ``k < j``, so that a
    row has length 1. It is the function of ``torch.distributions.transforms.CorrCholeskyTransform``, as accurate near
    to the edge as elsewhere: there the products are of square roots of ``1 - tanh^2``.

    >>> unit_rows(torch.tensor([0.0, 0.0, 20.0]))
    tensor([[1.0000e+00, 0.0000e+00, 0.0000e+00],
            [0.0000e+00, 1.0000e+00, 0.0000e+00],
            [0.0000e+00, 1.0000e+00, 4.1223e-09]])
    """
    n = (1 + math.isqrt(1 + 8 * raw.shape[-1])) // 2
    i = torch.arange(n, device=raw.device)
    place = (i * (i - 1) // 2).unsqueeze(-1) + i  # of x_ij among all
    outside = raw.shape[-1]  # one zero more, for the places that hold none
    X = torch.nn.functional.pad(raw, (0, 1))[..., torch.where(i.unsqueeze(-1) > i, place, outside)]
    log_cosh = torch.logaddexp(X, -X) - math.log(2)
    before = torch.nn.functional.pad(log_cosh[..., :-1], (1, 0)).cumsum(-1)
    return torch.where(diagonal_mask(X), 1, torch.tanh(X)) * torch.exp(-before)


@precise
def unit_rows_raw(L: Tensor) -> Tensor:
    """The ``raw`` with ``unit_rows(raw) == L``, where the diagonal is positive; lengths of rows do not matter.

    >>> unit_rows_raw(unit_rows(torch.tensor([1.0, -2.0, 9.0])))
    tensor([ 1.0000, -2.0000,  9.0000])
    """
    tail = L.square().flip(-1).cumsum(-1).flip(-1).sqrt()[..., 1:]
    x = torch.asinh(L[..., :-1] / torch.where(tail > 0, tail, 1))
    rows, columns = torch.tril_indices(L.shape[-2], L.shape[-1], -1, device=L.device)
    return x[..., rows, columns]


@precise
def nearest_unit_rows(x: Tensor) -> Tensor:
    """The nearest such matrix but for a diagonal that may be 0.

    Shape: ``(*, n, n)`` to the same. Among the vectors of length 1 with a last entry that is not negative the nearest
    to a vector is its direction, after a negative last entry was dropped; and if nothing is left, the last axis.

    >>> nearest_unit_rows(torch.tensor([[-2.0, 1.0, 0.0], [3.0, 4.0, 0.0], [0.0, 5.0, -1.0]]))
    tensor([[1.0000, 0.0000, 0.0000],
            [0.6000, 0.8000, 0.0000],
            [0.0000, 1.0000, 0.0000]])
    """
    on_diagonal = diagonal_mask(x)
    L = torch.where(on_diagonal, x.clamp_min(0), x.tril())
    length = norm(L, (-1,))
    return torch.where(on_diagonal & (length == 0), 1, L / torch.where(length > 0, length, 1))
