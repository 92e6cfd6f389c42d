"""Triangular matrices, and bands around the diagonal."""

import torch
from torch import Tensor

from .. import maps
from .rounding import relative_tolerance
from .shapes import batch_size, require_matrix
from .subspace import Pattern

_DIAGONALS = ("free", "unit", "positive")


class Triangular(Pattern):
    r"""Triangular matrices, :math:`L_{ij} = 0` for :math:`i < j`, or upper ones; the diagonal is free, 1, or positive.

    Shape: ``(*, m, n)`` to the same. Freedom: the entries of the triangle, without the diagonal if that is 1 (complex:
    twice as many, but for a positive diagonal, which is real).
    Raw tensor: the triangle is read, the rest is ignored (``torch.tril``, ``torch.triu``). A positive diagonal is
    :math:`\log(1 + e^r)` of the raw one (its real part), so a factor :math:`L` stands for one definite matrix :math:`L
    L^\top` and no other.
    Samples: standard normal entries; a positive diagonal has their magnitudes.

    The nearest point leaves the other triangle out. A positive diagonal is open: an entry at 0 or below becomes ``eps``
    of the working precision, and one whose raw number is far below 0 underflows to 0 (see :class:`Positive`).

    Args:
        lower: keep what is below the diagonal; else what is above.
        diagonal: ``"free"``, ``"unit"`` (ones) or ``"positive"``.
        strict: see :class:`Constraint`.

    Raises:
        TypeError: ``lower`` is no bool.
        ValueError: ``diagonal`` is none of the three, or the tensor has fewer than two dimensions.

    A precision matrix, learned through its Cholesky factor:

    >>> from torch import nn
    >>> from torch.distributions import MultivariateNormal
    >>> from paraform.parametrize import register_parametrization
    >>> model = nn.ParameterDict({"factor": torch.eye(3)})
    >>> model = register_parametrization(model, "factor", Triangular(diagonal="positive"))
    >>> law = MultivariateNormal(torch.zeros(3), scale_tril=model.factor)
    >>> law.log_prob(torch.zeros(3)).exp()  # (2 pi)^(-3/2)
    tensor(0.0635, grad_fn=...)
    """

    stacks = True

    def __init__(self, lower: bool = True, diagonal: str = "free", *, strict: bool = False) -> None:
        if diagonal not in _DIAGONALS:
            raise ValueError(
                f"Triangular expects a diagonal out of {', '.join(_DIAGONALS)}, got {diagonal!r}; name one of them."
            )
        if not isinstance(lower, bool):
            raise TypeError(f"Triangular expects lower to be True or False, got {lower!r}; False is upper.")
        super().__init__(strict=strict)
        self.lower = lower
        self.diagonal = diagonal
        self.decays = diagonal == "free"
        self.fixed_size = diagonal == "unit"

    def forward(self, raw: Tensor) -> Tensor:
        if self.diagonal == "positive":
            return maps.with_positive_diagonal(self._triangle(raw))
        return self._with_diagonal(raw)

    def project(self, value: Tensor) -> Tensor:
        """The triangle of ``value``, with the nearest diagonal."""
        require_matrix(self, value.shape)
        return self._with_diagonal(value)

    def _triangle(self, x: Tensor) -> Tensor:
        return x.tril() if self.lower else x.triu()

    def _with_diagonal(self, x: Tensor) -> Tensor:
        triangle = self._triangle(x)
        if self.diagonal == "unit":
            return torch.where(maps.diagonal_mask(x), 1, triangle)
        if self.diagonal == "positive":
            return torch.where(maps.diagonal_mask(x), maps.raised_above(torch.real(x), 0.0), triangle)
        return triangle

    def _contains(self, value: Tensor) -> Tensor:
        zeros = self._triangle(value) == value
        diagonal = value.diagonal(dim1=-2, dim2=-1)
        if self.diagonal == "unit":
            right = (diagonal - 1).abs() <= relative_tolerance(value)
        elif self.diagonal == "positive":
            right = (torch.real(diagonal) >= 0) & (diagonal == torch.real(diagonal))
        else:
            return zeros.flatten(-2).all(-1)
        return zeros.flatten(-2).all(-1) & right.all(-1)

    def _raw(self, value: Tensor) -> Tensor:
        if self.diagonal == "positive":
            return torch.where(maps.diagonal_mask(value), maps.above_raw(torch.real(value), 0.0), value)
        return value

    def _draw(self, shape: torch.Size, **options: object) -> Tensor:
        drawn = maps.standard_normal(shape, **options)  # type: ignore[arg-type]
        if self.diagonal == "positive":
            drawn = torch.where(maps.diagonal_mask(drawn), drawn.abs(), drawn)
        return self.project(drawn)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        m, n = shape[-2:]
        below = torch.ones(m, n, device="cpu").tril(-1) if self.lower else torch.ones(m, n, device="cpu").triu(1)
        each = {"free": reals, "unit": 0, "positive": 1}[self.diagonal]
        return batch_size(shape) * (reals * int(below.count_nonzero()) + each * min(m, n))

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_matrix(self, shape)


class Banded(Pattern):
    r"""Banded matrices, :math:`X_{ij} = 0` outside of :math:`-u \le i - j \le l`: so many diagonals below and above.

    Shape: ``(*, m, n)`` to the same. Freedom: the entries of the band (complex: twice as many). Raw tensor: the band is
    read, the rest is ignored (``torch.tril`` of ``torch.triu``). Samples: standard normal entries. The nearest point
    leaves the rest out.

    Args:
        lower: how many diagonals are kept below the main one, ``l``.
        upper: how many are kept above it, ``u``.
        strict: see :class:`Constraint`.

    Raises:
        TypeError: ``lower`` or ``upper`` is no int.
        ValueError: one of them is negative, or the tensor has fewer than two dimensions.

    Cells in a row, of which each sees itself and its two neighbours:

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Linear(5, 5, bias=False), "weight", Banded(1, 1))
    >>> one_cell = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0])
    >>> layer(one_cell) != 0
    tensor([False,  True,  True,  True, False])
    """

    stacks = True

    def __init__(self, lower: int, upper: int, *, strict: bool = False) -> None:
        for name, width in (("lower", lower), ("upper", upper)):
            if not isinstance(width, int) or isinstance(width, bool):
                raise TypeError(f"Banded expects {name} to be an int, got {width!r}; give a number of diagonals.")
            if width < 0:
                raise ValueError(f"Banded expects {name} to be at least 0, got {width}; give a number of diagonals.")
        super().__init__(strict=strict)
        self.lower = lower
        self.upper = upper

    def project(self, value: Tensor) -> Tensor:
        """The band of ``value``."""
        require_matrix(self, value.shape)
        return maps.band(value, self.lower, self.upper)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        band = maps.band(torch.ones(shape[-2:], device="cpu"), self.lower, self.upper)
        return batch_size(shape) * reals * int(band.count_nonzero())

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_matrix(self, shape)
