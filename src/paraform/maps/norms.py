"""Euclidean norms and directions that neither overflow nor divide by zero."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .eager import gradients_with_graph, is_plain
from .precision import measured, precise


def matrix_dims(x: Tensor) -> tuple[int, ...]:
    """The dimensions of one matrix in a batch of them, or of one vector.

    >>> matrix_dims(torch.zeros(5, 3, 2)), matrix_dims(torch.zeros(3))
    ((-2, -1), (-1,))
    """
    return tuple(range(-min(2, x.ndim), 0))


def largest(x: Tensor, dim: Sequence[int]) -> Tensor:
    """The largest magnitude over ``dim``, kept as size 1, without gradient; 0 where there is none.

    >>> largest(torch.tensor([[3.0, -4.0]]), (-1,)), largest(torch.zeros(1, 0), (-1,))
    (tensor([[4.]]), tensor([[0.]]))
    """
    magnitude = x.detach().abs()
    # The largest of no numbers is undefined; their sum is 0, which is what is meant here.
    return magnitude.amax(tuple(dim), keepdim=True) if x.numel() else magnitude.sum(tuple(dim), keepdim=True)


@measured
def norm(x: Tensor, dim: Sequence[int]) -> Tensor:
    """Euclidean norm over ``dim``, finite wherever the true norm is; ``dim`` is kept as size 1.

    >>> x = torch.full((1, 4), 1e30)
    >>> norm(x, (-1,)), torch.linalg.vector_norm(x)
    (tensor([[2.0000e+30]]), tensor(inf))
    """
    peak = largest(x, dim)
    scale = torch.where((peak > 0) & (peak < torch.inf), peak, 1)
    length: Tensor = scale * torch.linalg.vector_norm(x / scale, dim=tuple(dim), keepdim=True)
    return length


@measured
def size(x: Tensor, dim: Sequence[int]) -> Tensor:
    """Euclidean norm over ``dim``, without it: one number for each vector or matrix, the magnitude where none is named.

    >>> x = torch.tensor([[3.0, -4.0], [0.0, 1.0]])
    >>> size(x, (-1,)), size(x, ())
    (tensor([5., 1.]), tensor([[3., 4.],
            [0., 1.]]))
    """
    # A reduction over no dimensions would be one over all of them.
    return norm(x, dim).squeeze(tuple(dim)) if dim else x.abs()


def spread(each: Tensor, like: Tensor, dim: Sequence[int]) -> Tensor:
    """One number for each vector or matrix, as :func:`size` gives it, in a shape that broadcasts to ``like``.

    >>> x = torch.ones(2, 3)
    >>> spread(size(x, (0,)), x, (0,)).shape, spread(size(x, (-1,)), x, (-1,)).shape
    (torch.Size([1, 3]), torch.Size([2, 1]))
    """
    for each_dim in sorted(each_dim % like.ndim for each_dim in dim):
        each = each.unsqueeze(each_dim)
    return each


@measured
def frobenius(x: Tensor) -> Tensor:
    """Frobenius norm of each matrix of a batch (or of a vector): shape ``(*, m, n)`` to ``(*)``.

    >>> frobenius(torch.ones(2, 3, 3))
    tensor([3., 3.])
    """
    return size(x, matrix_dims(x))


@precise
def unit(x: Tensor, dim: Sequence[int]) -> Tensor:
    """``x / |x|`` over ``dim``; zero stays zero, with finite derivatives of every order.

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), (-1,))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    direction = ordinary_unit(x, dim)
    return _unit(x, dim) if direction is None else direction


def ordinary_unit(x: Tensor, dim: Sequence[int]) -> Tensor | None:
    """:func:`unit` at less than half the cost, where no norm is near zero or infinity; None elsewhere.

    >>> ordinary_unit(torch.tensor([[3.0, 4.0]]), (-1,)), ordinary_unit(torch.zeros(1, 2), (-1,))
    (tensor([[0.6000, 0.8000]]), None)
    """
    direction: object = _Unit.apply(x, tuple(dim)) if is_plain(x) else None  # type: ignore[no-untyped-call]
    return direction if isinstance(direction, Tensor) else None


def is_ordinary(norms: Tensor) -> bool:
    """Whether norms are so far from zero and from infinity that no care is needed with them.

    >>> is_ordinary(torch.tensor([1.0, 2.0])), is_ordinary(torch.tensor([1.0, 0.0])), is_ordinary(torch.tensor([1e30]))
    (True, False, False)
    """
    if not norms.numel():
        return False
    limits = torch.finfo(norms.dtype)
    low, high = torch.stack(norms.aminmax()).tolist()
    return bool(limits.tiny**0.5 < low and high < limits.max**0.5)


class _Unit(torch.autograd.Function):
    """``x / |x|`` where every norm is ordinary: one pass forward, and the tangent part of the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: tuple[int, ...]) -> Tensor | None:
        norms: Tensor = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
        if not is_ordinary(norms):
            return None
        direction = x / norms
        ctx.save_for_backward(x, direction, norms)
        ctx.dim = dim
        return direction

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None]:
        x, direction, norms = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody differentiates the derivative
            return gradients_with_graph(lambda x: _unit(x, ctx.dim), [x], gradient)[0], None
        along = (direction.conj() * gradient).real.sum(ctx.dim, keepdim=True)
        return torch.addcmul(gradient, direction, along.to(direction.dtype), value=-1).div_(norms), None


def _unit(x: Tensor, dim: Sequence[int]) -> Tensor:
    peak = largest(x, dim)
    zero = peak == 0
    # The direction does not depend on the scale, so a scale without gradient changes no derivative.
    y = x / torch.where(zero, 1, peak)
    # The norm has no derivative at zero: a zero vector is divided by a constant instead.
    direction: Tensor = y / torch.linalg.vector_norm(torch.where(zero, 1, y), dim=tuple(dim), keepdim=True)
    return direction
