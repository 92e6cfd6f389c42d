"""torch's transforms and compilers see the same function."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from .law import InapplicableError, law, require
from .subject import Layer, Subject, distance, relative_error, tolerance, value_at


def _require_equal(got: Tensor, expected: Tensor, what: str) -> None:
    error, allowed = relative_error(got, expected), tolerance(expected.dtype)
    require(error <= allowed, f"{what} differs by {error:.3g}, relative to its size; {allowed:.3g} is allowed")


def _moved(subject: Subject) -> Layer:
    return subject.stirred(subject.layer())


@law
def batch(subject: Subject) -> None:
    """A batch is its tensors one by one, for the value and for what is known of the set."""
    values = subject.random(shape=(2, *subject.shape))
    step = subject.step()
    for name in ("project", "residual"):
        if hasattr(step, name):
            own = getattr(step, name)
            _require_equal(
                own(values.clone()), torch.stack([own(value.clone()) for value in values]), f"{name} of a batch"
            )
    if hasattr(step, "dof"):
        one, two = (step.dof(shape, dtype=subject.dtype) for shape in (subject.shape, tuple(values.shape)))
        require(two == 2 * one, f"dof says {one} for a tensor and {two} for a batch of two")
    if hasattr(step, "sample") and not (hasattr(step, "dof") and one == 0):
        drawn = step.sample(tuple(values.shape), dtype=subject.dtype, device=subject.device)
        require(not torch.equal(drawn[0], drawn[1]), "a sample of a batch has the same tensor twice")
    together = subject.layer(values, copy.deepcopy(step))  # copies, for a new one may start from other random numbers
    for value, got in zip(values, together.weight, strict=True):
        _require_equal(got, subject.layer(value, copy.deepcopy(step)).weight, "a tensor of a batch")


@law
def vmap(subject: Subject) -> None:
    """``torch.vmap`` over raw tensors is a loop over them."""
    layer = _moved(subject)
    step, raws = layer.step, [raw.detach() for raw in layer.raws]
    mapped = torch.vmap(lambda *raws: value_at(step, raws))(*(torch.stack([raw, 0.5 * raw]) for raw in raws))
    for factor, got in zip((1, 0.5), mapped, strict=True):
        _require_equal(got, value_at(step, [factor * raw for raw in raws]), "the value under vmap")


@law
def functional_call(subject: Subject) -> None:
    """``torch.func.functional_call`` with other raw tensors is a layer that has them, with their gradients."""
    layer = _moved(subject)
    x = torch.ones((), dtype=subject.dtype, device=subject.device)
    layer(x)  # what a step keeps from a read must not be what it gives for other raw tensors
    raws = {name: (0.5 * raw.detach()).requires_grad_() for name, raw in layer.named_parameters()}
    got = torch.func.functional_call(layer, raws, (x,))
    with torch.no_grad():
        for name, raw in layer.named_parameters():
            raw.copy_(raws[name])
    other = layer(x)
    _require_equal(got, other, "the output of functional_call")
    for one, same in zip(
        _gradients(got, list(raws.values())), _gradients(other, list(layer.parameters())), strict=True
    ):
        _require_equal(one, same, "a gradient through functional_call")


@law
def compile(subject: Subject) -> None:
    """``torch.compile(fullgraph=True)`` gives the same value and gradients."""
    layer = _moved(subject)
    # Each parametrization is compiled for itself; torch counts them as one function, and would refuse after a few.
    with torch._dynamo.config.patch(recompile_limit=1000):
        compiled = torch.compile(layer.step, fullgraph=True, backend="aot_eager")
        got = compiled(*layer.raws)  # type: ignore[no-untyped-call]
        expected = value_at(layer.step, layer.raws)
        _require_equal(got, expected, "the compiled value")
        pairs = zip(_gradients(got, layer.raws), _gradients(expected, layer.raws), strict=True)
        for one, same in pairs:
            _require_equal(one, same, "a gradient of the compiled value")


@law
def export(subject: Subject) -> None:
    """``torch.export`` of a layer gives the same output."""
    layer = _moved(subject)
    x = torch.ones((), dtype=subject.dtype, device=subject.device)
    exported = torch.export.export(layer, (x,)).module()
    _require_equal(exported(x), layer(x), "the output of the exported layer")


@law
def cached(subject: Subject) -> None:
    """Within ``cached()`` values and gradients are those without, after a step too."""
    layer = _moved(subject)
    for _ in range(2):
        plain = layer.weight
        expected = _gradients(plain, layer.raws)
        with subject.engine.cached():
            first, second = layer.weight, layer.weight
            got = _gradients((first + second) / 2, layer.raws)
        require(float(distance(first, plain)) == 0 == float(distance(second, plain)), "a cached value is another one")
        for one, same in zip(got, expected, strict=True):
            _require_equal(one, same, "a gradient through a cached value")
        subject.stirred(layer)
    if not layer.raws:
        raise InapplicableError("it has no raw tensors")


def _gradients(value: Tensor, raws: tuple[Tensor, ...] | list[Tensor]) -> list[Tensor]:
    weights = torch.linspace(1, 2, value.numel(), dtype=value.abs().dtype, device=value.device).reshape(value.shape)
    loss = (weights * torch.view_as_real(value).sum(-1) if value.is_complex() else weights * value).sum()
    gradients = torch.autograd.grad(loss, raws, allow_unused=True)
    return [torch.zeros_like(raw) if got is None else got for raw, got in zip(raws, gradients, strict=True)]
