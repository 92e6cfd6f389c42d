"""Tensors that are zero where a mask says so."""

from __future__ import annotations

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

    Checkpoints of ``torch.nn.utils.prune`` (``weight_orig``, ``weight_mask``) load.

    Pruning by magnitude: S. Han and others, *Learning both weights and connections for efficient neural networks*,
    2015.

    Args:
        mask: non-zero (or True) where entries are kept; a tensor, or nested sequences of numbers.
        strict: see :class:`Constraint`.

    Attributes:
        mask: a bool buffer, saved with the state. An EMA of models with one mask keeps it, and so does any average that
            leaves the buffers out. ``AveragedModel(use_buffers=True)`` without an EMA refuses buffers of bools.

    Raises:
        ValueError: ``mask`` cannot be broadcast to the shape of the tensor, or is on another device; or the constraint
            was built on the meta device, emptied into memory, and no mask has been loaded since.

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

    @classmethod
    def by_magnitude(cls, weight: Tensor, amount: float, *, strict: bool = False) -> Masked:
        """The mask that leaves out the entries of least magnitude, as ``torch.nn.utils.prune.l1_unstructured`` does.

        Args:
            weight: whose entries are compared. Of equal ones, those that come first are left out first.
            amount: how many are left out: a fraction, a float from 0 to 1, or a number, an int.
            strict: see :class:`Constraint`.

        Raises:
            TypeError: ``amount`` is neither a float nor an int.
            ValueError: it is negative, or more than there is.

        >>> Masked.by_magnitude(torch.tensor([[0.1, -2.0], [3.0, -0.2]]), 0.5).mask
        tensor([[False,  True],
                [ True, False]])
        """
        count = _how_many(amount, weight.numel())
        order = torch.sort(weight.detach().abs().flatten(), stable=True).indices
        mask = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
        mask[order[:count]] = False
        return cls(mask.reshape(weight.shape), strict=strict)

    @classmethod
    def n_of_m(cls, weight: Tensor, n: int, m: int, *, strict: bool = False) -> Masked:
        """The mask that keeps the ``n`` largest magnitudes of every ``m`` in a row along the last dimension.

        2 of 4 is the pattern that sparse tensor cores multiply at twice the rate (A. Mishra and others, *Accelerating
        sparse deep neural networks*, 2021, section 3). Of equal ones, those that come first are kept.

        Args:
            weight: whose entries are compared.
            n: how many are kept.
            m: of how many.
            strict: see :class:`Constraint`.

        Raises:
            TypeError: ``n`` or ``m`` is no int.
            ValueError: not ``0 <= n <= m``, or the last dimension of ``weight`` is no multiple of ``m``.

        >>> Masked.n_of_m(torch.tensor([[0.1, -2.0, 3.0, -0.2, 1.0, 1.0, 1.0, 1.0]]), 2, 4).mask.int()
        tensor([[0, 1, 1, 0, 1, 1, 0, 0]], dtype=torch.int32)
        """
        for name, number in (("n", n), ("m", m)):
            if not isinstance(number, int) or isinstance(number, bool):
                raise TypeError(f"Masked.n_of_m expects {name} to be an int, got {number!r}; 2 of 4 is usual.")
        if not 0 <= n <= m or m < 1:
            raise ValueError(f"Masked.n_of_m expects n of m with 0 <= n <= m, got {n} of {m}; 2 of 4 is usual.")
        if weight.ndim < 1 or weight.shape[-1] % m:
            raise ValueError(
                f"Masked.n_of_m expects a weight whose last dimension is a multiple of {m}, got shape "
                f"{tuple(weight.shape)}; choose another m."
            )
        groups = weight.detach().abs().reshape(*weight.shape[:-1], weight.shape[-1] // m, m)
        order = torch.sort(groups, dim=-1, descending=True, stable=True).indices
        mask = torch.zeros_like(groups, dtype=torch.bool).scatter(-1, order[..., :n], True)
        return cls(mask.reshape(weight.shape), strict=strict)

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

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Masked:
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


def _how_many(amount: float, total: int) -> int:
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        raise TypeError(f"Masked.by_magnitude expects a fraction or a number of entries, got {amount!r}; give one.")
    most = total if isinstance(amount, int) else 1
    if not 0 <= amount <= most:
        raise ValueError(
            f"Masked.by_magnitude expects an amount from 0 to {most}, got {amount}; a fraction is a float, a number of "
            f"entries an int."
        )
    return amount if isinstance(amount, int) else round(amount * total)
