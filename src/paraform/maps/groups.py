"""Groups of matrices by their polar decomposition, and matrices of positive determinant or determinant 1."""

import torch
from torch import Tensor

from .finite import where_finite
from .norms import largest
from .precision import measured, precise
from .triangles import hermitian_part, skew_part

# Bisection of the logarithm of a singular value between 1e-300 and 1e300 to the last digit of float64.
_HALVINGS = 70
_LARGEST_LOG = 690.0


@precise
def group_at(base: Tensor, A: Tensor) -> Tensor:
    """``base exp(K) exp(S)`` with the skew part ``K`` and the Hermitian part ``S`` of ``A``.

    Shape: ``(*, n, n)`` twice to the same. Every matrix of the group, in the component of ``base``, is such a product:
    its polar decomposition. That holds for the invertible matrices, and for each group of them that is given by
    equations and closed under the adjoint, with ``A`` from its Lie algebra (A. Knapp, *Lie Groups Beyond an
    Introduction*, 2002, Proposition 1.143).

    >>> group_at(torch.eye(2), torch.diag(torch.tensor([0.0, 1.0])))
    tensor([[1.0000, 0.0000],
            [0.0000, 2.7183]])
    """
    # In a batch: torch.matrix_exp of a single small matrix is off by more than rounding (pytorch issue 196592).
    K, S = torch.matrix_exp(torch.stack([skew_part(A), hermitian_part(A)])).unbind()
    return base @ K @ S


def _svd_of_det(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``U``, ``s``, ``V^H`` with ``det(U V^H) = 1``, for the sign of ``det x`` is with the last entry of ``s``.

    Of a complex phase the real part is there.
    """
    U, s, Vh = torch.linalg.svd(x)
    phase = torch.linalg.slogdet(U @ Vh).sign  # the product of many pivots underflows on the way to 1
    last = torch.arange(x.shape[-1], device=x.device) == x.shape[-1] - 1
    U = torch.where(last, U * phase.conj()[..., None, None], U)
    return U, torch.where(last, s * torch.real(phase).unsqueeze(-1), s), Vh


@precise
@where_finite
def project_invertible(x: Tensor) -> Tensor:
    """A matrix of positive determinant (complex: an invertible one) at the nearest point, but for a floor.

    Shape: ``(*, n, n)`` to the same. Where the determinant is negative the last singular vector changes sign, and no
    singular value stays below ``sqrt(eps)`` of the largest (of 1, for zeros).

    >>> project_invertible(torch.diag(torch.tensor([2.0, -1.0]))).diagonal()
    tensor([2.0000e+00, 6.9053e-04])
    """
    U, s, Vh = torch.linalg.svd(x) if x.is_complex() else _svd_of_det(x)
    top = largest(s, (-1,))
    floor = torch.finfo(s.dtype).eps ** 0.5 * torch.where(top > 0, top, 1)
    projected: Tensor = (U * torch.maximum(s, floor).unsqueeze(-2)) @ Vh
    return projected


@measured
@where_finite
def distance_to_invertible(x: Tensor) -> Tensor:
    """The distance to the real matrices of determinant at least 0; 0 if complex: shape ``(*, n, n)`` to ``(*)``.

    >>> distance_to_invertible(torch.diag(torch.tensor([2.0, -1.0])))
    tensor(1.)
    """
    s = torch.linalg.svdvals(x)
    least: Tensor = s[..., -1] if x.shape[-1] else s.sum(-1)
    if x.is_complex():
        return torch.zeros_like(least)
    return torch.where(torch.linalg.slogdet(x).sign < 0, least, 0)


@measured
@where_finite
def reciprocal_condition(x: Tensor) -> Tensor:
    """The smallest singular value by the largest, 0 for zeros and 1 where there is none: ``(*, n, n)`` to ``(*)``.

    >>> reciprocal_condition(torch.diag(torch.tensor([2.0, -1.0])))
    tensor(0.5000)
    """
    s: Tensor = torch.linalg.svdvals(x)
    if x.shape[-1] == 0:
        return s.sum(-1) + 1
    return s[..., -1] / torch.where(s[..., 0] > 0, s[..., 0], 1)


@precise
@where_finite
def project_special_linear(x: Tensor) -> Tensor:
    """The nearest matrix of determinant 1 (complex: one near it): shape ``(*, n, n)`` to the same.

    With the singular vectors of ``x``, the new singular values ``t`` make the distance stationary where
    ``t_i (t_i - s_i)`` is one number for all ``i`` and their product is 1; the last of ``s`` counts as negative where
    the determinant is. The last of ``t`` is found by bisection, all others are on the upper branch of their quadratic
    equation. Where the result would have a condition number above ``1 / sqrt(eps)``,
    all singular values are 1.

    >>> torch.linalg.det(project_special_linear(torch.diag(torch.tensor([2.0, 1.0])))).round(decimals=5)
    tensor(1.)
    """
    if x.shape[-1] == 0:
        return x
    U, s, Vh = _svd_of_det(x)
    t = _of_product_one(s.double()).to(s.dtype)
    well = torch.finfo(s.dtype).eps ** 0.5 * t.amax(-1, keepdim=True) <= t.amin(-1, keepdim=True)
    projected: Tensor = (U * torch.where(well, t, 1).unsqueeze(-2)) @ Vh
    return projected


def _of_product_one(s: Tensor) -> Tensor:
    low = torch.full_like(s[..., -1:], -_LARGEST_LOG)
    high = -low
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = _singular_values(s, middle).log().sum(-1, keepdim=True) > 0
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return _singular_values(s, high)


def _singular_values(s: Tensor, log_last: Tensor) -> Tensor:
    last = log_last.exp()
    others = s[..., :-1]
    root = (others.square() + 4 * last * (last - s[..., -1:])).clamp_min(0).sqrt()
    return torch.cat([(others + root) / 2, last], -1)


@measured
@where_finite
def distance_to_det_one(x: Tensor) -> Tensor:
    """``|det x - 1|`` by the norm of the derivative of the determinant, if that is above 1: ``(*, n, n)`` to ``(*)``.

    Near the set that is the distance to it. The derivative is the adjugate matrix; its singular values are the products
    of all singular values but one.

    >>> distance_to_det_one(torch.diag(torch.tensor([100.0, 0.02])))
    tensor(0.0100)
    """
    sign, log = torch.linalg.slogdet(x.to(torch.complex128 if x.is_complex() else torch.float64))
    error = (sign * log.clamp_max(_LARGEST_LOG).exp() - 1).abs()
    logs = torch.linalg.svdvals(x).double().clamp_min(torch.finfo(torch.float64).tiny).log()
    adjugate = torch.logsumexp(2 * (logs.sum(-1, keepdim=True) - logs), -1) / 2
    distance: Tensor = error * (-adjugate.clamp_min(0)).exp()
    return distance.to(x.abs().dtype)
