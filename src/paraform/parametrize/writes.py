"""Writes to a value that was read: they reach the originals, or they raise. README.md beside this file says how."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.nn import Buffer, Module, Parameter

from .errors import title


class _ValueType(type(Tensor)):  # type: ignore[misc]
    """Every tensor counts as a value, so that ``torch.testing`` compares a value with a parameter, as it would else."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Tensor)


class Value(Tensor, metaclass=_ValueType):
    """The value of a parametrized tensor, as it is handed out by a read outside of a forward pass.

    It behaves like the plain tensor that it stands for, and a write in place (``nn.init.normal_``, ``copy_``,
    ``value[0] = 1``, ``value.data.mul_(2)``, ``out=value``) is an assignment to the parametrized tensor: it goes
    through ``right_inverse``. So do writes to its views. Results that share no memory with it are plain tensors.
    """

    _owner: _Owner
    """Whose value it is, or a view of."""

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.compiler.is_dynamo_compiling():  # compiled code that was given one as an argument
            if func.__name__ in _WRITES or (func.__name__[-1] == "_" and func.__name__[-2] != "_"):
                raise RuntimeError(
                    "The value of a parametrized tensor was given to compiled code, which writes to it. Write to it "
                    "outside of compiled code, or let that assign it: module.weight = value."
                )
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        if func == _SET_DATA and type(args[0]) is cls:
            return args[0]._owner.assign_data(_unwrapped(args[0], []), _unwrapped(args[1], []))
        if func in _OF_THE_OBJECT:
            return func(_plain_copy(args[0]), *args[1:], **(kwargs or {}))
        values: list[Value] = []
        args = _unwrapped(args, values)
        kwargs = _unwrapped(kwargs, values) if kwargs else {}
        if func == _GET_GRAD and values[0]._has_no_gradient():
            return None
        with torch._C.DisableTorchFunctionSubclass():
            before = [_state(value) for value in values]
            result = func(*args, **kwargs)
            if func in _UNCOUNTED:
                increment_version(args[0])
            after = [_state(value) for value in values]
        for value, old, new in zip(values, before, after, strict=True):
            if new != old:
                value._owner.changed(value, old, new)
        return _handed_on(result, values, func)

    def set_(self, *_: Any, **__: Any) -> Any:  # the one method that does not ask __torch_function__
        raise RuntimeError(self._owner.other_memory())

    def _has_no_gradient(self) -> bool:
        owner = self._owner
        if owner.handle() is not self or owner.value.is_leaf or owner.value.retains_grad:
            return False
        warnings.warn(
            # It begins as torch's own warning does, which torch itself silences where it only looks around.
            f"The .grad attribute of a Tensor that is not a leaf is being accessed. {owner} is computed at each read "
            f"and keeps no gradient. What trains is its original tensor(s): read {owner.originals}.grad. For the "
            "gradient with respect to the value, read it within `with cached():` and call retain_grad() on it before "
            "the forward pass.",
            UserWarning,
            stacklevel=3,
        )
        return True

    # nn.Parameter(value) and nn.Buffer(value) take value.detach() and set one of these. What they make has a place of
    # its own in some module, so a write to it is not a write to this tensor any more.
    @property
    def _is_param(self) -> bool:
        # Compiled code hands its inputs to dispatch modes as they are, and of all subclasses these let parameters pass.
        return not torch._C._is_torch_function_enabled()

    @_is_param.setter
    def _is_param(self, _: bool) -> None:
        self._become(Parameter)

    @property
    def _is_buffer(self) -> bool:
        return False

    @_is_buffer.setter
    def _is_buffer(self, _: bool) -> None:
        self._become(Buffer)

    def _become(self, cls: type[Tensor]) -> None:
        del self._owner
        self.__class__ = cls  # type: ignore[assignment]


class _State(NamedTuple):
    version: int
    graph: Any
    wants_gradient: bool


def _state(value: Value) -> _State:
    whole = value._owner.value
    return _State(value._version, whole.grad_fn, whole.requires_grad)


