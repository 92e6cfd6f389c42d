"""What the laws are held against: a parametrization, a shape, and layers that carry it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .. import maps
from ..parametrize.errors import says_there_is_no_inverse
from ..parametrize.function import as_parametrization

# What a user sees as equal, and a stable computation of a small tensor keeps.
_CLOSE = {torch.float64: 1e-10, torch.complex128: 1e-10, torch.float32: 1e-5, torch.complex64: 1e-5}
_SINGLE = {torch.float64: torch.float32, torch.complex128: torch.complex64}


class Layer(nn.Module):
    """The smallest module with a parametrized tensor; its output is the tensor times a number."""

    weight: Any

    def __init__(self, value: Tensor, step: nn.Module, engine: Any) -> None:
        super().__init__()
        # A tensor that is held elsewhere too may belong to another module, and the engine would go and look.
        self.weight = value if isinstance(value, nn.Parameter) else nn.Parameter(value.clone())
        engine.register_parametrization(self, "weight", step)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.weight * x
        return output

    @property
    def chain(self) -> Any:
        """The list of parametrizations, which has one."""
        return self.parametrizations["weight"]  # type: ignore[index]

    @property
    def step(self) -> Any:
        """The parametrization."""
        return self.chain[0]

    @property
    def raws(self) -> tuple[Tensor, ...]:
        """The raw tensors, as they are trained."""
        return tuple(self.chain.parameters(recurse=False))


class Subject:
    """A parametrization to be tested at one shape and dtype.

    Args:
        make: gives a new parametrization at each call.
        shape: of the tensor that it is registered on.
        dtype: of that tensor.
        device: of that tensor.
        draw: gives the tensor, as ``torch.randn`` does.
        engine: registers it, and has a ``cached()``.
    """

    def __init__(
        self,
        make: Callable[[], object],
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device,
        draw: Callable[..., Tensor],
        *,
        engine: Any,
    ) -> None:
        self.make, self.shape, self.dtype, self.device = make, shape, dtype, device
        self.draw, self.engine = draw, engine

    def __str__(self) -> str:
        return f"{self.step()} on shape {self.shape}, {str(self.dtype).removeprefix('torch.')}"

    def step(self, dtype: torch.dtype | None = None) -> Any:
        """A new parametrization; its own numbers have the dtype and the device of the tensor, as in a layer."""
        real = (dtype or self.dtype).to_real()
        wide = torch.complex128 if real == torch.float64 else torch.complex64
        fitted = as_parametrization(self.make())._apply(  # type: ignore[no-untyped-call]
            lambda x: x.to(self.device, wide if x.is_complex() else real if x.is_floating_point() else x.dtype)
        )
        return fitted

    @functools.cached_property
    def invertible(self) -> bool:
        """Whether it has an inverse. To raise ``NotImplementedError`` is to have none, as for the engine."""
        with torch.random.fork_rng():
            step = self.step()
            if not hasattr(step, "right_inverse"):
                return False
            try:
                step.right_inverse(self.random())
            except NotImplementedError as error:
                return not says_there_is_no_inverse(error)
            except Exception:
                return True  # the laws find what is wrong with it
        return True

    def random(self, dtype: torch.dtype | None = None, shape: tuple[int, ...] | None = None) -> Tensor:
        """A tensor to start from, which is in the set by chance only."""
        drawn: Tensor = self.draw(shape or self.shape, dtype=dtype or self.dtype, device=self.device)
        return drawn

    def layer(self, value: Tensor | None = None, step: Any = None) -> Layer:
        """A layer in evaluation mode with ``step``, or a new parametrization, on ``value`` or on a random tensor."""
        value = self.random() if value is None else value
        return Layer(value, self.step(value.dtype) if step is None else step, self.engine).eval()

    def point(self, dtype: torch.dtype | None = None, step: Any = None) -> Tensor:
        """A point of the set: a sample where there is a law, else the value at some raw tensors.

        Where the set is known from registration on only (a frozen weight is part of it), that of ``step``.
        """
        dtype = dtype or self.dtype
        step = self.step(dtype) if step is None else step
        if hasattr(step, "sample"):
            point: Tensor = step.sample(self.shape, dtype=dtype, device=self.device)
        else:
            point = self.stirred(self.layer(self.random(dtype))).weight.detach().clone()
        return point

    def stirred(self, layer: Layer) -> Layer:
        """``layer`` with its raw tensors moved a little, to a generic point of the set."""
        with torch.no_grad():
            for raw in layer.raws:
                raw.mul_(0.9).add_(0.01 * torch.randn_like(raw))
        return layer

    def single(self) -> torch.dtype:
        """The dtype of single precision that goes with :attr:`dtype`."""
        return _SINGLE.get(self.dtype, self.dtype)

    def outside(self, step: Any, value: Tensor) -> float:
        """How far outside the set ``value`` is by the residual and by the projection of ``step``, relative to its size.

        Where it has neither, by the round trip through its inverse; 0 where it has no inverse.
        """
        value = value.detach()
        size = max(1.0, float(maps.size(value.flatten(), (0,)))) if value.numel() else 1.0
        errors = [torch.zeros(())]
        if hasattr(step, "residual"):
            errors.append(step.residual(value).detach().flatten())
        if hasattr(step, "project"):
            errors.append(distance(step.project(value), value))
        elif self.invertible and not hasattr(step, "residual"):
            errors.append(distance(value_at(step, step.right_inverse(value)).detach(), value))
        # The maximum of tensors keeps a nan, which is a fault; that of Python drops it. Below 0 is no distance either.
        worst = torch.stack([error.abs().max().double().cpu() for error in errors if error.numel()]).max()
        return float(worst) / size


def tolerance(dtype: torch.dtype) -> float:
    """The relative error that is allowed in ``dtype``."""
    return _CLOSE[dtype]


def distance(one: Tensor, other: Tensor) -> Tensor:
    """The Euclidean distance of two tensors: 0-d, in their working precision; inf where the shapes differ."""
    if one.shape != other.shape:
        return torch.tensor(torch.inf)
    wide = maps.working_dtype(other.dtype)
    return maps.size((one.detach().to(wide) - other.detach().to(wide)).flatten(), (0,))


def relative_error(one: Tensor, other: Tensor) -> float:
    """:func:`distance`, relative to the size of ``other`` if that is above 1."""
    wide = maps.working_dtype(other.dtype)
    return float(distance(one, other) / maps.size(other.detach().to(wide).flatten(), (0,)).clamp_min(1))


def value_at(step: Any, raws: Tensor | tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    """The value of ``step`` at its raw tensor, or tensors."""
    value: Tensor = step(raws) if isinstance(raws, Tensor) else step(*raws)
    return value
