"""What can be said of a parametrized tensor in numbers: whether it is in its set, and how it is conditioned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from .. import maps
from ..constraints import Constraint
from ..constraints.view import View
from ..parametrize.named import named_chains
from ..parametrize.reads import look
from ..parametrize.switching import originals_of
from ..parametrize.tensors import numbers_of
from .randomness import kept_randomness


@dataclass(frozen=True)
class Measurement:
    """A parametrized tensor in numbers. What cannot be known is None."""

    name: str
    """The full name of the tensor, as in the plain model's state dict."""
    shape: tuple[int, ...]
    dtype: torch.dtype
    chain: tuple[str, ...]
    """The parametrizations in their order, as they print; a step that is switched off says so."""
    dof: int | None
    """The true dimension of the set; None where several steps are switched on, or one that does not know it."""
    trained: int
    """How many real numbers are behind it: those of the raw tensors, and what the parametrizations train of their own.
    Whether a gradient is asked for does not count."""
    raw_norm: float | None
    """The Frobenius norm of the raw tensors together."""
    residual: float | None
    """How far the value is from the set of the last parametrization, of all its matrices the farthest."""
    is_inside: bool | None
    """Whether that is no more than rounding."""
    condition: float | None
    """The largest singular value divided by the smallest, of all matrices the largest, inf where one is singular but
    for rounding; None for vectors and numbers."""
    is_finite: bool
    """False if an entry of the value is nan or inf; then residual and condition are nan. Where there are no numbers to
    look at (the meta device) nothing speaks against it, and what follows from numbers is None."""

    def to_dict(self) -> dict[str, Any]:
        """All of it as strict JSON data: what is not finite is null, as what is not known.

        >>> from paraform import UnitNorm, register_parametrization
        >>> layer = register_parametrization(torch.nn.Linear(2, 1), "bias", UnitNorm())
        >>> measured = measure(layer.parametrizations.bias, "bias").to_dict()
        >>> measured["name"], measured["shape"], measured["dtype"], measured["dof"], measured["is_inside"]
        ('bias', [1], 'float32', 0, True)
        """
        return {key: as_json(value) for key, value in asdict(self).items()}


def measurements(model: Module) -> Iterator[Measurement]:
    """The measurement of each parametrized tensor of ``model``; a tie is measured once, under its first name.

    Computes each value once, without a graph and without carrying estimates on. Nothing is changed.

    >>> from torch import nn
    >>> from paraform import Skew, register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Skew())
    >>> [(m.name, m.chain, m.dof, m.trained, m.residual) for m in measurements(layer)]
    [('weight', ('Skew()',), 3, 9, 0.0)]
    """
    for named in named_chains(model):
        yield measure(named.chain, named.name)


@torch.no_grad()
def measure(chain: Any, name: str = "") -> Measurement:
    """The measurement of one chain, of ours or of torch's engine, which is on the tensor ``name``.

    Nothing is changed: buffers and attributes of parametrizations are as before, and so is the random number generator,
    though one of them may draw from it. It takes an evaluation of the chain and a singular value decomposition.

    Raises:
        Exception: whatever its parametrizations raise.
    """
    raws = originals_of(chain)
    with kept_randomness(raw.device for raw in raws):
        value = look(chain).detach()
        last, several = last_constraint(chain), sum(1 for _ in steps_on(chain)) > 1
        numbers = numbers_of(value)
        is_finite = numbers is None or bool(torch.isfinite(numbers).all())
        residual = is_inside = cond = None
        if numbers is not None:
            if last is not None:
                residual = _largest(last.residual(value)) if is_finite else math.nan
                is_inside = is_finite and bool(last.contains(value).all())
            cond = condition(matrices_of(chain, value), is_finite)
        return Measurement(
            name=name,
            shape=tuple(value.shape),
            dtype=value.dtype,
            chain=steps_of(chain),
            dof=None if last is None or several else _dof(last, value),
            trained=sum(reals(tensor) for tensor in behind(chain)),
            raw_norm=_norm(raws),
            residual=residual,
            is_inside=is_inside,
            condition=cond,
            is_finite=is_finite,
        )


