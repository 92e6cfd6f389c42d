"""Cheaper ways to the value and the gradient of a map, for the numbers or the shapes that have one.

PyTorch differentiates a map operation by operation, without knowing that the result is orthogonal. Where that spares
products, a first derivative is written by hand. Derivatives of higher order, forward-mode derivatives, transforms and
compiled code go the map's own way, by plain operations.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .eager import gradients_with_graph, is_plain
from .products import plus_product
from .triangles import minus_adjoint

Move = Callable[[Tensor, Tensor], Tensor]
"""A map of a base and a raw tensor of the same shape."""


Gone = tuple[Tensor, Callable[..., Tensor], tuple[Tensor, ...]]
"""The value, a function that gives the gradient by the raw tensor, and tensors that it needs (it holds none itself). It
takes the gradient by the value, the base, the value, and those tensors."""
Way = Callable[[Tensor, Tensor, bool], Gone | None]
"""A way around a map, from a base, a raw tensor, and whether a gradient may be asked for; None if it cannot be gone."""


def shortcuts(*ways: Way) -> Callable[[Move], Move]:
    """Go the first of these ways that can be gone; otherwise, and for further derivatives, the decorated map itself.

    >>> def doubled(base, raw, differentiable):
    ...     return 2 * raw, lambda gradient, base, value: 2 * gradient, ()
    >>> @shortcuts(doubled)
    ... def twice(base, raw):
    ...     return raw + raw
    >>> raw = torch.ones(1, requires_grad=True)
    >>> torch.autograd.grad(twice(torch.ones(1), raw), raw)
    (tensor([2.]),)
    """

    def decorate(move: Move) -> Move:
        @functools.wraps(move)
        def run(base: Tensor, raw: Tensor) -> Tensor:
            if is_plain(base) and is_plain(raw) and not base.requires_grad and raw.shape == base.shape:
                differentiable = torch.is_grad_enabled() and raw.requires_grad
                for way in ways:
                    with torch.no_grad():
                        gone = way(base, raw, differentiable)
                    if gone is not None:
                        return _graphed(base, raw, move, gone) if differentiable else gone[0]
            return move(base, raw)

        return run

    return decorate


def _graphed(base: Tensor, raw: Tensor, move: Move, gone: Gone) -> Tensor:
    value: Tensor = _Shortcut.apply(raw, base, move, gone)  # type: ignore[no-untyped-call]
    return value


class _Shortcut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, raw: Tensor, base: Tensor, move: Move, gone: Gone) -> Tensor:
        value, gradient, kept = gone
        # The numbers of now: an optimizer may step before a backward pass, which needs those of this forward pass.
        rests = gradient is _tangent_gradient
        numbers = raw.new_zeros(()).expand_as(raw) if rests else raw.detach().clone()
        ctx.save_for_backward(numbers, base, value, *kept)
        ctx.raw, ctx.version, ctx.move, ctx.gradient = raw, raw._version, move, gradient
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, None]:
        numbers, base, *kept = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return ctx.gradient(gradient, base, *kept), None, None, None
        # Somebody differentiates the derivative.
        if not ctx.raw.is_leaf and ctx.raw._version != ctx.version:
            raise RuntimeError(
                "A higher derivative is asked for of a tensor that was written to after it went through a map of "
                "paraform; write to a copy of it instead."
            )
        (by_raw,) = gradients_with_graph(lambda x: ctx.move(base, numbers + (x - x.detach())), [ctx.raw], gradient)
        return by_raw, None, None, None


def is_square(x: Tensor) -> bool:
    """Whether ``x`` holds square matrices.

    >>> is_square(torch.eye(2)), is_square(torch.eye(2, 1))
    (True, False)
    """
    return x.shape[-2] == x.shape[-1]


def at_rest(base: Tensor, raw: Tensor, _: bool) -> Gone | None:
    """For maps whose value at zero is the base, and whose derivative there is the tangent ``base A``, with ``A = T -
    T^H`` of the lower triangle ``T`` of ``raw``, for square matrices, and ``raw - base raw^H base`` for others: nothing
    is computed, and one product for the gradient."""
    return None if float(torch.linalg.vector_norm(raw)) else (base.clone(), _tangent_gradient, ())


def _tangent_gradient(gradient: Tensor, base: Tensor, _: Tensor) -> Tensor:
    inner = base.mH @ gradient
    return minus_adjoint(inner).tril_() if is_square(base) else plus_product(gradient, base, inner.mH, alpha=-1)
