"""Numbers above a bound, below one, or between two, entry by entry."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import maps
from .bounded import Bounded, as_like


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
        drawn = maps.standard_exponential(shape, **options)
        return drawn + self._bounds(drawn)[0]

    def _bounds(self, like: Tensor) -> tuple[Tensor | float, ...]:
        return (as_like(like, self.lower),)


class Positive(GreaterThan):
    r"""Positive numbers, :math:`x > 0`: each entry is :math:`x = \log(1 + e^r)` (softplus) of its raw number ``r``.

    Shape: any to the same. Freedom: all entries. Raw tensor: all entries are read. The map is
    ``torch.nn.functional.softplus``, without its threshold. Samples: independent exponential numbers of mean 1.

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
        drawn = maps.standard_exponential(shape, **options)
        return self._bounds(drawn)[0] - drawn

    def _bounds(self, like: Tensor) -> tuple[Tensor | float, ...]:
        return (as_like(like, self.upper),)


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
        return as_like(like, self.lower), as_like(like, self.upper)


@maps.measured
def _excess(value: Tensor, bound: Tensor | float) -> Tensor:
    return (value - bound).clamp_min(0)
