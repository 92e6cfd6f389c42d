"""State that a forward pass carries on, and the transforms in which a forward pass may run."""

import torch
from torch import Tensor


def overwrite(buffer: Tensor, new: Tensor) -> None:
    """Write ``new`` into ``buffer`` in place: the replicas of a layer share its buffers.

    Under ``torch.func.vmap``, where ``new`` is one value a sample and ``buffer`` is not, there is no one value to keep:
    the buffer stays.

    >>> sigma = torch.zeros(())
    >>> overwrite(sigma, torch.ones(()))
    >>> sigma
    tensor(1.)
    """
    if torch.compiler.is_compiling():
        torch.mul(new, 1, out=buffer)
    elif _is_batched(buffer) or not _is_batched(new):
        # torch.func.grad refuses an in-place operation on a tensor that it did not wrap, but lets an ``out=`` through;
        # torch.func.vmap, where it carries the buffers of several modules, has rules for the first only.
        if _is_differentiated(new) and not _is_differentiated(buffer):
            torch.mul(new, 1, out=buffer)
        else:
            buffer.copy_(new)


def _is_of_a_transform(tensor: Tensor) -> bool:
    """Whether ``tensor`` means something only inside of the ``torch.func`` transform that made it."""
    return not torch.compiler.is_compiling() and torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def _is_differentiated(tensor: Tensor) -> bool:
    return torch._C._functorch.is_gradtrackingtensor(tensor)


def _is_batched(tensor: Tensor) -> bool:
    """Whether a transform around this gives ``tensor`` a dimension that cannot be seen."""
    while _is_of_a_transform(tensor):
        if torch._C._functorch.is_batchedtensor(tensor):
            return True
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return False