class _Owner:
    """The parametrized tensor that a value was read from."""

    handle: weakref.ref[Value]
    """The one that stands for all of the value; other values are views of it."""

    def __init__(self, module: Module, name: str, value: Tensor) -> None:
        self.module = weakref.ref(module)  # a value that somebody keeps must not keep a model
        self.name = name
        self.value = value

    def __str__(self) -> str:
        module = self.module()
        return (
            f"The parametrized tensor '{self.name}' of {'a module that is gone' if module is None else title(module)}"
        )

    @property
    def originals(self) -> str:
        return f"module.parametrizations.{self.name}.original"

    def changed(self, value: Value, old: _State, new: _State) -> None:
        """Assign the value, where it was written to in place through ``value``, to the parametrized tensor."""
        if new.version == old.version:
            if new.wants_gradient is not old.wants_gradient:
                self.value.requires_grad_(old.wants_gradient)
                raise RuntimeError(
                    f"{self} is computed, so it cannot be told to require a gradient or none. "
                    f"Tell its original tensor(s): {self.originals}."
                )
            return
        if new.graph is not old.graph:
            raise RuntimeError(
                f"{self} was written to in place while gradients are recorded; nothing was changed. Write within "
                "`with torch.no_grad():`, or work on a copy: value.clone()."
            )
        if not _share_memory(value, self.value):
            raise RuntimeError(self.other_memory())
        self.assign(self.value)

    def other_memory(self) -> str:
        return f"{self} was given other memory (set_ or resize_), which it cannot take. Assign the value instead."

    def assign_data(self, part: Tensor, data: Tensor) -> None:
        """``value.data = data``, of the value itself or a view of it."""
        if part is self.value:
            self.assign(data)
            with torch.no_grad():
                part.copy_(data)
        else:
            with torch._C.DisableTorchFunctionSubclass():
                part.data = data

    def assign(self, value: Tensor) -> None:
        module = self.module()
        if module is None:
            raise RuntimeError(f"{self} cannot be written to any more. Keep the module as long as its value.")
        parametrizations = module._modules.get("parametrizations")
        if parametrizations is None or self.name not in parametrizations._modules:
            raise RuntimeError(
                f"{self} is not parametrized any more since this value was read. Read it again: module.{self.name}."
            )
        setattr(module, self.name, value.detach())


def can_be_written(value: Any) -> bool:
    """Whether a write to ``value`` could be noticed: subclasses see their own, and a sparse tensor has no memory."""
    return type(value) is Tensor and _C._has_storage(value)


def handle(module: Module, name: str, value: Tensor, originals: tuple[Tensor, ...]) -> Value:
    """``value``, which was read from the tensor ``name`` of ``module``, such that a write to it is an assignment."""
    # An inference tensor does not count its versions, so a write to it could not be seen; and a write that is refused
    # must not have reached the memory of an original.
    if value.is_inference() or value._is_view() or any(_share_memory(value, old) for old in originals):
        with torch.inference_mode(False):
            value = value.clone()
    owner = _Owner(module, name, value)
    handle = value.as_subclass(Value)
    handle._owner = owner
    owner.handle = weakref.ref(handle)
    return handle


def owner_of(value: Tensor) -> tuple[Module, str] | None:
    """The module and the name of the tensor that ``value`` was read from, if it is the whole value of one."""
    if type(value) is not Value or value._owner.handle() is not value:
        return None
    module = value._owner.module()
    return None if module is None else (module, value._owner.name)


def _plain_copy(value: Value) -> Tensor:
    """The same numbers in the same memory as a plain tensor, for what copies, saves or shows the Python object."""
    with torch._C.DisableTorchFunctionSubclass():
        if value._owner.handle() is value:
            return value._owner.value
        return Tensor._make_subclass(Tensor, value, value.requires_grad) if value.is_leaf else value.as_subclass(Tensor)


def _unwrapped(item: Any, values: list[Value]) -> Any:
    """``item`` with the plain tensor in place of each value that stands for one. ``values`` gets what was met."""
    kind = type(item)
    if kind is Value:
        values.append(item)
        owner = item._owner
        if owner.handle() is item:
            return owner.value
        # A view is written to as it is, for its own shape may change; but a dispatch mode refuses unknown classes.
        return _plain_copy(item) if torch._C._len_torch_dispatch_stack() else item
    if kind is tuple or kind is list:
        return kind(_unwrapped(part, values) for part in item)
    if kind is dict:
        return {key: _unwrapped(part, values) for key, part in item.items()}
    return item


def _handed_on(result: Any, values: list[Value], func: Any) -> Any:
    """``result`` of a function of ``values``: what shares memory with one of them is a value too."""
    kind = type(result)
    if kind is Tensor and not result.is_inference():
        for value in values:
            owner = value._owner
            if result is owner.value and owner.handle() is value:
                return value
            if _share_memory(result, owner.value):
                view = result.as_subclass(Value) if result.requires_grad else Tensor._make_subclass(Value, result)
                view._owner = owner
                return view
    elif kind is tuple or kind is list:
        return kind(_handed_on(part, values, func) for part in result)
    elif kind.__module__ == "numpy" and func in _TO_NUMPY:
        result.flags.writeable = False  # a write to the array could not be seen, so it has to fail
    return result


_WRITES = (
    "__setitem__",
    "__iadd__",
    "__isub__",
    "__imul__",
    "__itruediv__",
    "__ipow__",
    "__imatmul__",
    "__ifloordiv__",
)
_C: Any = torch._C
_share_memory = _C._is_alias_of
_SET_DATA: Any = vars(torch._C.TensorBase)["data"].__set__
_GET_GRAD: Any = vars(torch._C.TensorBase)["grad"].__get__
_OF_THE_OBJECT = (Tensor.__deepcopy__, Tensor.__reduce_ex__, Tensor.__format__, Tensor.__repr__)
_UNCOUNTED = (Tensor.apply_, Tensor.map_, Tensor.map2_)
"""What writes without counting a version, to its first argument."""
_TO_NUMPY = (Tensor.numpy, Tensor.__array__)
