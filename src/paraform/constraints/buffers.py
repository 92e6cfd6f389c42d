"""State that a forward pass reads or carries on, and the transforms in which a forward pass may run."""

from __future__ import annotations

from collections.abc import MutableMapping

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from ..maps import has_entries, is_batched, is_of_a_transform


class Checked:
    """Remembers which tensors were found to be in order, and at which version, so that each is looked at once.

    An average (EMA, ``AveragedModel``) and a load write into a buffer behind the back of the module that owns it; the
    version counter tells. A copy of this object remembers nothing, for what it would know is of another tensor.

    >>> checked, buffer = Checked(), torch.zeros(2)
    >>> checked.note(buffer)
    >>> needless = checked.is_needless(buffer)
    >>> needless, checked.is_needless(buffer.add_(1))
    (True, False)
    """

    def __init__(self) -> None:
        # Several: a read outside of a forward pass may compute on a copy of the buffers.
        self._versions: MutableMapping[Tensor, int | None] = WeakIdKeyDictionary()

    def is_needless(self, buffer: Tensor) -> bool:
        """Whether there is nothing to look at: no change since :meth:`note`, or no numbers.

        Compiled code cannot see a version, and a tensor of a transform stands for one that was seen outside.
        """
        if torch.compiler.is_compiling():
            return True
        noted = self._versions.get(buffer, self)
        if noted is not self and noted == _version(buffer):
            return True
        return is_of_a_transform(buffer) or not has_entries(buffer)

    def note(self, buffer: Tensor) -> None:
        """Take ``buffer``, as it is now, for one that is in order."""
        if not (torch.compiler.is_compiling() or is_of_a_transform(buffer)):
            self._versions[buffer] = _version(buffer)

    def __reduce__(self) -> tuple[type[Checked], tuple[()]]:
        return Checked, ()


def _version(buffer: Tensor) -> int | None:
    return None if buffer.is_inference() else buffer._version  # inference tensors count none


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
    elif is_batched(buffer) or not is_batched(new):
        # torch.func.grad refuses an in-place operation on a tensor that it did not wrap, but lets an ``out=`` through;
        # torch.func.vmap, where it carries the buffers of several modules, has rules for the first only.
        if _is_differentiated(new) and not _is_differentiated(buffer):
            torch.mul(new, 1, out=buffer)
        else:
            buffer.copy_(new)


def _is_differentiated(tensor: Tensor) -> bool:
    return torch._C._functorch.is_gradtrackingtensor(tensor)
