"""Tensors written as size times direction."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .. import maps
from .base import Constraint


class WeightNorm(Constraint):
    r"""All tensors, written as size times direction: :math:`w = g \, v / \lVert v \rVert`, slice by slice.

    Shape: any to the same. Freedom: all entries. Samples: independent standard normal entries.
    Two raw tensors, laid out as by ``torch.nn.utils.parametrizations.weight_norm``: ``original0`` is ``g``, of the
    tensor's shape with 1 for every dimension but ``dim`` (0-d where ``dim`` is None), and ``original1`` is ``v``.

    A slice of zeros gets the size 0 and the direction ``(1, ..., 1)``, so that it can grow again; nothing is nan.
    Checkpoints of either function load: ``torch.nn.utils.weight_norm``'s (``weight_g``, ``weight_v``), and those with
    sizes along another dimension, by their value.
    T. Salimans and D. Kingma, *Weight normalization*, 2016, equation 2.

    Args:
        dim: the dimension whose slices have a size each, negative ones counted from the end. None: one size for the
            whole tensor.
        strict: see :class:`Constraint`; no value is outside this set.

    Raises:
        TypeError: ``dim`` is neither an int nor None.
        ValueError: the tensor has no dimension ``dim``, or its norm overflows its dtype; or ``original0`` was replaced
            by a tensor that has neither as many dimensions as ``original1`` nor none.
        RuntimeError: it stands behind another parametrization, where there is one tensor only.

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 4), "weight", WeightNorm())
    >>> layer.parametrizations.weight.original0.shape, layer.parametrizations.weight.original1.shape
    (torch.Size([4, 1]), torch.Size([4, 3]))
    """

    old_names = {"_g": "original0", "_v": "original1"}  # noqa: RUF012 (the base says so)

    def __init__(self, dim: int | None = 0, *, strict: bool = False) -> None:
        if dim is not None and not isinstance(dim, int):
            raise TypeError(f"WeightNorm expects a dimension as an int, or None, got {dim!r}; give its number.")
        super().__init__(strict=strict)
        self.dim = dim

    def forward(self, g: Tensor, v: Tensor | None = None) -> Tensor:
        if v is None:
            raise RuntimeError(
                f"{self} expects two raw tensors, size and direction, got one: it cannot stand behind another "
                f"parametrization. Register it before the others."
            )
        if g.ndim not in (0, v.ndim):  # it would be broadcast along dimensions that nobody named
            raise ValueError(
                f"{self} expects one size for each slice, shape {_sizes(v, self.dim)}, got shape {tuple(g.shape)}; "
                f"reshape it."
            )
        return maps.sized(v, g, self.dim)

    def foreign_value(self, state: Mapping[str, Tensor]) -> Tensor | None:
        """The value of sizes along another dimension. (torch's own function takes ``dim=-1`` for ``dim=None``.)"""
        g, v = state.get("original0"), state.get("original1")
        if g is None or v is None or g.shape == _sizes(v, self.dim):
            return None
        dims = [dim for dim in (None, *range(v.ndim)) if g.shape == _sizes(v, dim)]
        return maps.sized(v, g, dims[0]) if dims else None

    def project(self, value: Tensor) -> Tensor:
        """``value`` itself."""
        return value

    def residual(self, value: Tensor) -> Tensor:
        """0: every tensor is in the set."""
        return torch.zeros_like(maps.frobenius(value))

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        return maps.standard_normal(shape, **options)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return reals * shape.numel()

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        if self.dim is not None and not -len(shape) <= self.dim < len(shape):
            raise ValueError(
                f"{self} expects a tensor with a dimension {self.dim}, got shape {tuple(shape)}; name one that it has."
            )

    def _raw(self, value: Tensor) -> tuple[Tensor, Tensor]:
        g = maps.slice_norms(value, self.dim)
        # Zeros have no direction. Any other one gives the same value and, unlike zeros, a gradient to the size.
        return g, torch.where(g == 0, 1, value)


def _sizes(v: Tensor, dim: int | None) -> tuple[int, ...]:
    return () if dim is None else tuple(size if i == dim % v.ndim else 1 for i, size in enumerate(v.shape))
