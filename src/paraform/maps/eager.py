"""Whether a function may look at numbers and act on them, or has to be one and the same for all numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .precision import has_entries


def is_readable(x: Tensor) -> bool:
    """Whether the numbers of ``x`` can be read here and now.

    They cannot in code that is compiled, exported or traced, under ``torch.func.vmap``, while a CUDA graph is recorded,
    and where a dispatch mode looks at every operation.

    >>> is_readable(torch.ones(2)), is_readable(torch.ones(2, device="meta"))
    (True, False)
    >>> torch.vmap(lambda x: x + is_readable(x))(torch.zeros(2))
    tensor([0., 0.])
    """
    if torch.compiler.is_compiling() or not has_entries(x) or is_batched(x):
        return False
    if torch._C._get_tracing_state() is not None or torch._C._len_torch_dispatch_stack() > 0:
        return False
    return not (x.is_cuda and torch.cuda.is_current_stream_capturing())


def is_plain(x: Tensor) -> bool:
    """Whether what is done with ``x`` is seen by autograd's backward pass alone, and its numbers can be read.

    >>> is_plain(torch.ones(2)), torch.func.grad(lambda x: x.sum() * is_plain(x))(torch.ones(2))
    (True, tensor([0., 0.]))
    """
    return (
        is_readable(x)
        and torch._C._functorch.peek_interpreter_stack() is None  # one around, even if x is not its own
        and forward_ad._current_level < 0
    )


def gradients_with_graph(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], gradient: Tensor
) -> list[Tensor | None]:
    """The gradients of ``function(*inputs)``, which can be differentiated, by those inputs that want one.

    For the backward pass of a function whose first derivative is written by hand. Hooks of the inputs do not run: they
    are for what that backward pass gives.

    >>> x = torch.tensor([2.0], requires_grad=True)
    >>> (by_x,) = gradients_with_graph(torch.square, [x], torch.ones(1))
    >>> by_x, torch.autograd.grad(by_x, x)
    (tensor([4.], grad_fn=<MulBackward0>), (tensor([2.]),))
    """
    aliases = [x.view_as(x) for x in inputs]
    wanted = [x for x in aliases if x.requires_grad]
    found = iter(torch.autograd.grad(function(*aliases), wanted, gradient, create_graph=True))
    return [next(found) if x.requires_grad else None for x in aliases]


def is_finite(x: Tensor) -> bool:
    """Whether ``x`` has numbers, and neither nan nor inf among them.

    >>> is_finite(torch.ones(2)), is_finite(torch.tensor([torch.nan, 1.0]))
    (True, False)
    """
    numbers = torch.view_as_real(x.detach()) if x.is_complex() else x.detach()
    return not numbers.numel() or bool(torch.stack(numbers.aminmax()).isfinite().all())


def is_of_a_transform(x: Tensor) -> bool:
    """Whether ``x`` means something only inside of the ``torch.func`` transform that made it.

    >>> is_of_a_transform(torch.ones(2))
    False
    """
    return not torch.compiler.is_compiling() and torch._C._functorch.is_functorch_wrapped_tensor(x)


def is_batched(x: Tensor) -> bool:
    """Whether a transform around this gives ``x`` a dimension that cannot be seen.

    >>> is_batched(torch.ones(2)), torch.vmap(lambda x: x + is_batched(x))(torch.zeros(2))
    (False, tensor([1., 1.]))
    """
    while is_of_a_transform(x):
        if torch._C._functorch.is_batchedtensor(x):
            return True
        x = torch._C._functorch.get_unwrapped(x)
    return False
