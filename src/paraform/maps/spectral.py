"""The largest singular value: found, bounded by scaling or by clipping."""

import torch
from torch import Tensor

from .finite import where_finite
from .norms import largest, norm
from .polar import polar
from .precision import measured, precise, working_dtype
from .triangles import identity_of

# A search space of this many directions. Up to this size the whole space is taken, and nothing is searched.
_DIRECTIONS = 128
# They come in blocks, one a step. At equal cost, blocks of 4 found more than narrower or wider ones, over Gaussian,
# clustered and spiked spectra at sizes 256 to 1024.
_BLOCK = 4


def irregular_rows(count: int, like: Tensor) -> Tensor:
    """Rows that are orthogonal to no direction that a weight would have a reason to prefer.

    >>> irregular_rows(1, torch.empty(5, 2))
    tensor([[-0.7469,  0.1959]])
    """
    i = torch.arange(1, like.shape[-1] + 1, dtype=like.real.dtype, device=like.device)
    j = torch.arange(1, count + 1, dtype=like.real.dtype, device=like.device).unsqueeze(-1)
    return torch.cos(i * i * torch.sqrt(2 * j) + i * j).to(like.dtype)


def _orthonormal_rows(X: Tensor) -> Tensor:
    Q: Tensor = torch.linalg.qr(X.mH).Q
    return Q.mH


