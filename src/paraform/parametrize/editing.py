"""Editing a chain: take a step out, put one in, exchange one."""

from __future__ import annotations

from operator import index as as_index
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from .errors import title
from .function import as_parametrization, check_unlearned, name_of
from .rollback import restored_on_failure
from .steps import as_tensors, compose, inverse_if_any
from .switching import SwitchableSteps, original_names
from .tensors import UNSAFE, check_same, copy_like, distance, hold, kin_of, write


class EditableSteps(SwitchableSteps):
    """The steps of a chain, to be edited as a list is. The other steps keep their keys; the module keeps its class.

    A step is named by its index or by itself (the module that was registered).
    """

    moved: Tensor | None = None
    """How far the last registration or edit moved the value (Frobenius distance), or None where it was not measured."""

    def insert(self, index: int, module: Any, *, unsafe: bool = False) -> None:
        """Put a parametrization before the step at ``index``, as ``list.insert`` does.

        The value stays what it is where the new step and those before it have inverses, and is moved to the nearest
        point that they know otherwise; ``moved`` says how far. If anything is refused, nothing has changed.

        Args:
            index: where it is to be; the number of steps for the end.
            module: the parametrization, as in ``register_parametrization``.
            unsafe: allow it to change the shape or the dtype.

        Raises:
            TypeError: ``module`` is no parametrization, or ``index`` no integer.
            ValueError: the parametrization does not fit, or it would come before one that takes several originals.

        >>> from torch import nn
        >>> from paraform import Skew, register_parametrization
        >>> layer = register_parametrization(nn.Linear(3, 3), "weight", torch.matrix_exp)
        >>> chain = layer.parametrizations.weight
        >>> chain.insert(0, Skew())
        >>> chain
        ParametrizationList(
          (0): Skew()
          (1): Function(matrix_exp)
        )
        >>> list(chain.state_dict())  # the key of matrix_exp is still 0
        ['original']
        """
        with self._explained(f"inserting {name_of(module)} into"):
            start = slice(as_index(index), None).indices(len(self))[0]
            self._change(start, start, as_parametrization(module), unsafe=unsafe)

    def replace(self, step: int | Module, module: Any, *, unsafe: bool = False) -> None:
        """Exchange one step for another parametrization, which gets its key; ``chain[index] = module`` does the same.

        The value is kept as by :meth:`insert`, and the same is refused.

        >>> from torch import nn
        >>> from paraform import Skew, Symmetric, register_parametrization
        >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Skew())
        >>> layer.parametrizations.weight.replace(0, Symmetric())
        >>> torch.equal(layer.weight, layer.weight.T)
        True
        """
        with self._explained(f"replacing a step by {name_of(module)} in"):
            index = self._index(step)
            self._change(index, index + 1, as_parametrization(module), unsafe=unsafe)

    def remove(self, step: int | Module, *, leave_parametrized: bool = True) -> None:
        """Take one step out. ``del chain[index]`` and ``chain.pop(index)`` do the same.

        Args:
            step: the step, or its index.
            leave_parametrized: keep the value that the tensor has now, by the inverses of the steps before;
                otherwise keep the originals, and let the value be what the other steps make of them.

        Raises:
            ValueError: it is the only step (``remove_parametrizations`` takes off all of them), or no step of this
                chain; or the originals are to be kept and only this step can take them, being several.
            IndexError: there is no step at this index.
            RuntimeError: the value is to be kept, and a step before this one has no ``right_inverse``.

        >>> from torch import nn
        >>> from paraform import Symmetric, register_parametrization
        >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
        >>> weight = layer.weight.detach().clone()
        >>> adapter = nn.Identity()
        >>> chain = register_parametrization(layer, "weight", adapter).parametrizations.weight
        >>> chain.remove(adapter)
        >>> torch.equal(layer.weight, weight)
        True
        """
        with self._explained("removing a step from"):
            index = self._index(step)
            self._change(index, index + 1, None, keep_value=leave_parametrized)

    def pop(self, index: int | Any = -1) -> Module:
        """Remove the step at ``index``, keep the value, and return the step."""
        step: Module = self[self._index(index)]
        self.remove(index)
        return step

    def __setitem__(self, index: int, module: Any) -> None:
        self.replace(index, module)

    def __delitem__(self, index: int | Any) -> None:
        self.remove(index)

    def _index(self, step: int | Module) -> int:
        return list(self._modules).index(self._key(step))

    def _change(
        self, start: int, stop: int, new: Module | None, *, unsafe: bool = False, keep_value: bool = True
    ) -> None:
        """Let ``new``, if any, stand where the steps from ``start`` to ``stop`` are (one or none of them)."""
        keys = list(self._modules)
        head, gone, tail = keys[:start], keys[start:stop], keys[stop:]
        if new is None and not head + tail:
            raise ValueError(
                "It is the only step. Call remove_parametrizations with the module and the name of the tensor, which "
                "makes it a plain tensor again."
            )
        if new is not None:
            check_unlearned(new, self._where)
        steps = {key: self._modules[key] for key in (*head, *gone, *tail)}
        added = {} if new is None else {gone[0] if gone else self._free_key(): new}
        off = [key for key in self._off if key not in gone]
        originals = self.originals()
        with restored_on_failure([*self, *added.values()]), torch.no_grad():
            if new is not None:
                new.train(self.training)
            until = compose(_on(steps, [*head, *gone], self._off), originals)
            before = compose(_on(steps, tail, self._off), until)[0]
            # A step that is switched off has no part in the value, so it may go without a change of the originals.
            changes = new is not None or (keep_value and not set(gone) <= set(self._off))
            raw = self._raw(start, new, until, _on(steps, head, self._off), unsafe) if changes else None
            raws = originals if raw is None else as_tensors(raw)
            steps = {key: {**steps, **added}[key] for key in (*head, *added, *tail)}
            if len(raws) > 1 and new is None and not head:
                raise ValueError(
                    f"The {len(raws)} originals are taken by this step, and the others take one tensor. "
                    "Leave out leave_parametrized=False."
                )
            moved = kin = None
            if not (self.unsafe or unsafe):
                value = compose(_on(steps, steps, off), raws)[0]
                hint = UNSAFE if new is not None else " Leave out leave_parametrized=False to keep the value."
                check_same("the chain after it", value, before, ("dtype", "shape"), hint=hint)
                moved, kin = distance(value, before), kin_of(value, raws)
            # Everything that can be refused has been: only now is anything written.
            if raw is not None:
                self._hold(isinstance(raw, Tensor), raws)
        self._modules.clear()
        self._modules.update(steps)
        self._set_off(off)
        self.unsafe |= unsafe
        self.moved, self._kin = moved, kin
        self.shape = None if unsafe else self.shape

    def _raw(
        self, start: int, new: Module | None, until: tuple[Tensor, ...], head: list[tuple[int, Module]], unsafe: bool
    ) -> Any:
        """The originals that give ``until`` at the end of ``head`` and ``new``; None where an inverse is missing."""
        if len(until) != 1:
            raise ValueError(
                f"The first step takes {len(until)} originals, so no other can come before it. Replace it instead."
            )
        raw: Any = until[0].detach().clone()  # an inverse that works in place must not reach an original
        if new is not None:
            inverse = inverse_if_any(start, new, raw)
            raw = raw if inverse is NotImplemented else inverse
            raws = as_tensors(raw)
            if not (self.unsafe or unsafe):
                if head or isinstance(raw, Tensor):
                    shape = ("shape",) if head else ()  # originals may have any shape
                    check_same("right_inverse", raw, until[0], ("dtype", "device", *shape))
                (value,) = compose([(start, new)], raws)
                check_same("the parametrization", value, until[0], ("dtype", "shape"), hint=UNSAFE)
        for index, step in reversed(head):
            raw = inverse_if_any(index, step, raw)
            if raw is NotImplemented:
                if new is None:
                    raise RuntimeError(
                        f"The value cannot be kept: parametrization {index} of the chain, {title(step)}, has no "
                        "right_inverse. Call remove with leave_parametrized=False to let the value change."
                    )
                return None
        return raw

    def _hold(self, is_tensor: bool, raws: tuple[Tensor, ...]) -> None:
        """Let ``raws`` be the originals; where those that are there are as many and of that kind, written into them."""
        originals = self.originals()
        names = original_names(is_tensor, len(raws))
        if names == original_names(self.is_tensor, self.ntensors) and all(
            (new.dtype, new.device) == (old.dtype, old.device) for new, old in zip(raws, originals, strict=True)
        ):
            for new, old in zip(raws, originals, strict=True):
                write(old, new)
            return
        saved = not self._non_persistent_buffers_set
        for name in original_names(self.is_tensor, self.ntensors):
            self._parameters.pop(name, None)
            self._buffers.pop(name, None)
            self._non_persistent_buffers_set.discard(name)
        for name, raw in zip(names, raws, strict=True):
            tensor = copy_like(originals, raw)
            hold(self, name, tensor)
            if not saved and not isinstance(tensor, Parameter):
                self._non_persistent_buffers_set.add(name)
        self.is_tensor, self.ntensors = is_tensor, len(raws)


def _on(steps: dict[str, Module], keys: Any, off: Any) -> list[tuple[int, Module]]:
    """Those of the ``steps`` under ``keys`` that are not switched off, with their indices."""
    return [(index, step) for index, (key, step) in enumerate(steps.items()) if key in keys and key not in off]
