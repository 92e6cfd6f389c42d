"""What a constraint asks of a shape, in one wording."""

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd


def require_matrix(who: object, shape: Sequence[int]) -> None:
    """Raise a ValueError unless ``shape`` has two dimensions at least.

    >>> require_matrix("Orthogonal()", (3,))
    Traceback (most recent call last):
    ValueError: Orthogonal() expects matrices, shape (*, m, n), got shape (3,); pick another tensor.
    """
    if len(shape) < 2:
        raise ValueError(f"{who} expects matrices, shape (*, m, n), got shape {tuple(shape)}; pick another tensor.")


def require_square(who: object, shape: Sequence[int]) -> None:
    """Raise a ValueError unless the last two of ``shape`` are equal.

    >>> require_square("Skew()", (5, 3, 4))
    Traceback (most recent call last):
    ValueError: Skew() expects square matrices, shape (*, n, n), got shape (5, 3, 4); pick another tensor.
    """
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ValueError(
            f"{who} expects square matrices, shape (*, n, n), got shape {tuple(shape)}; pick another tensor."
        )


def require_even(who: object, shape: Sequence[int]) -> None:
    """Raise a ValueError unless the last of ``shape`` is even.

    >>> require_even("Hamiltonian()", (3, 3))
    Traceback (most recent call last):
    ValueError: Hamiltonian() expects matrices of an even number of rows, shape (*, 2n, 2n), got shape (3, 3)...
    """
    if shape[-1] % 2:
        raise ValueError(
            f"{who} expects matrices of an even number of rows, shape (*, 2n, 2n), got shape {tuple(shape)}; half of "
            f"them are positions, half momenta."
        )


def require_number(who: str, name: str, number: object) -> None:
    """Raise a TypeError unless ``number`` is an int or a float.

    >>> require_number("Hurwitz", "decay", "fast")
    Traceback (most recent call last):
    TypeError: Hurwitz expects decay to be a number, got 'fast'; give one.
    """
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"{who} expects {name} to be a number, got {number!r}; give one.")


def require_no_kernel(who: object, shape: Sequence[int]) -> None:
    """Raise a ValueError for more than three dimensions: that is mostly a convolution's kernel, which is no batch.

    >>> require_no_kernel("Orthogonal()", (8, 4, 3, 3))
    Traceback (most recent call last):
    ValueError: Orthogonal() expects a matrix or a batch of them, got shape (8, 4, 3, 3), of which it would constrain...
    """
    if len(shape) > 3:
        raise ValueError(
            f"{who} expects a matrix or a batch of them, got shape {tuple(shape)}, of which it would constrain the "
            f"slices of shape {tuple(shape[-2:])} one by one. For a convolution's kernel as one matrix write "
            f"Flatten({who}); if the slices are meant, {type(who).__name__}(slices=True)."
        )


def require_no_convolution(who: object, layer: nn.Module, tensor_name: str) -> None:
    """Raise a ValueError if the tensor is a convolution's kernel; that of ``Conv1d`` has the shape of a batch.

    >>> require_no_convolution("Orthogonal()", nn.Conv1d(4, 8, 3), "weight")
    Traceback (most recent call last):
    ValueError: Orthogonal() would constrain the slices of shape (4, 3) of the kernel of Conv1d one by one. For the...
    """
    if isinstance(layer, _ConvNd) and tensor_name == "weight":
        raise ValueError(
            f"{who} would constrain the slices of shape {tuple(layer.weight.shape[-2:])} of the kernel of "
            f"{type(layer).__name__} one by one. For the kernel as one matrix write Flatten({who}); if the slices are "
            f"meant, {type(who).__name__}(slices=True)."
        )


def require_real(who: object, dtype: torch.dtype) -> None:
    """Raise a ValueError for complex numbers.

    >>> require_real("Positive()", torch.complex64)
    Traceback (most recent call last):
    ValueError: Positive() expects real numbers, got torch.complex64; pick another tensor, or its real part.
    """
    if dtype.is_complex:
        raise ValueError(f"{who} expects real numbers, got {dtype}; pick another tensor, or its real part.")


def require_dim(who: object, shape: Sequence[int], dim: int) -> None:
    """Raise a ValueError unless ``shape`` has a dimension ``dim``.

    >>> require_dim("UnitNorm(dim=2)", (3, 4), 2)
    Traceback (most recent call last):
    ValueError: UnitNorm(dim=2) expects a tensor with a dimension 2, got shape (3, 4); name one that it has.
    """
    if not -len(shape) <= dim < len(shape):
        raise ValueError(
            f"{who} expects a tensor with a dimension {dim}, got shape {tuple(shape)}; name one that it has."
        )


def require_entries(who: object, shape: Sequence[int], dim: int) -> None:
    """Raise a ValueError if the vectors along ``dim`` have no entry.

    >>> require_entries("Simplex()", (3, 0), -1)
    Traceback (most recent call last):
    ValueError: Simplex() expects vectors of one entry at least, got shape (3, 0); pick another tensor.
    """
    if shape[dim] == 0:
        raise ValueError(f"{who} expects vectors of one entry at least, got shape {tuple(shape)}; pick another tensor.")


def require_rank(who: str, rank: object) -> int:
    """``rank``, a whole number above 0, or an error that says so.

    >>> require_rank("LowRank", 0)
    Traceback (most recent call last):
    ValueError: LowRank expects a rank of 1 at least, got 0; give the number of columns of a factor.
    """
    if not isinstance(rank, int) or isinstance(rank, bool):
        raise TypeError(f"{who} expects a rank as an int, got {rank!r}; give the number of columns of a factor.")
    if rank < 1:
        raise ValueError(f"{who} expects a rank of 1 at least, got {rank}; give the number of columns of a factor.")
    return rank


def require_sides(who: object, shape: Sequence[int], rank: int) -> None:
    """Raise a ValueError if a matrix of ``shape`` is too small to be of that rank.

    >>> require_sides("FixedRank(rank=3)", (2, 5), 3)
    Traceback (most recent call last):
    ValueError: FixedRank(rank=3) expects matrices with 3 rows and columns at least, got shape (2, 5); use a smaller...
    """
    if min(shape[-2:]) < rank:
        raise ValueError(
            f"{who} expects matrices with {rank} rows and columns at least, got shape {tuple(shape)}; use a smaller "
            f"rank."
        )


def hermitian_dof(shape: Sequence[int], reals: int) -> int:
    """The dimension of the symmetric (Hermitian, with 2 reals an entry) matrices of a shape.

    >>> hermitian_dof((3, 3), 1), hermitian_dof((5, 3, 3), 2)
    (6, 45)
    """
    n = shape[-1]
    return batch_size(shape) * (n + reals * n * (n - 1) // 2)


def batch_size(shape: Sequence[int]) -> int:
    """How many matrices a tensor of ``shape`` holds.

    >>> batch_size((5, 2, 3, 4)), batch_size((3, 4))
    (10, 1)
    """
    return math.prod(shape[:-2])
