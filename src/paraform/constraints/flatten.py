"""A convolution's kernel seen as one matrix."""

import torch
from torch import Tensor, nn

from .base import Constraint
from .shapes import require_dim
from .view import View


class Flatten(View):
    r"""Convolution kernels that are in the set of another constraint as one matrix, ``out x (in * kh * kw)``.

    Shape: ``(m, *)``, at least two dimensions, to the same; ``constraint`` sees ``(m, n)`` with all but the first
    flattened into ``n``: a row for each output channel. Its product with a patch of the input is the output at one
    place. A transposed convolution has its input channels first: there, they are the rows, and with ``dim=1`` the
    output channels.

    It is not the convolution of whole images, whose norm may be larger, for patches overlap: by up to
    :math:`\sqrt{k_h k_w}` for a kernel of that size, with zeros as padding. So ``Flatten(SpectralNorm(1 / 3))`` makes a
    3 x 3 convolution one that stretches no image, and 1 instead of 1/3 stretches them by at most 3. (With a stride
    ``s`` a pixel is in fewer patches: :math:`\lceil k / s \rceil` takes the place of each ``k``.)

    Freedom: that of ``constraint``, and so are samples, projection and residual. Raw tensor: one of the matrix's shape
    is given the kernel's, so that it stays the same ``Parameter``; others are as ``constraint`` has them.

    Args:
        constraint: what the matrix is to satisfy; with ``strict=True`` or not.
        dim: the dimension that is to be the rows, negative ones counted from the end.

    Attributes:
        constraint: the same.

    Raises:
        TypeError: ``constraint`` is no :class:`Constraint`, or ``dim`` is no int.
        ValueError: the tensor has fewer than two dimensions, or none ``dim``, or ``constraint`` refuses the matrix.

    >>> from torch import nn
    >>> from paraform.constraints import Orthogonal
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Conv2d(2, 4, 3), "weight", Flatten(Orthogonal()))
    >>> filters = layer.weight.flatten(1)  # four filters of 2 * 3 * 3 entries
    >>> torch.dist(filters @ filters.T, torch.eye(4)) < 1e-5
    tensor(True)
    """

    stacks = True

    def __init__(self, constraint: Constraint, dim: int = 0) -> None:
        super().__init__(constraint)
        if not isinstance(dim, int) or isinstance(dim, bool):
            raise TypeError(f"Flatten expects a dimension as an int, got {dim!r}; give the number of the rows' one.")
        self.dim = dim

    def hold_stack(self) -> None:
        """Count the stack's dimension, where dimensions are counted from the front."""
        super().hold_stack()
        self.dim += self.dim >= 0

    def _seen(self, value: Tensor) -> Tensor:
        return value.movedim(self.dim, self._front).flatten(self._front + 1)

    def _back(self, seen: Tensor, shape: torch.Size) -> Tensor:
        moved = torch.empty(shape, device="meta").movedim(self.dim, self._front).shape
        return seen.reshape(moved).movedim(self._front, self.dim)

    def _require_view(self, shape: torch.Size) -> None:
        super()._require_view(shape)
        require_dim(self, shape, self.dim)

    def _arguments(self) -> str:
        return f", dim={self.dim}" if self.dim else ""

    def check_layer(self, layer: nn.Module, tensor_name: str) -> None:
        """Refuse nothing: this is the way to constrain a kernel."""
