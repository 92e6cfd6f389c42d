"""A parametrization as JSON data, and back. Nothing but names of a known table and plain data is ever read."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints as torch_sets
from torch.nn import Module
from torch.nn.utils import parametrizations as torch_parametrizations

from ..parametrize import Function
from .errors import FileError
from .known import Known, entry_named, entry_of
from .names import printable, reason

DEEPEST = 16
"""How many combinators, lists and the like may stand in each other in the arguments of a recipe."""

# What torch.distributions names and from_distribution has a map to; the rest of it is not built from a file.
_SETS: dict[str, Any] = {
    name: getattr(torch_sets, name)
    for name in (
        "real",
        "greater_than",
        "greater_than_eq",
        "less_than",
        "interval",
        "half_open_interval",
        "simplex",
        "lower_cholesky",
        "corr_cholesky",
        "positive_definite",
        "positive_semidefinite",
        "independent",
        "cat",
        "stack",
    )
}
# What torch.nn.utils.parametrizations has put on, with raw tensors as ours have them. Its -1 is the whole tensor.
_TORCHS: dict[type, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    torch_parametrizations._WeightNorm: ("WeightNorm", lambda step: {"dim": None if step.dim == -1 else step.dim}),
    torch_parametrizations._SpectralNorm: (
        "parametrizations.spectral_norm",
        lambda step: {"n_power_iterations": step.n_power_iterations, "dim": step.dim, "eps": step.eps},
    ),
    torch_parametrizations._Orthogonal: (
        "parametrizations.orthogonal",
        lambda step: {"orthogonal_map": step.orthogonal_map.name, "use_trivialization": hasattr(step, "base")},
    ),
}
# A bound of torch's that is a tensor is written down in the recipe itself: it is in no state dict.
_MOST_NUMBERS = 10_000
_MOST_ITERATIONS = 1_000  # of a power iteration, in each forward pass: more would look as if training stood still
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float64, torch.float32, torch.float16,
    torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)}  # fmt: skip


def described(step: Module) -> dict[str, Any]:
    """``{"name": ..., "arguments": {...}}`` of a parametrization: the arguments that differ from their defaults.

    Raises:
        FileError: it has no name (:func:`paraform.saved_as`), or an argument that cannot be written down.

    >>> from paraform import Flatten, Orthogonal
    >>> described(Flatten(Orthogonal("cayley")))
    {'name': 'Flatten', 'arguments': {'constraint': {'name': 'Orthogonal', 'arguments': {'map': 'cayley'}}}}
    """
    if type(step) in _TORCHS:
        name, of_torch = _TORCHS[type(step)]
        return {"name": name, "arguments": of_torch(step)}
    entry = entry_of(step)
    if entry.function is not None:
        return {"name": entry.name, "arguments": {}}
    if hasattr(step, "saved_arguments"):
        given: Mapping[str, Any] = step.saved_arguments()  # type: ignore[operator]
    else:
        given = _arguments(step, type(step), skip=entry.takes_weight)
    return {"name": entry.name, "arguments": {name: _data(value, name, step) for name, value in given.items()}}


def _arguments(thing: Any, cls: type, skip: int = 0) -> dict[str, Any]:
    """The arguments of the constructor of ``cls`` that differ from their defaults, from the attributes of ``thing``."""
    arguments = {}
    for argument in list(_parameters(cls).values())[int(skip) :]:
        if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
            raise FileError(
                f"{cls.__name__} takes {argument}, which no attribute tells; give the class a method saved_arguments() "
                f"that returns its arguments as a dictionary."
            )
        if not hasattr(thing, argument.name):
            raise FileError(
                f"{cls.__name__} takes an argument {argument.name!r}, but has no attribute of that name to read it "
                f"from; keep it as self.{argument.name}, or give the class a method saved_arguments()."
            )
        value = getattr(thing, argument.name)
        if isinstance(value, Tensor) or type(value) is not type(argument.default) or value != argument.default:
            arguments[argument.name] = value
    return arguments


def _parameters(cls: Any) -> Mapping[str, inspect.Parameter]:
    """Those of the constructor. (That of ``nn.Module``, where a class has none, takes anything and means nothing.)"""
    return {} if cls.__init__ is Module.__init__ else inspect.signature(cls).parameters


def _data(value: Any, name: str, owner: Any) -> Any:
    """An argument ``name`` of ``owner`` as JSON data."""
    data: Any = value
    if isinstance(value, float) and not math.isfinite(value):
        data = {"number": str(value)}
    elif isinstance(value, list | tuple):
        data = [_data(each, name, owner) for each in value]
    elif isinstance(value, dict) and all(isinstance(key, str) for key in value):
        data = {"entries": {key: _data(each, name, owner) for key, each in value.items()}}
    elif isinstance(value, Tensor):
        data = {"tensor": name} if _is_held(value, name, owner) else _numbers(value, name, owner)
    elif isinstance(value, torch_sets.Constraint):
        data = _set_data(value)
    elif isinstance(value, Module):
        data = described(value)
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise FileError(
            f"{type(owner).__name__} has an argument {name!r} of type {type(value).__name__}, which cannot be written "
            f"into a file as data; give the class a method saved_arguments() that returns plain numbers, strings and "
            f"lists."
        )
    return data


def _is_held(tensor: Tensor, name: str, owner: Any) -> bool:
    """Whether it is a parameter or a buffer of this name, which is saved with the state."""
    return isinstance(owner, Module) and any(
        holder.get(name) is tensor for holder in (owner._parameters, owner._buffers)
    )


def _numbers(value: Tensor, name: str, owner: Any) -> dict[str, Any]:
    dtype = str(value.dtype).removeprefix("torch.")
    if dtype not in _DTYPES or value.numel() > _MOST_NUMBERS or not isinstance(owner, torch_sets.Constraint):
        raise FileError(
            f"{type(owner).__name__} has an argument {name!r} that is a tensor but no buffer of that name; register it "
            f"as one, self.register_buffer({name!r}, {name}), so that it is saved with the state."
        )
    return {"numbers": _data(value.tolist(), name, owner), "dtype": dtype}


def _set_data(constraint: torch_sets.Constraint) -> dict[str, Any]:
    for name, known in _SETS.items():
        if constraint is known or type(constraint) is type(known):
            return {"set": name, "arguments": {}}
        if type(constraint) is known:
            arguments = _arguments(constraint, known)
            return {"set": name, "arguments": {key: _data(each, key, constraint) for key, each in arguments.items()}}
    raise FileError(
        f"from_distribution({constraint}) is a set of another library's, which files cannot name; save it as a "
        f"parametrization of your own (paraform.saved_as)."
    )


def built(data: Any, like: Tensor, tensor: Callable[[str, bool], Tensor], path: str = "") -> Module:
    """The parametrization that ``data`` describes.

    Args:
        data: ``{"name": ..., "arguments": {...}}``.
        like: has the shape and the dtype of the value; on the meta device.
        tensor: gives the tensor of a key of the chain, for an argument that is one. The second argument says whether
            its numbers are needed; otherwise one on the meta device does.
        path: what stands before the step's own keys.

    Raises:
        FileError: the name is not known, or an argument is, or has another type or value than the class takes.
    """
    return _built(data, like, tensor, path, DEEPEST)


def _built(data: Any, like: Tensor, tensor: Callable[[str, bool], Tensor], path: str, depth: int) -> Module:
    name, arguments = fields(data, {"name": str, "arguments": dict}, "a parametrization")
    entry = entry_named(name)
    who = printable(name)
    if entry.function is not None:
        if arguments:
            raise FileError(f"the function '{who}' takes no arguments, got {_names(arguments)}.")
        function = entry.function
        inverse = vars(function).get("right_inverse")
        return Function(function.function, inverse)
    if not hasattr(entry.cls, "saved_arguments"):
        _check_arguments(entry, arguments)

    def read(value: Any, key: str, level: int) -> Any:
        if level < 1:
            raise FileError(f"'{who}' has arguments in arguments, more than {DEEPEST} deep.")
        if isinstance(value, list) and len(value) > _MOST_NUMBERS:
            raise FileError(
                f"'{who}' has a list of {len(value)} in its arguments; more than {_MOST_NUMBERS} are not read."
            )
        if isinstance(value, list):
            return [read(each, key, level - 1) for each in value]
        return read_object(value, key, level) if isinstance(value, dict) else value

    def read_object(value: dict[str, Any], key: str, level: int) -> Any:
        found: Any = None
        if "name" in value:
            found = _built(value, like, tensor, f"{path}{key}.", level - 1)
        elif value.keys() == {"tensor"} and isinstance(value["tensor"], str):
            found = tensor(f"{path}{value['tensor']}", not entry.is_ours)
        elif value.keys() == {"entries"} and isinstance(value["entries"], dict):
            found = {name: read(each, key, level - 1) for name, each in value["entries"].items()}
        elif value.keys() == {"number"} and value["number"] in ("inf", "-inf", "nan"):
            found = float(value["number"])
        elif value.keys() == {"numbers", "dtype"} and value["dtype"] in _DTYPES:
            found = torch.tensor(read(value["numbers"], key, level - 1), dtype=_DTYPES[value["dtype"]], device="cpu")
        elif value.keys() == {"set", "arguments"}:
            found = _built_set(value, lambda inner: read(inner, key, level - 1))
        else:
            raise FileError(f"'{who}' has an argument '{printable(key)}' that is no data of a recipe.")
        return found

    try:
        given = {key: read(value, key, depth) for key, value in arguments.items()}
        return entry.cls(*([like] if entry.takes_weight else []), **given)
    except (FileError, MemoryError):
        raise
    except Exception as error:
        raise FileError(f"'{who}' cannot be built from {_names(arguments)}: {reason(error)}") from error


def _built_set(data: Any, read: Callable[[Any], Any]) -> torch_sets.Constraint:
    name, arguments = fields(data, {"set": str, "arguments": dict}, "a set of torch.distributions")
    known = _SETS.get(name)
    if known is None:
        raise FileError(f"'{printable(name)}' is no set of torch.distributions that has a map.")
    if not isinstance(known, type):
        if arguments:
            raise FileError(f"the set '{name}' takes no arguments, got {_names(arguments)}.")
        return known  # type: ignore[no-any-return]
    constraint = known(**{key: read(value) for key, value in arguments.items()})
    return constraint  # type: ignore[no-any-return]


def _check_arguments(entry: Known, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that the constructor does not have, and of paraform's own those of another type."""
    parameters = dict(list(_parameters(entry.cls).items())[int(entry.takes_weight) :])
    for name, value in arguments.items():
        if name not in parameters:
            raise FileError(
                f"'{entry.name}' has no argument '{printable(name)}'; it has {', '.join(parameters) or 'none'}."
            )
        wanted = parameters[name].annotation
        wanted = wanted if isinstance(wanted, str) else inspect.formatannotation(wanted)
        if entry.is_ours and not _is_a(value, wanted):
            raise FileError(
                f"'{entry.name}' expects {name} to be {wanted}, got {printable(value)} ({type(value).__name__})."
            )
        if name == "n_power_iterations" and value > _MOST_ITERATIONS:
            raise FileError(
                f"'{entry.name}' asks for {value} iterations at each step; at most {_MOST_ITERATIONS} are read."
            )
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise FileError(f"'{entry.name}' needs an argument '{name}', which the recipe does not have.")


