"""What is examined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.nn import Module
from torch.optim import Optimizer

from ...parametrize.named import Named


@dataclass(frozen=True)
class Patient:
    """A model, the optimizer that trains it, and arguments of a forward pass; the latter two may be missing."""

    model: Module
    optimizer: Optimizer | None
    sample: Any
    chains: tuple[Named, ...]
    """Each chain once, under its first name."""
    kept: frozenset[str] = frozenset()
    """The tensors whose values the caller keeps already, being within a ``cached()``."""
