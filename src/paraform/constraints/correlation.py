"""Correlation matrices."""

from typing import Any

import torch
from torch import Tensor

from .. import maps
from .base import Constraint
from .rounding import mirrors
from .shapes import batch_size, require_square


class Correlation(Constraint):
    r"""Correlation matrices, :math:`X = L L^\top` with rows of length 1 in ``L``; Hermitian if complex.

    They are the positive semidefinite matrices with 1 on the diagonal.

    Shape: ``(*, n, n)`` to ``(*, n, n)``. Freedom: ``n (n - 1) / 2`` a matrix (complex: ``n (n - 1)``).
    Raw tensor: its lower triangle is read. Each row of it gives the direction of one of ``L``, the Cholesky factor (J.
    Pinheiro and D. Bates, *Unconstrained parametrizations for variance-covariance matrices*, 1996, section 2.3, have
    angles for it); a row of zeros counts as orthogonal to the others. Weight decay shrinks the rows and changes no
    value. The diagonal of the value is exactly 1.
    Samples: the uniform law (that of Lewandowski, Kurowicka and Joe, 2009, with η = 1): the cosines of Gaussian vectors
    in ``n + 1`` dimensions (complex: ``n``). A Wishart matrix of ``k`` degrees of freedom, scaled so, has a density
    proportional to ``det(X)`` to the power ``(k - n - 1) / 2`` (complex: ``k - n``).

    The set is closed, and values reach all of it, but for rounding: at its edge, where ``X`` is singular, there may be
    no gradient in the directions that lead inside. So eigenvalues that are assigned below ``eps`` of the largest one
    become that (``eps`` that of the working precision).

    The nearest point is that of the symmetric part, by Newton's method in double precision (H. Qi and D. Sun, *A
    quadratically convergent Newton method for computing the nearest correlation matrix*, 2006). It is exact to about
    1e-12 of the largest entry; with entries above 1e6 it is no more than near. Only :meth:`project` needs it: no read
    does.

    Args:
        strict: see :class:`Constraint`.

    Raises:
        ValueError: the matrices are not square.

    The correlation of a Gaussian, from samples of it, by maximum likelihood:

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> x = torch.randn(2000, 2) @ torch.tensor([[1.0, 0.8], [0.0, 0.6]])
    >>> model = nn.Module()
    >>> model.correlation = nn.Parameter(torch.eye(2))
    >>> model = register_parametrization(model, "correlation", Correlation())
    >>> optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    >>> for _ in range(100):
    ...     optimizer.zero_grad()
    ...     gaussian = torch.distributions.MultivariateNormal(torch.zeros(2), model.correlation)
    ...     (-gaussian.log_prob(x).mean()).backward()
    ...     optimizer.step()
    >>> (model.correlation[0, 1] - 0.8).abs() < 0.05, model.correlation.diagonal()
    (tensor(True), tensor([1., 1.], grad_fn=...))
    """

    fixed_size = True
    stacks = True

    def forward(self, raw: Tensor) -> Tensor:
        return maps.correlations(raw.tril())

    def project(self, value: Tensor) -> Tensor:
        require_square(self, value.shape)
        return maps.nearest_correlation(value)

    def residual(self, value: Tensor) -> Tensor:
        """The distances to the positive semidefinite matrices and to those of unit diagonal, as legs of a triangle.

        No more than ``sqrt(2)`` times the distance to the set.
        """
        require_square(self, value.shape)
        return maps.correlation_error(value)

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        *batch, n, _ = shape
        is_complex = (options["dtype"] or torch.get_default_dtype()).is_complex
        return maps.correlations(maps.standard_normal((*batch, n, n if is_complex else n + 1), **options))

    def _dof(self, shape: torch.Size, reals: int) -> int:
        n = shape[-1]
        return batch_size(shape) * reals * n * (n - 1) // 2

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_square(self, shape)

    def _contains(self, value: Tensor) -> Tensor:
        return mirrors(value, value.mH) & super()._contains(value)

    def _settled(self, value: Tensor) -> Tensor:
        return maps.unit_diagonal(value)

    def _raw(self, value: Tensor) -> Tensor:
        return maps.correlation_factor(value)
