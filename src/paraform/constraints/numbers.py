"""Numbers above a bound, below one, or between two, entry by entry."""

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


class GreaterThan(Bounded):
    r"""Numbers above a bound, :math:`x > a`: each entry is :math:`x = a + \log(1 + e^r)` of its raw number ``r``.

    Shape: any to the same; ``lower`` broadcasts to it. Freedom: all entries. Raw tensor: all entries are read.
    Samples: ``lower`` plus independent exponential numbers of mean 1.

    The set is open, but rounding reaches its edge: where ``log(1 + e^r)`` is lost beside ``lower`` (below ``eps / 2``
    of it), the value is ``lower`` itself, and never less. The derivative to ``r`` is ``1 - exp(lower - x)``, that is
    ``x - lower`` near to the bound. An assigned entry at ``lower`` or below becomes ``lower + eps``, with ``eps`` of
    the working precision (1.2e-7 in float32, 2.2e-16 in float64; half precision counts as float32), which is the
    nearest point but for that much; to train it has to come out of where its derivative is ``eps``.

    Args:
        lower: the bound; a number, or a tensor that broadcasts to the weight.
        strict: see :class:`Constraint`.

    Attributes:
        lower: the same; a tensor is a buffer, saved with the state.

    Raises:
        TypeError: ``lower`` is neither a number nor a tensor.
        ValueError: it is not finite or not real, or cannot be broadcast to the tensor; or the tensor is complex; or the
            constraint was built on the meta device, emptied into memory, and no bound has been loaded since.

    Degrees of freedom of a Student's t law that has a variance:

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> model = nn.ParameterDict({"df": torch.tensor([1.0, 5.0])})
    >>> model = register_parametrization(model, "df", GreaterThan(2.0))
    >>> model.df, torch.distributions.StudentT(model.df).variance[1]
    (tensor([2., 5.], grad_fn=...), tensor(1.6667, grad_fn=...))
    """

    lower: Tensor | float

    def __init__(self, lower: Tensor | float, *, strict: bool = False) -> None:
        super().__init__(lower=lower, strict=strict)

    def forward(self, raw: Tensor) -> Tensor:
        return maps.above(raw, *self._bounds(raw))

    def residual(self, value: Tensor) -> Tensor:
        """``max(0, lower - x)``, for each entry."""
        return _excess(-value, -self._bounds(value)[0])

    def _pulled(self, value: Tensor, *bounds: Tensor | float) -> Tensor:
        return maps.raised_above(value, *bounds)

    def _inverse(self, value: Tensor, *bounds: Tensor | float) -> Tensor:
        return maps.above_raw(value, *bounds)

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        drawn = maps.exponential(shape, **options)
        return drawn + self._bounds(drawn)[0]

    def _bounds(self, like: Tensor) -> tuple[Tensor | float, ...]:
        return (_as(like, self.lower),)


class Positive(GreaterThan):
    r"""Positive numbers, :math:`x > 0`: each entry is :math:`x = \log(1 + e^r)` (softplus) of its raw number ``r``.

    Shape: any to the same. Freedom: all entries. Raw tensor: all entries are read.
    Samples: independent exponential numbers of mean 1.

    The set is open. The value is above 0 down to the smallest number of the dtype, ``r`` about -103 in float32, -744 in
    float64; below it underflows to 0. The derivative to ``r`` is ``1 - exp(-x)``, that is ``x`` for small ones. An
    assigned entry at 0 or below becomes ``eps`` of the working precision (1.2e-7 in float32, 2.2e-16 in float64; half
    precision counts as float32), the nearest point but for that much.

    Args:
        strict: see :class:`Constraint`.

    Raises:
        ValueError: the tensor is complex.

    A temperature that training cannot turn negative:

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> model = nn.ParameterDict({"temperature": torch.tensor(0.5)})
    >>> model = register_parametrization(model, "temperature", Positive())
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=100.0)
    >>> model.temperature.backward()
    >>> optimizer.step()
    >>> model.temperature > 0
    tensor(True)
    """

    lower: float

    def __init__(self, *, strict: bool = False) -> None:
        super().__init__(0.0, strict=strict)

    def extra_repr(self) -> str:
        return "strict=True" if self.strict else ""


