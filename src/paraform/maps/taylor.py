"""Taylor polynomials of ``exp(X) - I`` in few products, and their derivatives.

Each polynomial takes ``X`` and ``X^2`` and gives the value and the factors of its products. Each ``..._gradient`` takes
the gradient by the value, ``X``, ``X^2`` and those factors, and gives the gradients by ``X`` and by ``X^2``, each as if
the other were constant: the same sums that autograd would form, in fewer operations.

The polynomials are of J. Sastre, J. Ibáñez and E. Defez, *Boosting the computation of the matrix exponential*, Appl.
Math. Comput. 340, 2019.
"""

import math

import torch
from torch import Tensor

from .products import plus_product


def degree_2(X: Tensor, X2: Tensor) -> tuple[Tensor]:
    """The terms of degree 1 and 2."""
    return (torch.add(X, X2, alpha=1 / 2),)


def degree_2_gradient(G: Tensor, X: Tensor, X2: Tensor) -> tuple[Tensor, Tensor]:
    return G, G / 2


def degree_4(X: Tensor, X2: Tensor) -> tuple[Tensor, Tensor]:
    """The terms of degree 1 to 4, by one product."""
    factor = torch.add(X / 6, X2, alpha=1 / 24)
    return plus_product(torch.add(X, X2, alpha=1 / 2), X2, factor), factor


def degree_4_gradient(G: Tensor, X: Tensor, X2: Tensor, *factors: Tensor) -> tuple[Tensor, Tensor]:
    (factor,) = factors
    by_factor = X2.mH @ G
    by_X2 = plus_product((G / 2).add_(by_factor, alpha=1 / 24), G, factor.mH)
    return torch.add(G, by_factor, alpha=1 / 6), by_X2


# Where the coefficients of degree 1 to 8 are those of the exponential, a quadratic equation with this root is solved.
_ROOT = math.sqrt(177)
_OF_X2_LEFT, _OF_X2_RIGHT = 42 - 2 * _ROOT, 2 * _ROOT - 2
_OF_P = (1768 - 88 * _ROOT) / math.factorial(8)


def degree_8(X: Tensor, X2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The terms of degree 1 to 8, by two products."""
    factor = torch.add(X2, X, alpha=4)
    P = X2 @ factor
    left = torch.add(P, X2, alpha=_OF_X2_LEFT).add_(X, alpha=176)
    right = torch.add(P, X2, alpha=_OF_X2_RIGHT)
    rest = torch.add(X, X2, alpha=1 / 2).add_(P, alpha=_OF_P)
    return plus_product(rest, left, right, alpha=1 / math.factorial(8)), factor, left, right


def degree_8_gradient(G: Tensor, X: Tensor, X2: Tensor, *factors: Tensor) -> tuple[Tensor, Tensor]:
    factor, left, right = factors
    scaled = G / math.factorial(8)
    by_left, by_right = scaled @ right.mH, left.mH @ scaled
    by_P = (by_left + by_right).add_(G, alpha=_OF_P)
    by_factor = X2.mH @ by_P
    by_X = torch.add(G, by_left, alpha=176).add_(by_factor, alpha=4)
    by_X2 = by_factor.add_(G, alpha=1 / 2).add_(by_left, alpha=_OF_X2_LEFT).add_(by_right, alpha=_OF_X2_RIGHT)
    return by_X, plus_product(by_X2, by_P, factor.mH)


# Table 3 of the source, c_1 to c_14: the solution of 16 polynomial equations.
_C = (
    4.018761610201036e-4,
    2.945531440279683e-3,
    -8.709066576837676e-3,
    4.017568440673568e-1,
    3.230762888122312e-2,
    5.768988513026145,
    2.338576034271299e-2,
    2.381070373870987e-1,
    2.224209172496374,
    -5.792361707073261,
    -4.130276365929783e-2,
    1.040801735231354e1,
    -6.331712455883370e1,
    3.484665863364574e-1,
)


def degree_16(X: Tensor, X2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The terms of degree 1 to 15, and about half of that of degree 16, by three products."""
    c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14 = _C
    factor = torch.add(X2, X, alpha=c2 / c1)
    P = X2 @ factor  # of which c1 is left out, here and in what follows
    left = torch.add(P, X2, alpha=c3 / c1).add_(X, alpha=c4 / c1)
    right = torch.add(P, X2, alpha=c5 / c1)
    S = plus_product(torch.add(P, X2, alpha=c7 / (c6 * c1)), left, right, beta=c6 * c1, alpha=c1 * c1)
    last_left = torch.add(S, X2, alpha=c8).add_(X, alpha=c9)
    last_right = torch.add(S, P, alpha=c10 * c1).add_(X, alpha=c11)
    rest = torch.add(X, X2, alpha=c14).add_(P, alpha=c13 * c1).add_(S, alpha=c12)
    return plus_product(rest, last_left, last_right), factor, left, right, last_left, last_right


def degree_16_gradient(G: Tensor, X: Tensor, X2: Tensor, *factors: Tensor) -> tuple[Tensor, Tensor]:
    factor, left, right, last_left, last_right = factors
    c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14 = _C
    by_last_left, by_last_right = G @ last_right.mH, last_left.mH @ G
    by_S = (by_last_left + by_last_right).add_(G, alpha=c12)
    by_left, by_right = by_S @ right.mH, left.mH @ by_S  # of which c1^2 is left out
    by_P = (G * (c13 * c1)).add_(by_last_right, alpha=c10 * c1).add_(by_S, alpha=c6 * c1)
    by_P = by_P.add_(by_left, alpha=c1 * c1).add_(by_right, alpha=c1 * c1)
    by_factor = X2.mH @ by_P
    by_X = torch.add(G, by_last_left, alpha=c9).add_(by_last_right, alpha=c11)
    by_X = by_X.add_(by_left, alpha=c4 * c1).add_(by_factor, alpha=c2 / c1)
    by_X2 = by_factor.add_(G, alpha=c14).add_(by_last_left, alpha=c8).add_(by_S, alpha=c7)
    by_X2 = by_X2.add_(by_left, alpha=c3 * c1).add_(by_right, alpha=c5 * c1)
    return by_X, plus_product(by_X2, by_P, factor.mH)
