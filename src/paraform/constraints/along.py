"""What the sets of vectors share."""

import torch
from torch import Tensor

from .base import Constraint
from .shapes import require_dim


class Along(Constraint):
    """A set of vectors, which lie along ``dim`` of the tensor; each of them is a point of its own."""

    def __init__(self, dim: int = -1, *, strict: bool = False) -> None:
        if not isinstance(dim, int):
            raise TypeError(f"{type(self).__name__} expects a dimension as an int, got {dim!r}; give its number.")
        super().__init__(strict=strict)
        self.dim = dim

    def hold_stack(self) -> None:
        """Count the stack's dimension, where dimensions are counted from the front."""
        self.dim += self.dim >= 0

    def _dims(self, value: Tensor) -> tuple[int, ...]:
        return (self.dim,)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_dim(self, shape, self.dim)

    def _count(self, shape: torch.Size) -> int:
        """How many vectors a tensor of ``shape`` holds."""
        return torch.Size(size for i, size in enumerate(shape) if i != self.dim % len(shape)).numel()
