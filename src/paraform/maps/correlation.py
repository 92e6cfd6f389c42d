"""Correlation matrices: positive semidefinite with a unit diagonal."""

import torch
from torch import Tensor

from .finite import where_finite
from .norms import frobenius, unit
from .positive import indefiniteness
from .precision import measured, precise
from .semidefinite import gram_factor
from .triangles import hermitian_part, identity_of


@precise
def correlations(factor: Tensor) -> Tensor:
    """The cosines of the angles between the rows of ``factor``, its own with itself exactly 1.

    Shape: ``(*, n, k)`` to ``(*, n, n)``. A row of zeros has no angle; it counts as orthogonal to the others.

    >>> correlations(torch.tensor([[2.0, 0.0], [3.0, 3.0], [0.0, 0.0]]))
    tensor([[1.0000, 0.7071, 0.0000],
            [0.7071, 1.0000, 0.0000],
            [0.0000, 0.0000, 1.0000]])
    """
    rows = unit(factor, (-1,))
    return unit_diagonal(rows @ rows.mH)


def unit_diagonal(x: Tensor) -> Tensor:
    """The Hermitian matrix of the strict upper triangle of ``x`` with 1 on its diagonal.

    >>> unit_diagonal(torch.tensor([[5.0, 0.5], [9.0, 5.0]]))
    tensor([[1.0000, 0.5000],
            [0.5000, 1.0000]])
    """
    upper = x.triu(1)
    return upper + upper.mH + identity_of(x)


@precise
def correlation_factor(x: Tensor) -> Tensor:
    """The lower triangular factor with rows of length 1 whose :func:`correlations` are ``x``.

    Shape: ``(*, n, n)`` to ``(*, n, n)``. The Cholesky factor with a diagonal of at least 0, where ``x`` is singular
    too: by eigenvalues, raised as by :func:`gram_factor`, and a QR factorization.

    >>> correlation_factor(torch.tensor([[1.0, 0.6], [0.6, 1.0]]))
    tensor([[1.0000, 0.0000],
            [0.6000, 0.8000]])
    """
    R = torch.linalg.qr(gram_factor(x, x.shape[-1]).mH).R
    phases = torch.sgn(R.diagonal(dim1=-2, dim2=-1))
    return unit((phases.conj().unsqueeze(-1) * R).mH.tril(), (-1,))


@measured
def correlation_error(x: Tensor) -> Tensor:
    """The distances to the semidefinite matrices and to those of unit diagonal, as the legs of a right triangle.

    Shape: ``(*, n, n)`` to ``(*)``.

    >>> correlation_error(torch.tensor([[1.0, 0.5], [0.5, 3.0]]))
    tensor(2.)
    """
    diagonal = x.diagonal(dim1=-2, dim2=-1)
    return torch.hypot(indefiniteness(x), frobenius((diagonal - 1).unsqueeze(-1)))


# Steps of Newton's method, of the conjugate gradients in one, and halvings of one: far more than any needed (10, 30 and
# 1 are usual), so that a loop ends.
_STEPS, _PRODUCTS, _HALVINGS = 100, 200, 40
# Larger entries are scaled down: in float64 the solution would have no digit left near 1e16.
_LARGEST = 1e6


@precise
@where_finite
def nearest_correlation(x: Tensor) -> Tensor:
    """The nearest correlation matrix in Frobenius norm.

    Shape: ``(*, n, n)`` to ``(*, n, n)``. It is ``(A + diag(y))_+``, where ``A`` is the Hermitian part of ``x``,
    ``Z_+`` is ``Z`` with its negative eigenvalues replaced by 0, and the ``y`` that makes the diagonal 1 is found by
    Newton's method on the dual problem (H. Qi and D. Sun, *A quadratically convergent Newton method for computing the
    nearest correlation matrix*, SIAM J. Matrix Anal. Appl. 28, 2006, Algorithm 5.1), in double precision, until the
    diagonal is 1 to ``1e-12 sqrt(n)`` of the largest entry, or 1. Entries above 1e6 are scaled to that first.

    >>> nearest_correlation(torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]))
    tensor([[1.0000, 0.7607, 0.1573],
            [0.7607, 1.0000, 0.7607],
            [0.1573, 0.7607, 1.0000]])
    """
    A = hermitian_part(x).to(torch.complex128 if x.is_complex() else torch.float64)
    peak = A.abs().flatten(-2).amax(-1)[..., None, None] if A.numel() else A.real
    A = A * (_LARGEST / peak).clamp_max(1) if A.numel() else A
    tolerance = 1e-12 * A.shape[-1] ** 0.5 * (peak.clamp(1, _LARGEST)[..., 0, 0] if A.numel() else 1)
    dual = _Dual(A, 1 - _real_diagonal(A))
    for _ in range(_STEPS):
        if bool((_length(dual.gradient) <= tolerance).all()):
            break
        dual = _stepped(dual)
    return correlations(dual.factor)