class LessThan(Bounded):
    r"""Numbers below a bound, :math:`x < b`: each entry is :math:`x = b - \log(1 + e^{-r})` of its raw number ``r``.

    Shape: any to the same; ``upper`` broadcasts to it. Freedom: all entries. Raw tensor: all entries are read.
    Samples: ``upper`` less independent exponential numbers of mean 1.

    The mirror image of :class:`GreaterThan`: what it says of its edge and of entries beyond holds here, and a larger
    raw number gives a larger value.

    Args:
        upper: the bound; a number, or a tensor that broadcasts to the weight.
        strict: see :class:`Constraint`.

    Attributes:
        upper: the same; a tensor is a buffer, saved with the state.

    Raises:
        TypeError: ``upper`` is neither a number nor a tensor.
        ValueError: as for :class:`GreaterThan`.

    Log-probabilities:

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Linear(2, 1), "weight", LessThan(0.0))
    >>> layer.weight = torch.tensor([[-0.5, -30.0]])
    >>> layer.weight
    tensor([[ -0.5000, -30.0000]], grad_fn=...)
    """

    upper: Tensor | float

    def __init__(self, upper: Tensor | float, *, strict: bool = False) -> None:
        super().__init__(upper=upper, strict=strict)

    def forward(self, raw: Tensor) -> Tensor:
        return -maps.above(-raw, -self._bounds(raw)[0])

    def residual(self, value: Tensor) -> Tensor:
        """``max(0, x - upper)``, for each entry."""
        return _excess(value, *self._bounds(value))

    def _pulled(self, value: Tensor, *bounds: Tensor | float) -> Tensor:
        return -maps.raised_above(-value, -bounds[0])

    def _inverse(self, value: Tensor, *bounds: Tensor | float) -> Tensor:
        return -maps.above_raw(-value, -bounds[0])

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        drawn = maps.exponential(shape, **options)
        return self._bounds(drawn)[0] - drawn

    def _bounds(self, like: Tensor) -> tuple[Tensor | float, ...]:
        return (_as(like, self.upper),)


class Interval(Bounded):
    r"""Numbers between two bounds, :math:`a < x < b`: each entry is :math:`x = a + (b - a) / (1 + e^{-r})`.

    Shape: any to the same; both bounds broadcast to it. Freedom: all entries. Raw tensor: all entries are read.
    Samples: independent and uniform between the bounds.

    The set is open, but rounding reaches its edges: where what is added to a bound is below ``eps / 2`` of it, the
    value is that bound. It never passes one, for it is computed from the nearer one, and values very near to either
    come back as exactly as they can be written down. The derivative to ``r`` is ``(x - a) (b - x) / (b - a)``. An
    assigned entry on a bound or beyond becomes one at ``eps (b - a)`` inside, with ``eps`` of the working precision
    (1.2e-7 in float32, 2.2e-16 in float64; half precision counts as float32), the nearest point but for that much.

    Args:
        lower: a number, or a tensor that broadcasts to the weight.
        upper: the same; above ``lower`` everywhere.
        strict: see :class:`Constraint`.

    Attributes:
        lower: the same; a tensor is a buffer, saved with the state.
        upper: the same.

    Raises:
        TypeError: a bound is neither a number nor a tensor.
        ValueError: a bound is not finite or not real, or cannot be broadcast to the tensor, or ``lower`` is not below
            ``upper``; or the tensor is complex; or the constraint was built on the meta device, emptied into memory,
            and no bounds have been loaded since.

    A leak rate for each neuron, with a range of its own:

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> model = nn.ParameterDict({"leak": torch.tensor([0.5, 0.5])})
    >>> model = register_parametrization(model, "leak", Interval(0.0, torch.tensor([1.0, 0.1])))
    >>> model.leak
    tensor([0.5000, 0.1000], grad_fn=...)
    """

    lower: Tensor | float
    upper: Tensor | float

    def __init__(self, lower: Tensor | float, upper: Tensor | float, *, strict: bool = False) -> None:
        super().__init__(lower=lower, upper=upper, strict=strict)
        ordered = torch.as_tensor(self.lower < self.upper)
        if maps.has_entries(ordered) and not bool(ordered.all()):
            raise ValueError(f"Interval expects lower below upper everywhere, got {lower} and {upper}; exchange them.")

    def forward(self, raw: Tensor) -> Tensor:
        return maps.between(raw, *self._bounds(raw))

    def residual(self, value: Tensor) -> Tensor:
        """``max(0, lower - x, x - upper)``, for each entry."""
        lower, upper = self._bounds(value)
        return torch.maximum(_excess(-value, -lower), _excess(value, upper))

    def _pulled(self, value: Tensor, *bounds: Tensor | float) -> Tensor:
        return maps.pulled_between(value, *bounds)

    def _inverse(self, value: Tensor, *bounds: Tensor | float) -> Tensor:
        return maps.between_raw(value, *bounds)

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        drawn = maps.uniform(shape, **options)
        lower, upper = self._bounds(drawn)
        return drawn * (upper - lower) + lower

    def _bounds(self, like: Tensor) -> tuple[Tensor | float, ...]:
        return _as(like, self.lower), _as(like, self.upper)


@maps.measured
def _excess(value: Tensor, bound: Tensor | float) -> Tensor:
    return (value - bound).clamp_min(0)


def _as(like: Tensor, bound: Tensor | float) -> Tensor | float:
    return bound.to(device=like.device, dtype=like.dtype) if isinstance(bound, Tensor) else bound


def _require_finite_reals(who: str, name: str, bound: Tensor) -> None:
    if bound.is_complex():
        raise ValueError(f"{who} expects {name} to be real, got {bound.dtype}; give its real part.")
    if maps.has_entries(bound) and not bool(torch.isfinite(bound).all()):
        raise ValueError(f"{who} expects {name} to be finite, got {bound}; leave such entries out instead.")
