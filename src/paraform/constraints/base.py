"""What every constraint is: a set of tensors, a map onto it, and an inverse that takes care of what is handed in."""

import inspect
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import maps
from .rounding import tolerance


class ProjectionWarning(UserWarning):
    """An assigned value was outside the set of a constraint and was moved to it."""


class ConstraintError(ValueError):
    """An assigned value was outside the set of a constraint that is strict."""


class Constraint(nn.Module, ABC):
    """A parametrization that knows its set.

    A subclass gives ``forward``, :meth:`project`, :meth:`residual`, :meth:`_draw` and :meth:`_dof`, and where the raw
    tensor of a value is not the value itself also :meth:`_raw`. Constraints are built without sizes. The first
    call of :meth:`right_inverse` (registration does it) learns the shape.

    Args:
        strict: refuse an assigned value that is outside the set, instead of moving it there with a warning.

    Attributes:
        distance: how far the last value handed to :meth:`right_inverse` had to move to be in the set (Frobenius norm,
            0-d, without gradient), or None before the first. Rounding in the map is not counted.
        fixed_size: whether a generic point of the set is no longer in it when multiplied by a number near 1, as a unit
            vector is: a trained factor in front of the set then adds a dimension. (:class:`Scaled` asks for it.)
        decays: whether weight decay of the raw tensor is one of the value, as where the map is linear; a tuple where
            there are several raw tensors. :func:`paraform.param_groups` asks for it.
        stacks: whether ``forward`` changes nothing, and maps a stack of raw tensors, in a new first dimension and with
            stacks in place of the buffers too, to the stack of the values: then ``cached(model)`` evaluates equals as
            one batch. It is not inherited, for it is a promise about one ``forward``: a class says so itself.

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> from paraform.constraints import Symmetric
    >>> layer = register_parametrization(nn.Linear(2, 2), "weight", Symmetric(strict=True))
    >>> layer.weight = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    Traceback (most recent call last):
    paraform.constraints.base.ConstraintError: Symmetric(strict=True) expects a value in its set, got one at ...
    """

    forward: Callable[..., Tensor]
    """The value that the raw tensor(s) stand for: a point of the set."""
    distance: Tensor | None
    old_names: ClassVar[Mapping[str, str | None]] = {}
    """How a checkpoint of an older implementation names what is here: its suffix to the tensor's own name (``_g``, for
    ``weight_g``) to ``original0`` or the name of a buffer; None for what is not read."""
    decays: bool | tuple[bool, ...] = False
    fixed_size: bool = False
    stacks: bool = False
    _clearance: float = 0.0
    """How far inside of an open set, relative to the size, its points are represented well (:class:`Scaled` asks)."""

    def __init__(self, *, strict: bool = False) -> None:
        super().__init__()
        self.strict = strict
        self.distance = None
        self._shape: torch.Size | None = None

    @property
    def learned(self) -> bool:
        """Whether a :meth:`right_inverse` has taken the shape of a tensor: one instance serves one tensor."""
        return self._shape is not None

    @abstractmethod
    def project(self, value: Tensor) -> Tensor:
        """The nearest point of the set in Frobenius norm, for each matrix on its own."""

    @abstractmethod
    def residual(self, value: Tensor) -> Tensor:
        """How far outside the set each matrix of ``value`` is, 0 inside: shape ``(*, m, n)`` to ``(*)``."""

    @abstractmethod
    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        """A random point; ``options`` are a generator, a dtype and a device. The result may have a wider dtype."""

    @abstractmethod
    def _dof(self, shape: torch.Size, reals: int) -> int:
        """The dimension over the reals for a shape that suits; an entry is ``reals`` real numbers, 1 or 2."""

    def sample(
        self,
        shape: Sequence[int],
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """A random point of the set, from the law that the class names; of the default dtype, if None is given.

        Raises:
            ValueError: the shape or the dtype does not suit the set.
            TypeError: ``shape`` is not a sequence.
        """
        size, dtype = self._suiting(shape, dtype)
        return self._draw(size, generator=generator, dtype=dtype, device=device).to(dtype)

    def dof(self, shape: Sequence[int], *, dtype: torch.dtype | None = None) -> int:
        """The dimension over the reals of the set of tensors of this shape and dtype (the default dtype, if None).

        Raises:
            ValueError: the shape or the dtype does not suit the set.
            TypeError: ``shape`` is not a sequence.
        """
        size, dtype = self._suiting(shape, dtype)
        return self._dof(size, reals=2 if dtype.is_complex else 1)

    def right_inverse(self, value: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The raw tensor(s) of ``value``.

        The first call, which registration makes, moves a value that is outside the set to :meth:`project` of it. A
        later one, which assignment makes, does so with a :class:`ProjectionWarning`. Matrices of a batch that are in
        the set stay what they are. Values on the meta device and fake tensors are not looked at.

        Raises:
            ConstraintError: a later value is outside the set and the constraint is strict.
            ValueError: the shape or the dtype does not suit the set, a later shape is not the first one, a later dtype
                or device is not that of what was learned, or the value or its raw tensor is not finite. Nothing is
                changed then.
        """
        with torch.inference_mode(False):  # what is learned under inference mode could never train
            admitted, distance = self._admit(value.detach().clone())
            raw = self._raw(admitted)
            self._require_finite_raw(raw)
            distance = self._counted(value.detach(), raw, distance)
        self._shape, self.distance = value.shape, distance
        return raw

    def contains(self, value: Tensor) -> Tensor:
        """Whether each matrix of ``value`` is in the set, but for rounding: shape ``(*, m, n)`` to ``(*)``, bool.

        Raises:
            ValueError: the shape or the dtype does not suit the set.
        """
        self._require_numbers(value.dtype)
        self._check(value.shape, value.dtype)
        return self._contains(value)

    def seen(self, value: Tensor) -> Tensor:
        """``value`` in the shape whose last two dimensions the set is about: a kernel as one matrix, under Flatten."""
        return value

    @property
    def has_base(self) -> bool:
        """Whether the map has a base, which ``rebase`` moves to the value of the raw tensors that it is given."""
        return False

    def foreign_value(self, state: Mapping[str, Tensor]) -> Tensor | None:
        """The value that a state dict of another implementation stands for; None where it is one of this class.

        Args:
            state: the raw tensors (``original`` or ``original0``, ...) and the buffers that a state dict has.

        Raises:
            ValueError: it is foreign and does not say what its value is.
        """
        return None

    def stack_key(self) -> object:
        """What two constraints share that one call can evaluate; None where this one is evaluated alone.

        One of them is called then, for all, with stacks (in a new first dimension) of their raw tensors, and of their
        buffers in place of its own, after :meth:`hold_stack`. Equal keys are to say that this gives the stack of their
        values. Shapes, dtypes, devices and modes of what is stacked are compared besides.
        """
        if not vars(type(self)).get("stacks", False):
            return None
        named = [(name, setting) for name, setting in vars(self).items() if name not in _NO_SETTINGS]
        if not _COMPARED.issuperset([type(setting) for _, setting in named]):
            return None
        children: list[Any] = list(self._modules.values())
        keys = [child.stack_key() if hasattr(child, "stack_key") else None for child in children]
        return None if any(key is None for key in keys) else [type(self), *named, *keys]

    def hold_stack(self) -> None:
        """Be one for stacks: the buffers have become stacks. (It is a copy that is told so.)"""

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        """Raise a ValueError where tensors of this shape and dtype have no such set."""

    def _raw(self, value: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The raw tensor(s) of a value that is in the set."""
        return value

    def _counted(self, value: Tensor, raw: Tensor | tuple[Tensor, ...], distance: Tensor | None) -> Tensor | None:
        """``distance``, and what the map from ``raw`` takes of ``value`` where that is more than rounding."""
        return distance

    def _dims(self, value: Tensor) -> tuple[int, ...]:
        """The dimensions that one point of the set spans: the last two, or for a set of vectors the last one, or none
        for a set of numbers. :meth:`residual` and :meth:`_contains` have one entry for each index of the others."""
        return maps.matrix_dims(value)

    def _contains(self, value: Tensor) -> Tensor:
        """Whether each matrix of ``value`` is in the set, but for rounding: shape ``(*, m, n)`` to ``(*)``, bool."""
        return self.residual(value) <= tolerance(value, self._dims(value))

    def _settled(self, value: Tensor) -> Tensor:
        """The point of the set that is taken for a value that is in it but for rounding."""
        return value

    def _admit(self, value: Tensor) -> tuple[Tensor, Tensor | None]:
        """``value``, moved to the set where it is outside, and how far it moved."""
        self._require_numbers(value.dtype)
        self._require_first_shape(value.shape)
        self._check(value.shape, value.dtype)
        self._require_kinship(value)
        if not maps.has_entries(value):
            return value, None
        if not maps.is_finite(value):
            raise ValueError(f"{self} expects finite entries, got some that are nan or inf; nothing was changed.")
        inside, moved = self._contains(value), self._settled(value)
        all_inside = bool(inside.all())
        if not all_inside:
            moved = torch.where(maps.spread(inside, value, self._dims(value)), moved, self.project(value))
        distance = distance_between(moved, value)
        if self.learned and not all_inside and bool(distance > 0):  # what is raised by less than a digit has not moved
            self._report(distance)
        return moved, distance

    def _suiting(self, shape: Sequence[int], dtype: torch.dtype | None) -> tuple[torch.Size, torch.dtype]:
        if not isinstance(shape, Sequence):
            raise TypeError(f"{self} expects a shape such as (3, 3), got {shape!r}; give all sizes in a tuple.")
        size, dtype = torch.Size(shape), torch.get_default_dtype() if dtype is None else dtype
        self._require_numbers(dtype)
        self._check(size, dtype)
        return size, dtype

    def _require_numbers(self, dtype: torch.dtype) -> None:
        if not (dtype.is_floating_point or dtype.is_complex):
            raise ValueError(f"{self} expects floating-point or complex numbers, got {dtype}; choose such a dtype.")

    def _require_first_shape(self, shape: torch.Size) -> None:
        if self._shape not in (None, shape):
            raise ValueError(
                f"{self} was registered on a tensor of shape {tuple(self._shape or ())}, got one of shape "
                f"{tuple(shape)}; give it a value of that shape, or use a new {type(self).__name__} elsewhere."
            )

    def _require_kinship(self, value: Tensor) -> None:
        """Refuse a value that could not be combined with what the constraint holds."""
        for name, buffer in self.named_buffers(recurse=False):
            dtype = value.dtype if buffer.dtype == torch.bool else buffer.dtype
            if (value.dtype, value.device) != (dtype, buffer.device):
                raise ValueError(
                    f"{self} expects a tensor of {dtype} on {buffer.device}, where its {name} is, got {value.dtype} on "
                    f"{value.device}; convert the tensor, or move the constraint with .to(...)."
                )

    def _require_finite_raw(self, raw: Tensor | tuple[Tensor, ...]) -> None:
        for tensor in raw if isinstance(raw, tuple) else (raw,):
            if maps.has_entries(tensor) and not maps.is_finite(tensor):
                raise ValueError(
                    f"{self} expects a value whose raw tensor has finite entries in {tensor.dtype}, got one too large "
                    f"or too small for that; scale it, or use a wider dtype."
                )

    def _report(self, distance: Tensor) -> None:
        text = f"{self} expects a value in its set, got one at Frobenius distance {float(distance):.3g} from it"
        if self.strict:
            raise ConstraintError(f"{text}; assign constraint.project(value), or build it without strict=True.")
        warnings.warn(
            f"{text}; its projection is taken. Assign constraint.project(value) to say that this is meant, "
            f"or build the constraint with strict=True to refuse such values.",
            ProjectionWarning,
            stacklevel=_depth_of_user(),
        )

    def extra_repr(self) -> str:
        """The constructor's arguments that differ from their defaults, as far as attributes tell them."""
        arguments = inspect.signature(type(self)).parameters.values()
        given = ((argument, getattr(self, argument.name)) for argument in arguments if hasattr(self, argument.name))
        return ", ".join(f"{argument.name}={value!r}" for argument, value in given if value != argument.default)


# What a module has, and what a constraint notes of an assignment: no part of the map.
_NO_SETTINGS = frozenset([*vars(nn.Module()), "strict", "distance", "_checked", "_moves"])
# Settings that say what they are when they are compared.
_COMPARED = frozenset([bool, int, float, str, tuple, list, torch.Size, type(None)])


def distance_between(moved: Tensor, value: Tensor) -> Tensor:
    """The Frobenius norm of the difference, in the working precision: 0-d."""
    wide = maps.working_dtype(value.dtype)
    return maps.frobenius((moved.to(wide) - value.to(wide)).reshape(-1, 1))


# Frames of the library and of torch lie between an assignment and the warning that it causes.
_INTERNAL = (
    str(Path(torch.__file__).parent) + os.sep,
    str(Path(__file__).resolve().parents[1]) + os.sep,
)


def _depth_of_user() -> int:
    """The ``stacklevel`` at which the caller of this function warns the first frame outside the library and torch."""
    frame: Any = inspect.currentframe()
    depth = 0
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INTERNAL):
        frame = frame.f_back
        depth += 1
    return depth
