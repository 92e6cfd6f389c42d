"""The chain of parametrizations on one tensor, and the raw tensors behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from .editing import EditableSteps
from .errors import title
from .rollback import restored_on_failure
from .steps import as_tensors, compose, inverse_if_any, invert
from .switching import original_names
from .tensors import UNSAFE, check_same, copy_like, distance, hold, kin_of, numbers_of, write


class ParametrizationList(EditableSteps):
    """The parametrizations of one tensor, in the order of registration, and its original tensor(s).

    It is what ``module.parametrizations.weight`` is; :func:`register_parametrization` makes it. Index it, iterate it,
    print it, edit it (``insert``, ``replace``, ``remove``, ``switch_off``, ``switch_on``). Calling it computes the
    value.

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

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        if len(modules) == 0:
            raise ValueError("ParametrizationList needs at least one parametrization, got none.")
        super().__init__(modules)
        self._off = ()
        self.unsafe = unsafe
        with torch.no_grad():
            raw: Any = original.detach().clone()  # an inverse that works in place must not reach `original` yet
            for index, step in reversed(list(self._on())):
                inverse = inverse_if_any(index, step, raw)
                raw = raw if inverse is NotImplemented else inverse  # at registration, none means identity
                if index and not isinstance(raw, Tensor):
                    raise ValueError(
                        f"The right_inverse of {title(step)} gives {len(as_tensors(raw))} tensors, which only the "
                        "first parametrization of a chain can take. Put it first."
                    )
            self.is_tensor = isinstance(raw, Tensor)
            raws = as_tensors(raw)
            self.ntensors = len(raws)
            if self.is_tensor:
                check_same("right_inverse", raw, original, ("dtype", "device"))
            if not unsafe:
                value = self._compose(raws)
                check_same("the parametrization", value, original, ("dtype", "shape"), hint=UNSAFE)
                self.shape = value.shape
                self._kin = kin_of(value, raws)
                self.moved = distance(value, original)
            # Everything that can be refused has been: only now is anything written.
            if self.is_tensor:
                write(original, raw)
                hold(self, "original", original)
            else:
                for name, tensor in zip(original_names(False, self.ntensors), raws, strict=True):
                    hold(self, name, copy_like([original], tensor))

    def forward(self) -> Tensor:
        """Compute the value from the originals."""
        return self._compose(self.originals())

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
        for index, step in reversed(list(self._on())):
            if not hasattr(step, "right_inverse"):
                raise RuntimeError(
                    f"Cannot assign: parametrization {index} of the chain, {title(step)}, does not implement "
                    f"right_inverse. Give it one, or write to the original tensor(s) directly."
                )
            raw = invert(index, step, raw)
        raws = as_tensors(raw)
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

    def _compose(self, originals: tuple[Tensor, ...]) -> Tensor:
        if not self._modules:
            raise IndexError(
                "The chain has no parametrization left. Call remove_parametrizations to take off the last."
            )
        (value,) = compose(self._on(), originals)
        return value  # type: ignore[no-any-return]
