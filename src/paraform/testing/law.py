"""What a law is, and how it says that it is broken or has nothing to say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .subject import Subject


class InapplicableError(Exception):
    """A law has nothing to say about this parametrization; the message says why."""


@dataclass(frozen=True)
class Law:
    """A name, a sentence, and a function that raises an AssertionError where it is not so."""

    name: str
    sentence: str
    check: Callable[[Subject], None]


_LAWS: dict[str, Law] = {}


def law(check: Callable[[Subject], None]) -> Callable[[Subject], None]:
    """Make a law of a function: its name is the law's, the first line of its docstring the sentence."""
    _LAWS[check.__name__] = Law(check.__name__, (check.__doc__ or "").strip().splitlines()[0], check)
    return check


def all_laws() -> dict[str, Law]:
    """Every law by its name, in the order in which they are checked."""
    from . import copies, derivatives, inverse, membership, precision, projection, transforms

    rooms = [membership, inverse, projection, derivatives, precision, transforms, copies]
    return {name: each for room in rooms for name, each in _LAWS.items() if each.check.__module__ == room.__name__}


def leaves_alone(function: Callable[[Tensor], Any], value: Tensor, name: str) -> Any:
    """What ``function`` makes of ``value``, which it must not change."""
    given = value.detach().clone()
    result = function(value)
    require(torch.equal(value.detach(), given), f"{name} changes the tensor that it is given; work on a clone of it")
    return result


def require(holds: bool, message: str) -> None:
    """Raise an AssertionError with the numbers in ``message`` unless ``holds``."""
    if not holds:
        raise AssertionError(message)
