"""Dtypes, devices, and numbers at the end of their range."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from .. import maps
from .law import InapplicableError, law, require
from .subject import Layer, Subject, distance, relative_error, tolerance, value_at

_HALVES = (torch.float16, torch.bfloat16)


@law
def single_precision(subject: Subject) -> None:
    """In single precision the value is in the set, comes back, and gradients have the dtype of the raw tensors."""
    dtype = subject.single()
    layer = subject.layer(subject.random(dtype))
    value = layer.weight
    outside, allowed = subject.outside(layer.step, value), tolerance(dtype)
    require(value.dtype == dtype, f"the value of raw tensors of {dtype} has {value.dtype}")
    require(outside <= allowed, f"in {dtype} the value is {outside:.3g} outside the set; {allowed:.3g} is allowed")
    torch.autograd.backward(value.abs().sum())
    for raw in layer.raws:
        require(raw.grad is None or raw.grad.dtype == raw.dtype, "a gradient has another dtype than its raw tensor")
    _require_return(subject, layer, allowed)


def _require_return(subject: Subject, layer: Layer, allowed: float) -> None:
    """A point of the set, in the dtype of the layer, is assigned and read again."""
    if subject.invertible:
        dtype = layer.weight.dtype
        point = subject.point(dtype, layer.step)
        layer.weight = point
        error = relative_error(layer.weight, point)
        require(error <= allowed, f"in {dtype} a point of the set comes back with an error of {error:.3g}")


@law
def half_precision(subject: Subject) -> None:
    """In float16 and bfloat16 values are in the set, as in float32, and come back, to the resolution of the dtype."""
    if subject.dtype.is_complex:
        raise InapplicableError("it is complex")
    for dtype in _HALVES:
        layer = _registered(subject, subject.random(dtype), f"a tensor of {dtype}")
        value = layer.weight
        require(value.dtype == dtype, f"the value of raw tensors of {dtype} has {value.dtype}")
        allowed = 4 * torch.finfo(dtype).eps  # the value is rounded, and what it is computed from was
        outside = subject.outside(layer.step, value) if value.numel() else 0.0
        require(outside <= allowed, f"in {dtype} the value is {outside:.3g} outside the set; {allowed:.3g} is allowed")
        torch.autograd.backward(value.sum())
        for raw in layer.raws:
            require(raw.grad is None or bool(torch.isfinite(raw.grad).all()), f"in {dtype} a gradient is not finite")
        allowed = 8 * torch.finfo(dtype).eps  # a product of two such values doubles what rounding does
        wide = copy.deepcopy(layer.step).float()
        expected = value_at(wide, [raw.detach().float() for raw in layer.raws]).to(dtype)
        error = relative_error(value, expected)
        require(error <= allowed, f"in {dtype} the value is {error:.3g} off that in float32; {allowed:.3g} is allowed")
        _require_return(subject, layer, allowed)


@law
def autocast(subject: Subject) -> None:
    """Under autocast the value is the one without."""
    layer = subject.stirred(subject.layer(subject.random(subject.single())))
    with torch.autocast(subject.device.type, dtype=torch.bfloat16):
        inside = layer.weight
    error = float(distance(inside, layer.weight))
    require(inside.dtype == layer.weight.dtype, f"under autocast {layer.weight.dtype} becomes {inside.dtype}")
    require(error == 0, f"under autocast the value moves by {error:.3g}")


@law
def device_and_dtype_follow(subject: Subject) -> None:
    """A layer that is moved computes there: in single precision, on meta, on an accelerator where there is one."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        here = subject.stirred(subject.layer(subject.random(subject.single())))
        there = copy.deepcopy(here).to(accelerator).weight
        error, allowed = relative_error(there.to(subject.device), here.weight), tolerance(here.weight.dtype)
        require(there.device.type == accelerator.type, f"a layer on {accelerator} has a value on {there.device}")
        require(error <= allowed, f"the value on {accelerator} differs by {error:.3g}; {allowed:.3g} is allowed")
    layer = subject.layer()
    if not subject.dtype.is_complex:  # nn.Module warns that it is new at moving complex tensors to other dtypes
        value = copy.deepcopy(layer).float().weight
        require(value.dtype == torch.float32, f"a layer that was moved to torch.float32 has a value of {value.dtype}")
    value = layer.to("meta").weight
    require(value.is_meta, f"a layer that was moved to the meta device has a value on {value.device}")


@law
def repeats(subject: Subject) -> None:
    """From ones and from the identity on, whose singular values are equal, values and gradients are finite."""
    ones = torch.ones(subject.shape, dtype=subject.single(), device=subject.device)
    tensors = {"ones": ones, "the identity": ones.tril() * ones.triu()} if ones.ndim >= 2 else {"ones": ones}
    for name, tensor in tensors.items():
        layer = _registered(subject, tensor, name)
        _require_finite(layer.weight, f"the value of {name}")
        for gradient in torch.autograd.grad(layer.weight.abs().square().sum(), layer.raws, allow_unused=True):
            if gradient is not None:
                _require_finite(gradient, f"a gradient at {name}")


@law
def extremes(subject: Subject) -> None:
    """From zeros and from numbers of 1e30 on, values and gradients are finite."""
    dtype = subject.single()
    for size in (0.0, 1e30):
        layer = _registered(subject, size * subject.random(dtype), f"a tensor of size {size:g}")
        value = layer.weight
        _require_finite(value, f"the value of a tensor of size {size:g}")
        loss = value.abs().square().sum() if size == 0 else (value + 0j).real.sum() + (value + 0j).imag.sum()
        for gradient in torch.autograd.grad(loss, layer.raws, allow_unused=True):
            if gradient is not None:
                _require_finite(gradient, f"a gradient at a tensor of size {size:g}")


def _registered(subject: Subject, value: Tensor, what: str) -> Layer:
    try:
        return subject.layer(value)
    except Exception as error:  # the engine refuses a value that is not finite, torch an operator without the dtype
        raise AssertionError(f"{what} cannot be registered: {type(error).__name__}: {error}") from error


def _require_finite(x: Tensor, what: str) -> None:
    require(bool(torch.isfinite(x).all()) or not maps.has_entries(x), f"{what} has an entry that is nan or inf")