_KINDS: dict[str, Callable[[Any], bool]] = {
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "float": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "None": lambda value: value is None,
    "Tensor": lambda value: isinstance(value, dict) and "tensor" in value,
}


def _is_a(value: Any, annotation: str) -> bool:
    """Whether the data may be a value of a type, as far as its name tells; what is more the constructor knows."""
    names = [name.strip() for name in annotation.split("|")]
    if any(name not in _KINDS for name in names):  # sequences, constraints
        return not isinstance(value, bool)
    return any(_KINDS[name](value) for name in names)


def fields(data: Any, kinds: Mapping[str, type], what: str) -> list[Any]:
    """The values of ``data``, which is to be a dictionary with just these keys and kinds.

    Raises:
        FileError: it is not.
    """
    if not isinstance(data, dict) or data.keys() != kinds.keys():
        raise FileError(f"{what} is to have {', '.join(kinds)}, got {_names(data)}.")
    for key, kind in kinds.items():
        if not isinstance(data[key], kind) or (kind is int and isinstance(data[key], bool)):
            raise FileError(f"{what} is to have {key} as {kind.__name__}, got {type(data[key]).__name__}.")
    return [data[key] for key in kinds]


def _names(data: Any) -> str:
    return ", ".join(map(printable, data)) or "nothing" if isinstance(data, dict) else type(data).__name__
