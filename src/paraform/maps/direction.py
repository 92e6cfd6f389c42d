"""Size and direction of the slices of a tensor."""

from typing import Any

import torch
from torch import Tensor

from .eager import gradients_with_graph, is_plain
from .norms import is_ordinary, norm, unit
from .precision import precise


def _others(v: Tensor, dim: int | None) -> tuple[int, ...]:
    """Every dimension but ``dim``; ``v`` has one dimension of size 1 at its end, so that there always is one."""
    return tuple(i for i in range(v.ndim) if dim is None or i != dim % (v.ndim - 1))


@precise
def slice_norms(v: Tensor, dim: int | None) -> Tensor:
    """Euclidean norm of each slice along ``dim``, broadcastable to ``v``; 0-d, of all of ``v``, where ``dim`` is None.

    >>> import torch
    >>> slice_norms(torch.ones(2, 3, 3), 0).shape, slice_norms(torch.ones(2, 2), None)
    (torch.Size([2, 1, 1]), tensor(2.))
    """
    w = v.unsqueeze(-1)
    norms = norm(w, _others(w, dim)).squeeze(-1)
    return norms.reshape(()) if dim is None else norms


@precise
def sized(v: Tensor, g: Tensor, dim: int | None) -> Tensor:
    """``g v / |v|``, slice by slice along ``dim``.

    Shape: that of ``v``. A slice of zeros stays zero. T. Salimans and D. Kingma, *Weight
    normalization*, 2016, equation 2.

    >>> import torch
    >>> sized(torch.tensor([[3.0, 4.0]]), torch.tensor([[10.0]]), 0)
    tensor([[6., 8.]])
    """
    if _is_for_torch(v, g, dim):
        value: object = _Sized.apply(v, g, dim)  # type: ignore[no-untyped-call]
        if isinstance(value, Tensor):
            return value
    return _sized(v, g, dim)


def _sized(v: Tensor, g: Tensor, dim: int | None) -> Tensor:
    w = v.unsqueeze(-1)
    return g * unit(w, _others(w, dim)).squeeze(-1)


def _is_for_torch(v: Tensor, g: Tensor, dim: int | None) -> bool:
    """Whether torch has one operation for it, of which a first derivative is wanted."""
    if dim is None or v.is_complex() or v.dtype != g.dtype or not (is_plain(v) and is_plain(g)):
        return False
    if v.ndim < 2 or dim % v.ndim not in (0, v.ndim - 1) or not v.numel():
        return False
    # Of another shape, which is to be broadcast, torch takes the numbers in their order (pytorch issue 81195).
    one_a_slice = [size if i == dim % v.ndim else 1 for i, size in enumerate(v.shape)]
    return v.is_contiguous() and g.is_contiguous() and [*g.shape] == one_a_slice


class _Sized(torch.autograd.Function):
    """torch's own operation, whose second derivatives are wrong (``torch.nn.utils.parametrizations.weight_norm``)."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, g: Tensor, dim: int) -> Tensor | None:
        value, norms = torch._weight_norm_interface(v, g, dim % v.ndim)
        if not is_ordinary(norms):
            return None
        ctx.save_for_backward(v, g, norms)
        ctx.dim = dim
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        v, g, norms = ctx.saved_tensors
        if not torch.is_grad_enabled():
            by_v, by_g = torch.ops.aten._weight_norm_interface_backward(
                gradient.contiguous(), v, g, norms, ctx.dim % v.ndim
            )
            return by_v, by_g, None
        by_v, by_g = gradients_with_graph(lambda v, g: _sized(v, g, ctx.dim), [v, g], gradient)
        return by_v, by_g, None
