"""The sets that torch.distributions names, through the maps that it has for them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, transforms
from torch.distributions.constraint_registry import transform_to

from .. import maps
from .base import Constraint
from .shapes import require_real
from .torch_joined import Concatenated, Independent, Stacked
from .torch_sets import (
    CorrelationCholesky,
    LowerCholesky,
    Numbers,
    ProbabilityVectors,
    Semidefinite,
    TorchSet,
    at_entries,
)


class from_distribution(Constraint):  # noqa: N801 (it is called as a function would be, like torch.no_grad)
    r"""Tensors in a set that ``torch.distributions.constraints`` names, :math:`x = t(r)` with torch's own map ``t``.

    The support of a distribution is given so (``Beta(a, b).support``), and the set in which a parameter of one lies
    (``Normal.arg_constraints["scale"]``). Whatever ``torch.distributions.transform_to`` has a map to works.

    Shape: what suits ``constraint``, whose events are the last dimensions; the others are a batch. Raw tensor: what
    ``t`` maps from, of the value's shape but for ``corr_cholesky``. Samples: ``t`` of independent standard normal
    numbers. Freedom and map: all entries for ``real`` (the identity), for numbers above or below a bound (``exp``) and
    for intervals (a sigmoid, clipped at ``eps``); ``n - 1`` a vector for ``simplex`` (softmax); ``n (n + 1) / 2`` a
    matrix for ``lower_cholesky`` (``exp`` of the diagonal), ``positive_definite`` and ``positive_semidefinite``
    (``L L^T`` with such an ``L``); ``n (n - 1) / 2`` for ``corr_cholesky`` (:func:`paraform.maps.unit_rows`); that of
    the parts for ``independent``, ``cat`` and ``stack``; and for what a library registers with ``transform_to`` the
    rank of the derivative of ``t`` at a random point.

    torch's maps reach an edge by rounding only, be it open or closed: ``exp`` under- and overflows (beyond -104 and 88
    in float32), and where the sigmoid is clipped it is flat. So a value on the edge counts as in the set, a singular
    matrix too. Like one outside it is moved inside, by ``eps`` for numbers (times the width of an interval) and for
    diagonals, ``eps / n`` for probabilities and ``8 eps`` of the trace for eigenvalues, with ``eps`` of the working
    precision. But for that, :meth:`project` gives the nearest point in Frobenius norm; for what a library registered,
    ``t`` of the inverse.

    Where a set has a class of its own, as :class:`Positive`, :class:`Interval`, :class:`Simplex` and
    :class:`PositiveDefinite`, that has a map with a gentler slope. This one is for code that speaks torch's.

    Args:
        constraint: one of ``torch.distributions.constraints``, or the support of a distribution.
        strict: see :class:`Constraint`.

    Attributes:
        constraint: the same. Tensors in it follow the weight from device to device, and are no part of the state.

    Raises:
        TypeError: ``constraint`` is not one, or one that still asks for its arguments.
        ValueError: it depends on the parameters of a distribution, torch has no transform to it (as for integers), its
            bounds are not finite or not in order; or the tensor is complex, or its shape does not suit.

    The scale of a variational posterior, as the distribution itself asks for it:

    >>> from torch import nn
    >>> from torch.distributions import Normal
    >>> from paraform.parametrize import register_parametrization
    >>> posterior = nn.ParameterDict({"loc": torch.zeros(2), "scale": torch.tensor([0.5, 2.0])})
    >>> set_of_scales = from_distribution(Normal.arg_constraints["scale"])
    >>> posterior = register_parametrization(posterior, "scale", set_of_scales)
    >>> set_of_scales, posterior.scale
    (from_distribution(GreaterThan(lower_bound=0.0)), tensor([0.5000, 2.0000], grad_fn=...))
    >>> Normal(posterior.loc, posterior.scale).rsample().shape  # trains both
    torch.Size([2])
    """

    def __init__(self, constraint: constraints.Constraint, *, strict: bool = False) -> None:
        _require(constraint)
        super().__init__(strict=strict)
        self.constraint = constraint
        self._stand_on(None)
        self.fixed_size = self._set.fixed_size
        self.decays = isinstance(self._transform, transforms.ComposeTransform) and not self._transform.parts

    def _stand_on(self, device: torch.device | None) -> None:
        """Have all that is computed with on ``device``."""
        here = self.constraint if device is None else _moved(self.constraint, device)
        self._device = device
        self._set, self._transform = _set(here), _transform(here)

    def _follow(self, device: torch.device) -> None:
        if self._device != device:
            self._stand_on(device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> from_distribution:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._follow(fn(torch.empty(0)).device)
        return self

    def forward(self, raw: Tensor) -> Tensor:
        return _mapped(raw, self._transform)

    def project(self, value: Tensor) -> Tensor:
        """The nearest point, moved off the edge (see the class)."""
        self._require_fit(value)
        return self._set.project(value)

    def residual(self, value: Tensor) -> Tensor:
        """The distance to the set and its edge, for each point."""
        self._require_fit(value)
        return self._set.distance(value)

    def _require_fit(self, value: Tensor) -> None:
        self._check(value.shape, value.dtype)
        self._follow(value.device)

    def _dims(self, value: Tensor) -> tuple[int, ...]:
        return self._set.dims(value.ndim)

    def _contains(self, value: Tensor) -> Tensor:
        self._follow(value.device)
        at_each, dims = self._set.contains(value), self._dims(value)
        return at_each.all(dims) if dims else at_each  # over no dimensions would be over all of them

    def _settled(self, value: Tensor) -> Tensor:
        return self._set.inside(value)

    def _raw(self, value: Tensor) -> Tensor:
        self._follow(value.device)
        if not maps.has_entries(value):
            return value.new_zeros(self._raw_shape(value.shape))
        return _inverse(value, self._set, self._transform)

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        normal = maps.standard_normal(self._raw_shape(shape), **options)
        self._follow(normal.device)
        return _mapped(normal, self._transform)

    def _raw_shape(self, shape: torch.Size) -> torch.Size:
        return torch.Size(self._transform.inverse_shape(shape))  # type: ignore[no-untyped-call]

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return self._set.dof(shape)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_real(self, dtype)
        self._set.check(self, shape)

    def extra_repr(self) -> str:
        return f"{self.constraint}, strict=True" if self.strict else f"{self.constraint}"


@maps.precise
def _mapped(raw: Tensor, transform: transforms.Transform) -> Tensor:
    value: Tensor = transform(raw)
    return value


@maps.precise
def _inverse(value: Tensor, where: TorchSet, transform: transforms.Transform) -> Tensor:
    # Once more off the edge: a narrower dtype may have rounded the value back onto it.
    return _finite_inverse(where.inside(value), transform)


def _finite_inverse(value: Tensor, transform: transforms.Transform) -> Tensor:
    # Of what is not known, a value on the edge may have an infinite inverse. An exponential is eps from the edge here.
    far = -math.log(torch.finfo(value.dtype).eps)
    raw: Tensor = transform.inv(value)
    return torch.nan_to_num(raw, 0.0, far, -far)


class _UnitRows(transforms.CorrCholeskyTransform):
    """torch's function, accurate where its own is not: near to the edge."""

    def _call(self, x: Tensor) -> Tensor:
        return maps.unit_rows(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return maps.unit_rows_raw(y)


def _transform(constraint: Any) -> transforms.Transform:
    if isinstance(constraint, constraints.independent):
        return transforms.IndependentTransform(
            _transform(constraint.base_constraint), constraint.reinterpreted_batch_ndims
        )
    return _UnitRows() if type(constraint) is type(constraints.corr_cholesky) else transform_to(constraint)


class _Registered(TorchSet):
    """A set that nothing is known of but what torch can be asked."""

    def __init__(self, constraint: constraints.Constraint) -> None:
        self.constraint = constraint
        self.transform = transform_to(constraint)
        self.span = constraint.event_dim

    def closest(self, x: Tensor) -> Tensor:
        other = self.transform(_finite_inverse(x, self.transform))
        accepted = self.constraint.check(x)  # type: ignore[no-untyped-call]
        return torch.where(at_entries(accepted, x, self.dims(x.ndim)), x, other)

    def inside(self, x: Tensor) -> Tensor:
        return x

    def dof(self, shape: torch.Size) -> int:
        raw = torch.randn(self.transform.inverse_shape(shape), dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(self.transform, raw)  # type: ignore[no-untyped-call]
        return int(torch.linalg.matrix_rank(jacobian.reshape(shape.numel(), raw.numel())))


_SETS: dict[type, Callable[[Any], TorchSet]] = {
    type(constraints.real): lambda _: Numbers(),
    constraints.greater_than: lambda given: Numbers(lower=_finite(given.lower_bound)),
    constraints.greater_than_eq: lambda given: Numbers(lower=_finite(given.lower_bound)),
    constraints.less_than: lambda given: Numbers(upper=_finite(given.upper_bound)),
    constraints.interval: lambda given: Numbers(_finite(given.lower_bound), _finite(given.upper_bound)),
    constraints.half_open_interval: lambda given: Numbers(_finite(given.lower_bound), _finite(given.upper_bound)),
    type(constraints.simplex): lambda _: ProbabilityVectors(),
    type(constraints.lower_cholesky): lambda _: LowerCholesky(),
    type(constraints.corr_cholesky): lambda _: CorrelationCholesky(),
    type(constraints.positive_definite): lambda _: Semidefinite(),
    type(constraints.positive_semidefinite): lambda _: Semidefinite(),
    constraints.independent: lambda given: Independent(_set(given.base_constraint), given.reinterpreted_batch_ndims),
    constraints.cat: lambda given: Concatenated([_set(each) for each in given.cseq], given.dim, given.lengths),
    constraints.stack: lambda given: Stacked([_set(each) for each in given.cseq], given.dim),
}


def _set(constraint: constraints.Constraint) -> TorchSet:
    return _SETS.get(type(constraint), _Registered)(constraint)


def _finite(bound: Any) -> Any:
    numbers = torch.as_tensor(bound)
    if maps.has_entries(numbers) and not bool(torch.isfinite(numbers).all()):
        raise ValueError(f"from_distribution expects finite bounds, got {bound}; use a constraint that has none there.")
    return bound


def _moved(given: Any, device: torch.device) -> Any:
    """``given`` with every tensor in it on ``device``."""
    if isinstance(given, Tensor):
        return given.to(device)
    if isinstance(given, list):
        return [_moved(each, device) for each in given]
    if isinstance(given, constraints.Constraint):
        twin = copy.copy(given)
        vars(twin).update({name: _moved(held, device) for name, held in vars(given).items()})
        return twin
    return given


def _require(constraint: object) -> None:
    """Raise, in words, unless torch has a transform to ``constraint``."""
    if isinstance(constraint, type) and issubclass(constraint, constraints.Constraint):
        name = constraint.__name__.lstrip("_")
        raise TypeError(
            f"from_distribution expects a constraint, got the class {name}; give its arguments, {name}(...)."
        )
    if isinstance(constraint, Distribution):
        raise TypeError(
            f"from_distribution expects a constraint, got a distribution, {type(constraint).__name__}; give its "
            f"support, or what arg_constraints has for one of its parameters."
        )
    if not isinstance(constraint, constraints.Constraint):
        raise TypeError(
            f"from_distribution expects one of torch.distributions.constraints, got {constraint!r}; give "
            f"constraints.positive, say."
        )
    if constraints.is_dependent(constraint):  # type: ignore[no-untyped-call]
        raise ValueError(
            "from_distribution expects a constraint that is known in full, got one that depends on the parameters of a "
            "distribution; take it from an instance: Uniform(0.0, 2.0).support."
        )
    try:
        transform_to(constraint)
    except NotImplementedError as error:
        raise ValueError(
            f"from_distribution expects a constraint that torch can transform to, got {constraint}: {error}. A map "
            f"onto it has to be written by hand, as a Function, or registered with transform_to."
        ) from error
