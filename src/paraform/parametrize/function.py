"""Plain functions as parametrizations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import Module

from .errors import title


class Function(Module):
    """A parametrization that is a plain function, and maybe an inverse of it.

    ``register_parametrization(layer, "weight", f)`` makes one of a function ``f``, and of a pair ``(f, inverse)``.

    Args:
        forward: maps the raw tensor (or tensors) to the value.
        inverse: maps a value to the raw tensor (or a sequence of them); without it the value cannot be assigned.

    A module that contains one can be pickled where the functions can: those that have a name in a Python module, not
    a ``lambda``. Either may be a module itself; then it trains and moves with the layer.

    Raises:
        TypeError: ``forward`` or ``inverse`` cannot be called.

    >>> import torch
    >>> from torch import nn
    >>> from paraform import register_parametrization
    >>> layer = nn.Linear(2, 2)
    >>> _ = nn.init.constant_(layer.bias, 0.5)
    >>> layer = register_parametrization(layer, "bias", (torch.exp, torch.log))
    >>> layer.parametrizations.bias
    ParametrizationList(
      (0): Function(exp, inverse=log)
    )
    >>> layer.bias
    tensor([0.5000, 0.5000], grad_fn=<ExpBackward0>)
    """

    right_inverse: Callable[[Tensor], Any]

    def __init__(self, forward: Callable[..., Tensor], inverse: Callable[[Tensor], Any] | None = None) -> None:
        super().__init__()
        for role, function in (("forward", forward), ("inverse", inverse)):
            if not callable(function) and not (role == "inverse" and function is None):
                raise TypeError(f"Expected a function as {role}, got {type(function).__name__}.")
        self.function = forward
        if inverse is not None:  # a parametrization without the attribute has no inverse
            self.right_inverse = inverse

    def forward(self, *originals: Tensor) -> Tensor:
        return self.function(*originals)

    def extra_repr(self) -> str:
        functions = {"": self.function, "inverse=": getattr(self, "right_inverse", None)}
        plain = {role: function for role, function in functions.items() if not isinstance(function, Module | None)}
        return ", ".join(f"{role}{getattr(function, '__name__', function)}" for role, function in plain.items())


def as_parametrization(given: object) -> Module:
    """The parametrization that ``given`` is or, if it is a function or a pair ``(f, inverse)``, stands for.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(given, Module):
        return given
    if isinstance(given, type):
        raise TypeError(f"Expected a parametrization, got the class {given.__name__}. Did you mean {given.__name__}()?")
    if isinstance(given, tuple) and len(given) == 2 and all(map(callable, given)):
        return Function(*given)
    if callable(given):
        return Function(given)
    raise TypeError(
        "Expected a parametrization: an nn.Module, a function of the raw tensor, or a pair (function, inverse); "
        f"got {type(given).__name__}."
    )


def check_unlearned(step: Module, where: str) -> None:
    """Refuse a parametrization that has already learned what it knows from another tensor."""
    if getattr(step, "learned", False):
        raise ValueError(
            f"This {title(step)} serves the tensor that it was registered on before. Build a new one for {where}."
        )


def name_of(given: object) -> str:
    """How an error names what was given as a parametrization."""
    return title(given) if isinstance(given, Module) else getattr(given, "__name__", type(given).__name__)
