"""The matrix exponential, to all the digits of its dtype."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from . import taylor
from .eager import is_readable
from .norms import largest
from .products import plus_product
from .triangles import identity_of

# torch's polynomial of degree 8 has a wrong coefficient (pytorch/pytorch issue 196592): one matrix, not in a batch, of
# 1-norm 0.05 to 0.58 has an exponential that is off by up to 4e-5 in float32; of 0.0003 to 0.05, by 2e-10 in float64.
_SHIFT = 2


def matrix_exp(x: Tensor) -> Tensor:
    """``exp(x)``, shape ``(*, n, n)`` to ``(*, n, n)``, as ``e^-c exp(x + c I)`` by ``torch.matrix_exp``.

    The shift ``c`` makes the mean of the eigenvalues 2, and so the 1-norm at least that: torch's own is off near 0, and
    it loses digits on negative definite matrices. It is limited, so that neither factor overflows where the result is
    below the root of the largest number.

    >>> torch.allclose(matrix_exp(torch.eye(1) / 2), torch.exp(torch.eye(1) / 2), rtol=1e-6)
    True
    """
    limit = math.log(torch.finfo(x.dtype).max) / 2 - 2 * _SHIFT
    mean = torch.real(x.detach().diagonal(dim1=-2, dim2=-1)).mean(-1)[..., None, None]
    c = _SHIFT - mean.clamp(-limit, limit)
    return torch.exp(-c) * torch.matrix_exp(x + c * identity_of(x))


def exp_minus_identity(X: Tensor) -> Tensor:
    """``exp(X) - I``, without losing small ``X`` in the rounding of ``I``. Shape: ``(*, n, n)`` to ``(*, n, n)``.

    A Taylor polynomial of ``X / 2^s`` of degree 4, 8 or 16, as the 1-norm of ``X`` asks for, in two to four products;
    and ``s`` doublings ``E -> 2 E + E^2`` of what the exponential has beyond ``I``. Derivatives, of every order, are
    those of these products, which cost less than half of ``torch.matrix_exp``'s, whose matrices are twice as large.
    Where numbers cannot be read (compiled code, ``vmap``) it is ``torch.matrix_exp``.

    Sources: N. Higham, *The scaling and squaring method for the matrix exponential revisited*, SIAM J. Matrix Anal.
    Appl. 26, 2005; :mod:`paraform.maps.taylor` for the polynomials.

    >>> exp_minus_identity(torch.tensor([[0.0, 1e-20], [0.0, 1.0]]))
    tensor([[0.0000e+00, 1.7183e-20],
            [0.0000e+00, 1.7183e+00]])
    """
    if not is_readable(X):
        return matrix_exp(X) - identity_of(X)
    return _expand(X, X @ X, _one_norm(X.detach())).value


def skew_exp_minus_identity(A: Tensor) -> Tensor:
    """:func:`exp_minus_identity` for a skew-symmetric (skew-Hermitian) ``A``.

    Shape: ``(*, n, n)`` to ``(*, n, n)``. The powers of a normal matrix have the powers of its spectral norm, which
    that of ``A^2`` or ``A^4`` bounds much better than the 1-norm of ``A`` does: there is less to double.

    >>> quarter = torch.tensor([[0.0, -torch.pi / 2], [torch.pi / 2, 0.0]])
    >>> (torch.eye(2) + skew_exp_minus_identity(quarter)).round(decimals=6).abs()
    tensor([[0., 1.],
            [1., 0.]])
    """
    return skew_expansion(A).value if is_readable(A) else matrix_exp(A) - identity_of(A)


def skew_expansion(A: Tensor, differentiable: bool = True) -> Expansion:
    """:func:`skew_exp_minus_identity`, where numbers can be read, with what its gradient is made of.

    If it is not differentiable, it is exact to the rounding of ``I``, and has no gradient.
    """
    A2 = A @ A
    square = A2.detach()
    bound = torch.linalg.vector_norm(square, dim=(-2, -1), keepdim=True).sqrt()
    if _most(bound) > _limit(4, A.dtype, differentiable):
        bound = torch.fmin(bound, _one_norm(square).sqrt())
    if _most(bound) > _limit(15, A.dtype, differentiable):
        bound = torch.fmin(bound, torch.linalg.vector_norm(square @ square, dim=(-2, -1), keepdim=True).sqrt().sqrt())
    return _expand(A, A2, bound, differentiable)


class Expansion(NamedTuple):
    """``exp(X) - I``, and how it came about."""

    value: Tensor
    kept: tuple[Tensor, ...]
    """``X`` and ``X^2`` as they were halved, the factors in the polynomial, what was doubled, and how often each."""
    skew_gradient: Callable[..., Tensor]
    """For a skew-Hermitian ``X``: a matrix ``M``, from the gradient by the value and :attr:`kept`. The gradient by a
    lower triangle ``T`` with ``X = T - T^H`` is the lower triangle of ``M - M^H``."""


def _skew_gradient(number: int, doublings: int, gradient: Tensor, *kept: Tensor) -> Tensor:
    X, X2, *factors = kept[: len(kept) - doublings - 1]
    *doubled, times = kept[len(factors) + 2 :]
    G = gradient
    for done, E in reversed(list(enumerate(doubled))):
        by_E = plus_product(plus_product(G, G, E.mH, beta=2), E.mH, G)
        G = torch.where(done < times, by_E, G) if times.numel() > 1 else by_E
    by_X, by_X2 = _POLYNOMIALS[number][2](G, X, X2, *factors)
    # What X2 = X X hands on, B X^H + X^H B with B = by_X2, has the skew part -(H X - (H X)^H) with H = (B + B^H) / 2.
    M = plus_product(by_X, by_X2 + by_X2.mH, X, alpha=-1)
    return M * torch.exp2(-times) if doublings else M


_POLYNOMIALS: tuple[tuple[int, Callable[..., tuple[Tensor, ...]], Callable[..., tuple[Tensor, Tensor]]], ...] = (
    (2, taylor.degree_2, taylor.degree_2_gradient),
    (4, taylor.degree_4, taylor.degree_4_gradient),
    (8, taylor.degree_8, taylor.degree_8_gradient),
    (15, taylor.degree_16, taylor.degree_16_gradient),
)


def _expand(X: Tensor, X2: Tensor, bound: Tensor, differentiable: bool = True) -> Expansion:
    """``exp(X) - I`` by as many products as ``bound``, of the norms of the powers of ``X``, asks for."""
    most = _most(bound)
    number = sum(most > _limit(degree, X.dtype, differentiable) for degree, _, _ in _POLYNOMIALS)
    last, times = 0, bound  # of which nothing is used, where nothing is doubled
    if number == len(_POLYNOMIALS):
        number -= 1
        halvings = (bound / _limit(15, X.dtype, differentiable)).log2().ceil().clamp_min(0)
        # What is not finite is not halved, and gives nan.
        times = torch.nan_to_num(halvings, 0.0, 0.0, 0.0)
        last = int(_most(times))
        X, X2 = X * torch.exp2(-times), X2 * torch.exp2(-2 * times)
    E, *factors = _POLYNOMIALS[number][1](X, X2)
    doubled = []
    for done in range(last):
        doubled.append(E)
        twice = plus_product(E, E, E, beta=2)
        E = torch.where(done < times, twice, E) if times.numel() > 1 else twice
    return Expansion(E, (X, X2, *factors, *doubled, times), partial(_skew_gradient, number, len(doubled)))


def _one_norm(x: Tensor) -> Tensor:
    """The largest sum of a column's magnitudes: shape ``(*, 1, 1)``."""
    sums = x.abs().sum(-2, keepdim=True)
    return sums.amax(-1, keepdim=True) if sums.numel() else largest(sums, (-1,))


def _most(bound: Tensor) -> float:
    if bound.numel() == 1:
        return float(bound)
    return float(bound.amax()) if bound.numel() else 0.0


def _limit(degree: int, dtype: torch.dtype, differentiable: bool) -> float:
    """Up to which norm of ``X`` the Taylor polynomial of this degree is exact to the rounding of ``I``, or its first
    derivative to its own. (At zero the second derivative of degree 2 would be the last one.)"""
    rounding = torch.finfo(dtype).eps / 2
    if differentiable:
        return 0.0 if degree == 2 else float((rounding * math.factorial(degree)) ** (1 / degree))
    return float((rounding / 2 * math.factorial(degree + 1)) ** (1 / (degree + 1)))
