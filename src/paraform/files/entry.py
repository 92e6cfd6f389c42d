"""What the metadata of a saved model say, checked: nothing in it is taken for granted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from .errors import FileError
from .names import printable

FORMAT = 1
"""The number of this format of the metadata. A reader refuses a larger one."""
KEY = "paraform"
"""The key of the metadata that has it."""
MOST_DIMENSIONS = 64
"""torch has no more."""
LARGEST_SIZE = 2**62
MOST_STEPS = 64
"""Parametrizations in a chain."""
DEEPEST_JSON = 100
"""Brackets in brackets at most; a recipe needs a fraction of it."""

_VALUE_DTYPES = {
    str(dtype).removeprefix("torch."): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)
}


class Spec(NamedTuple):
    """What is known of a tensor before it is read."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Step:
    """A parametrization of a chain, as data."""

    data: dict[str, Any]
    """Its name and arguments."""
    key: str
    """Its name in the chain, and in the keys of its tensors."""
    off: bool = False
    learned: bool = True
    """Whether an inverse has given it a shape, as registration does."""
    shape: tuple[int, ...] | None = None
    """That shape, where it is not the value's."""

    @property
    def name(self) -> str:
        return str(self.data["name"])

    def as_json(self, index: int) -> dict[str, Any]:
        extra: dict[str, Any] = {} if self.key == str(index) else {"key": self.key}
        if self.off:
            extra["off"] = True
        if not self.learned:
            extra["learned"] = False
        if self.shape is not None:
            extra["shape"] = list(self.shape)
        return {**self.data, **extra}


