"""What the three functions ask of the module that they parametrize."""

from __future__ import annotations

from typing import SupportsIndex

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..parametrize.surgery import check_unsharded


def tensor_of(module: nn.Module, name: str, *, lazy: type[Exception] = RuntimeError) -> Tensor:
    """The parameter or buffer ``name`` of ``module``, which has a shape and floating-point or complex numbers.

    Raises:
        ValueError: there is none, or it holds integers.
        RuntimeError: the module is sharded by FSDP, or the tensor has no shape yet (for that, what ``lazy`` says:
            torch's functions differ here).
    """
    tensor = getattr(module, name, None)
    if not isinstance(tensor, Tensor):
        found = "nothing" if tensor is None else type(tensor).__name__
        raise ValueError(
            f"Expected a parameter or a buffer '{name}' of {type(module).__name__}, found {found}. "
            f"Name one that the module has."
        )
    if is_lazy(tensor):
        raise lazy(f"'{name}' of {type(module).__name__} has no shape yet. Run one forward pass, then parametrize it.")
    if not (tensor.is_floating_point() or tensor.is_complex()):
        raise ValueError(
            f"Expected floating-point or complex numbers in '{name}' of {type(module).__name__}, got {tensor.dtype}. "
            f"Convert the tensor."
        )
    check_unsharded(module, [tensor])  # a map of a sharded tensor may fail in its own words
    return tensor


def dimension_of(tensor: Tensor, name: str, dim: SupportsIndex) -> int:
    """``dim`` counted from the first.

    Raises:
        TypeError: ``dim`` is no integer.
        IndexError: the tensor has no such dimension.
    """
    if isinstance(dim, bool) or not isinstance(dim, SupportsIndex):
        raise TypeError(f"Expected dim to be an integer, got {dim!r}.")
    if tensor.ndim == 0:
        raise IndexError(f"Expected '{name}' to have a dimension {dim}, but it is a single number of none.")
    index = dim.__index__()
    if not -tensor.ndim <= index < tensor.ndim:
        raise IndexError(
            f"Expected dim in [{-tensor.ndim}, {tensor.ndim - 1}] for '{name}' of {tensor.ndim} dimensions, got {dim}."
        )
    return index % tensor.ndim
