"""Tensors that are zero where a mask says so."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import maps
from .base import Constraint


class Masked(Constraint):
    """Tensors that are zero wherever ``mask`` is: pruned weights, weights of a given sparsity.

    Shape: any that ``mask`` broadcasts to. Freedom: one an entry where the mask is not zero. Raw tensor: the entries
    that the mask keeps are read, the rest is ignored. It keeps the values that it had behind the mask: removing the
    parametrization with ``leave_parametrized=False`` gives them back. Samples: standard normal
    entries where the mask is not zero.

    Args:
        mask: non-zero (or True) where entries are kept; a tensor, or nested sequences of numbers.
        strict: see :class:`Constraint`.

    Attributes:
        mask: a bool buffer, saved with the state. An EMA of models with one mask keeps it, and so does any average that
            leaves the buffers out. ``AveragedModel(use_buffers=True)`` without an EMA refuses buffers of bools.

    Raises:
        ValueError: ``mask`` cannot be broadcast to the shape of the tensor, or is on another device; or the constraint
            was built on the meta device, emptied into memory, and no mask has been loaded since.

    Checkpoints of ``torch.nn.utils.prune`` (``weight_orig``, ``weight_mask``) load.

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> layer = nn.Linear(2, 2)
    >>> layer = register_parametrization(layer, "weight", Masked(torch.eye(2)))
    >>> layer.weight.count_nonzero(), layer.parametrizations.weight.original.count_nonzero()
    (tensor(2), tensor(4))
    """

    mask: Tensor
    old_names = {"_orig": "original", "_mask": "mask"}  # noqa: RUF012 (the base says so)
    decays = True

    def __init__(self, mask: Tensor | Sequence[Any], *, strict: bool = False) -> None:
        super().__init__(strict=strict)
        with torch.inference_mode(False):  # what is made under inference mode could never train
            self.register_buffer("mask", torch.as_tensor(mask).detach().clone().bool())
        self._lost = False

    def forward(self, raw: Tensor) -> Tensor:
        # Chosen, not multiplied: 0 times inf behind the mask would be nan.
        return torch.where(self.mask, raw, 0)

    def right_inverse(self, value: Tensor) -> Tensor:
        """``value`` itself, with what is behind the mask; see :meth:`Constraint.right_inverse` for what is refused."""
        super().right_inverse(value)
        return value

    def project(self, value: Tensor) -> Tensor:
        return self.forward(value)

    def residual(self, value: Tensor) -> Tensor:
        """The Frobenius norm of what is behind the mask."""
        return maps.frobenius(torch.where(self.mask, 0, value))

    def _contains(self, value: Tensor) -> Tensor:
        return self.residual(value) == 0  # no arithmetic makes a zero less than exact

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        normal = maps.standard_normal(shape, **options)
        return self.project(normal)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return reals * int(self.mask.expand(shape).count_nonzero())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Masked":
        was_meta = self.mask.is_meta
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._lost |= was_meta and not self.mask.is_meta
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        saved = state_dict.get(f"{prefix}mask")
        if isinstance(saved, Tensor) and saved is not self.mask:
            state_dict[f"{prefix}mask"] = saved.bool()  # prune's is of numbers, which assign=True would take over
            self._lost = False
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        if self._lost:
            raise ValueError(
                f"{self} has lost its mask on the meta device; load a state dict that has one (of the parametrized "
                f"model), or register a new Masked(mask) on a real device."
            )
        self._require_broadcast(shape)

    def _require_broadcast(self, shape: Sequence[int]) -> None:
        try:
            self.mask.expand(tuple(shape))
        except RuntimeError as error:
            raise ValueError(
                f"{self} expects a tensor that its mask of shape {tuple(self.mask.shape)} can be broadcast to, "
                f"got shape {tuple(shape)}; give the mask that shape."
            ) from error

    def extra_repr(self) -> str:
        kept = f"mask={tuple(self.mask.shape)}"
        return f"{kept}, strict=True" if self.strict else kept
