"""Subspaces, as orthonormal bases of them."""

import torch
from torch import Tensor

from .. import maps
from .orthogonal import Orthogonal
from .shapes import batch_size


class Grassmann(Orthogonal):
    r"""Orthonormal bases of subspaces, :math:`Q^\top Q = I`, moved without turning within the subspace.

    Shape: ``(n, k)`` with ``n >= k``, ``(k, n)`` or a batch of one of them, to the same. The columns (rows, if wide)
    span the subspace. Freedom: ``k (n - k)`` a matrix (complex: twice that), that of the subspace; :class:`Orthogonal`
    has ``k (k - 1) / 2`` more, for the turns within it. Raw tensor: the part of it that is normal to the base is
    read, ``P``; the value is the Cayley transform along it, :math:`(2 B + P)(I + P^\top P / 4)^{-1} - B`.
    Samples: the uniform (Haar) law on orthonormal bases, and so on subspaces.

    Every orthonormal basis is in the set and can be assigned; the nearest point and the base are those of
    :class:`Orthogonal`. (A. Edelman, T. Arias and S. Smith, *The geometry of algorithms with orthogonality
    constraints*, 1998, section 2.5.)

    Args:
        slices: allow any number of dimensions in front of the last two, see :class:`Orthogonal`.
        strict: see :class:`Constraint`.

    Attributes:
        base: where the raw tensor is zero; None before registration. A buffer, saved with the state.

    Raises:
        ValueError: the tensor has fewer than two dimensions, or more than three without ``slices=True``.

    The plane that holds most of the data (principal component analysis), found by gradient descent:

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> data = torch.randn(200, 4) * torch.tensor([3.0, 2.0, 0.1, 0.1])
    >>> code = register_parametrization(nn.Linear(4, 2, bias=False), "weight", Grassmann())
    >>> optimizer = torch.optim.Adam(code.parameters(), lr=0.05)
    >>> for _ in range(200):
    ...     optimizer.zero_grad()
    ...     (-code(data).square().sum(1).mean()).backward()
    ...     optimizer.step()
    >>> torch.linalg.matrix_norm(code.weight[:, 2:]) < 0.1  # it lies in the first two coordinates
    tensor(True)
    """

    stacks = True
    moves = True

    def __init__(self, *, slices: bool = False, strict: bool = False) -> None:
        super().__init__("cayley", slices=slices, strict=strict)

    def forward(self, raw: Tensor) -> Tensor:
        base = self._required_base()
        if raw.shape[-2] < raw.shape[-1]:
            return maps.grassmann_at(base.mT, raw.mT).mT
        return maps.grassmann_at(base, raw)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        k, n = sorted(shape[-2:])
        return batch_size(shape) * reals * k * (n - k)
