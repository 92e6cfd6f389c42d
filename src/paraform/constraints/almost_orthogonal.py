"""Matrices whose singular values are near to 1."""

from typing import Any

import torch
from torch import Tensor, nn

from .. import maps
from .based import Based
from .rounding import tolerance
from .shapes import require_matrix, require_no_convolution, require_no_kernel, require_number


class AlmostOrthogonal(Based):
    r"""Almost orthogonal matrices: all singular values within :math:`[1 - s, 1 + s]`, where ``s`` is a given slack.

    Shape: ``(n, k)``, ``(k, n)`` or a batch of one of them, to the same. Freedom: all entries.
    Raw tensor: all of it is read. The part that is tangent to the orthogonal matrices at the :attr:`base` turns that by
    a Cayley transform to ``Q``, and the symmetric (Hermitian) part along the base, ``S``, stretches it; the value is
    :math:`Q (I + s \sin(4 \arctan(S / 4 s)))`. Weight decay draws it to the base, which is orthogonal.
    Samples: ``U D V^T`` with uniform (Haar) orthogonal factors, and singular values uniform on the interval.

    The nearest point brings the singular values into the interval. The set is closed: an eigenvalue of ``S`` of 1.66
    ``s`` or -1.66 ``s`` is at the edge, and beyond it comes back, as far as the other edge. An assigned singular value
    at the edge moves inside by ``32 eps s`` (4e-6 ``s`` in float32). The derivative there is in proportion to the root
    of the distance from the edge, 2.4e-3 of that in the middle, and grows by a constant factor a step: training leaves
    the edge, whichever way it steps.

    Args:
        slack: how far from 1 a singular value may be, above 0 and below 1.
        slices: allow any number of dimensions in front of the last two, see :class:`Orthogonal`.
        strict: see :class:`Constraint`.

    Attributes:
        base: an orthogonal matrix, the polar factor of the value that was assigned. A buffer, saved with the state.

    Raises:
        ValueError: ``slack`` is not between 0 and 1, or the tensor has fewer than two dimensions, or more than three or
            is a convolution's kernel, without ``slices=True``.

    A recurrent kernel that may forget and amplify, but by no more than 5 % a step (E. Vorontsov and others, *On
    orthogonality and learning recurrent networks with long term dependencies*, 2017):

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> cell = register_parametrization(nn.RNNCell(3, 8), "weight_hh", AlmostOrthogonal(0.05))
    >>> S = torch.linalg.svdvals(cell.weight_hh)
    >>> S.min() >= 0.9499, S.max() <= 1.0501
    (tensor(True), tensor(True))
    """

    stacks = True
    moves = True

    def __init__(self, slack: float, *, slices: bool = False, strict: bool = False) -> None:
        require_number("AlmostOrthogonal", "slack", slack)
        if not 0 < slack < 1:
            raise ValueError(f"AlmostOrthogonal expects a slack above 0 and below 1, got {slack}; 0.1 is 10 %.")
        super().__init__(strict=strict)
        self.slack = slack
        self.slices = slices

    def forward(self, raw: Tensor) -> Tensor:
        base = self._required_base()
        if raw.shape[-2] < raw.shape[-1]:
            return maps.almost_orthogonal_at(base.mT, raw.mT, self.slack).mT
        return maps.almost_orthogonal_at(base, raw, self.slack)

    def project(self, value: Tensor) -> Tensor:
        """The matrix with its singular values brought into the interval."""
        require_matrix(self, value.shape)
        return maps.bring_singular_values(value, 1 - self.slack, 1 + self.slack)

    def residual(self, value: Tensor) -> Tensor:
        """The distance to the set."""
        require_matrix(self, value.shape)
        return maps.distance_to_singular_values(value, 1 - self.slack, 1 + self.slack)

    def _strays(self, base: Tensor) -> Tensor:
        return maps.orthogonality_error(base) > tolerance(base)

    def _nearest_base(self, base: Tensor) -> Tensor:
        return maps.polar(base)

    def _raw(self, value: Tensor) -> Tensor:
        base, raw = maps.almost_orthogonal_raw(value, self.slack) if maps.has_entries(value) else (value, value)
        self._hold(base.detach().clone())
        return raw

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        k = min(shape[-2:])
        U, V = (maps.haar((*shape[:-2], n, k), **options) for n in shape[-2:])
        S = 1 + self.slack * (2 * maps.uniform((*shape[:-2], 1, k), **options) - 1)
        return (U * S) @ V.mH

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return reals * shape.numel()

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_matrix(self, shape)
        if not self.slices:
            require_no_kernel(self, shape)

    def check_layer(self, layer: nn.Module, tensor_name: str) -> None:
        """Refuse a convolution's kernel, which the engine asks before it registers."""
        if not self.slices:
            require_no_convolution(self, layer, tensor_name)
