"""Which parametrizations a file can name: paraform's own, and those that a program has registered by a name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, overload

from torch.nn import Module

from .. import constraints
from ..parametrizations._orthogonal import _Orthogonal
from ..parametrizations._spectral_norm import _SpectralNorm
from ..parametrize import Function
from ..parametrize.function import as_parametrization
from .errors import FileError
from .names import printable

C = TypeVar("C", bound=type)


class Known(NamedTuple):
    """A parametrization that has a name."""

    name: str
    cls: type[Module]
    function: Function | None = None
    """For a function its parametrization, which has no arguments."""
    takes_weight: bool = False
    """Whether the constructor first takes the weight, of which it reads shape and dtype."""
    is_ours: bool = True


_OURS = {
    name: Known(name, getattr(constraints, name))
    for name in constraints.__all__
    if isinstance(getattr(constraints, name), type)
    and issubclass(getattr(constraints, name), constraints.Constraint)
    and getattr(constraints, name) is not constraints.Constraint
}
_OURS["parametrizations.orthogonal"] = Known("parametrizations.orthogonal", _Orthogonal, takes_weight=True)
_OURS["parametrizations.spectral_norm"] = Known("parametrizations.spectral_norm", _SpectralNorm, takes_weight=True)

_theirs: dict[str, Known] = {}


@overload
def saved_as(name: str) -> Callable[[C], C]: ...
@overload
def saved_as(name: str, parametrization: Any) -> None: ...
def saved_as(name: str, parametrization: Any = None) -> Any:
    """Give a parametrization of your own the name under which files know it.

    Files hold data and no code. So what is not paraform's own is written down by a name, which a program that loads the
    file has to know: it makes the same call first.

    The arguments of a class are those of its constructor, each read from the attribute of the same name, as far as
    they differ from their defaults: numbers, strings, None, lists and dictionaries of them, other parametrizations
    that have a name, and tensors that are parameters or buffers under the name of the argument. A class for which that
    does not hold has a method ``saved_arguments()`` that gives them as a dictionary.

    Args:
        name: best with that of your package in front, ``"mylab.Clip"``; letters, digits, and ``_``, ``-``, ``.``.
        parametrization: a module class, a function, a pair ``(function, inverse)`` or a :class:`Function`. Without it,
            the call is the decorator of a class.

    Raises:
        ValueError: the name is no such name, or another parametrization has it, or the parametrization another name.
        TypeError: ``parametrization`` is something else.

    >>> import torch
    >>> from torch import nn
    >>> @saved_as("mylab.Clip")
    ... class Clip(nn.Module):
    ...     def __init__(self, bound: float = 1.0) -> None:
    ...         super().__init__()
    ...         self.bound = bound
    ...
    ...     def forward(self, raw):
    ...         return raw.clamp(-self.bound, self.bound)
    >>> saved_as("mylab.exp", (torch.exp, torch.log))
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", name):
        raise ValueError(f"saved_as expects a name such as 'mylab.Clip', up to 100 characters, got {name!r}.")
    if name in _OURS:
        raise ValueError(f"'{name}' is a parametrization of paraform's own; choose another name, 'mylab.{name}' say.")
    if parametrization is None:

        def decorator(cls: C) -> C:
            saved_as(name, cls)
            return cls

        return decorator
    entry = _entry(name, parametrization)
    for other in _theirs.values():
        if (other.name == name) != _is_same(other, entry):
            what = entry.function if entry.function is not None else entry.cls.__name__
            raise ValueError(
                f"Cannot save {what} as '{name}': "
                + (
                    f"another parametrization has this name, {_title(other)}; choose another name."
                    if other.name == name
                    else f"it is saved as '{other.name}' already; keep that name, which files may have."
                )
            )
    _theirs[name] = entry
    return None


def _entry(name: str, given: Any) -> Known:
    if isinstance(given, type):
        if not issubclass(given, Module):
            raise TypeError(f"saved_as expects a class of modules, got the class {given.__name__}.")
        return Known(name, given, is_ours=False)
    if isinstance(given, Module) and not isinstance(given, Function):
        raise TypeError(
            f"saved_as expects the class of a module, or a function, got an instance of {type(given).__name__}; "
            f"write saved_as('{name}', {type(given).__name__}). Its arguments are read when it is saved."
        )
    function = as_parametrization(given)
    if not isinstance(function, Function) or isinstance(function.function, Module):
        raise TypeError(f"saved_as expects a plain function, a pair of them or a class of modules, got {given!r}.")
    return Known(name, Function, function, is_ours=False)


def _title(entry: Known) -> str:
    return repr(entry.function) if entry.function is not None else f"{entry.cls.__module__}.{entry.cls.__qualname__}"


def _is_same(one: Known, other: Known) -> bool:
    """Whether two entries mean the same: also a class that a notebook's cell has defined once more."""
    if one.function is not None or other.function is not None:
        return one.function is not None and other.function is not None and _same(one.function, other.function)
    return (one.cls.__module__, one.cls.__qualname__) == (other.cls.__module__, other.cls.__qualname__)


def _same(one: Function, other: Function) -> bool:
    inverses = [vars(each).get("right_inverse") for each in (one, other)]
    return one.function is other.function and inverses[0] is inverses[1]


def is_ours(step: Module) -> bool:
    """Whether a parametrization is one of paraform's own."""
    return any(type(step) is entry.cls for entry in _OURS.values())


def entry_of(step: Module) -> Known:
    """The entry of a parametrization's class, or of its function.

    Raises:
        FileError: it has no name; the error says how to give it one.
    """
    for entry in (*_OURS.values(), *_theirs.values()):
        if entry.function is not None:
            if isinstance(step, Function) and _same(entry.function, step):
                return entry
        elif type(step) is entry.cls:
            return entry
    if type(step) is Function:
        raise FileError(
            f"{step} is a function of your own, which files can only have by a name: call "
            f"paraform.saved_as('mylab.name', (function, inverse)), or with the function alone, before saving and "
            f"before loading."
        )
    raise FileError(
        f"{type(step).__name__} is no parametrization of paraform's, and files can have others only by a name: put "
        f"@paraform.saved_as('mylab.{type(step).__name__}') on the class, before saving and before loading."
    )


def entry_named(name: str) -> Known:
    """The entry of this name.

    Raises:
        FileError: there is none.
    """
    entry = _OURS.get(name) or _theirs.get(name)
    if entry is None:
        raise FileError(
            f"it names a parametrization '{printable(name)}', which is none of paraform's and is not registered. If it "
            f"is one of yours, give it this name before loading: paraform.saved_as('{printable(name)}', ...)."
        )
    return entry
