"""Constraints on a tensor that is seen in another shape."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .. import maps
from .base import Constraint
from .shapes import require_matrix


def require_constraint(who: str, constraint: object) -> Constraint:
    """``constraint``, or a TypeError that says that ``who`` expects one.

    >>> require_constraint("Flatten", torch.exp)
    Traceback (most recent call last):
    TypeError: Flatten expects a constraint, got <built-in method exp of ...>; write Flatten(Orthogonal()), say.
    """
    if not isinstance(constraint, Constraint):
        raise TypeError(f"{who} expects a constraint, got {constraint!r}; write {who}(Orthogonal()), say.")
    return constraint


class View(Constraint):
    """A constraint on a tensor that is seen in another shape: what :class:`Flatten` and its kin share.

    Set, freedom, samples, projection, residual and strictness are those of ``constraint``. A raw tensor of the shape
    that ``constraint`` sees is given the tensor's own, so that it stays the same ``Parameter``; others are as
    ``constraint`` has them.
    """

    def __init__(self, constraint: Constraint) -> None:
        require_constraint(type(self).__name__, constraint)
        super().__init__(strict=constraint.strict)
        self.constraint = constraint
        self.fixed_size = constraint.fixed_size
        self._clearance = constraint._clearance
        self._front = 0  # how many dimensions of a stack stand in front of the tensor's own
        self._is_seen: tuple[bool, ...] | None = None  # which raw tensors have the tensor's own shape

    @abstractmethod
    def _seen(self, value: Tensor) -> Tensor:
        """``value`` in the shape that ``constraint`` sees."""

    @abstractmethod
    def _back(self, seen: Tensor, shape: torch.Size) -> Tensor:
        """The inverse of :meth:`_seen`, for a value of that shape."""

    @property
    def learned(self) -> bool:
        return self.constraint.learned

    @property
    def decays(self) -> bool | tuple[bool, ...]:  # type: ignore[override]
        """That of ``constraint``."""
        return self.constraint.decays

    @property
    def old_names(self) -> Mapping[str, str | None]:  # type: ignore[override]
        """Those of ``constraint``, whose buffers are one level down here."""
        names = self.constraint.old_names.items()
        return {suffix: name if name is None or _is_raw(name) else _INNER + name for suffix, name in names}

    def hold_stack(self) -> None:
        """See what stands behind the stack's dimension."""
        self._front = 1

    def forward(self, *raws: Tensor) -> Tensor:
        # Behind another parametrization nothing was learned; the tensor there has the value's shape.
        own = raws[0].shape if self._shape is None else raws[0].shape[: self._front] + self._shape
        is_seen = tuple(raw.shape == own for raw in raws) if self._is_seen is None else self._is_seen
        value: Tensor = self.constraint(
            *(self._seen(raw) if seen else raw for raw, seen in zip(raws, is_seen, strict=True))
        )
        return self._back(value, own)

    def right_inverse(self, value: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The raw tensor(s) of ``constraint``; see :meth:`Constraint.right_inverse` for what is refused."""
        self._require_first_shape(value.shape)
        self._check(value.shape, value.dtype)
        seen = self._seen(value)
        raw = self.constraint.right_inverse(seen)
        raws = raw if isinstance(raw, tuple) else (raw,)
        self._is_seen = tuple(tensor.shape == seen.shape for tensor in raws)
        self._shape, self.distance = value.shape, self.constraint.distance
        with torch.inference_mode(False):  # what is copied under inference mode could never train
            own = tuple(self._back(x, value.shape) if y else x for x, y in zip(raws, self._is_seen, strict=True))
        return own if isinstance(raw, tuple) else own[0]

    @property
    def has_base(self) -> bool:
        """Whether ``constraint`` has one."""
        return self.constraint.has_base

    def seen(self, value: Tensor) -> Tensor:
        """What ``constraint`` sees of it, or what that one hands on."""
        return self.constraint.seen(self._seen(value))

    def rebase(self, *raws: Tensor) -> tuple[Tensor, ...]:
        """That of ``constraint``, in the tensor's own shape."""
        is_seen = self._is_seen or (False,) * len(raws)
        seen = [self._seen(raw) if seen else raw for raw, seen in zip(raws, is_seen, strict=True)]
        moved: tuple[Tensor, ...] = self.constraint.rebase(*seen)  # type: ignore[operator]
        shape = raws[0].shape if self._shape is None else self._shape
        return tuple(self._back(raw, shape) if seen else raw for raw, seen in zip(moved, is_seen, strict=True))

    def project(self, value: Tensor) -> Tensor:
        """What ``constraint`` makes of the tensor that it sees."""
        self._require_view(value.shape)
        return self._back(self.constraint.project(self._seen(value)), value.shape)

    def residual(self, value: Tensor) -> Tensor:
        """That of ``constraint``; where it sees several matrices in what is one tensor here, the norm of theirs."""
        self._require_view(value.shape)
        each = self.constraint.residual(self._seen(value))
        left = value.ndim - len(self._dims(value))
        return maps.size(each, range(left - each.ndim, 0))

    def _dims(self, value: Tensor) -> tuple[int, ...]:
        return tuple(range(self._front - value.ndim, 0))

    def _contains(self, value: Tensor) -> Tensor:
        each = self.constraint._contains(self._seen(value))
        left = value.ndim - len(self._dims(value))
        return each.reshape(*each.shape[:left], -1).all(-1)

    def foreign_value(self, state: Mapping[str, Tensor]) -> Tensor | None:
        """What ``constraint`` makes of the state, with raw tensors of this shape as it sees them."""
        shape = self._shape
        inner = {
            name.removeprefix(_INNER): self._seen(tensor) if _is_raw(name) and tensor.shape == shape else tensor
            for name, tensor in state.items()
        }
        value = self.constraint.foreign_value(inner)
        return value if value is None or shape is None else self._back(value, shape)

    def check_layer(self, layer: nn.Module, tensor_name: str) -> None:
        """Ask ``constraint``, which the engine does before it registers."""
        if hasattr(self.constraint, "check_layer"):
            self.constraint.check_layer(layer, tensor_name)  # type: ignore[operator]

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        return self._back(self.constraint._draw(self._seen_shape(shape), **options), shape)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return self.constraint._dof(self._seen_shape(shape), reals)

    def _seen_shape(self, shape: torch.Size) -> torch.Size:
        return self._seen(torch.empty(shape, device="meta")).shape

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        self._require_view(shape)
        seen = self._seen(torch.empty(shape, device="meta"))
        room = self._room(seen.ndim)
        if any(dim % seen.ndim < seen.ndim - room for dim in self.constraint._dims(seen)):
            raise ValueError(
                f"{self} expects each point of {self.constraint} on the last {room} dimensions of what it hands on, "
                f"got points that span others too, of shape {tuple(seen.shape)}; write that one outside, as in "
                f"Flatten({type(self).__name__}(...)), or give it a tensor that suits."
            )
        self.constraint._check(seen.shape, dtype)

    def _room(self, ndim: int) -> int:
        """How many of the last dimensions of what is seen, of ``ndim``, a point of ``constraint`` may span."""
        return ndim

    def _require_view(self, shape: torch.Size) -> None:
        """Raise a ValueError for a shape that cannot be seen in this way."""
        require_matrix(self, shape)

    def _arguments(self) -> str:
        """The constructor's other arguments, as they are written behind the constraint."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.constraint!r}{self._arguments()})"


_INNER = "constraint."


def _is_raw(name: str) -> bool:
    return name.startswith("original")