@dataclass(frozen=True)
class Entry:
    """The recipe of a parametrized tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    steps: tuple[Step, ...]
    unsafe: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "shape": list(self.shape),
            "dtype": str(self.dtype).removeprefix("torch."),
            "chain": self.recipe(),
            **({"unsafe": True} if self.unsafe else {}),
        }

    def recipe(self) -> list[dict[str, Any]]:
        return [step.as_json(index) for index, step in enumerate(self.steps)]


@dataclass(frozen=True)
class Contents:
    """The metadata of a saved model."""

    version: str
    names: tuple[str, ...]
    entries: dict[str, Entry] = field(default_factory=dict)
    ties: dict[str, str] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    """A key of the state dict to the one that is stored in its place, where no tie says so."""
    pairs: tuple[str, ...] = ()
    """The keys of complex numbers that are stored as pairs of real ones, in a last dimension."""

    def as_text(self) -> str:
        data = {
            "format": FORMAT,
            "version": self.version,
            "names": list(self.names),
            "parametrized": {name: entry.as_json() for name, entry in self.entries.items()},
            "ties": self.ties,
            "shared": self.shared,
            "pairs": list(self.pairs),
        }
        return json.dumps(data, separators=(",", ":"), allow_nan=False)


def load_json(text: bytes | str, what: str) -> Any:
    """JSON in the strict sense: no key twice, no nan, no depths.

    Raises:
        FileError: it is something else.
    """
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        if _is_deep(decoded):
            raise ValueError(f"it has brackets in brackets, more than {DEEPEST_JSON} deep.")
        return json.loads(decoded, object_pairs_hook=_once_each, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{what} is no JSON: {printable(error)}") from error


def _is_deep(text: str) -> bool:
    depth = 0
    for bracket in re.sub(r'"(?:[^"\\]|\\.)*"|[^\[\]{}"]+', "", text):
        depth += 1 if bracket in "[{" else -1
        if depth > DEEPEST_JSON:
            return True
    return False


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"it has the key '{printable(twice)}' twice.")
    return data


def _refuse(constant: str) -> Any:
    raise ValueError(f"it has {constant}, which is no number of JSON's.")


def read_contents(text: str) -> Contents:
    """The metadata of a saved model.

    Raises:
        FileError: they are not as :func:`paraform.save` writes them.
    """
    data = load_json(text, "its recipe")
    if not isinstance(data, dict):
        raise FileError(f"its recipe is to be an object of JSON's, got {type(data).__name__}.")
    number = data.get("format")
    if type(number) is int and number > FORMAT:
        raise FileError(
            f"its recipe is of format {number}, written by paraform {printable(data.get('version'))}; this paraform "
            f"reads formats up to {FORMAT}. Update it."
        )
    if type(number) is not int or number < 1:
        raise FileError(f"its recipe is to have a format number, got {printable(number)}.")
    kinds = {"version": str, "names": list, "parametrized": dict, "ties": dict, "shared": dict, "pairs": list}
    _require_keys(data, {"format": int, **kinds}, {}, "its recipe")
    names = _strings(data["names"], "names")
    return Contents(
        version=data["version"],
        names=names,
        entries={name: _entry(entry, name) for name, entry in data["parametrized"].items()},
        ties=_links(data["ties"], "ties"),
        shared=_links(data["shared"], "shared"),
        pairs=_strings(data["pairs"], "pairs"),
    )


def _require_keys(data: Any, needed: Mapping[str, type], optional: Mapping[str, type], what: str) -> None:
    if not isinstance(data, dict):
        raise FileError(f"{what} is to be an object of JSON's, got {type(data).__name__}.")
    for key in needed.keys() - data.keys():
        raise FileError(f"{what} lacks '{key}'.")
    for key, value in data.items():
        kind = needed.get(key) or optional.get(key)
        if kind is None:
            raise FileError(f"{what} has '{printable(key)}', which this paraform does not know.")
        if type(value) is not kind:
            raise FileError(f"{what} is to have {key} as {kind.__name__}, got {type(value).__name__}.")


def _strings(values: list[Any], what: str) -> tuple[str, ...]:
    for value in values:
        if not isinstance(value, str):
            raise FileError(f"its recipe has {what} that are no strings but {type(value).__name__}.")
    if len(set(values)) < len(values):
        raise FileError(f"its recipe has one of its {what} twice.")
    return tuple(values)


def _links(data: dict[str, Any], what: str) -> dict[str, str]:
    for name, target in data.items():
        if not isinstance(target, str):
            raise FileError(f"its recipe has {what} of '{printable(name)}' as {type(target).__name__}, not a name.")
        if target in data:
            raise FileError(
                f"its recipe says in {what} that '{printable(name)}' is '{printable(target)}', which is another again."
            )
    return dict(data)


def _entry(data: Any, name: str) -> Entry:
    what = f"the recipe of '{printable(name)}'"
    _require_keys(data, {"shape": list, "dtype": str, "chain": list}, {"unsafe": bool}, what)
    dtype = _VALUE_DTYPES.get(data["dtype"])
    if dtype is None:
        raise FileError(f"{what} has '{printable(data['dtype'])}' as dtype, which torch does not know.")
    if not 1 <= len(data["chain"]) <= MOST_STEPS:
        raise FileError(f"{what} has {len(data['chain'])} parametrizations, where 1 to {MOST_STEPS} are to be.")
    steps = tuple(_step(step, index, what) for index, step in enumerate(data["chain"]))
    if len({step.key for step in steps}) < len(steps):
        raise FileError(f"{what} has two parametrizations under one key.")
    unsafe = data.get("unsafe", False)
    if not unsafe and any(step.shape is not None for step in steps):
        raise FileError(f"{what} has a parametrization of another shape, which only an unsafe chain can have.")
    return Entry(checked_shape(data["shape"], what), dtype, steps, unsafe)


def _step(data: Any, index: int, what: str) -> Step:
    where = f"{what}, parametrization {index},"
    optional = {"key": str, "off": bool, "learned": bool, "shape": list}
    _require_keys(data, {"name": str, "arguments": dict}, optional, where)
    key = data.get("key", str(index))
    if not re.fullmatch(r"[0-9]{1,9}", key):
        raise FileError(f"{where} has the key '{printable(key)}', which is no number.")
    return Step(
        {"name": data["name"], "arguments": data["arguments"]},
        key,
        data.get("off", False),
        data.get("learned", True),
        checked_shape(data["shape"], where) if "shape" in data else None,
    )


def checked_shape(sizes: Iterable[Any], what: str) -> tuple[int, ...]:
    """A shape that torch can have.

    Raises:
        FileError: it is none.
    """
    shape, product = tuple(sizes), 1
    if len(shape) > MOST_DIMENSIONS:
        raise FileError(f"{what} has a shape of {len(shape)} dimensions; torch has {MOST_DIMENSIONS} at most.")
    for size in shape:
        if type(size) is not int or not 0 <= size < LARGEST_SIZE:
            raise FileError(f"{what} has a size {printable(size)} in its shape, where a whole number from 0 is to be.")
        product *= max(size, 1)
    if product >= LARGEST_SIZE:
        raise FileError(f"{what} has a shape of more entries than any memory holds.")
    return shape
