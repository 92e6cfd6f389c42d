"""What the sets of numbers share: bounds that are numbers or tensors."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import maps
from .base import Constraint
from .shapes import require_real


class Bounded(Constraint):
    """What the sets of numbers share: each entry is a point of its own, and bounds are numbers or tensors.

    A tensor is kept as a buffer. It takes the dtype and the device of the first value, and then follows the module; on
    the meta device it has no numbers, so that its values have to be loaded.
    """

    def __init__(self, *, strict: bool, **bounds: Tensor | float) -> None:
        super().__init__(strict=strict)
        for name, bound in bounds.items():
            self._set_bound(name, bound)
        self._lost = False

    def _set_bound(self, name: str, bound: Tensor | float) -> None:
        if isinstance(bound, Tensor):
            _require_finite_reals(type(self).__name__, name, bound)
            with torch.inference_mode(False):  # what is made under inference mode could never train
                number = bound.detach().clone()
                floating = number if number.is_floating_point() else number.to(torch.get_default_dtype())
                self.register_buffer(name, floating)
            return
        if isinstance(bound, bool) or not isinstance(bound, (int, float)):
            raise TypeError(
                f"{type(self).__name__} expects {name} to be a number or a tensor, got {bound!r}; give one."
            )
        if not math.isfinite(bound):
            raise ValueError(f"{type(self).__name__} expects {name} to be finite, got {bound}; leave it out instead.")
        setattr(self, name, float(bound))

    def project(self, value: Tensor) -> Tensor:
        """``value``, and ``eps`` inside the bound that an entry is not inside of (times the width of an interval)."""
        return self._pulled(value, *self._bounds(value))

    @abstractmethod
    def _pulled(self, value: Tensor, *bounds: Tensor | float) -> Tensor:
        """The map of :meth:`project`."""

    @abstractmethod
    def _bounds(self, like: Tensor) -> tuple[Tensor | float, ...]:
        """The bounds, as numbers or as tensors of the dtype and on the device of ``like``."""

    def _settled(self, value: Tensor) -> Tensor:
        return self.project(value)  # a point of the closure is in the set but for rounding

    def _raw(self, value: Tensor) -> Tensor:
        for name, bound in list(self.named_buffers(recurse=False)):
            setattr(self, name, bound.to(device=value.device, dtype=value.dtype))
        return self._inverse(value, *self._bounds(value))

    @abstractmethod
    def _inverse(self, value: Tensor, *bounds: Tensor | float) -> Tensor:
        """The map of :meth:`_raw`."""

    def _dims(self, value: Tensor) -> tuple[int, ...]:
        return ()

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return shape.numel()

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_real(self, dtype)
        if self._lost:
            raise ValueError(
                f"{self} has lost its bounds on the meta device; load a state dict that has them (of the parametrized "
                f"model), or register a new {type(self).__name__} on a real device."
            )
        for name, bound in self.named_buffers(recurse=False):
            try:
                bound.expand(shape)
            except RuntimeError as error:
                raise ValueError(
                    f"{self} expects a tensor that {name}, of shape {tuple(bound.shape)}, can be broadcast to, got "
                    f"shape {tuple(shape)}; give {name} that shape, or make it a number."
                ) from error

    def _require_kinship(self, value: Tensor) -> None:
        # The first value gives the bounds their dtype and device, unless one of them has no numbers to go there.
        if self.learned or any(bound.is_meta != value.is_meta for bound in self.buffers(recurse=False)):
            super()._require_kinship(value)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Bounded:
        were_meta = [bound.is_meta for bound in self.buffers(recurse=False)]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._lost |= any(were_meta) and not any(bound.is_meta for bound in self.buffers(recurse=False))
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        bounds = list(self.named_buffers(recurse=False))
        # A state that was put back has the very tensors that are here, and teaches nothing.
        if bounds and all(state_dict.get(f"{prefix}{name}", bound) is not bound for name, bound in bounds):
            self._lost = False
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        shapes = {name: f"tensor of shape {tuple(bound.shape)}" for name, bound in self.named_buffers(recurse=False)}
        held = {
            name: getattr(self, name)
            for name in ("lower", "upper", "strict")
            if getattr(self, name, False) is not False
        }
        return ", ".join(f"{name}={shapes.get(name, bound)}" for name, bound in held.items())


def as_like(like: Tensor, bound: Tensor | float) -> Tensor | float:
    """``bound``, and if it is a tensor, of the dtype and on the device of ``like``.

    >>> as_like(torch.zeros(2).double(), torch.ones(2)), as_like(torch.zeros(2), 1.0)
    (tensor([1., 1.], dtype=torch.float64), 1.0)
    """
    return bound.to(device=like.device, dtype=like.dtype) if isinstance(bound, Tensor) else bound


def _require_finite_reals(who: str, name: str, bound: Tensor) -> None:
    if bound.is_complex():
        raise ValueError(f"{who} expects {name} to be real, got {bound.dtype}; give its real part.")
    if maps.has_entries(bound) and not bool(torch.isfinite(bound).all()):
        raise ValueError(f"{who} expects {name} to be finite, got {bound}; leave such entries out instead.")
