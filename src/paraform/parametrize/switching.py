"""Switching steps of a chain off and on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from .errors import title
from .rollback import restored_on_failure
from .steps import Steps, compose


class SwitchableSteps(Steps):
    """Steps on one or several original tensors, which can be left out for a while."""

    unsafe: bool
    is_tensor: bool
    ntensors: int
    shape: torch.Size | None = None
    """The shape of the value, or None where it is not known (``unsafe``). Asking for it computes nothing."""
    _kin: int | None = None
    """Which of the originals had the dtype and the device of the value at registration, so that it tells them now."""

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

    def switch_off(self, *steps: int | Module) -> None:
        """Let the value be computed without these steps, until :meth:`switch_on`.

        Nothing else changes: no class, no key, no tensor. Compiled code is compiled once for each combination of steps
        and then used again. Assignment leaves out the inverses of these steps too. Copies and pickles keep what is
        switched off; the state dict does not. It is a state of the module, like its mode, for all threads.

        Raises:
            ValueError: it is no step of this chain, or one without which the others cannot take the original(s).
            IndexError: there is no step at this index.

        >>> from torch import nn
        >>> from paraform import register_parametrization
        >>> layer = register_parametrization(nn.Linear(2, 2), "bias", torch.sin)
        >>> chain = register_parametrization(layer, "bias", torch.cos).parametrizations.bias
        >>> chain.switch_off(1)
        >>> torch.equal(layer.bias, chain.original.sin())
        True
        >>> chain.switch_on(1)
        >>> with chain.switched_off(0, 1):
        ...     torch.equal(layer.bias, chain.original)
        True
        """
        with self._explained("switching off a step of"):
            off = [*self._off, *[self._key(step) for step in steps]]
            self._check_off(off)
            self._set_off(off)

    def switch_on(self, *steps: int | Module) -> None:
        """Take these steps into account again; those that are switched on already stay so."""
        with self._explained("switching on a step of"):
            on = [self._key(step) for step in steps]
            self._set_off([key for key in self._off if key not in on])

    @contextmanager
    def switched_off(self, *steps: int | Module) -> Iterator[None]:
        """Within this context these steps are switched off. After it they are what they were before."""
        before = self._off
        self.switch_off(*steps)
        mine = [key for key in self._off if key not in before]
        try:
            yield
        finally:
            self._set_off([key for key in self._off if key not in mine])

    def is_on(self, step: int | Module) -> bool:
        """Whether a step is not switched off."""
        return self._key(step) not in self._off

    def _check_off(self, off: list[str]) -> None:
        (first_key, first), *_ = self._modules.items()
        if not self.is_tensor and first_key in off:
            raise ValueError(
                f"{title(first)} makes one tensor out of the {self.ntensors} originals, so it cannot be switched off."
            )
        if self.is_tensor and not self.unsafe and self.shape not in (None, self.originals()[0].shape):
            # Some step changes the shape. Where none does, nothing need be computed.
            with torch.no_grad(), restored_on_failure(self):
                (value,) = compose(self._on(off), self.originals())
                if value.shape != self.shape:
                    raise ValueError(
                        f"Without it the value has shape {tuple(value.shape)}, not {tuple(self.shape or ())}."
                    )


def originals_of(chain: Any) -> tuple[Tensor, ...]:
    """The raw tensors of a chain, which may also be one of ``torch.nn.utils.parametrize``."""
    if chain.is_tensor:  # each read asks this, and a dictionary answers sooner than an attribute
        original = chain._parameters.get("original")
        return (chain.original if original is None else original,)
    return tuple(getattr(chain, name) for name in original_names(chain.is_tensor, chain.ntensors))


def original_names(is_tensor: bool, count: int) -> tuple[str, ...]:
    return ("original",) if is_tensor else tuple(f"original{index}" for index in range(count))
