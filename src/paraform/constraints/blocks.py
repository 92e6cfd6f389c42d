"""Tensors packed of equal pieces."""

import torch
from torch import Tensor

from .base import Constraint
from .view import View


class Blocks(View):
    """Tensors cut into equal pieces along a dimension, each in the set of another constraint.

    Shape: ``(n * s, *)`` to the same, or with ``n * s`` at ``dim``; ``constraint`` sees the ``n`` pieces as a batch,
    ``(n, s, *)``. So the gates of an LSTM (``weight_hh_l0``, of shape ``(4 h, h)``: four) and
    of a GRU (three), and the queries, keys and values of an attention (``in_proj_weight``, ``(3 e, e)``).

    Freedom: that of ``constraint`` for each piece, and so are samples and projection; the residual is the norm of those
    of the pieces. Raw tensor: one of the pieces' shape is kept packed, so that it stays the same ``Parameter``;
    others are as ``constraint`` has them.

    Args:
        constraint: what each piece is to satisfy; with ``strict=True`` or not.
        n: how many pieces there are.
        dim: along which dimension they lie, negative ones counted from the end.

    Attributes:
        constraint: the same.

    Raises:
        TypeError: ``constraint`` is no :class:`Constraint`, or ``n`` or ``dim`` is no int.
        ValueError: ``n`` is below 1; or the tensor has no dimension ``dim``, or that is no multiple of ``n``; or
            ``constraint`` refuses the pieces, or takes them for parts of one point, as :class:`Flatten` would.

    >>> from torch import nn
    >>> from paraform.constraints import Orthogonal
    >>> from paraform.parametrize import register_parametrization
    >>> lstm = register_parametrization(nn.LSTM(3, 5), "weight_hh_l0", Blocks(Orthogonal(), 4))
    >>> input_gate, forget_gate, cell, output_gate = lstm.weight_hh_l0.chunk(4)
    >>> torch.dist(forget_gate @ forget_gate.T, torch.eye(5)) < 1e-5
    tensor(True)
    """

    stacks = True

    def __init__(self, constraint: Constraint, n: int, dim: int = 0) -> None:
        super().__init__(constraint)
        for name, number in (("n", n), ("dim", dim)):
            if not isinstance(number, int) or isinstance(number, bool):
                raise TypeError(f"Blocks expects {name} to be an int, got {number!r}; an LSTM has 4 blocks along 0.")
        if n < 1:
            raise ValueError(f"Blocks expects at least one block, got {n}; an LSTM has 4, a GRU or q, k and v have 3.")
        self.n = n
        self.dim = dim

    def hold_stack(self) -> None:
        """Count the stack's dimension, where dimensions are counted from the front."""
        super().hold_stack()
        self.dim += self.dim >= 0

    def _seen(self, value: Tensor) -> Tensor:
        dim = self.dim % value.ndim
        pieces = (*value.shape[:dim], self.n, value.shape[dim] // self.n, *value.shape[dim + 1 :])
        return value.reshape(pieces).movedim(dim, self._front)

    def _back(self, seen: Tensor, shape: torch.Size) -> Tensor:
        dim = self.dim % len(shape)
        return seen.movedim(self._front, dim).flatten(dim, dim + 1)

    def _room(self, ndim: int) -> int:
        return ndim - 1  # a point lies within one piece

    def _require_view(self, shape: torch.Size) -> None:
        if not -len(shape) <= self.dim < len(shape) or shape[self.dim] % self.n:
            raise ValueError(
                f"{self} expects a tensor whose dimension {self.dim} is cut into {self.n} equal blocks, got shape "
                f"{tuple(shape)}; say how many blocks it has, and along which dimension."
            )

    def _arguments(self) -> str:
        return f", {self.n}" + (f", dim={self.dim}" if self.dim else "")
