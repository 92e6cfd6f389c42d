"""Block diagonal matrices."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import maps
from .shapes import batch_size, require_matrix
from .subspace import Pattern


class BlockDiagonal(Pattern):
    r"""Block diagonal matrices: zero outside of blocks along the diagonal, as ``torch.block_diag`` makes them.

    Shape: ``(*, m, n)`` to the same. Freedom: the entries of the blocks (complex: twice as many). Raw tensor: the
    blocks are read, the rest is ignored. Samples: standard normal entries. The nearest point leaves the rest out.

    Args:
        blocks: how many equal blocks there are; or the size of each, a pair ``(rows, columns)``, or a number for a
            square one.
        strict: see :class:`Constraint`.

    Raises:
        TypeError: ``blocks`` is neither an int nor a sequence of ints and pairs of ints.
        ValueError: there is no block, or a size is negative; or the tensor has fewer than two dimensions, or the blocks
            do not fill it.

    Two layers in one, each on its own half of the features:

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Linear(4, 6, bias=False), "weight", BlockDiagonal(2))
    >>> x = torch.randn(4)
    >>> torch.allclose(layer(x)[:3], layer.weight[:3, :2] @ x[:2])
    True
    """

    stacks = True

    def __init__(self, blocks: int | Sequence[int | tuple[int, int]], *, strict: bool = False) -> None:
        super().__init__(strict=strict)
        if isinstance(blocks, int) and not isinstance(blocks, bool):
            if blocks < 1:
                raise ValueError(f"BlockDiagonal expects at least one block, got {blocks}; give their number.")
            self.blocks: int | list[tuple[int, int]] = blocks
        else:
            self.blocks = [_pair(block) for block in _sequence(blocks)]

    def _sizes(self, shape: Sequence[int]) -> list[tuple[int, int]]:
        if isinstance(self.blocks, int):
            # Of blocks without entries, as all of an empty matrix are, there need not be so many.
            return [(shape[-2] // self.blocks, shape[-1] // self.blocks)] * min(self.blocks, max(*shape[-2:], 1))
        return self.blocks

    def project(self, value: Tensor) -> Tensor:
        """The blocks of ``value``."""
        self._check(value.shape, value.dtype)
        # Chosen, not multiplied: 0 times inf outside of the blocks would be nan.
        return torch.where(maps.block_mask(self._sizes(value.shape), value.device), value, 0)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return batch_size(shape) * reals * sum(rows * columns for rows, columns in self._sizes(shape))

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_matrix(self, shape)
        sizes = self._sizes(shape)
        filled = tuple(map(sum, zip(*sizes, strict=True)))
        if filled != tuple(shape[-2:]):
            raise ValueError(
                f"{self} expects matrices that its blocks fill, got shape {tuple(shape)}, of which they fill {filled}; "
                f"give the sizes (rows, columns) of all blocks."
            )


def _sequence(blocks: object) -> Sequence[object]:
    if not isinstance(blocks, Sequence) or isinstance(blocks, str):
        raise TypeError(
            f"BlockDiagonal expects a number of blocks, or a sequence of their sizes, got {blocks!r}; give one of them."
        )
    if not blocks:
        raise ValueError("BlockDiagonal expects at least one block, got none; give the size of each.")
    return blocks


def _pair(block: object) -> tuple[int, int]:
    pair = (block, block) if isinstance(block, int) else block
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(type(size) is int for size in pair):
        raise TypeError(f"BlockDiagonal expects the size of a block as an int or a pair of ints, got {block!r}.")
    if min(pair) < 0:
        raise ValueError(f"BlockDiagonal expects sizes of at least 0, got {block!r}.")
    return pair[0], pair[1]
