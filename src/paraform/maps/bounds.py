"""Numbers above a bound, or between two.

The derivative of each map is proportional to the distance to the bound that the value is near to, which is the best
that a smooth map onto all numbers inside can do but for a logarithm. A value on the bound or beyond is taken to be
``eps`` inside (``eps`` times the width of an interval), with ``eps`` of the working precision: as near as the raw
number stays moderate, about ``log(eps)``, and can still train.
"""

import torch
from torch import Tensor

from .positive import inverse_softplus, softplus
from .precision import precise
from .triangles import diagonal_mask

Bound = Tensor | float


@precise
def above(raw: Tensor, lower: Bound) -> Tensor:
    """``lower + softplus(raw)``, never below ``lower``: rounding is monotone, and ``lower`` is a number itself.

    >>> above(torch.tensor([-200.0, 0.0, 5.0]), 1.0)
    tensor([1.0000, 1.6931, 6.0067])
    """
    return lower + softplus(raw)


@precise
def with_positive_diagonal(x: Tensor) -> Tensor:
    """``x`` with the softplus of (the real part of) its diagonal in the place of that.

    >>> with_positive_diagonal(torch.tensor([[0.0, 2.0], [3.0, -200.0]]))
    tensor([[0.6931, 2.0000],
            [3.0000, 0.0000]])
    """
    return torch.where(diagonal_mask(x), softplus(torch.real(x)).to(x.dtype), x)


@precise
def above_raw(value: Tensor, lower: Bound) -> Tensor:
    """The ``raw`` with ``above(raw, lower) == value``; ``lower + eps`` is taken for one not above ``lower``.

    >>> above(above_raw(torch.tensor([-3.0, 1.0, 1.5]), 1.0), 1.0)
    tensor([1.0000, 1.0000, 1.5000])
    """
    return inverse_softplus(torch.where(value <= lower, torch.finfo(value.dtype).eps, value - lower))


@precise
def raised_above(value: Tensor, lower: Bound) -> Tensor:
    """``lower + eps`` where ``value`` is not above ``lower``.

    >>> raised_above(torch.tensor([-3.0, 1.5]), 0.0)
    tensor([1.1921e-07, 1.5000e+00])
    """
    return torch.where(value <= lower, lower + torch.finfo(value.dtype).eps, value)


@precise
def between(raw: Tensor, lower: Bound, upper: Bound) -> Tensor:
    """``lower + (upper - lower) sigmoid(raw)``, written from the bound that is nearer, so that neither is passed.

    >>> between(torch.tensor([-200.0, 0.0, 200.0]), 0.1, 0.7)
    tensor([0.1000, 0.4000, 0.7000])
    """
    width = upper - lower
    return torch.where(raw < 0, lower + width * torch.sigmoid(raw), upper - width * torch.sigmoid(-raw))


@precise
def between_raw(value: Tensor, lower: Bound, upper: Bound) -> Tensor:
    """The ``raw`` with ``between(raw, lower, upper) == value``, after :func:`pulled_between`.

    >>> between(between_raw(torch.tensor([0.25, 0.5, 9.0]), 0.0, 1.0), 0.0, 1.0)
    tensor([0.2500, 0.5000, 1.0000])
    """
    margin = torch.finfo(value.dtype).eps * (upper - lower)
    low = torch.where(value <= lower, margin, value - lower)
    high = torch.where(value >= upper, margin, upper - value)
    return torch.log(low) - torch.log(high)


@precise
def pulled_between(value: Tensor, lower: Bound, upper: Bound) -> Tensor:
    """``value``, and where it is not between the bounds the number at ``eps`` times their distance from the nearer one.

    >>> pulled_between(torch.tensor([-3.0, 0.5]), 0.0, 1.0)
    tensor([1.1921e-07, 5.0000e-01])
    """
    margin = torch.finfo(value.dtype).eps * (upper - lower)
    return torch.where(value <= lower, lower + margin, torch.where(value >= upper, upper - margin, value))


@precise
def strictly_between(value: Tensor, lower: Bound, upper: Bound) -> Tensor:
    """As :func:`pulled_between`, for bounds that may be infinite (then ``eps`` itself), and always off the bound.

    Where ``eps`` of the width is lost beside the bound, it is the next number.

    >>> strictly_between(torch.tensor([-3.0, 1e6, 2e6]), 1e6, torch.inf)
    tensor([1000000.0625, 1000000.0625, 2000000.0000])
    """
    low, high = (torch.as_tensor(bound, dtype=value.dtype, device=value.device) for bound in (lower, upper))
    width = high - low
    margin = torch.finfo(value.dtype).eps * torch.where(torch.isfinite(width), width, 1)
    least = torch.maximum(torch.nextafter(low, high), low + margin)
    most = torch.minimum(torch.nextafter(high, low), high - margin)
    return torch.where(value <= low, least, torch.where(value >= high, most, value))