def behind(chain: Any) -> list[Tensor]:
    """The tensors that :attr:`Measurement.trained` counts: originals, and what the parametrizations train besides."""
    return list({id(tensor): tensor for tensor in (*originals_of(chain), *chain.parameters())}.values())


def steps_on(chain: Any) -> Iterator[Module]:
    """The steps that are switched on; torch's engine has no others."""
    return (step for _, step in chain._on()) if hasattr(chain, "_on") else iter(chain)


def last_constraint(chain: Any) -> Constraint | None:
    """The constraint whose set the value is to lie in: the last step that is switched on, if it is a constraint."""
    *_, last = (None, *steps_on(chain))
    return last if isinstance(last, Constraint) else None


def steps_of(chain: Any) -> tuple[str, ...]:
    """The steps of a chain as they print, each in one line."""
    off = getattr(chain, "_off", ())
    return tuple(step_text(step) + (" (switched off)" if key in off else "") for key, step in chain._modules.items())


def step_text(step: Module) -> str:
    """A parametrization as it prints, in one line."""
    return type(step).__name__ if "\n" in repr(step) else repr(step)


def matrices_of(chain: Any, value: Tensor) -> Tensor | None:
    """The value as the matrices that its constraint is about, shape ``(*, m, n)``; None for vectors and numbers.

    More than two dimensions are a batch of matrices only where a constraint on matrices says so: nobody knows how
    another parametrization sees the kernel of a convolution.
    """
    last = inner = last_constraint(chain)
    seen = value if last is None else last.seen(value)
    while isinstance(inner, View):
        inner = inner.constraint
    is_matrices = seen.ndim == 2 or (seen.ndim > 2 and inner is not None and len(inner._dims(seen)) == 2)
    return wide(seen) if is_matrices and 0 not in seen.shape else None


def condition(matrices: Tensor | None, is_finite: bool = True) -> float | None:
    """The largest of the condition numbers of ``matrices``, in the 2-norm; nan where they are not finite.

    Beyond 1 / eps of the precision the smallest singular value is rounding, and the number inf: of low rank, say.
    """
    if matrices is None:
        return None
    if not is_finite:
        return math.nan
    singular = torch.linalg.svdvals(matrices)
    number = singular[..., 0] / singular[..., -1]
    return _largest(torch.where(number * torch.finfo(number.dtype).eps < 1, number, math.inf))


def wide(tensor: Tensor) -> Tensor:
    """``tensor`` in a precision that linear algebra can work in."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return tensor.double()
    return tensor.float() if tensor.itemsize == 1 else tensor.to(maps.working_dtype(tensor.dtype))


def reals(tensor: Tensor) -> int:
    """How many real numbers a tensor stores."""
    return tensor.numel() * (2 if tensor.is_complex() else 1)


def as_json(value: Any) -> Any:
    """``value`` as strict JSON data, which has no nan and no inf: these become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, dict):
        return {str(key): as_json(each) for key, each in value.items()}
    return [as_json(each) for each in value] if isinstance(value, list | tuple) else value


def _dof(constraint: Constraint, value: Tensor) -> int | None:
    try:
        return constraint.dof(value.shape, dtype=value.dtype)
    except RuntimeError:
        if value.is_meta:  # where the set depends on numbers, those of a mask say, there are none to ask
            return None
        raise


def _norm(raws: Iterable[Tensor]) -> float | None:
    if not all(maps.has_entries(raw) and raw.layout == torch.strided and not raw.is_nested for raw in raws):
        return None
    return math.hypot(*(float(maps.size(wide(raw.detach()).reshape(-1), (-1,))) for raw in raws))


def _largest(numbers: Tensor) -> float:
    # nan, as where a zero matrix is divided by zero, is no number to compare with: an infinite condition
    return float(torch.nan_to_num(numbers, nan=math.inf, posinf=math.inf).max()) if numbers.numel() else 0.0
