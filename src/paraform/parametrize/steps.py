"""Parametrizations one after the other: forwards, backwards, and each under a key of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn import Module, ModuleList

from .errors import explain, says_there_is_no_inverse, title
from .function import as_parametrization


class Steps(ModuleList):
    """Steps in the order in which they are applied.

    A step has an index, its place in the order, and a key, its name in the state dict. At registration they are the
    same number. The key stays when other steps come and go, and a new step gets one that is free.
    """

    _off: tuple[str, ...] = ()
    """The keys of the steps that are switched off, in their order."""
    _where: str = "a tensor"
    """How an error names what the steps are on."""

    def _on(self, off: Sequence[str] | None = None) -> Iterable[tuple[int, Module]]:
        """The steps that are not switched off, with their indices."""
        off = self._off if off is None else off
        if not off:
            return enumerate(self._modules.values())
        return [(index, step) for index, (key, step) in enumerate(self._modules.items()) if key not in off]

    def _key(self, step: int | Module) -> str:
        if isinstance(step, Module):
            keys = [key for key, module in self._modules.items() if module is step]
            if len(keys) != 1:
                found = f"is {len(keys)} steps of the chain, so give an index" if keys else "is no step of the chain"
                raise ValueError(f"This {title(step)} {found}. The steps are: {', '.join(map(title, self))}.")
            return keys[0]
        if isinstance(step, bool) or not hasattr(step, "__index__"):
            raise TypeError(f"Expected a step of the chain or its index, got {type(step).__name__}.")
        return self._get_abs_string_index(step)

    def _get_abs_string_index(self, idx: int) -> str:
        """The key of the step at an index: what ``nn.ModuleList`` asks to find a module."""
        index = int(super()._get_abs_string_index(idx))  # type: ignore[no-untyped-call]
        return list(self._modules)[index]

    def _free_key(self) -> str:
        return str(1 + max([-1, *[int(key) for key in self._modules if key.isdigit()]]))

    def _set_off(self, keys: list[str]) -> None:
        # In the order of the steps, so that each state has one value, for which torch.compile compiles once.
        self._off = tuple([key for key in self._modules if key in keys])

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            explain(error, f"while {what} the chain on {self._where}")
            raise

    def __getitem__(self, index: int | slice) -> Any:
        return ModuleList(list(self)[index]) if isinstance(index, slice) else super().__getitem__(index)

    def append(self, module: Module) -> Any:
        """Add a step at the end and ask nothing, as torch's does: ``register_parametrization`` is what checks it."""
        return self.extend([module])

    def extend(self, modules: Iterable[Module]) -> Any:
        """Append several."""
        with self._explained("appending to"):
            steps = [as_parametrization(module) for module in modules]
        for step in steps:
            self.add_module(self._free_key(), step)
        return self

    def __repr__(self) -> str:
        lines = [
            f"({index}): {step!r}{' (switched off)' if key in self._off else ''}"
            for index, (key, step) in enumerate(self._modules.items())
        ]
        return "\n  ".join([f"{title(self)}(", *"\n".join(lines).splitlines()]) + "\n)"


def compose(steps: Iterable[tuple[int, Module]], tensors: tuple[Any, ...]) -> tuple[Any, ...]:
    """What the steps make of ``tensors``: the last one's value, alone in a tuple; without steps, ``tensors``."""
    try:
        for index, step in steps:  # noqa: B007 (the error below names the step that failed)
            tensors = (step(*tensors),)
    except Exception as error:
        explain(error, f"in parametrization {index} of the chain, {title(step)}")
        raise
    return tensors


def invert(index: int, step: Any, value: Tensor) -> Any:
    try:
        return step.right_inverse(value)
    except Exception as error:
        explain(error, f"in right_inverse of parametrization {index} of the chain, {title(step)}")
        raise


def inverse_if_any(index: int, step: Module, value: Tensor) -> Any:
    """What the step's inverse makes of ``value``; ``NotImplemented`` where the step has no inverse."""
    if not hasattr(step, "right_inverse"):
        return NotImplemented
    try:
        return invert(index, step, value)
    except NotImplementedError as error:
        if not says_there_is_no_inverse(error):
            raise
        return NotImplemented


def as_tensors(raw: object) -> tuple[Tensor, ...]:
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
