"""Positive numbers and positive definite matrices."""

import torch
from torch import Tensor

from .exponential import matrix_exp
from .finite import where_finite
from .norms import frobenius, norm
from .precision import has_entries, measured, precise
from .triangles import hermitian_part, identity_of, skew_part, symmetric, symmetric_from_lower


def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``, accurate over the whole range of the dtype.

    >>> softplus(torch.tensor([-100.0, 0.0, 100.0]))
    tensor([3.7835e-44, 6.9315e-01, 1.0000e+02])
    """
    return torch.logaddexp(x, torch.zeros_like(x))


def inverse_softplus(y: Tensor) -> Tensor:
    """``log(exp(y) - 1)`` for positive ``y``, without overflow for large ``y`` or cancellation for small.

    >>> inverse_softplus(softplus(torch.tensor([-20.0, 3.0, 1e30])))
    tensor([-2.0000e+01, 3.0000e+00, 1.0000e+30])
    """
    return y + torch.log(-torch.expm1(-y))


# Forming L L^H and factorizing it again both err by a few eps tr(L L^H) / 2 at most, measured in the spectral norm: the
# entries' errors are some eps/2 |l_i| |l_j|, a matrix of that norm. Each of the two gets twice eps.
_FLOOR = 4


def floor(dtype: torch.dtype) -> float:
    """The part of its trace that a Gram matrix needs on its diagonal to be definite after rounding: ``4 eps``.

    >>> floor(torch.float32) == 4 * torch.finfo(torch.float32).eps
    True
    """
    return _FLOOR * torch.finfo(dtype).eps


def _of_trace(part: float, x: Tensor) -> Tensor:
    """``part`` of the trace (of its real part), which itself may overflow: shape ``(*, n, n)`` to ``(*, 1, 1)``."""
    return (part * torch.real(x.diagonal(dim1=-2, dim2=-1))).sum(-1)[..., None, None]


def _shifted(x: Tensor, shift: Tensor) -> Tensor:
    return x + shift * identity_of(x)


@precise
def positive_definite(raw: Tensor) -> Tensor:
    """``T + 4 eps tr(T) I``, ``T = L L^H``, with ``L`` the lower triangle of ``raw``, its diagonal made positive.

    Shape: ``(*, n, n)`` to ``(*, n, n)``. :func:`softplus` makes the diagonal positive; for complex ``raw`` its
    imaginary part is dropped. ``eps`` is that of the working precision. It keeps the value positive definite after
    rounding, however small the diagonal becomes: the condition number is at most ``1 / (4 eps) + 1``.

    >>> positive_definite(torch.tensor([[0.5413, 9.0], [2.0, 0.5413]]))
    tensor([[1.0000, 2.0000],
            [2.0000, 5.0000]])
    """
    diagonal = softplus(torch.real(raw.diagonal(dim1=-2, dim2=-1)))
    return _floored_gram(torch.tril(raw, -1) + torch.diag_embed(diagonal))


def _floored_gram(factor: Tensor) -> Tensor:
    T = factor @ factor.mH
    return _shifted(T, _of_trace(floor(T.dtype), T))


@precise
def cholesky_raw(value: Tensor) -> Tensor:
    """The Hermitian ``raw`` with ``positive_definite(raw) == value``, where there is one.

    Shape: ``(*, n, n)`` to ``(*, n, n)``. The inverse is in closed form, for ``tr(value) = (1 + 4 n eps) tr(T)``. Where
    an eigenvalue of ``value`` is too small, or negative, it is raised first, as in :func:`clamp_spectrum`. What that
    does not make definite, as where entries are nan, becomes nan.

    >>> cholesky_raw(torch.tensor([[1.0, 2.0], [2.0, 5.0]]))
    tensor([[0.5413, 2.0000],
            [2.0000, 0.5413]])
    """
    L, info = torch.linalg.cholesky_ex(_without_floor(value))
    if has_entries(value) and bool((info != 0).any()):
        raised = torch.where((info == 0)[..., None, None], value, clamp_spectrum(value))
        L, info = torch.linalg.cholesky_ex(_without_floor(raised))
        L = torch.where((info == 0)[..., None, None], L, torch.nan)
    diagonal = inverse_softplus(torch.real(L.diagonal(dim1=-2, dim2=-1)))
    return symmetric(L.mH.triu(1) + torch.diag_embed(diagonal))


@precise
def exponential(raw: Tensor) -> Tensor:
    """``T + 4 eps tr(T) I``, ``T = exp(S)``, with ``S`` the Hermitian matrix of the lower triangle of ``raw``.

    Shape: ``(*, n, n)`` to ``(*, n, n)``. ``T`` is the square of ``exp(S / 2)``, which has half of its exponents: the
    eigenvalues that rounding would make negative are the small ones of a Gram matrix, and ``eps`` has the same work as
    in :func:`positive_definite`. An eigenvalue of ``S`` above ``log(max)``, 88 in float32, overflows to inf or nan.

    >>> exponential(torch.diag(torch.tensor([0.0, 1.0])))
    tensor([[1.0000, 0.0000],
            [0.0000, 2.7183]])
    """
    return _floored_gram(matrix_exp(symmetric_from_lower(raw) / 2))


@precise
def logarithm(value: Tensor) -> Tensor:
    """The Hermitian ``raw`` with ``exponential(raw) == value``, where there is one.

    Shape: ``(*, n, n)`` to ``(*, n, n)``. By eigenvalues, and so without a derivative at repeated ones. Those of ``T``
    below ``4 eps tr(T)`` are raised to it.

    >>> logarithm(torch.e * torch.eye(2)).round(decimals=4)
    tensor([[1., 0.],
            [0., 1.]])
    """
    eigenvalues, Q = torch.linalg.eigh(_without_floor(value))
    least = (floor(value.dtype) * eigenvalues.clamp_min(0)).sum(-1, keepdim=True)
    return hermitian_part((Q * torch.maximum(eigenvalues, least).log().unsqueeze(-2)) @ Q.mH)


def _without_floor(value: Tensor) -> Tensor:
    """``T`` of :func:`positive_definite`."""
    part = floor(value.dtype)
    return _shifted(value, _of_trace(-part / (1 + value.shape[-1] * part), value))


@measured
def has_cholesky(value: Tensor, allowance: float = 0.0) -> Tensor:
    """Whether each matrix, with ``allowance`` times its Frobenius norm added to its diagonal, has a Cholesky factor.

    Shape: ``(*, n, n)`` to ``(*)``, bool.

    >>> has_cholesky(torch.stack([torch.eye(2), -torch.eye(2)]))
    tensor([ True, False])
    """
    info: Tensor = torch.linalg.cholesky_ex(_shifted(value, allowance * frobenius(value)[..., None, None])).info
    return info == 0


@precise
@where_finite
def clamp_spectrum(x: Tensor, rounding: float = 0.0) -> Tensor:
    """The Hermitian part of ``x`` with its eigenvalues raised to a floor that :func:`cholesky_raw` can take.

    Shape: ``(*, n, n)`` to ``(*, n, n)``. The floor is twice the least that :func:`positive_definite` gives to a matrix
    of this trace, plus twice what a perturbation of the entries by ``rounding`` of their size may take. As it goes to 0
    the result goes to the nearest positive semidefinite matrix in Frobenius norm (N. Higham, *Computing a nearest
    symmetric positive semidefinite matrix*, 1988, Theorem 2.1). Where the floor would be too small to be a normal
    number (a zero matrix has none), the matrix is taken to have size 1.

    >>> clamp_spectrum(torch.diag(torch.tensor([2.0, -1.0])), 1e-3).round(decimals=4)
    tensor([[2.0000, 0.0000],
            [0.0000, 0.0040]])
    """
    eigenvalues, Q = torch.linalg.eigh(hermitian_part(x))
    positive = eigenvalues.clamp_min(0)
    least = torch.finfo(x.dtype).smallest_normal
    bottom = 2 * ((floor(x.dtype) * positive).sum(-1, keepdim=True) + rounding * norm(positive, (-1,)))
    bottom = torch.where(bottom > least, bottom, 2 * (floor(x.dtype) + rounding))
    return hermitian_part((Q * torch.maximum(eigenvalues, bottom).unsqueeze(-2)) @ Q.mH)


@measured
@where_finite
def indefiniteness(x: Tensor) -> Tensor:
    """The distance in Frobenius norm to the positive semidefinite matrices: shape ``(*, n, n)`` to ``(*)``.

    >>> indefiniteness(torch.diag(torch.tensor([2.0, -1.0])))
    tensor(1.)
    """
    negative = torch.linalg.eigvalsh(hermitian_part(x)).clamp_max(0)
    return torch.hypot(frobenius(skew_part(x)), frobenius(negative.unsqueeze(-1)))
