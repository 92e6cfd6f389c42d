"""Sets that torch makes of others: pieces put together, and points made of several."""

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .shapes import require_dim
from .torch_sets import CorrelationCholesky, TorchSet


class Several(TorchSet):
    """Pieces of a tensor, along ``dim``, in a set each."""

    def __init__(self, sets: Sequence[TorchSet], dim: int) -> None:
        if any(isinstance(each, CorrelationCholesky) for each in sets):
            raise ValueError(
                "from_distribution expects pieces whose raw tensors have their shape, got corr_cholesky, whose raw "
                "tensor is a vector; keep such a piece in a tensor of its own."
            )
        self.sets = sets
        self.dim = dim
        self.fixed_size = any(each.fixed_size for each in sets)

    @abstractmethod
    def _pieces(self, x: Tensor) -> Sequence[Tensor]:
        """The pieces of ``x``."""

    @abstractmethod
    def _joined(self, pieces: Sequence[Tensor]) -> Tensor:
        """The inverse."""

    @abstractmethod
    def _count(self) -> int:
        """The size of ``dim``."""

    def _each(self, question: Callable[[TorchSet, Tensor], Tensor], x: Tensor) -> Tensor:
        pieces = zip(self.sets, self._pieces(x), strict=True)
        return self._joined([question(each, piece) for each, piece in pieces])

    def closest(self, x: Tensor) -> Tensor:
        return self._each(lambda each, piece: each.closest(piece), x)

    def inside(self, x: Tensor) -> Tensor:
        return self._each(lambda each, piece: each.inside(piece), x)

    def project(self, x: Tensor) -> Tensor:
        return self._each(lambda each, piece: each.project(piece), x)

    def contains(self, x: Tensor) -> Tensor:
        return self._each(lambda each, piece: each.contains(piece), x)

    def dof(self, shape: torch.Size) -> int:
        return sum(each.dof(piece) for each, piece in zip(self.sets, self._shapes(shape), strict=True))

    def check(self, who: object, shape: torch.Size) -> None:
        require_dim(who, shape, self.dim)
        if shape[self.dim] != self._count():
            raise ValueError(
                f"{who} expects a tensor of size {self._count()} along dimension {self.dim}, got shape {tuple(shape)}; "
                f"say how long the pieces are."
            )
        for each, piece in zip(self.sets, self._shapes(shape), strict=True):
            each.check(who, piece)

    def _shapes(self, shape: torch.Size) -> list[torch.Size]:
        return [piece.shape for piece in self._pieces(torch.empty(shape, device="meta"))]


class Concatenated(Several):
    """Pieces as ``torch.cat`` joins them."""

    def __init__(self, sets: Sequence[TorchSet], dim: int, lengths: Sequence[int]) -> None:
        super().__init__(sets, dim)
        self.lengths = list(lengths)

    def dims(self, ndim: int) -> tuple[int, ...]:
        return tuple(sorted({dim for each in self.sets for dim in each.dims(ndim)}))

    def _pieces(self, x: Tensor) -> Sequence[Tensor]:
        return torch.split(x, self.lengths, self.dim)

    def _joined(self, pieces: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(pieces), self.dim)

    def _count(self) -> int:
        return sum(self.lengths)


class Stacked(Several):
    """Pieces as ``torch.stack`` joins them."""

    def dims(self, ndim: int) -> tuple[int, ...]:
        own = self.dim if self.dim < 0 else self.dim - ndim
        # A dimension of a piece that is in front of the new one is pushed on by it.
        return tuple(sorted({dim - (dim <= own) for each in self.sets for dim in each.dims(ndim - 1)}))

    def _pieces(self, x: Tensor) -> Sequence[Tensor]:
        return x.unbind(self.dim)

    def _joined(self, pieces: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(pieces), self.dim)

    def _count(self) -> int:
        return len(self.sets)


class Independent(TorchSet):
    """Points made of all points of another set along ``count`` more dimensions."""

    def __init__(self, base: TorchSet, count: int) -> None:
        self.base = base
        self.count = count
        self.fixed_size = base.fixed_size

    def dims(self, ndim: int) -> tuple[int, ...]:
        inner = self.base.dims(ndim)
        rest = [dim for dim in range(-ndim, 0) if dim not in inner]
        return tuple(sorted((*inner, *rest[len(rest) - self.count :])))

    def closest(self, x: Tensor) -> Tensor:
        return self.base.closest(x)

    def inside(self, x: Tensor) -> Tensor:
        return self.base.inside(x)

    def project(self, x: Tensor) -> Tensor:
        return self.base.project(x)

    def contains(self, x: Tensor) -> Tensor:
        return self.base.contains(x)

    def dof(self, shape: torch.Size) -> int:
        return self.base.dof(shape)

    def check(self, who: object, shape: torch.Size) -> None:
        self.base.check(who, shape)
        spanned = len(self.base.dims(len(shape))) + self.count
        if len(shape) < spanned:
            raise ValueError(
                f"{who} expects tensors of {spanned} dimensions at least, got shape {tuple(shape)}; pick another one."
            )