def _krylov_basis(G: Tensor) -> Tensor:
    """Orthonormal columns that span ``X, G X, G^2 X, ...`` for an irregular ``X``: ``(*, n, n)`` to ``(*, n, k)``.

    A block Krylov space holds the leading eigenvectors to more digits than any other space that as many products with
    ``G`` can make (C. Musco and C. Musco, *Randomized block Krylov methods for stronger and faster approximate
    singular value decomposition*, 2015). Blocks are kept as rows, whose products with a matrix are faster.
    """
    X = _orthonormal_rows(irregular_rows(_BLOCK, G).expand(*G.shape[:-2], _BLOCK, G.shape[-1]))
    blocks = [X]
    for _ in range(_DIRECTIONS // _BLOCK - 1):
        X = _orthonormal_rows(X @ G)
        blocks.append(X)
    return _orthonormal_rows(torch.cat(blocks, -2)).mH


@torch.no_grad()
def _leading_eigenvectors(G: Tensor, exact: bool) -> tuple[Tensor, Tensor]:
    """Eigenvalues in rising order, ``(*, k)``, and eigenvectors, ``(*, n, k)``; the last is the leading one."""
    if exact or G.shape[-1] <= _DIRECTIONS:
        eigenvalues, V = torch.linalg.eigh(G)
        return eigenvalues, V
    Q = _krylov_basis(G)
    eigenvalues, Y = torch.linalg.eigh(Q.mH @ G @ Q)
    return eigenvalues, Q @ Y


def _leading_vector(X: Tensor, exact: bool) -> Tensor:
    """The leading right singular vector of a tall ``X``, but for its length: ``(*, m, n)`` to ``(*, n, 1)``.

    The vector is found outside autograd, and one step ``v -> v + (lambda_1 I - G)^+ (G - lambda_1 I) v`` with the Gram
    matrix ``G`` gives it the derivative that an eigenvector has (J. Magnus, *On differentiating eigenvalues and
    eigenvectors*, 1985). Directions whose eigenvalue rounding cannot tell from the largest are left out: any vector
    among them leads.
    """
    constant = X.detach()
    finite = torch.isfinite(constant).flatten(-2).all(-1)[..., None, None]
    constant = torch.where(finite, constant, 0)  # LAPACK would raise
    eigenvalues, V = _leading_eigenvectors(constant.mH @ constant, exact)
    top = eigenvalues[..., -1:]
    gap = top - eigenvalues
    told_apart = gap > torch.finfo(top.dtype).eps ** 0.5 * top
    ratio = torch.where(told_apart, eigenvalues / torch.where(told_apart, gap, 1), 0).unsqueeze(-1)
    stepped = X.mH @ (X @ (V[..., -1:] / torch.where(top > 0, top, 1).unsqueeze(-1)))
    return stepped + V @ (ratio * (V.mH @ stepped))


@precise
def scaled_to_bound(W: Tensor, bound: float, slack: float = 0.0, exact: bool = False) -> Tensor:
    """``W bound / sigma`` where the largest singular value ``sigma`` is above ``bound (1 + slack)``, else ``W``.

    Shape: ``(*, m, n)`` to ``(*, m, n)``. ``sigma`` is exact but for rounding if ``exact``, or if the smaller side is
    at most 128. Else it is the largest one in a block Krylov space of 128 directions, never above ``sigma``. How far
    below depends on the spectrum: ``benchmarks/adversarial_norm.py`` found at most 0.2 %.

    >>> scaled_to_bound(torch.diag(torch.tensor([4.0, 2.0])), 1.0)
    tensor([[1.0000, 0.0000],
            [0.0000, 0.5000]])
    >>> scaled_to_bound(torch.diag(torch.tensor([4.0, 2.0])), 5.0)
    tensor([[4., 0.],
            [0., 2.]])
    """
    if W.numel() == 0:
        return W
    # Neither the entries of X nor those of its Gram matrix overflow; sigma(X) is 1 at least where W is outside.
    scale = largest(W, (-2, -1)).clamp_min(bound)
    X = (W.mH if W.shape[-2] < W.shape[-1] else W) / scale
    v = _leading_vector(X, exact)
    image = X @ v
    length = torch.linalg.vecdot(v, v, dim=-2).real
    square = torch.linalg.vecdot(image, image, dim=-2).real / torch.where(length > 0, length, 1)
    limit = bound / scale
    outside = square.unsqueeze(-1) > (limit * (1 + slack)) ** 2
    sigma = torch.where(outside, square.unsqueeze(-1), 1).sqrt()
    return W * torch.where(outside, limit / sigma, 1)


@measured
def is_within(W: Tensor, bound: float) -> Tensor:
    """Whether no singular value is above ``bound``: shape ``(*, m, n)`` to ``(*)``, bool.

    By a Cholesky factorization of ``I - X^H X`` with ``X = W / bound``, many times cheaper than singular values. The
    smaller of the two Gram matrices is taken; rounding there blurs the bound by a few eps.

    >>> is_within(torch.diag(torch.tensor([4.0, 2.0])), 4.01), is_within(torch.diag(torch.tensor([4.0, 2.0])), 3.99)
    (tensor(True), tensor(False))
    """
    X = (W.mH if W.shape[-2] < W.shape[-1] else W) / bound
    peak = largest(X, (-2, -1))
    # An entry above 1 settles it; divided by it, the products do not overflow.
    X = X / peak.clamp_min(1)
    identity = identity_of(X)
    info: Tensor = torch.linalg.cholesky_ex(identity - X.mH @ X).info
    return (info == 0) & (peak[..., 0, 0] <= 1)


@measured
@where_finite
def excess(W: Tensor, bound: float) -> Tensor:
    """``max(0, sigma - bound)`` with the largest singular value ``sigma``: shape ``(*, m, n)`` to ``(*)``.

    >>> excess(torch.diag(torch.tensor([4.0, 2.0])), 1.0)
    tensor(3.)
    """
    over = (torch.linalg.svdvals(W) - bound).clamp_min(0)
    return largest(over, (-1,)).squeeze(-1)


def clip_singular_values(W: Tensor, bound: float) -> Tensor:
    """``W`` with its singular values clipped at ``bound``: the nearest matrix of that spectral norm in Frobenius norm.

    Shape: ``(*, m, n)`` to ``(*, m, n)``.

    >>> clip_singular_values(torch.diag(torch.tensor([4.0, 2.0])), 3.0)
    tensor([[3., 0.],
            [0., 2.]])
    """
    return bring_singular_values(W, 0.0, bound)


@measured
@where_finite
def distance_to_singular_values(W: Tensor, lower: float, upper: float) -> Tensor:
    """How far the singular values are from ``[lower, upper]``, in Euclidean norm: shape ``(*, m, n)`` to ``(*)``.

    >>> distance_to_singular_values(torch.diag(torch.tensor([4.0, 0.5])), 1.0, 4.0)
    tensor(0.5000)
    """
    S = torch.linalg.svdvals(W)
    return norm(S - S.clamp(lower, upper), (-1,)).squeeze(-1)


@precise
@where_finite
def bring_singular_values(W: Tensor, lower: float, upper: float) -> Tensor:
    """``W`` with its singular values brought into ``[lower, upper]``: the nearest such matrix in Frobenius norm.

    Shape: ``(*, m, n)`` to the same.

    >>> bring_singular_values(torch.diag(torch.tensor([4.0, 0.5])), 1.0, 3.0)
    tensor([[3., 0.],
            [0., 1.]])
    """
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    brought: Tensor = (U * S.clamp(lower, upper).unsqueeze(-2)) @ Vh
    return brought


def almost_orthogonal_raw(value: Tensor, slack: float) -> tuple[Tensor, Tensor]:
    """``base`` and ``raw`` of :func:`paraform.maps.almost_orthogonal_at` for a value: ``U V^H`` and ``U S V^H``.

    A singular value ``1 + slack t`` has ``s = 4 slack tan(arcsin(t) / 4)``. Where ``|t| = 1``, and the map has no
    derivative, it is taken for one that is ``32 eps`` less, where the derivative is ``6.8 sqrt(eps)``.

    >>> almost_orthogonal_raw(torch.diag(torch.tensor([1.0, 1.05])), 0.1)[1]
    tensor([[0.0000, 0.0000],
            [0.0000, 0.0527]])
    """
    wide = value.to(working_dtype(value.dtype))
    U, S, Vh = torch.linalg.svd(wide, full_matrices=False)
    most = 1 - 32 * torch.finfo(wide.dtype).eps
    t = ((S - 1) / slack).clamp(-most, most)
    s = 4 * slack * torch.tan(torch.asin(t) / 4)
    raw = U @ (s.unsqueeze(-1) * Vh)
    return polar(wide).to(value.dtype), raw.to(value.dtype)
