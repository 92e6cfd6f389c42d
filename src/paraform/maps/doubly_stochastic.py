"""Square matrices of non-negative entries whose rows and columns sum to 1: the Birkhoff polytope."""

import torch
from torch import Tensor

from .finite import where_finite
from .norms import frobenius
from .precision import measured, precise
from .simplex import simplex_threshold
from .triangles import identity_of

# Rounds of row and column sums. After them a Gaussian raw matrix of deviation 1 has sums within 1e-4 at n = 3, 1e-7 at
# n = 8; one of deviation 3 within a few percent. Fitting random targets went no faster with 50, and slower with 5.
_ROUNDS = 20
# Of the projection, over all sizes of the matrix up to its own.
_NEWTON_STEPS = 1000
_LARGEST = 1e9
# A matrix of few entries has a singular Hessian; this costs a step 1e-10 of its accuracy.
_REGULARIZATION = 1e-10


@precise
def doubly_stochastic(raw: Tensor) -> Tensor:
    """``exp(raw)`` with rows and columns scaled to sum 1, by 20 rounds of Sinkhorn's iteration; then made exact.

    Shape: ``(*, n, n)`` to ``(*, n, n)``. (R. Sinkhorn, *A relationship between arbitrary positive matrices and doubly
    stochastic matrices*, 1964; the first round on logarithms, so that nothing overflows.) What the rounds leave of the
    error is spread evenly over the rows, and where that makes an entry negative, the matrix is drawn towards the
    uniform one until it is zero. So the sums are exact but for rounding whatever ``raw`` is, and the derivative is that
    of what is computed. A ``raw`` whose ``exp`` is doubly stochastic is mapped to just that.

    >>> doubly_stochastic(torch.tensor([[0.0, 0.0], [0.0, 2.0]]))
    tensor([[0.7311, 0.2689],
            [0.2689, 0.7311]])
    """
    n = raw.shape[-1]
    if n == 0:
        return raw
    logs = raw - torch.logsumexp(raw, -1, keepdim=True)
    P = torch.exp(logs - torch.logsumexp(logs, -2, keepdim=True))
    for _ in range(_ROUNDS - 1):
        P = P / P.sum(-1, keepdim=True)
        P = P / P.sum(-2, keepdim=True)
    return _exact(P)


def _exact(P: Tensor) -> Tensor:
    """A doubly stochastic matrix near to ``P``, whose columns sum to 1; ``P`` itself where its rows do as well."""
    n = P.shape[-1]
    # The missing sums of the rows add up to nothing, so the columns keep theirs. What rounding leaves of a sum is not
    # handed out, for it is large beside the smallest entries; it has a derivative all the same.
    missing = 1 - P.sum(-1, keepdim=True)
    rounding = torch.where(missing.abs() <= 4 * torch.finfo(P.dtype).eps, missing, 0).detach()
    Q = P + (missing - rounding) / n
    gauge = (1 - n * Q.amin((-2, -1), keepdim=True)).clamp_min(1)
    return (Q + (1 / n - Q) * (1 - 1 / gauge)).clamp_min(0)


@measured
def stochastic_error(x: Tensor) -> Tensor:
    """The Euclidean norm of all errors of sums of rows and columns and all negative entries: ``(*, n, n)`` to ``(*)``.

    >>> stochastic_error(torch.eye(2)), stochastic_error(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
    (tensor(0.), tensor(1.4142))
    """
    sums = torch.stack([x.sum(-1), x.sum(-2)], -1) - 1
    return torch.hypot(frobenius(sums), frobenius(x.clamp_max(0)))


@precise
@where_finite
def project_doubly_stochastic(x: Tensor) -> Tensor:
    """``max(0, x + u 1^T + 1 v^T)`` with ``u`` and ``v`` that make all sums 1: the nearest doubly stochastic matrix.

    Shape: ``(*, n, n)`` to ``(*, n, n)``; computed in float64. ``u`` and ``v`` minimize the dual function, which is
    convex. For a given ``u`` the best ``v`` has a closed form, that of the nearest probability vectors; ``u`` is found
    by a semismooth Newton method (X. Li, D. Sun and K.-C. Toh, *On the efficient computation of a projector over the
    Birkhoff polytope*, Math. Program. 179, 2020, section 3), and where a step of it does not help, by the same closed
    form, for the rows.

    >>> project_doubly_stochastic(torch.tensor([[2.0, 0.0], [0.0, 0.0]]))
    tensor([[1., 0.],
            [0., 1.]])
    """
    if x.numel() == 0:
        return x
    X = _centred(x.double())
    spread = _peak(X).clamp_min(1)
    # From the matrix shrunk to a size of 1 to that of its own, the solution for one size is the start for twice that.
    # Beyond _LARGEST rounding hides the difference to the corner that the largest matrices go to.
    scale, final = 1 / spread, (_LARGEST / spread).clamp_max(1)
    u = torch.zeros_like(X[..., :1])
    for _ in range(_NEWTON_STEPS):
        Y = scale * X
        W, _value = _best_columns(Y, u)
        error = _row_error(W)
        # No digit of a sum can be right beyond those of its entries.
        rounding = 4 * X.shape[-1] * torch.finfo(X.dtype).eps * (1 + scale * spread)
        done = _peak(error) <= rounding
        if bool((done & (scale == final)).all()):
            break
        newton, row_by_row = u + _newton_step(W, error), u - simplex_threshold(W, -1)
        W_newton, value_newton = _best_columns(Y, newton)
        # Near to the end rounding hides what the dual function gains.
        halved = _peak(_row_error(W_newton)) < _peak(error) / 2
        step = torch.where(halved | (value_newton < _best_columns(Y, row_by_row)[1]), newton, row_by_row)
        growth = torch.where(done, (final / scale).clamp_max(2), 1)
        u, scale = torch.where(done, growth * u, step), growth * scale
    P = _best_columns(scale * X, u)[0].clamp_min(0)
    return _exact(P / P.sum(-2, keepdim=True))


def _centred(X: Tensor) -> Tensor:
    """``X`` less the means of its rows and columns, which the projection does not see."""
    rows = X - X.mean(-1, keepdim=True)
    return rows - rows.mean(-2, keepdim=True)


def _best_columns(X: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """``X + u 1^T + 1 v^T`` with the best ``v`` for ``u``, and the dual function there, ``(*, 1, 1)``."""
    v = -simplex_threshold(X + u, -2)
    W = X + u + v
    squares = W.clamp_min(0).square().sum((-2, -1), keepdim=True)
    return W, squares / 2 - (u + v.mT).sum((-2, -1), keepdim=True)


def _peak(error: Tensor) -> Tensor:
    return error.abs().amax((-2, -1), keepdim=True)


def _row_error(W: Tensor) -> Tensor:
    return W.clamp_min(0).sum(-1, keepdim=True) - 1


def _newton_step(W: Tensor, error: Tensor) -> Tensor:
    """``-H^-1 error``, where ``H`` is a generalized Hessian of the dual function of ``u`` alone, barely regularized."""
    A = (W > 0).to(W.dtype)
    H = torch.diag_embed(A.sum(-1)) - (A / A.sum(-2, keepdim=True)) @ A.mT
    regular = H + _REGULARIZATION * identity_of(H)
    step: Tensor = torch.linalg.solve_ex(regular, error).result
    return -step