def _real_diagonal(x: Tensor) -> Tensor:
    return torch.real(x.diagonal(dim1=-2, dim2=-1))


def _length(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=-1)
    return length


class _Dual:
    """The convex function ``theta(y) = |(A + diag(y))_+|^2 / 2 - sum(y)``, at a point."""

    def __init__(self, A: Tensor, y: Tensor) -> None:
        self.A, self.y = A, y
        self.eigenvalues, self.P = torch.linalg.eigh(A + torch.diag_embed(y))
        positive = self.eigenvalues.clamp_min(0)
        self.value = positive.square().sum(-1) / 2 - y.sum(-1)
        self.factor = self.P * positive.sqrt().unsqueeze(-2)
        self.gradient = self.factor.abs().square().sum(-1) - 1

    def hessian(self) -> "_Hessian":
        """One element of the generalized Jacobian of the gradient (Qi and Sun, section 3)."""
        return _Hessian(self.eigenvalues, self.P)


class _Hessian:
    def __init__(self, eigenvalues: Tensor, P: Tensor) -> None:
        positive = eigenvalues.clamp_min(0)
        rise = positive.unsqueeze(-1) - positive.unsqueeze(-2)
        run = eigenvalues.unsqueeze(-1) - eigenvalues.unsqueeze(-2)
        both = ((eigenvalues.unsqueeze(-1) > 0) & (eigenvalues.unsqueeze(-2) > 0)).to(rise.dtype)
        self.quotients, self.P = torch.where(run == 0, both, rise / torch.where(run == 0, 1, run)), P

    def __matmul__(self, h: Tensor) -> Tensor:
        inner = self.P.mH @ (h.unsqueeze(-1) * self.P)
        return torch.real(((self.P @ (self.quotients * inner)) * self.P.conj()).sum(-1))


def _stepped(dual: _Dual) -> _Dual:
    """One Newton step for each matrix, halved until ``theta`` has decreased as it should (Armijo's rule)."""
    step = _solved(dual.hessian(), -dual.gradient)
    slope = (dual.gradient * step).sum(-1)
    rounding = 1e-14 * dual.value.abs()
    length = torch.ones_like(slope)
    for _ in range(_HALVINGS):
        new = _Dual(dual.A, dual.y + length.unsqueeze(-1) * step)
        enough = new.value <= dual.value + 1e-4 * length * slope + rounding
        if bool(enough.all()):
            break
        length = torch.where(enough, length, length / 2)
    return new


def _solved(hessian: _Hessian, b: Tensor) -> Tensor:
    """``hessian^-1 b`` by conjugate gradients, as exactly as Newton's method has a use for."""
    x, r, p = torch.zeros_like(b), b, b
    square = r.square().sum(-1, keepdim=True)
    goal = square * torch.minimum(square, torch.full_like(square, 0.05**2))
    for _ in range(_PRODUCTS):
        if bool((square <= goal).all()):
            break
        product = hessian @ p
        curvature = (p * product).sum(-1, keepdim=True)
        alpha = torch.where((square > goal) & (curvature > 0), square / curvature, 0)
        x, r = x + alpha * p, r - alpha * product
        new = torch.where(alpha > 0, r.square().sum(-1, keepdim=True), 0)
        p = r + torch.where(square > 0, new / square, 0) * p
        square = new
    return x
