"""A chain evaluated step by step, on a twin: nothing of the chain is carried on or written to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ...parametrize.switching import originals_of
from ...parametrize.twin import twin_of


@dataclass(frozen=True)
class Evaluation:
    """What the steps of a chain made of its raw tensors."""

    raws: tuple[Tensor, ...]
    steps: tuple[Module, ...]
    """Those that are switched on, of the twin."""
    outputs: tuple[Any, ...]
    """What each of them gave; the last is the value."""

    @property
    def value(self) -> Tensor:
        """The value of the chain; where all steps are switched off, the raw tensor."""
        return self.outputs[-1] if self.outputs else self.raws[0]

    def inputs(self, index: int) -> tuple[Any, ...]:
        """What the step at ``index`` was given."""
        return (self.outputs[index - 1],) if index else self.raws


def copy_of(tensor: Tensor) -> Tensor:
    """Its numbers, without a graph."""
    return tensor.detach().clone()


def evaluate(chain: Any, own: Callable[[Tensor], Tensor] = copy_of) -> Evaluation:
    """``chain`` evaluated on a twin with ``own(tensor)``, which is to be a copy, in place of each of its tensors.

    It is in the mode of the chain, which may belong to either engine.

    Raises:
        Exception: whatever its parametrizations raise.
    """
    twin: Any = twin_of(chain, own)
    raws = tensors = originals_of(twin)
    steps = tuple(step for _, step in (twin._on() if hasattr(twin, "_on") else enumerate(twin)))
    outputs: list[Any] = []
    for step in steps:
        tensors = (step(*tensors),)
        outputs += tensors
    return Evaluation(raws, steps, tuple(outputs))


def widened(tensor: Tensor) -> Tensor:
    """A copy in twice the precision, or for one of double precision in its own."""
    return tensor.detach().to(WIDER.get(tensor.dtype, tensor.dtype), copy=True)


WIDER = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float64,
    torch.complex32: torch.complex64,
    torch.complex64: torch.complex128,
}


def has_numbers(tensor: object) -> bool:
    """Whether it is a tensor of finite precision whose entries can be looked at: not one on the meta device, say."""
    return (
        isinstance(tensor, Tensor)
        and (tensor.is_floating_point() or tensor.is_complex())
        and not tensor.is_meta
        and not isinstance(tensor, torch._subclasses.FakeTensor)
    )
