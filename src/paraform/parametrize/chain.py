"""The chain of parametrizations on one tensor, and the raw tensors behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import Module, ModuleList, Parameter

from .errors import explain, says_there_is_no_inverse, title
from .rollback import restored_on_failure


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, in the order of registration, and its original tensor(s).

    It is what ``module.parametrizations.weight`` is; :func:`register_parametrization` makes it. Index it, iterate it,
    print it. Calling it computes the value.

    Args:
        modules: the parametrizations, first one first.
        original: the parameter or buffer that they act on. A single original is this same object, with the raw value
            written into it.
        unsafe: do not check that the value has the shape and dtype of ``original``.

    Raises:
        ValueError: there are no modules, or a ``right_inverse`` or the chain itself returns something that is no
            tensor (or sequence of tensors), or of another shape, dtype or device than allowed.
            Then ``original`` is untouched.

    Mirrors ``torch.nn.utils.parametrize.ParametrizationList``.

    >>> from torch import nn
    >>> from paraform import Skew, register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Skew())
    >>> layer.parametrizations.weight
    ParametrizationList(
      (0): Skew()
    )
    >>> layer.parametrizations.weight.original.shape
    torch.Size([3, 3])

    What the value looks like is known without computing it:

    >>> chain = layer.parametrizations.weight
    >>> chain.shape, chain.dtype, chain.device
    (torch.Size([3, 3]), torch.float32, device(type='cpu'))
    """

    original: Tensor
    unsafe: bool
    is_tensor: bool
    ntensors: int
    moved: Tensor | None = None
    """How far registration moved the value (Frobenius distance), or None where it was not measured (``unsafe``)."""
    shape: torch.Size | None = None
    """The shape of the value, or None where it is not known (``unsafe``). Asking for it computes nothing."""
    _kin: int | None = None
    """Which of the originals had the dtype and the device of the value at registration, so that it tells them now."""

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        if len(modules) == 0:
            raise ValueError("ParametrizationList needs at least one parametrization, got none.")
        super().__init__(modules)
        self.unsafe = unsafe
        with torch.no_grad():
            raw: Any = original.detach().clone()  # an inverse that works in place must not reach `original` yet
            for index, step in reversed(list(enumerate(modules))):
                if hasattr(step, "right_inverse"):
                    try:
                        raw = _invert(index, step, raw)
                    except NotImplementedError as error:
                        if not says_there_is_no_inverse(error):
                            raise
                        # At registration this means identity.
            self.is_tensor = isinstance(raw, Tensor)
            raws = _as_tensors(raw)
            self.ntensors = len(raws)
            if self.is_tensor:
                check_same("right_inverse", raw, original, ("dtype", "device"))
            if not unsafe:
                value = self._compose(raws)
                check_same("the parametrization", value, original, ("dtype", "shape"), hint=UNSAFE)
                self.shape = value.shape
                alike = [(raw.dtype, raw.device) == (value.dtype, value.device) for raw in raws]
                self._kin = alike.index(True) if any(alike) else None
                numbers, before = numbers_of(value), numbers_of(original)
                if numbers is not None and before is not None:
                    self.moved = torch.linalg.vector_norm(numbers - before)
            # Everything that can be refused has been: only now is anything written.
            if self.is_tensor:
                write(original, raw)
                hold(self, "original", original)
            else:
                for name, tensor in zip(_original_names(self), raws, strict=True):
                    hold(self, name, copy_like([original], tensor))

    def forward(self) -> Tensor:
        """Compute the value from the originals."""
        return self._compose((self.original,) if self.is_tensor else self.originals())

    def originals(self) -> tuple[Tensor, ...]:
        """The raw tensors, in the order in which the first parametrization takes them."""
        return originals_of(self)

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype of the value (outside of autocast), or None where it is not known. Computes nothing."""
        return None if self._kin is None or self.unsafe else self.originals()[self._kin].dtype

    @property
    def device(self) -> torch.device | None:
        """The device of the value, or None where it is not known (as ``dtype``). Computes nothing."""
        return None if self._kin is None or self.unsafe else self.originals()[self._kin].device

    @torch.no_grad()
    def right_inverse(self, value: Tensor) -> None:
        """Write to the originals what gives ``value``: the chain's inverses, last one first.

        Raises:
            TypeError: ``value`` is no tensor.
            RuntimeError: a parametrization of the chain has no ``right_inverse``.
            ValueError: ``value``, or what an inverse makes of it, has the wrong shape, dtype or device, or ``value``
                is not finite. The originals are untouched.
        """
        with restored_on_failure(self):
            self._write_inverse(value)

    def _write_inverse(self, value: Tensor) -> None:
        self._check_value(value)
        raw: Any = value.detach().clone()
        for index, step in reversed(list(enumerate(self))):
            if not hasattr(step, "right_inverse"):
                raise RuntimeError(
                    f"Cannot assign: parametrization {index} of the chain, {title(step)}, does not implement "
                    f"right_inverse. Give it one, or write to the original tensor(s) directly."
                )
            raw = _invert(index, step, raw)
        raws = _as_tensors(raw)
        if isinstance(raw, Tensor) != self.is_tensor or len(raws) != self.ntensors:
            raise ValueError(
                f"right_inverse must return {self.ntensors} tensor(s), as at registration; "
                f"it returned {'a tensor' if isinstance(raw, Tensor) else f'a sequence of {len(raws)}'}."
            )
        for new, old in zip(raws, self.originals(), strict=True):
            kinds = ("dtype", "device") if self.unsafe else ("dtype", "device", "shape")
            check_same("right_inverse", new, old, kinds)
        for new, old in zip(raws, self.originals(), strict=True):
            write(old, new)

    def _check_value(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"Only a tensor can be assigned to a parametrized tensor, got {type(value).__name__}.")
        if self.shape is not None and not self.unsafe:
            if value.shape != self.shape:
                raise ValueError(f"Expected a value of shape {tuple(self.shape)}, got {tuple(value.shape)}.")
            if self.is_tensor:
                check_same("the assignment", value, self.original, ("dtype", "device"), hint=" Convert it first.")
        numbers = numbers_of(value)
        if numbers is not None and not bool(torch.isfinite(numbers).all()):
            raise ValueError("The assigned value has entries that are not finite (nan or inf).")

    def _compose(self, originals: Iterable[Tensor]) -> Tensor:
        if not self._modules:
            raise IndexError(
                "The chain has no parametrization left. Call remove_parametrizations to take off the last."
            )
        steps = iter(self._modules.items())
        index, step = next(steps)
        try:
            value = step(*originals)
            for index, step in steps:  # noqa: B007 (the error below names the step that failed)
                value = step(value)
        except Exception as error:
            explain(error, f"in parametrization {index} of the chain, {title(step)}")
            raise
        return value  # type: ignore[no-any-return]


UNSAFE = " Register it with unsafe=True if that is meant."


def originals_of(chain: Any) -> tuple[Tensor, ...]:
    """The raw tensors of a chain, which may also be one of ``torch.nn.utils.parametrize``."""
    return tuple(getattr(chain, name) for name in _original_names(chain))


def _original_names(chain: Any) -> Sequence[str]:
    return ("original",) if chain.is_tensor else tuple(f"original{i}" for i in range(chain.ntensors))


def _invert(index: int, step: Any, value: Tensor) -> Any:
    try:
        return step.right_inverse(value)
    except Exception as error:
        explain(error, f"in right_inverse of parametrization {index} of the chain, {title(step)}")
        raise


def _as_tensors(raw: object) -> tuple[Tensor, ...]:
    if isinstance(raw, Tensor):
        return (raw,)
    if not isinstance(raw, Sequence) or not raw:
        got = f"an empty {type(raw).__name__}" if isinstance(raw, Sequence) else type(raw).__name__
        raise ValueError(f"right_inverse must return a tensor or a sequence of tensors (list, tuple, ...), got {got}.")
    for index, tensor in enumerate(raw):
        if not isinstance(tensor, Tensor):
            raise ValueError(
                f"right_inverse must return a tensor or a sequence of tensors, "
                f"got {type(tensor).__name__} as element {index}."
            )
    return tuple(raw)


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
    """Write ``new`` into the tensor object ``old``, which keeps its identity, and its storage if the shape allows."""
    if new.shape == old.shape and not _overlaps_itself(old):
        old.copy_(new)
    else:
        old.grad = None
        old.set_(new.clone())  # type: ignore[call-overload]


def _overlaps_itself(tensor: Tensor) -> bool:
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
