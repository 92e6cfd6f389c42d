"""What the engine asks of tensors, and how it writes to them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import Module, Parameter

from .moments import forget

HOLDERS = ("_parameters", "_buffers", "_modules")
"""Where a module holds what belongs to it."""

UNSAFE = " Register it with unsafe=True if that is meant."


def check_same(who: str, new: object, old: Tensor, attributes: Iterable[str], hint: str = "") -> None:
    """Raise a ValueError unless ``new`` is a tensor that agrees with ``old`` in the attributes named."""
    if not isinstance(new, Tensor):
        raise ValueError(f"Expected a tensor from {who}, got {type(new).__name__}.")
    for attribute in attributes:
        was, got = getattr(old, attribute), getattr(new, attribute)
        if was != got:
            if attribute == "shape":
                was, got = tuple(was), tuple(got)
            raise ValueError(f"Expected {attribute} {was} from {who}, got {got}.{hint}")


def distance(value: Tensor, before: Tensor) -> Tensor | None:
    """How far ``value`` is from ``before`` (Frobenius norm), or None where there is nothing to measure.

    Raises:
        ValueError: ``value`` has entries that are nan or inf, and ``before`` had none.
    """
    new, old = numbers_of(value), numbers_of(before)
    if new is None or old is None:
        return None
    if not bool(torch.isfinite(new).all()) and bool(torch.isfinite(old).all()):
        raise ValueError(
            f"The value has entries that are not finite (nan or inf), and had none before.{UNSAFE} "
            "Otherwise give the tensor a value that the parametrization can take, and try again."
        )
    norm: Tensor = torch.linalg.vector_norm(new - old)
    return norm


def numbers_of(tensor: Tensor) -> Tensor | None:
    """The entries of ``tensor`` in single precision at least, or None where there is nothing to measure.

    That is: integers, layouts that are not dense, the meta device, and tensors of a trace or a transform.
    """
    if (
        not (tensor.is_floating_point() or tensor.is_complex())
        or tensor.layout != torch.strided
        or tensor.is_nested
        or tensor.is_meta
        or isinstance(tensor, FakeTensor)
        or torch.compiler.is_compiling()
        or torch._C._functorch.peek_interpreter_stack() is not None
    ):
        return None
    single = torch.complex64 if tensor.is_complex() else torch.float32
    return tensor.detach().to(single) if tensor.element_size() < single.itemsize else tensor.detach()


def write(old: Tensor, new: Tensor) -> None:
    """Write ``new`` into the tensor object ``old``, which keeps its identity, and its storage if the shape allows.

    Where it gets another shape, optimizers start anew with it.
    """
    if new.shape == old.shape and not overlaps_itself(old):
        old.copy_(new)
    else:
        reshaped = new.shape != old.shape
        old.grad = None
        old.set_(new.clone())  # type: ignore[call-overload]
        if reshaped and isinstance(old, Parameter):
            forget(old)


def overlaps_itself(tensor: Tensor) -> bool:
    """Whether two entries share memory, as those of an expanded tensor do."""
    if tensor.layout != torch.strided or tensor.is_nested:
        return False
    return any(size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def hold(holder: Module, name: str, tensor: Tensor) -> None:
    """Let ``tensor`` be a parameter or buffer of ``holder``; no method of the holder's own has a say in this."""
    if isinstance(tensor, Parameter):
        holder._parameters[name] = tensor
    else:
        holder._buffers[name] = tensor


def copy_like(originals: Iterable[Tensor], tensor: Tensor) -> Tensor:
    """A copy of ``tensor`` that is a parameter, and wants a gradient, where one of the ``originals`` is and does."""
    with torch.inference_mode(False):  # what is made under inference mode could never train
        copy = tensor.detach().clone()
        differentiable = copy.is_floating_point() or copy.is_complex()
        wants_gradient = differentiable and any(original.requires_grad for original in originals)
        if any(isinstance(original, Parameter) for original in originals):
            return Parameter(copy, wants_gradient)
        return copy.requires_grad_(wants_gradient)


def kin_of(value: Tensor, raws: Iterable[Tensor]) -> int | None:
    """Which of the raw tensors has the dtype and the device of the value."""
    alike = [(raw.dtype, raw.device) == (value.dtype, value.device) for raw in raws]
    return alike.index(True) if any(alike) else None
